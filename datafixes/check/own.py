"""What a revision has made so far, and which therefore held no rows before."""

import ast
import re
from dataclasses import dataclass, field

from datafixes.check.sql_deeds import Change, Shape, Table

_PLURALS = ("", "s", "es")


@dataclass
class Own:
    """What was made up to a place.

    Attributes:
        tables: the tables.
        columns: columns of other tables.
        functions: the functions, and what their bodies change.
        statements: what was executed: it may have moved values elsewhere.
    """

    tables: set[Table] = field(default_factory=set)
    columns: set[tuple[Table, str]] = field(default_factory=set)
    functions: dict[str, tuple[Change, ...]] = field(default_factory=dict)
    statements: list[ast.expr] = field(default_factory=list)

    def copy(self) -> "Own":
        """A state to change apart."""
        return Own(set(self.tables), set(self.columns), dict(self.functions), list(self.statements))

    def add(self, other: "Own") -> None:
        """Add what was made on another way to the same place."""
        self.tables |= other.tables
        self.columns |= other.columns
        self.functions |= other.functions
        self.statements += [one for one in other.statements if one not in self.statements]

    def apply(self, shape: Shape) -> None:
        """Note a change of a definition."""
        table, column = shape.table, (shape.table, shape.column)
        if shape.deed == "creates" and table[1]:
            self.tables.add(table)
        elif shape.deed == "adds":
            self.columns.add(column)
        elif shape.deed == "drops":
            self.columns.discard(column)
            if not shape.column:
                self.tables.discard(table)
        elif shape.deed == "renames" and shape.now:
            self._rename(shape)

    def _rename(self, shape: Shape) -> None:
        if shape.column:
            if (shape.table, shape.column) in self.columns:
                self.columns.discard((shape.table, shape.column))
                self.columns.add((shape.table, shape.now))
            return
        now = (shape.table[0], shape.now)
        was_own = shape.table in self.tables
        self.tables -= {shape.table, now}
        self.tables |= {now} if was_own else set()
        moved = {one for one in self.columns if one[0] == shape.table}
        self.columns = (self.columns - moved) | {(now, column) for _, column in moved}

    def has_table(self, table: Table) -> bool:
        """Whether a table is one of these; without a schema, its name may be a model's."""
        return any(_is_same(table, one) for one in self.tables)

    def has_columns(self, table: Table, columns: frozenset[str]) -> bool:
        """Whether all columns are new ones of a table."""
        if not columns:
            return False
        known = {column for one, column in self.columns if _is_same(table, one)}
        return all(column and column in known for column in columns)


def _is_same(named: Table, table: Table) -> bool:
    if named[0]:
        return named == table
    return bool(named[1]) and _loosely(named[1]) in {
        f"{_loosely(table[1]).removesuffix('s')}{end}" for end in _PLURALS
    } | {_loosely(table[1])}


def _loosely(name: str) -> str:
    return re.sub(r"ies$", "y", name.replace("_", "").lower())
