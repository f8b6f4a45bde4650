"""Rows of the book that are not open, which may explain why the broker has, or had, more than the open ones."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datafixes.book.positions.symbols import NoSymbol, Symbol, parse_symbol
from datafixes.book.rows.row import moment_of
from datafixes.book.rows.source import Ask, asking, book_table
from datafixes.book.settings import BookSettings
from datafixes.errors import DatafixError
from datafixes.project import Project
from datafixes.script import literal

_AT_ONCE = 500
"""The number of symbols in one query."""

# Symbols in the form of datafixes: in capitals, a class of shares after a dot, no spaces in an option's. A time without
# a zone is in UTC, whatever the session's zone. A row without a time may be recent, and the meaning of any other status
# is unknown.
_ROWS = """
  FROM {table}
 WHERE (status IS NULL OR CAST(status AS text) NOT IN ('open', 'closing'))
   AND (CAST(status AS text) = 'closed' AND extract(epoch FROM coalesce(closed_at, updated_at)) < {since}) IS NOT TRUE
   AND upper(translate(coalesce(nullif(btrim(option_symbol), ''), ticker), '/- ', '..')) IN ({symbols})
""".rstrip()
_SELECT = """
SELECT id, account_name, coalesce(nullif(btrim(option_symbol), ''), ticker) AS symbol, CAST(status AS text) AS status,
       CAST(extract(epoch FROM closed_at) AS text) AS closed_at, count(*) OVER () AS total{rows}
 ORDER BY id
""".strip()


@dataclass(frozen=True)
class OtherRow:
    """A row of the book that is not open.

    Attributes:
        id: the row.
        account: its account; None if it has none, so that it may be any.
        symbol: its symbol.
        status: its status.
        closed_at: when it was closed, if the book knows.
    """

    id: int
    account: str | None
    symbol: Symbol
    status: str | None
    closed_at: dt.datetime | None

    def is_in(self, account: str) -> bool:
        """Whether it may be a row of an account."""
        return self.account in (account, None, "")

    @property
    def words(self) -> str:
        """Its description, for a doubt."""
        if self.status == "closed":
            return f"row {self.id} of the book was closed"
        return f"row {self.id} of the book has the status {self.status or 'NULL'}"


def read_others(project: Project, symbols: Collection[Symbol], since: dt.datetime) -> list[OtherRow]:
    """The rows of some symbols that are not open, and may have been open until a time; by id.

    Raises:
        DatafixError: the database, or the Lambda, does not answer in full.
    """
    if not symbols:
        return []
    names = sorted(map(str, symbols))
    table = literal.qualified(*book_table(BookSettings.of(project.settings)))
    found: list[OtherRow] = []
    with asking(project) as ask:
        for start in range(0, len(names), _AT_ONCE):
            listed = ", ".join(literal.text(name) for name in names[start : start + _AT_ONCE])
            found += _read(ask, _ROWS.format(table=table, since=f"{since.timestamp():.6f}", symbols=listed))
    return sorted(found, key=lambda row: row.id)


def _read(ask: Ask, rows: str) -> Iterator[OtherRow]:
    found = list(ask(_SELECT.format(rows=rows)))
    # An answer without rows has no count.
    counts = found or list(ask(f"SELECT count(*) AS total{rows}"))
    if not counts or any(str(row.get("total")) != str(len(found)) for row in counts):
        words = counts[0].get("total") if counts else "an unknown number"
        raise DatafixError(f"The answer has {len(found)} of {words} rows that are not open.")
    yield from _parsed(found)


def _parsed(rows: Sequence[Mapping[str, Any]]) -> Iterator[OtherRow]:
    for row in rows:
        try:
            symbol = parse_symbol(str(row["symbol"]))
        except NoSymbol:
            continue  # not one of the requested symbols
        yield OtherRow(int(row["id"]), row["account_name"], symbol, row["status"], _time(row["closed_at"]))


def _time(seconds: Any) -> dt.datetime | None:
    try:
        return None if seconds is None else moment_of(seconds)
    except (ArithmeticError, ValueError):
        return None  # infinity, or a year that Python cannot represent
