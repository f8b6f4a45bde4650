"""Reads the rows of the book, from PostgreSQL or through the query Lambda: the open ones, and others if asked."""

import datetime as dt
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from datafixes.book.positions.position import BookPosition
from datafixes.book.positions.symbols import NoSymbol, Symbol, ignored_of, instrument_of, parse_symbol
from datafixes.book.rows.query_lambda import whole
from datafixes.book.rows.row import IgnoredRow, UnreadableRow, moment_of, row_of, written_in
from datafixes.book.rows.source import asking, book_table, lambda_of, rows_by_id
from datafixes.book.settings import BookSettings
from datafixes.errors import DatafixError
from datafixes.project import Project
from datafixes.script import literal

_SKEW = dt.timedelta(minutes=1)
"""The tolerated clock difference, whatever the grace period is."""
# Texts and seconds: they do not depend on the session's settings, and no driver or JSON rounds them.
_COLUMNS = {
    **{name: name for name in ("id", "account_name", "ticker", "option_symbol", "instrument_type", "side")},
    **{name: f"CAST({name} AS text)" for name in ("status", "quantity", "entry_price", "strategy_type")},
    "entry_time": "CAST(extract(epoch FROM entry_time) AS text)",
}
_OPEN = "CAST(status AS text) IN ('open', 'closing')"
# Variants of "open" that an exact comparison would not find.
_ODD = (
    "(status IS NULL OR lower(btrim(CAST(status AS text))) IN ('open', 'closing')"
    " AND CAST(status AS text) NOT IN ('open', 'closing'))"
)

_AT_ONCE = 500
"""The number of symbols in one query."""
_OTHER_COLUMNS = {
    "id": "id",
    "account_name": "account_name",
    "symbol": "coalesce(nullif(btrim(option_symbol), ''), ticker)",
    "status": "CAST(status AS text)",
    "closed_at": "CAST(extract(epoch FROM closed_at) AS text)",
}
# Symbols in the form of datafixes: in capitals, a class of shares after a dot, no spaces in an option's. A time without
# a zone is in UTC, whatever the session's zone. A row without a time may be recent, and the meaning of any other status
# is unknown.
_OTHERS = (
    "(status IS NULL OR CAST(status AS text) NOT IN ('open', 'closing'))"
    " AND (CAST(status AS text) = 'closed' AND extract(epoch FROM coalesce(closed_at, updated_at)) < {since})"
    " IS NOT TRUE"
    " AND upper(translate(coalesce(nullif(btrim(option_symbol), ''), ticker), '/- ', '..')) IN ({symbols})"
)


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

    rows: tuple[BookPosition, ...]
    unreadable: tuple[UnreadableRow, ...]
    read_at: dt.datetime
    source: str
    counts: Mapping[str, int] = field(default_factory=dict)
    ignored: tuple[IgnoredRow, ...] = ()

    def only(self, ids: Collection[int]) -> "Book":
        """The book with these rows, and those that cannot be compared."""
        return replace(self, rows=tuple(row for row in self.rows if row.id in ids))


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
    table, function = ".".join(book_table(settings)), lambda_of(settings)
    read_at = dt.datetime.now(dt.UTC)
    latest = read_at + max(dt.timedelta(milliseconds=settings.grace.milliseconds), _SKEW)
    left_out = ignored_of(settings)
    rows: list[BookPosition] = []
    unreadable: list[UnreadableRow] = []
    ignored: list[IgnoredRow] = []
    with asking(project) as ask:
        for values in rows_by_id(ask, settings, _COLUMNS, _which(account, but)):
            if whole(values["id"]) is None:
                raise DatafixError(
                    f"The book {table} has the id {values['id']!r}: its ids must be whole numbers."
                )
            name = str(values["account_name"])
            if name in left_out and (instrument := instrument_of(written_in(values))) in left_out[name]:
                ignored.append(IgnoredRow(int(values["id"]), name, instrument))
                continue
            one = row_of(values, latest)
            if isinstance(one, BookPosition):
                rows.append(one)
            else:
                unreadable.append(one)
    source = f"{table}, {f'Lambda {function}' if function else 'PostgreSQL'}"
    counts = Counter(row.account for row in rows)
    counts.update(row.account or "" for row in unreadable)
    counts.update(row.account for row in ignored)
    return Book(tuple(rows), tuple(unreadable), read_at, source, counts, tuple(ignored))


def _which(account: str, but: Collection[str]) -> str:
    if account:
        return f"{_OPEN} AND account_name = {literal.text(account)}"
    if but:
        names = ", ".join(literal.text(name) for name in but)
        return f"({_OPEN} AND (account_name IS NULL OR account_name NOT IN ({names})) OR {_ODD})"
    return f"({_OPEN} OR {_ODD})"


def read_others(project: Project, symbols: Collection[Symbol], since: dt.datetime) -> list[OtherRow]:
    """The rows of some symbols that are not open, and may have been open until a time; by id.

    They may explain why the broker has, or had, more than the open ones.

    Raises:
        DatafixError: the database, or the Lambda, does not answer in full.
    """
    names = sorted(map(str, symbols))
    settings = BookSettings.of(project.settings)
    found: list[OtherRow] = []
    for start in range(0, len(names), _AT_ONCE):
        listed = ", ".join(literal.text(name) for name in names[start : start + _AT_ONCE])
        where = _OTHERS.format(since=f"{since.timestamp():.6f}", symbols=listed)
        with asking(project) as ask:
            for row in rows_by_id(ask, settings, _OTHER_COLUMNS, where):
                with suppress(NoSymbol):  # not one of the requested symbols
                    symbol = parse_symbol(str(row["symbol"]))
                    closed_at = moment_of(row["closed_at"])
                    found.append(
                        OtherRow(int(row["id"]), row["account_name"], symbol, row["status"], closed_at)
                    )
    return sorted(found, key=lambda row: row.id)
