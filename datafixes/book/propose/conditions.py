"""The book's table, for fixes, and SQL conditions over its rows. The current row has the table's own name."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from datafixes.book.positions.position import BookPosition
from datafixes.book.rows.row import moment_of
from datafixes.book.rows.source import asking
from datafixes.project import Project
from datafixes.script import literal


@dataclass(frozen=True)
class Target:
    """The book's table, for fixes.

    Attributes:
        schema: its schema.
        table: its name.
        columns: by name of a column, its type.
        audit: the audit table.
        audit_schema: its schema.
    """

    schema: str
    table: str
    columns: Mapping[str, str]
    audit: str
    audit_schema: str

    @property
    def name(self) -> str:
        """Its name in SQL."""
        return literal.qualified(self.schema, self.table)

    @property
    def other(self) -> str:
        """The alias of another row of the table."""
        return "other" if self.table != "other" else "another"

    def time(self, column: str, moment: dt.datetime) -> dt.datetime:
        """A time as a value for a column: in UTC, with a zone if the column has one."""
        utc = moment.astimezone(dt.UTC)
        return utc if self.has_zone(column) else utc.replace(tzinfo=None)

    def has_zone(self, column: str) -> bool:
        """Whether a column of times has a zone."""
        return "with time zone" in self.columns.get(column, "")


OPEN = "status IN ('open', 'closing')"
CLOSED = "status = 'closed'"

_SYMBOL = "coalesce(option_symbol, ticker)"
_SIDE = "CASE WHEN lower(btrim(side)) IN ('short', 'sell') THEN 'short' ELSE 'long' END"
# An id alone does not identify a row: the book recreates its phantoms with new ids.
IDENTITY = {
    "symbol": _SYMBOL, "account": "account_name", "side": _SIDE, "quantity": "quantity", "opened": "entry_time",
    "entry": "entry_price",
}  # fmt: skip

SeenRow = tuple[int, str, str, str, int]


def seen_row(row: BookPosition) -> SeenRow:
    """A row of the book: id, symbol, account, side, quantity; all but the first as in `IDENTITY`."""
    return row.id, row.written, row.account, "short" if row.quantity < 0 else "long", int(abs(row.quantity))


def alone(target: Target) -> str:
    """A row is the only open one of its position; the book may have been corrected meanwhile."""
    other = target.other
    return f"(SELECT count(*) FROM {target.name} AS {other} WHERE {_same(target)} AND {other}.{OPEN}) = 1"


def ended_since(target: Target, since: dt.datetime) -> str:
    """The book had the position of a row and ended it since then, with any status."""
    ended = f"coalesce({target.other}.closed_at, {target.other}.updated_at)"
    zones = {target.has_zone(column) for column in ("closed_at", "updated_at")}
    if len(zones) > 1:
        # Times of different types are compared as seconds since 1970.
        before = f"extract(epoch FROM {ended}) < {since.timestamp():.0f}"
    else:
        kind = "timestamptz" if zones == {True} else "timestamp"
        time = target.time("closed_at", since.replace(microsecond=0))
        before = f"{ended} < {kind} {literal.text(time.isoformat(' '))}"
    return (
        f"EXISTS (SELECT FROM {target.name} AS {target.other} WHERE {_same(target)}"
        f" AND ({target.other}.{OPEN}) IS NOT TRUE AND ({target.other}.{CLOSED} AND {before}) IS NOT TRUE)"
    )


def still_there(rows: Sequence[SeenRow], target: Target) -> str:
    """These rows are open and unchanged."""
    kept = target.other
    seen = ", ".join(
        f"({id_}, {literal.text(symbol)}, {literal.text(account)}, {literal.text(side)}, {quantity})"
        for id_, symbol, account, side, quantity in sorted(rows)
    )
    return (
        f"(SELECT count(*) FROM {target.name} AS {kept} WHERE {kept}.{OPEN} AND ({kept}.id,"
        f" coalesce({kept}.option_symbol, {kept}.ticker), {kept}.account_name,"
        f" {_SIDE.replace('side', f'{kept}.side')}, {kept}.quantity) IN ({seen})) = {len(rows)}"
    )


def _same(target: Target) -> str:
    """Another row has the same position as the current row, however the symbol is written."""
    other, row = target.other, literal.name(target.table)
    symbols = (
        f"upper(translate(coalesce(nullif(btrim({one}.option_symbol), ''), {one}.ticker), '/- ', '..'))"
        for one in (other, row)
    )
    return f"{other}.account_name = {row}.account_name AND {' = '.join(symbols)}"


_NEWEST = """
SELECT id, account_name, coalesce(option_symbol, ticker) AS symbol,
       CAST(extract(epoch FROM entry_time) AS text) AS entry_time
  FROM {table}
 WHERE account_name IS NOT NULL AND coalesce(option_symbol, ticker) IS NOT NULL
   AND extract(epoch FROM entry_time) BETWEEN 0 AND 4102444800
 ORDER BY id DESC
 LIMIT 1
""".strip()


def witness_of(project: Project, target: Target) -> str:
    """The condition that the newest row of the book exists, whatever its status; empty if the book has no rows.

    Raises:
        DatafixError: the book cannot be read.
    """
    with asking(project) as ask:
        for row in ask(_NEWEST.format(table=target.name)):
            # The query finds only times that can be represented.
            opened = moment_of(row["entry_time"]) or dt.datetime.min
            kind = "timestamptz" if target.has_zone("entry_time") else "timestamp"
            values = {
                "id": str(int(row["id"])),
                "account_name": literal.text(str(row["account_name"])),
                "coalesce(option_symbol, ticker)": literal.text(str(row["symbol"])),
                "entry_time": f"{kind} {literal.text(target.time('entry_time', opened).isoformat(' '))}",
            }
            conditions = " AND ".join(f"{expression} = {value}" for expression, value in values.items())
            return f"EXISTS (SELECT FROM {target.name} WHERE {conditions})"
    return ""
