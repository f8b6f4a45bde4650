"""Conditions over the book, as a proposed fix states them. The row that is looked at goes by the table's own name."""

import datetime as dt
from collections.abc import Sequence

from datafixes.reconcile.book_row import BookRow
from datafixes.reconcile.target import Target
from datafixes.script import literal

OPEN = "status IN ('open', 'closing')"
CLOSED = "status = 'closed'"

_SYMBOL = "coalesce(option_symbol, ticker)"
_SIDE = "CASE WHEN lower(btrim(side)) IN ('short', 'sell') THEN 'short' ELSE 'long' END"
# An id alone is no proof of identity: the book makes its phantoms anew, and the ids move on.
IDENTITY = {
    "symbol": _SYMBOL, "account": "account_name", "side": _SIDE, "quantity": "quantity", "opened": "entry_time",
    "entry": "entry_price",
}  # fmt: skip

SeenRow = tuple[int, str, str, str, int]


def seen_row(row: BookRow) -> SeenRow:
    """A row as the book showed it: id, symbol, account, side, quantity; all but the first as `IDENTITY` has them."""
    one = row.position
    return one.id, row.written, one.account, "short" if one.quantity < 0 else "long", int(abs(one.quantity))


def alone(target: Target) -> str:
    """A row is the only open one of its position: somebody may have told the book meanwhile."""
    others = f"FROM {_table(target)} AS datafix_other WHERE {_same(target)} AND datafix_other.{OPEN}"
    return f"(SELECT count(*) {others}) = 1"


def closed_since(target: Target, since: dt.datetime) -> str:
    """The book had the position of a row, and ended it since then, whatever it calls that."""
    ended = "extract(epoch FROM coalesce(datafix_other.closed_at, datafix_other.updated_at))"
    before = f"datafix_other.{CLOSED} AND {ended} < {since.timestamp():.0f}"
    return (
        f"EXISTS (SELECT FROM {_table(target)} AS datafix_other WHERE {_same(target)}"
        f" AND (datafix_other.{OPEN}) IS NOT TRUE AND ({before}) IS NOT TRUE)"
    )


def still_there(rows: Sequence[SeenRow], target: Target) -> str:
    """These rows are open, and as they were seen."""
    seen = ", ".join(
        f"({id_}, {literal.text(symbol)}, {literal.text(account)}, {literal.text(side)}, {quantity})"
        for id_, symbol, account, side, quantity in sorted(rows)
    )
    return (
        f"(SELECT count(*) FROM {_table(target)} AS datafix_kept WHERE datafix_kept.{OPEN}"
        " AND (datafix_kept.id, coalesce(datafix_kept.option_symbol, datafix_kept.ticker), datafix_kept.account_name,"
        f" {_SIDE.replace('side', 'datafix_kept.side')}, datafix_kept.quantity) IN ({seen})) = {len(rows)}"
    )


def _table(target: Target) -> str:
    return literal.qualified(target.schema, target.table)


def _same(target: Target) -> str:
    """``datafix_other`` is in the same position as the row that is looked at, however the symbol is written."""
    row = literal.name(target.table)
    symbols = (
        f"upper(translate(coalesce(nullif(btrim({one}.option_symbol), ''), {one}.ticker), '/- ', '..'))"
        for one in ("datafix_other", row)
    )
    return f"datafix_other.account_name = {row}.account_name AND {' = '.join(symbols)}"
