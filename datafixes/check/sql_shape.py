"""Changes of tables' definitions in SQL: drop, rename, change of type, addition."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from sqlglot import exp

from datafixes.check.sql_reading import Unreadable, folded, name_of, statements_of

Deed = Literal["drops", "retypes", "renames", "adds"]


@dataclass(frozen=True)
class Shape:
    """One change of a table's definition.

    Attributes:
        deed: what happens.
        table: schema and name.
        column: the column; empty for the table itself.
    """

    deed: Deed
    table: tuple[str, str]
    column: str = ""

    @property
    def words(self) -> str:
        """``orders.total``."""
        schema, name = self.table
        table = name if schema == "public" else f"{schema}.{name}"
        return f"{table}.{self.column}" if self.column else table


def shapes_in(text: str) -> list[Shape]:
    """The changes of tables' definitions in a text; empty if it cannot be parsed."""
    try:
        statements = statements_of(text)
    except Unreadable:
        return []
    found: list[Shape] = []
    for one in statements:
        if isinstance(one, exp.Alter) and str(one.args.get("kind")).upper() == "TABLE":
            found += _altered(one)
        elif isinstance(one, exp.Drop) and str(one.args.get("kind")).upper() == "TABLE":
            found += [Shape("drops", name_of(table)) for table in _dropped(one)]
    return found


def _dropped(drop: exp.Drop) -> list[exp.Expression]:
    tables = [drop.this, *(drop.args.get("expressions") or ()), *(drop.args.get("tables") or ())]
    return [table for table in tables if isinstance(table, exp.Table)]


def _altered(alter: exp.Alter) -> Iterator[Shape]:
    table = name_of(alter.this)
    for action in alter.args.get("actions") or []:
        match action:
            case exp.Drop() if str(action.args.get("kind")).upper() == "COLUMN":
                yield Shape("drops", table, folded(action.find(exp.Identifier)))
            case exp.AlterColumn() if action.args.get("dtype") is not None:
                yield Shape("retypes", table, folded(action.find(exp.Identifier)))
            case exp.RenameColumn():
                yield Shape("renames", table, folded(action.find(exp.Identifier)))
            case exp.AlterRename():
                # sqlglot parses RENAME a TO b, without COLUMN, as the rename of a table to "a", TO b.
                column = folded(action.find(exp.Identifier)) if alter.args.get("options") else ""
                yield Shape("renames", table, column)
            case exp.ColumnDef():
                yield Shape("adds", table, folded(action.this))
