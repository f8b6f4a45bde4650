"""Parses Alpaca's answers and checks their plausibility. Pure: JSON in, values or NoAnswer out."""

import datetime as dt
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any

from datafixes.book.broker.protocol import NoAnswer, aware, number
from datafixes.book.positions.position import BrokerPosition, Ignored, digits, exact
from datafixes.book.positions.symbols import NoSymbol, Option, Symbol, instrument_of, parse_symbol
from datafixes.settings.values import parse_text

Json = Any
"""The result of json.loads."""

STOCK, OPTION = "us_equity", "us_option"
"""The asset classes of the book. Alpaca has others, and adds new ones: none of them is a stock."""
CRYPTO = ("crypto", "crypto_perp")
"""The asset classes whose orders are ignored: a coin never becomes a stock."""
_CENT = Decimal("0.01")
_SKEW = 60
"""The tolerated clock difference in seconds, below the grace period."""
_LEEWAY = Decimal("0.2")


@dataclass(frozen=True)
class Account:
    """An account's own data.

    Attributes:
        number: its number.
        long: the value of its long positions.
        short: the value of its short positions, as a positive number.
    """

    number: str
    long: Decimal
    short: Decimal

    @property
    def shown(self) -> str:
        """The end of the number, which identifies it."""
        return f"…{self.number[-4:]}"


@dataclass(frozen=True)
class Listed:
    """One line of the list of positions.

    Attributes:
        position: the position; None if it is excluded.
        worth: its market value; None if unknown.
        instrument: the name of an excluded instrument.
        ignored: the amount of an excluded instrument.
    """

    position: BrokerPosition | None
    worth: Decimal | None
    instrument: str = ""
    ignored: Ignored | None = None

    def is_on(self, sign: int) -> bool:
        """Whether it is long (1) or short (-1); both if unknown."""
        one = self.position or self.ignored
        return one is None or one.quantity is None or one.quantity * sign > 0


def rows_of(answer: Json, what: str) -> list[dict[str, Json]]:
    """A list of objects."""
    if not isinstance(answer, list) or not all(isinstance(row, dict) for row in answer):
        raise NoAnswer(f"the answer about {what} is not a list of them")
    return answer


def text(row: dict[str, Json], name: str) -> str:
    """A required text."""
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise NoAnswer(f"an answer has no {name}")
    return value


def apart(date: str, now: dt.datetime) -> str:
    """The difference of two clocks, if it is too large; otherwise, or if unknown, empty."""
    seconds = abs(seconds_until(date, now))
    return f"{seconds:.0f}s" if seconds > _SKEW else ""


def seconds_until(date: str, now: dt.datetime) -> float:
    """The seconds until the time of a header, negative if it is past; zero if it is not a time."""
    try:
        return (aware(parsedate_to_datetime(date)) - now).total_seconds()
    except ValueError:
        return 0


def read_account(answer: Json) -> Account:
    """The account, if it is active.

    Raises:
        NoAnswer: it is blocked, or lacks the value of its positions.
    """
    if not isinstance(answer, dict):
        raise NoAnswer("the answer about the account is not an object")
    if answer.get("account_blocked") is not False:
        raise NoAnswer("the account is blocked, or does not say that it is not")
    if answer.get("status") != "ACTIVE":
        raise NoAnswer(f"the account is not active: its status is {str(answer.get('status'))[:40]!r}")
    return Account(
        text(answer, "account_number"),
        abs(number(answer, "long_market_value", "the account")),
        abs(number(answer, "short_market_value", "the account")),
    )


def read_positions(answer: Json, ignored: Collection[str] = ()) -> list[Listed]:
    """All positions.

    Args:
        answer: Alpaca's answer.
        ignored: excluded instruments, which need not be valid.

    Raises:
        NoAnswer: one of them is invalid, or listed twice, or neither a stock nor an option.
    """
    listed = [_listed(row, ignored) for row in rows_of(answer, "positions")]
    seen: set[Symbol] = set()
    for one in (line.position for line in listed if line.position):
        if one.symbol in seen:
            raise NoAnswer(f"lists {one.symbol} twice")
        seen.add(one.symbol)
    return listed


def _listed(row: dict[str, Json], ignored: Collection[str]) -> Listed:
    if instrument_of(text(row, "symbol")) in ignored:
        return _left_out(row)
    symbol = symbol_of(row)
    quantity = number(row, "qty", str(symbol))
    side = row.get("side")
    if side not in ("long", "short") or (side == "long" and quantity < 0):
        raise NoAnswer(f"{symbol}: a quantity of {quantity} contradicts the side {str(side)[:20]!r}")
    if not quantity:
        raise NoAnswer(f"lists {symbol} with a quantity of zero")
    signed = quantity if side == "long" else -abs(quantity)
    entry = number(row, "avg_entry_price", str(symbol))
    size = 100 if isinstance(symbol, Option) else 1
    given = row.get("market_value") is not None
    worth = number(row, "market_value", str(symbol)) if given else signed * entry * size
    return Listed(BrokerPosition(symbol, signed, entry), worth)


def _left_out(row: dict[str, Json]) -> Listed:
    """A description of an excluded position."""
    quantity, worth = exact(row.get("qty")), exact(row.get("market_value"))
    if quantity is not None and row.get("side") == "short":
        quantity = -abs(quantity)
    amount = repr(row.get("qty"))[:40] if quantity is None else digits(quantity)
    words = f"{amount} {class_text(row.get('asset_class'))}"
    return Listed(None, worth, instrument_of(text(row, "symbol")), Ignored(quantity, words))


def symbol_of(row: dict[str, Json], deed: str = "holds") -> Symbol:
    """The stock or the option of a row.

    Args:
        row: a position, an order or a fill.
        deed: what the account does with it, in words.

    Raises:
        NoAnswer: it is not known to be one of the two.
    """
    name, kind = text(row, "symbol"), row.get("asset_class")
    shown, instrument = parse_text(name)[:40], instrument_of(name)
    if kind not in (STOCK, OPTION):
        words = f"{deed} {shown}, which is {class_text(kind)}: neither a stock nor an option"
        raise NoAnswer(words, instrument=instrument)
    try:
        symbol = parse_symbol(name)
    except NoSymbol as error:
        raise NoAnswer(f"{deed} {shown}: {error.message}", instrument=instrument) from None
    if (kind == OPTION) is not isinstance(symbol, Option):
        raise NoAnswer(f"{symbol} has the asset class {kind!r}", instrument=instrument)
    return symbol


def class_text(kind: Json) -> str:
    """An asset class in words."""
    if isinstance(kind, str) and re.fullmatch("[a-z0-9_]{1,40}", kind):
        return kind
    return repr(kind)[:40] if kind else "of no asset_class"


def contradiction(account: Account, listed: Sequence[Listed]) -> str:
    """Why the list contradicts the account's figures; an empty string if it does not.

    The two are read one after the other, and prices move in between: a difference of a fifth is tolerated. Options and
    excluded instruments may be missing from the account's figure, so that only stocks can be too much.
    """
    for side, sign, said in (("long", 1, account.long), ("short", -1, account.short)):
        ours = [one for one in listed if one.is_on(sign)]
        if said and not ours:
            return f"the account says that its {side} positions are worth {said:,.2f}, but lists none"
        worth = _worth(ours)
        # Only these are certainly included in the account's figure.
        stocks = _worth([one for one in ours if one.position and not isinstance(one.position.symbol, Option)])
        whole = all(one.worth is not None for one in ours)
        if (whole and worth + _CENT < said * (1 - _LEEWAY)) or stocks * (1 - _LEEWAY) > said + 1:
            return f"the account says that its {side} positions are worth {said:,.2f}, but lists {worth:,.2f}"
    return ""


def _worth(listed: Sequence[Listed]) -> Decimal:
    return sum((abs(one.worth) for one in listed if one.worth is not None), Decimal(0))
