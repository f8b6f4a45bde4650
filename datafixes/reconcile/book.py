"""The book: the rows that say a position is held, read from PostgreSQL or through the query Lambda."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from datafixes.errors import DatafixError
from datafixes.project import Project
from datafixes.reconcile.book_source import Ask, asking, book_table, lambda_of
from datafixes.reconcile.positions import BookPosition
from datafixes.reconcile.symbols import NoSymbol, Stock, Symbol, parse_symbol
from datafixes.script import literal
from datafixes.values import masked

_PAGE = 5000  # rows; what a Lambda answers may have 6 MB
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_SIDES = {"long": 1, "buy": 1, "short": -1, "sell": -1}
_KINDS = ("STOCK", "CALL", "PUT")
_COLUMNS = {
    "id", "account_name", "ticker", "option_symbol", "instrument_type", "side", "quantity", "entry_price", "entry_time",
}  # fmt: skip

# Texts and seconds: neither depends on the session's settings, and no driver or JSON on the way rounds them.
_SELECT = """
SELECT id, account_name, ticker, option_symbol, instrument_type, side, CAST(quantity AS text) AS quantity,
       CAST(entry_price AS text) AS entry_price, CAST(extract(epoch FROM entry_time) AS text) AS entry_time{more}
  FROM {table}
 WHERE status IN ('open', 'closing'){and_more}
 ORDER BY id
""".strip()


@dataclass(frozen=True, slots=True)
class BookRow:
    """A row of the book.

    Attributes:
        position: what it says.
        written: the symbol as the row has it.
    """

    position: BookPosition
    written: str


@dataclass(frozen=True)
class UnreadableRow:
    """A row that cannot be compared.

    Attributes:
        id: the row.
        account: its account, where it has one.
        symbol: its symbol, where it can be read.
        why: what is wrong with it.
    """

    id: int
    account: str | None
    symbol: Symbol | None
    why: str


@dataclass(frozen=True)
class Book:
    """What the book says is held.

    Attributes:
        rows: the rows, by id.
        unreadable: rows that cannot be compared, by id.
        read_at: when it was read.
        source: from where: the table, and how it was reached.
    """

    rows: tuple[BookRow, ...]
    unreadable: tuple[UnreadableRow, ...]
    read_at: dt.datetime
    source: str

    @property
    def positions(self) -> list[BookPosition]:
        """What can be compared."""
        return [row.position for row in self.rows]


def read_book(project: Project) -> Book:
    """Read every row whose status is ``open`` or ``closing``.

    Raises:
        DatafixError: the database, or the Lambda, does not answer in full; or there is no such table.
    """
    settings = project.settings
    schema, name = book_table(settings)
    table = literal.qualified(schema, name)
    function = lambda_of(settings)
    read_at = dt.datetime.now(dt.UTC)
    rows: list[BookRow] = []
    unreadable: list[UnreadableRow] = []
    with asking(project) as ask:
        found = ask(_SELECT.format(table=table, more="", and_more="")) if not function else _pages(ask, table)
        for values in found:
            one = _row(values)
            if isinstance(one, BookRow):
                rows.append(one)
            else:
                unreadable.append(one)
    source = f"{schema}.{name}, {f'Lambda {function}' if function else 'PostgreSQL'}"
    return Book(tuple(rows), tuple(unreadable), read_at, source)


def _pages(ask: Ask, table: str) -> Iterator[Mapping[str, Any]]:
    """All rows through the Lambda, which answers no more than some megabytes, and may cut answers by itself."""
    last: int | None = None
    while True:
        more = "" if last is None else f" AND id > {last}"
        select = _SELECT.format(table=table, more=", count(*) OVER () AS rows_left", and_more=more)
        rows = list(ask(f"{select}\n LIMIT {_PAGE}"))
        left = 0
        for row in rows:
            number = _whole(row.get("id"))
            if not row.keys() >= _COLUMNS or number is None or (last is not None and number <= last):
                raise DatafixError(f"The Lambda did not answer what it was asked: {_start(row)}")
            last, left = number, _whole(row.get("rows_left")) or 0
            yield row
        if rows and left < len(rows):
            raise DatafixError(f"The Lambda answered {len(rows)} rows, and says that there are {left}.")
        if left == len(rows):
            return


def _start(row: Mapping[str, Any]) -> str:
    return masked(", ".join(f"{name}: {value}" for name, value in row.items()))[:200]


def _whole(value: Any) -> int | None:
    try:
        return int(str(value))
    except ValueError:
        return None


def _row(values: Mapping[str, Any]) -> BookRow | UnreadableRow:
    """A row, or what is wrong with it."""
    wrong: list[str] = []
    account, written = values["account_name"], _written(values)
    if not account:
        wrong.append("it has no account")
    symbol = _symbol(values, written, wrong)
    side = _SIDES.get(str(values["side"]).strip().lower())
    if side is None:
        wrong.append(f"its side is {_shown(values['side'])}: neither long (buy) nor short (sell)")
    quantity = _quantity(values["quantity"], wrong)
    price = _number(values["entry_price"])
    if price is None and values["entry_price"] is not None:
        wrong.append(f"its entry_price is {_shown(values['entry_price'])}")
    opened_at = _moment(values["entry_time"], wrong)
    number = int(values["id"])
    if wrong or symbol is None or side is None or quantity is None:
        return UnreadableRow(number, account or None, symbol, "; ".join(wrong))
    return BookRow(BookPosition(number, account, symbol, quantity * side, opened_at, price), written)


def _written(values: Mapping[str, Any]) -> str:
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
    if kind in _KINDS and kind != means:
        wrong.append(f"its instrument_type is {kind}, and {written} is a {means}")
        return None
    return symbol


def _quantity(value: Any, wrong: list[str]) -> Decimal | None:
    quantity = _number(value)
    if quantity is None:
        wrong.append(f"its quantity is {_shown(value)}")
    elif quantity == 0:
        wrong.append("its quantity is zero")
    elif quantity < 0:
        wrong.append(f"its quantity is negative ({quantity.normalize():f}): the side says which way it goes")
    elif quantity % 1:
        wrong.append(f"its quantity is a fraction ({quantity.normalize():f})")
    else:
        return quantity
    return None


def _number(value: Any) -> Decimal | None:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _moment(value: Any, wrong: list[str]) -> dt.datetime | None:
    if value is None:
        return None
    try:
        return _EPOCH + dt.timedelta(microseconds=int(Decimal(str(value)) * 1_000_000))
    except (ArithmeticError, ValueError):
        wrong.append(f"its entry_time is {_shown(value)} seconds from 1970")
        return None


def _shown(value: Any) -> str:
    return "NULL" if value is None else repr(value)
