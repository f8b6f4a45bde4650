"""Parses a row of the book: its position, or the problem with it. Pure."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from datafixes.audit.wording import moment
from datafixes.book.positions.position import BookPosition, digits, exact
from datafixes.book.positions.symbols import NoSymbol, Stock, Symbol, parse_symbol

_SIDES = {"long": 1, "buy": 1, "short": -1, "sell": -1}
_KINDS = ("STOCK", "CALL", "PUT")
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True)
class UnreadableRow:
    """A row that cannot be compared.

    Attributes:
        id: the row.
        account: its account, if it has one.
        symbol: its symbol, if it can be parsed.
        why: the problem.
    """

    id: int
    account: str | None
    symbol: Symbol | None
    why: str


@dataclass(frozen=True)
class IgnoredRow:
    """A row in an instrument that the settings exclude.

    Attributes:
        id: the row.
        account: its account.
        instrument: the instrument.
    """

    id: int
    account: str
    instrument: str


def row_of(values: Mapping[str, Any], latest: dt.datetime) -> BookPosition | UnreadableRow:
    """A row, or the problem with it.

    Args:
        values: by name of a column.
        latest: the latest plausible entry time.
    """
    wrong: list[str] = []
    account, written = values["account_name"], written_in(values)
    if values["status"] not in ("open", "closing"):
        wrong.append(f"its status is {_shown(values['status'])}: not open, closing or closed")
    if not account:
        wrong.append("it has no account")
    symbol = _symbol(values, written, wrong)
    side = _SIDES.get(str(values["side"]).strip().lower())
    if side is None:
        wrong.append(f"its side is {_shown(values['side'])}: neither long (buy) nor short (sell)")
    quantity = _quantity(values["quantity"], wrong)
    price = exact(values["entry_price"])
    if price is None and values["entry_price"] is not None:
        wrong.append(f"its entry_price is {_shown(values['entry_price'])}")
    opened_at = moment_of(values["entry_time"])
    if opened_at is None and values["entry_time"] is not None:
        wrong.append(f"its entry_time is {_shown(values['entry_time'])} seconds from 1970")
    elif opened_at is not None and opened_at > latest:
        wrong.append(f"its entry_time is in the future ({moment(opened_at)})")
    number = int(values["id"])
    if wrong or symbol is None or side is None or quantity is None:
        return UnreadableRow(number, account or None, symbol, "; ".join(wrong))
    strategy = str(values["strategy_type"])
    return BookPosition(number, account, symbol, quantity * side, opened_at, price, written, strategy)


def written_in(values: Mapping[str, Any]) -> str:
    """The symbol as a fix names it: coalesce(option_symbol, ticker)."""
    symbol = values["option_symbol"]
    return str(values["ticker"] if symbol is None else symbol)


def _symbol(values: Mapping[str, Any], written: str, wrong: list[str]) -> Symbol | None:
    try:
        symbol = parse_symbol(written)
    except NoSymbol as error:
        wrong.append(error.message)
        return None
    kind = str(values["instrument_type"]).strip().upper()
    means = "STOCK" if isinstance(symbol, Stock) else {"C": "CALL", "P": "PUT"}[symbol.right]
    if kind not in _KINDS:
        wrong.append(f"its instrument_type is {_shown(values['instrument_type'])}: not STOCK, CALL or PUT")
        return None
    if kind != means:
        wrong.append(f"its instrument_type is {kind}, and {written} is a {means}")
        return None
    return symbol


def _quantity(value: Any, wrong: list[str]) -> Decimal | None:
    quantity = exact(value)
    if quantity is None:
        wrong.append(f"its quantity is {_shown(value)}")
    elif quantity == 0:
        wrong.append("its quantity is zero")
    elif quantity < 0:
        wrong.append(f"its quantity is negative ({digits(quantity)}): the direction belongs in side")
    elif quantity % 1:
        wrong.append(f"its quantity is a fraction ({digits(quantity)})")
    else:
        return quantity
    return None


def moment_of(seconds: Any) -> dt.datetime | None:
    """A time from seconds since 1970, which do not depend on the session's settings; exact to the microsecond.

    None for NULL, for infinity, and for a year that Python cannot represent.
    """
    try:
        return _EPOCH + dt.timedelta(microseconds=int(Decimal(str(seconds)) * 1_000_000))
    except (ArithmeticError, ValueError):
        return None


def _shown(value: Any) -> str:
    return "NULL" if value is None else repr(value)
