"""Rows before and after, as text for people; and which columns nobody is to see."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

Kind = Literal["updated", "inserted", "deleted"]
"""What happened to a row."""


@dataclass(frozen=True)
class Value:
    """A value of a row, as text.

    Attributes:
        text: the value, or its beginning; None is NULL.
        characters: how many characters the whole value has, where ``text`` is only its beginning.
        masked: nobody is to see it; ``text`` is then None.
    """

    text: str | None
    characters: int | None = None
    masked: bool = False


@dataclass(frozen=True)
class Cell:
    """One column of one row.

    Attributes:
        column: its name.
        before: the value before, or None where the row was not there.
        after: the value after, or None where the row is not there any more.
        changed: whether the two differ, bit for bit.
    """

    column: str
    before: Value | None
    after: Value | None
    changed: bool = True


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        key: its key as text, ``a/b`` where it has several columns; empty where the table has none.
        kind: what happened to it.
        cells: its columns, in the order of the table.
    """

    key: str
    kind: Kind
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Changes:
    """The rows of one table.

    Attributes:
        table: the table.
        rows: the rows that are shown.
        total: how many there are.
    """

    table: str
    rows: tuple[Row, ...]
    total: int


@dataclass(frozen=True)
class View:
    """How much of the rows is to be seen.

    Attributes:
        rows: how many of each table at most.
        characters: how many of each value at most: a value may have a gigabyte.
        masks: patterns for columns that nobody is to see: ``email``, ``users.*``, ``public.users.pass*``.
    """

    rows: int = 20
    characters: int = 200
    masks: tuple[str, ...] = ()

    def hides(self, table: str, column: str) -> bool:
        """Whether a column of a table, named with its schema, is masked; case makes no difference."""
        names = [f"{table}.{column}".replace('"', "").lower()]
        while "." in names[-1]:
            names.append(names[-1].split(".", 1)[1])
        return any(fnmatchcase(name, mask.lower()) for mask in self.masks for name in names)
