"""Rows before and after, as text for people; and which columns are masked."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Literal

Kind = Literal["updated", "inserted", "deleted"]
"""How a row changed."""


@dataclass(frozen=True)
class Value:
    """A value of a row, as text.

    Attributes:
        text: the value, or a part of it; None is NULL.
        characters: the length of the whole value, if ``text`` is only a part of it.
        masked: the value is hidden, and ``text`` is None.
        redacted: the value was erased in the copies, and ``text`` is None.
        start: how many characters come before the part: of a long value, that around the first change is read.
    """

    text: str | None
    characters: int | None = None
    masked: bool = False
    start: int = 0
    redacted: bool = False

    @property
    def is_hidden(self) -> bool:
        """Whether there is, or was, a value that is not to be seen."""
        return self.masked or self.redacted


@dataclass(frozen=True)
class Cell:
    """One column of one row.

    Attributes:
        column: its name.
        before: the value before, or None if the row did not exist.
        after: the value after, or None if the row no longer exists.
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
        key: its key as text, ``a/b`` for several columns; empty if the table has none.
        kind: how it changed.
        cells: its columns, in the order of the table.
        name: a readable name: what identifies it besides the key, or an empty string.
    """

    key: str
    kind: Kind
    cells: tuple[Cell, ...]
    name: str = ""

    @property
    def label(self) -> str:
        """The key and the name."""
        return f"{self.key} {self.name}".strip()


class Reread(Collection[Row]):
    """Rows that are read again whenever they are asked for: there may be too many to keep them."""

    def __init__(self, read: Callable[[], Iterator[Row]]) -> None:
        self._read = read

    def __iter__(self) -> Iterator[Row]:
        return self._read()

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, row: object) -> bool:
        return any(row == one for one in self)


@dataclass(frozen=True)
class Changes:
    """The rows of one table.

    Attributes:
        table: the table.
        rows: the rows to show.
        total: the number of all rows.
    """

    table: str
    rows: Collection[Row]
    total: int

    @property
    def kinds(self) -> Counter[Kind]:
        """How many of the rows to show changed in which way."""
        return self._seen[0]

    @property
    def columns(self) -> list[str]:
        """The columns of the rows to show, each once, in the order of the table."""
        return list(self._seen[1])

    @cached_property
    def _seen(self) -> tuple[Counter[Kind], dict[str, None]]:
        kinds: Counter[Kind] = Counter()
        columns: dict[str, None] = {}
        for row in self.rows:
            kinds[row.kind] += 1
            columns.update(dict.fromkeys(cell.column for cell in row.cells))
        return kinds, columns


@dataclass(frozen=True)
class View:
    """How much of the rows to show.

    Attributes:
        rows: the maximum for each table.
        characters: the maximum for each value, which may have a gigabyte.
        masks: patterns for masked columns: ``email``, ``users.*``, ``public.users.pass*``.
    """

    rows: int = 20
    characters: int = 200
    masks: tuple[str, ...] = ()

    def hides(self, table: str, column: str) -> bool:
        """Whether a column of a table, named with its schema, is masked; case does not matter."""
        names = [f"{table}.{column}".replace('"', "").lower()]
        while "." in names[-1]:
            names.append(names[-1].split(".", 1)[1])
        return any(fnmatchcase(name, mask.lower()) for mask in self.masks for name in names)
