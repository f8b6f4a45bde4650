"""Reads the open rows of the book, from PostgreSQL or through the query Lambda."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from datafixes.book.positions.ignored import ignored_of, instrument_of
from datafixes.book.positions.position import BookPosition
from datafixes.book.rows.row import BookRow, IgnoredRow, UnreadableRow, row_of, written_in
from datafixes.book.rows.source import Ask, asking, book_table, lambda_of
from datafixes.book.settings import BookSettings
from datafixes.errors import DatafixError
from datafixes.project import Project
from datafixes.script import literal
from datafixes.settings.values import masked

_SKEW = dt.timedelta(minutes=1)
"""The tolerated clock difference, whatever the grace period is."""
_PAGE = 5000  # rows; the answer of a Lambda is limited to 6 MB
_COLUMNS = {
    "id", "account_name", "ticker", "option_symbol", "instrument_type", "side", "status", "strategy_type", "quantity",
    "entry_price",    "entry_time",
}  # fmt: skip
_OPEN = "CAST(status AS text) IN ('open', 'closing')"
# Variants of "open" that an exact comparison would not find.
_ODD = (
    "(status IS NULL OR lower(btrim(CAST(status AS text))) IN ('open', 'closing')"
    " AND CAST(status AS text) NOT IN ('open', 'closing'))"
)

# Texts and seconds: they do not depend on the session's settings, and no driver or JSON rounds them.
_SELECT = """
SELECT id, account_name, ticker, option_symbol, instrument_type, side, strategy_type, CAST(status AS text) AS status,
       CAST(quantity AS text) AS quantity, CAST(entry_price AS text) AS entry_price,
       CAST(extract(epoch FROM entry_time) AS text) AS entry_time{more}
  FROM {table}
 WHERE {where}
 ORDER BY id
""".strip()


@dataclass(frozen=True)
class Book:
    """The open rows of the book.

    Attributes:
        rows: the rows, by id.
        unreadable: rows that cannot be compared, by id.
        read_at: when it was read.
        source: the table, and how it was read.
        counts: the number of rows by account, comparable or not; of rows without an account under an empty name. It
            includes rows that were dropped later.
        ignored: rows in instruments that the settings exclude, by id.
    """

    rows: tuple[BookRow, ...]
    unreadable: tuple[UnreadableRow, ...]
    read_at: dt.datetime
    source: str
    counts: Mapping[str, int] = field(default_factory=dict)
    ignored: tuple[IgnoredRow, ...] = ()

    @property
    def positions(self) -> list[BookPosition]:
        """The comparable rows."""
        return [row.position for row in self.rows]

    def only(self, ids: Collection[int]) -> Book:
        """The book with these rows, and those that cannot be compared."""
        return replace(self, rows=tuple(row for row in self.rows if row.position.id in ids))


def read_book(project: Project, *, account: str = "", but: Collection[str] = ()) -> Book:
    """Read every row whose status is ``open`` or ``closing``.

    Args:
        project: its database.
        account: only of this account, and only with exactly these statuses.
        but: of all accounts except these; includes rows without an account, and rows of any account with NULL or a
            variant of these statuses.

    Raises:
        DatafixError: the database, or the Lambda, does not answer in full; or the table does not exist.
    """
    settings = BookSettings.of(project.settings)
    schema, name = book_table(settings)
    function = lambda_of(settings)
    read_at = dt.datetime.now(dt.UTC)
    latest = read_at + max(dt.timedelta(milliseconds=settings.grace.milliseconds), _SKEW)
    left_out = ignored_of(settings)
    rows: list[BookRow] = []
    unreadable: list[UnreadableRow] = []
    ignored: list[IgnoredRow] = []
    with asking(project) as ask:
        for values in _found(ask, (schema, name), _which(account, but), is_lambda=bool(function)):
            if _whole(values["id"]) is None:
                raise DatafixError(
                    f"The book {schema}.{name} has the id {values['id']!r}: its ids must be whole numbers."
                )
            if left_out and (apart := _ignored(values, left_out)):
                ignored.append(apart)
                continue
            one = row_of(values, latest)
            if isinstance(one, BookRow):
                rows.append(one)
            else:
                unreadable.append(one)
    source = f"{schema}.{name}, {f'Lambda {function}' if function else 'PostgreSQL'}"
    counts = Counter(row.position.account for row in rows)
    counts.update(row.account or "" for row in unreadable)
    counts.update(row.account for row in ignored)
    return Book(tuple(rows), tuple(unreadable), read_at, source, counts, tuple(ignored))


def _ignored(values: Mapping[str, Any], left_out: Mapping[str, Collection[str]]) -> IgnoredRow | None:
    account, instrument = str(values["account_name"]), instrument_of(written_in(values))
    return (
        IgnoredRow(int(values["id"]), account, instrument)
        if instrument in left_out.get(account, ())
        else None
    )


def _which(account: str, but: Collection[str]) -> str:
    if account:
        return f"{_OPEN} AND account_name = {literal.text(account)}"
    if but:
        names = ", ".join(literal.text(name) for name in but)
        return f"({_OPEN} AND (account_name IS NULL OR account_name NOT IN ({names})) OR {_ODD})"
    return f"({_OPEN} OR {_ODD})"


def _found(ask: Ask, table: tuple[str, str], where: str, *, is_lambda: bool) -> Iterator[Mapping[str, Any]]:
    if not is_lambda:
        return ask(_SELECT.format(table=literal.qualified(*table), more="", where=where))
    return _pages(ask, table, where)


def _pages(ask: Ask, table: tuple[str, str], where: str) -> Iterator[Mapping[str, Any]]:
    """All rows through the Lambda, whose answers are limited to some megabytes and may be cut."""
    last: int | None = None
    while True:
        more = "" if last is None else f" AND id > {last}"
        and_that = f", count(*) OVER () AS rows_left, {_hides(*table)} AS hides"
        select = _SELECT.format(table=literal.qualified(*table), more=and_that, where=f"{where}{more}")
        rows = list(ask(f"{select}\n LIMIT {_PAGE}"))
        left = 0
        for row in rows:
            number = _whole(row.get("id"))
            if not row.keys() >= _COLUMNS or number is None or (last is not None and number <= last):
                raise DatafixError(f"The Lambda answered another query: {_start(row)}")
            _check_sees_all(row)
            last, left = number, _whole(row.get("rows_left")) or 0
            yield row
        if rows and left < len(rows):
            raise DatafixError(f"The Lambda answered {len(rows)} rows, but counts {left}.")
        if not rows and last is None:
            _check_empty(ask, table, where)
        if left == len(rows):
            return


def _check_empty(ask: Ask, table: tuple[str, str], where: str) -> None:
    """Confirm an empty answer by a count: rows may have been lost."""
    select = (
        f"SELECT count(*) AS rows, {_hides(*table)} AS hides FROM {literal.qualified(*table)} WHERE {where}"
    )
    count = None
    for row in ask(select):
        _check_sees_all(row)
        count = _whole(row.get("rows"))
    if count != 0:
        raise DatafixError(
            f"The Lambda answered no rows, but counts {'nothing' if count is None else count}."
        )


def _hides(schema: str, name: str) -> str:
    """Whether rows of the book may be hidden from the role; always for a view."""
    return (
        "(SELECT pg_catalog.row_security_active(c.oid) OR c.relkind NOT IN ('r', 'p') FROM pg_catalog.pg_class AS c"
        " JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
        f" WHERE n.nspname = {literal.text(schema)} AND c.relname = {literal.text(name)})"
    )


def _check_sees_all(row: Mapping[str, Any]) -> None:
    """Refuse a role from which a policy may hide rows."""
    if row.get("hides"):
        raise DatafixError(
            "The book is a view, or row security hides rows of it from the Lambda's role.",
            hint="Set book_table to the table itself, and give its ownership or BYPASSRLS to the role.",
        )


def _start(row: Mapping[str, Any]) -> str:
    return masked(", ".join(f"{name}: {value}" for name, value in row.items()))[:200]


def _whole(value: Any) -> int | None:
    try:
        return int(str(value))
    except ValueError:
        return None
