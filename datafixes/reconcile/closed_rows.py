"""Rows of the book that are closed: what may explain why the broker has, or had, more than the open ones."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datafixes.errors import DatafixError
from datafixes.project import Project
from datafixes.reconcile.book_row import moment_of
from datafixes.reconcile.book_source import asking, book_table
from datafixes.reconcile.symbols import NoSymbol, Symbol, parse_symbol
from datafixes.script import literal

_AT_ONCE = 500
"""How many symbols one question names."""

# Symbols as datafixes writes them: in capitals, a class of shares after a dot, no spaces in an option's. A time without
# a zone is one of UTC, whatever the session's is.
_SELECT = """
SELECT id, account_name, coalesce(option_symbol, ticker) AS symbol,
       CAST(extract(epoch FROM closed_at) AS text) AS closed_at, count(*) OVER () AS total
  FROM {table}
 WHERE (status IS NULL OR status NOT IN ('open', 'closing'))
   AND extract(epoch FROM closed_at) >= {since}
   AND upper(translate(coalesce(option_symbol, ticker), '/- ', '..')) IN ({symbols})
 ORDER BY id
""".strip()


@dataclass(frozen=True)
class ClosedRow:
    """A row of the book that is closed.

    Attributes:
        id: the row.
        account: its account, where it has one.
        symbol: what it was in.
        closed_at: when it was closed, as the book says.
    """

    id: int
    account: str | None
    symbol: Symbol
    closed_at: dt.datetime


def read_closed(project: Project, symbols: Collection[Symbol], since: dt.datetime) -> list[ClosedRow]:
    """The rows that were closed since then, of some symbols, by id.

    Raises:
        DatafixError: the database, or the Lambda, does not answer in full.
    """
    if not symbols:
        return []
    names = sorted(map(str, symbols))
    table = literal.qualified(*book_table(project.settings))
    found: list[ClosedRow] = []
    with asking(project) as ask:
        for start in range(0, len(names), _AT_ONCE):
            listed = ", ".join(literal.text(name) for name in names[start : start + _AT_ONCE])
            select = _SELECT.format(table=table, since=f"{since.timestamp():.6f}", symbols=listed)
            rows = list(ask(select))
            if rows and any(str(row.get("total")) != str(len(rows)) for row in rows):
                raise DatafixError(f"Of closed rows, {len(rows)} were answered of {rows[0].get('total')}.")
            found += _read(rows)
    return sorted(found, key=lambda row: row.id)


def _read(rows: Sequence[Mapping[str, Any]]) -> Iterator[ClosedRow]:
    for row in rows:
        try:
            symbol = parse_symbol(str(row["symbol"]))
        except NoSymbol:
            continue  # then it is not one of those that were asked for
        closed_at = moment_of(row["closed_at"])
        yield ClosedRow(int(row["id"]), row["account_name"], symbol, closed_at)
