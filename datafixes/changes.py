"""Rows before and after, as text for people; and which columns nobody is to see."""

import re
from collections.abc import Iterable
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

    def without_masked(self, conflicts: str) -> str:
        """A refusal's table of conflicts, with no values of masked columns.

        A line of it says nothing of the table that a column belongs to, so a mask for ``users.email`` counts for every
        ``email``.
        """
        header, *lines = conflicts.split("\n")
        if not self.masks or "  column" not in header or "  before" not in header:
            return conflicts
        name, values = header.index("  column") + 2, header.index("  before") + 2
        masks = [mask.lower().rpartition(".")[2] for mask in self.masks]
        return "\n".join(
            [
                header,
                *(
                    f"{line[:values]}(masked)"
                    if any(fnmatchcase(line[name:values].strip().lower(), mask) for mask in masks)
                    else line
                    for line in lines
                ),
            ]
        )

    def without_values(self, message: str, identities: Iterable[str] = ()) -> str:
        """A refusal's message, with no values of masked columns: of PostgreSQL's own, and of identities.

        Args:
            message: what was refused, and the evidence.
            identities: the names of what tells the fix's rows apart.
        """
        masks = [mask.lower().rpartition(".")[2] for mask in self.masks]

        def hidden(names: str) -> bool:
            return any(
                fnmatchcase(name.strip(' "').lower(), mask) for name in names.split(",") for mask in masks
            )

        message = re.sub(
            r"Key \(([^)]*)\)=\(.*?\)(?= |$)",
            lambda found: f"Key ({found[1]})=(masked)" if hidden(found[1]) else found[0],
            message,
        )
        for name in identities:
            if hidden(name):
                message = re.sub(rf"\b{re.escape(name)} is .*", f"{name} is (masked)", message)
        return message
