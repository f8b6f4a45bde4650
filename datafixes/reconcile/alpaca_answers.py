"""Reads what Alpaca says, and decides whether it can be true. Pure: JSON in, values out, NoAnswer where it cannot."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any

from datafixes.reconcile.broker import NoAnswer
from datafixes.reconcile.exact import exact
from datafixes.reconcile.positions import BrokerPosition
from datafixes.reconcile.symbols import NoSymbol, Option, Symbol, parse_symbol

Json = Any
"""What json.loads gives."""

CRYPTO = "crypto"
"""How the asset class of what is neither a stock nor an option begins."""
_CENT = Decimal("0.01")
_SKEW = 60
"""Seconds by which clocks may differ: less than the grace period is meant for."""
_LEEWAY = Decimal("0.2")


@dataclass(frozen=True)
class Account:
    """What an account says about itself.

    Attributes:
        number: its number.
        long: what its long positions are worth.
        short: what its short positions are worth, as a positive number.
    """

    number: str
    long: Decimal
    short: Decimal

    @property
    def shown(self) -> str:
        """As much of the number as tells it from another."""
        return f"…{self.number[-4:]}"


@dataclass(frozen=True)
class Listed:
    """One line of the list of positions.

    Attributes:
        position: what is held.
        worth: at which price in all; None where the market says nothing.
    """

    position: BrokerPosition
    worth: Decimal | None


def rows_of(answer: Json, what: str) -> list[dict[str, Json]]:
    """A list of objects."""
    if not isinstance(answer, list) or not all(isinstance(row, dict) for row in answer):
        raise NoAnswer(f"the answer about {what} is not a list of them")
    return answer


def text(row: dict[str, Json], name: str) -> str:
    """A text that must be there."""
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise NoAnswer(f"an answer has no {name}")
    return value


def number(row: dict[str, Json], name: str, about: str = "") -> Decimal:
    """An exact number that must be there; Alpaca writes them as text."""
    value = row.get(name)
    found = exact(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else None
    if found is None:
        raise NoAnswer(f"{name}{about and f' of {about}'} is {repr(value)[:40]}: not a number")
    return found


def moment(row: dict[str, Json], name: str) -> dt.datetime:
    """A moment that must be there; without a zone it is UTC."""
    try:
        found = dt.datetime.fromisoformat(text(row, name))
    except ValueError:
        raise NoAnswer(f"{name} is {str(row[name])[:40]!r}: not a date and time") from None
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def apart(date: str, now: dt.datetime) -> str:
    """By how much two clocks differ, where that is too much; empty where it is not, or nobody says."""
    try:
        theirs = parsedate_to_datetime(date)
    except ValueError:
        return ""
    seconds = abs((theirs.replace(tzinfo=theirs.tzinfo or dt.UTC) - now).total_seconds())
    return f"{seconds:.0f}s" if seconds > _SKEW else ""


def read_account(answer: Json) -> Account:
    """The account, if it is one in force.

    Raises:
        NoAnswer: it is blocked, or does not say what its positions are worth.
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


def read_positions(answer: Json) -> list[Listed]:
    """All positions.

    Raises:
        NoAnswer: one of them makes no sense, or stands there twice, or is neither a stock nor an option.
    """
    listed = [_listed(row) for row in rows_of(answer, "positions")]
    seen: set[Symbol] = set()
    for one in listed:
        if one.position.symbol in seen:
            raise NoAnswer(f"lists {one.position.symbol} twice")
        seen.add(one.position.symbol)
    return listed


def _listed(row: dict[str, Json]) -> Listed:
    symbol = symbol_of(row)
    quantity = number(row, "qty", str(symbol))
    side = row.get("side")
    if side not in ("long", "short") or (side == "long" and quantity < 0):
        raise NoAnswer(
            f"{symbol}: a quantity of {quantity} and the side {str(side)[:20]!r} do not go together"
        )
    if not quantity:
        raise NoAnswer(f"lists {symbol} with a quantity of zero")
    signed = quantity if side == "long" else -abs(quantity)
    entry = number(row, "avg_entry_price", str(symbol))
    size = 100 if isinstance(symbol, Option) else 1
    given = row.get("market_value") is not None
    worth = number(row, "market_value", str(symbol)) if given else signed * entry * size
    return Listed(BrokerPosition(symbol, signed, entry), worth)


def symbol_of(row: dict[str, Json]) -> Symbol:
    """The stock or the option that a row is about."""
    name = text(row, "symbol")
    kind = str(row.get("asset_class") or "")
    if kind.startswith(CRYPTO):
        raise NoAnswer(f"holds {name[:40]}, which is {kind[:20]}: neither a stock nor an option")
    try:
        symbol = parse_symbol(name)
    except NoSymbol as error:
        raise NoAnswer(error.message) from None
    if kind and (kind == "us_option") is not isinstance(symbol, Option):
        raise NoAnswer(f"{symbol} is said to be {kind[:20]!r}")
    return symbol


def contradiction(account: Account, listed: Sequence[Listed]) -> str:
    """Why the list cannot be the account's; an empty string where it can.

    The two are read one after the other, and prices move in between: a fifth less or more is none. Options may be
    missing from the account's figure, so that only stocks can be too much.
    """
    for side, sign, said in (("long", 1, account.long), ("short", -1, account.short)):
        ours = [one for one in listed if one.position.quantity * sign > 0]
        if said and not ours:
            return f"the account says that its {side} positions are worth {said:,.2f}, and lists none"
        worth = sum((abs(one.worth) for one in ours if one.worth is not None), Decimal(0))
        stocks = sum(
            (
                abs(one.worth)
                for one in ours
                if one.worth is not None and not isinstance(one.position.symbol, Option)
            ),
            Decimal(0),
        )
        whole = all(one.worth is not None for one in ours)
        if (whole and worth + _CENT < said * (1 - _LEEWAY)) or stocks * (1 - _LEEWAY) > said + 1:
            return f"the account says that its {side} positions are worth {said:,.2f}, and lists {worth:,.2f}"
    return ""
