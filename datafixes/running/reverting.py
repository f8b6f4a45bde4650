"""How a fix is taken back: as a whole or some of its rows, and what happens to rows that somebody changed since."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datafixes.declaration.declared import nearest
from datafixes.declaration.expressions import Value
from datafixes.declaration.recorded import Fix
from datafixes.errors import DeclarationError


@dataclass(frozen=True)
class Revert:
    """How a fix is taken back.

    Attributes:
        on_conflict: what the author says of rows that somebody changed since.
        undoes: the revision whose run is taken back, or an empty string.
        rows: the keys of some of the rows, by table where there are several; None: all.
    """

    on_conflict: str = "refuse"
    undoes: str = ""
    rows: Any = None


def chosen_rows(fix: Fix, rows: Any) -> dict[str, list[tuple[Value, ...]]] | None:
    """The keys of the rows that a revert is for, by table.

    Raises:
        DeclarationError: they do not say which rows of which table.
    """
    if rows is None:
        return None
    tables = [table.table for table in fix.tables]
    by_table = rows if isinstance(rows, Mapping) else {tables[0]: rows}
    if not isinstance(rows, Mapping) and len(tables) > 1:
        raise DeclarationError(
            f"datafix {fix.name}: it has several tables, so say of which the rows are.",
            hint=f"rows={{{tables[0]!r}: [...]}}",
        )
    for table, keys in by_table.items():
        if table not in tables:
            raise DeclarationError(
                f"datafix {fix.name}: {table} is none of its tables.{nearest(table, tables)}"
            )
        if isinstance(keys, str) or not keys:
            raise DeclarationError(f"datafix {fix.name}: rows={keys!r}: give a list of keys.")
    return {
        table: [key if isinstance(key, tuple) else (key,) for key in keys] for table, keys in by_table.items()
    }
