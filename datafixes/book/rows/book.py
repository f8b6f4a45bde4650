"""The book: the rows that say a position is held, read from PostgreSQL or through the query Lambda."""

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
"""By how much clocks may differ, whatever the grace period is."""
_PAGE = 5000  # rows; what a Lambda answers may have 6 MB
_COLUMNS = {
    "id", "account_name", "ticker", "option_symbol", "instrument_type", "side", "status", "strategy_type", "quantity",
    "entry_price",    "entry_time",
}  # fmt: skip
_OPEN = "CAST(status AS text) IN ('open', 'closing')"
# What the book may mean by open, and nobody would find.
_ODD = (
    "(status IS NULL OR lower(btrim(CAST(status AS text))) IN ('open', 'closing')"
    " AND CAST(status AS text) NOT IN ('open', 'closing'))"
)

# Texts and seconds: neither depends on the session's settings, and no driver or JSON on the way rounds them.
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
    """What the book says is held.

    Attributes:
        rows: the rows, by id.
        unreadable: rows that cannot be compared, by id.
        read_at: when it was read.
        source: from where: the table, and how it was reached.
        counts: by account, how many rows there are, whether they can be compared or not; of rows without an account
            under an empty name. It stays when some of the rows are left out.
        ignored: rows in instruments that the settings leave out, by id.
    """

    rows: tuple[BookRow, ...]
    unreadable: tuple[UnreadableRow, ...]
    read_at: dt.datetime
    source: str
    counts: Mapping[str, int] = field(default_factory=dict)
    ignored: tuple[IgnoredRow, ...] = ()

    @property
    def positions(self) -> list[BookPosition]:
        """What can be compared."""
        return [row.position for row in self.rows]

    def only(self, ids: Collection[int]) -> Book:
        """With these rows, and those that cannot be compared."""
        return replace(self, rows=tuple(row for row in self.rows if row.position.id in ids))


def read_book(project: Project, *, account: str = "", but: Collection[str] = ()) -> Book:
    """Read every row whose status is ``open`` or ``closing``.

    Args:
        project: where the book is.
        account: only of this account, if one is named; and only with just these statuses.
        but: of all accounts but these; rows without an account are among them, and those of any account with a status
            that is nearly one of the two, or none.

    Raises:
        DatafixError: the database, or the Lambda, does not answer in full; or there is no such table.
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
    """All rows through the Lambda, which answers no more than some megabytes, and may cut answers by itself."""
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
                raise DatafixError(f"The Lambda did not answer what it was asked: {_start(row)}")
            _check_sees_all(row)
            last, left = number, _whole(row.get("rows_left")) or 0
            yield row
        if rows and left < len(rows):
            raise DatafixError(f"The Lambda answered {len(rows)} rows, and says that there are {left}.")
        if not rows and last is None:
            _check_empty(ask, table, where)
        if left == len(rows):
            return


def _check_empty(ask: Ask, table: tuple[str, str], where: str) -> None:
    """No rows may be an answer that was lost on the way: whoever counts them must find none."""
    select = (
        f"SELECT count(*) AS rows, {_hides(*table)} AS hides FROM {literal.qualified(*table)} WHERE {where}"
    )
    count = None
    for row in ask(select):
        _check_sees_all(row)
        count = _whole(row.get("rows"))
    if count != 0:
        raise DatafixError(
            f"The Lambda answered no rows, and counts {'none at all' if count is None else count}."
        )


def _hides(schema: str, name: str) -> str:
    """Whether a role may see less of the book than there is; of a view nobody knows what is beneath it."""
    return (
        "(SELECT pg_catalog.row_security_active(c.oid) OR c.relkind NOT IN ('r', 'p') FROM pg_catalog.pg_class AS c"
        " JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
        f" WHERE n.nspname = {literal.text(schema)} AND c.relname = {literal.text(name)})"
    )


def _check_sees_all(row: Mapping[str, Any]) -> None:
    """A role from which a policy hides rows sees another book than there is."""
    if row.get("hides"):
        raise DatafixError(
            "The book is a view, or row security hides rows of it from the role that the Lambda reads with.",
            hint="Name the table itself (book_table); and let the role own it, or have BYPASSRLS.",
        )


def _start(row: Mapping[str, Any]) -> str:
    return masked(", ".join(f"{name}: {value}" for name, value in row.items()))[:200]


def _whole(value: Any) -> int | None:
    try:
        return int(str(value))
    except ValueError:
        return None
