"""What is to be read, before anybody decides how it looks: one neutral form for terminal, Markdown and HTML."""

from dataclasses import dataclass
from typing import Literal

State = Literal["", "good", "bad", "attention"]
"""How a fact is to be taken. Never told by colour alone."""

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
class Fact:
    """Something with a name, in a line."""

    name: str
    text: str
    state: State = ""


@dataclass(frozen=True)
class Grid:
    """A table of texts; None is an empty cell. ``empty`` is what is said where there is no row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]
    empty: str = "none"


@dataclass(frozen=True)
class Section:
    """A part of a document, with a heading.

    Attributes:
        title: the heading.
        state: how the whole part is to be taken.
        facts: lines with a name.
        notes: paragraphs.
        block: text whose spaces and line breaks count, such as a table of conflicts.
        grids: tables of texts.
        changes: rows, before and after.
    """

    title: str
    state: State = ""
    facts: tuple[Fact, ...] = ()
    notes: tuple[str, ...] = ()
    block: str = ""
    grids: tuple[Grid, ...] = ()
    changes: tuple[Changes, ...] = ()


@dataclass(frozen=True)
class Document:
    """All of it.

    Attributes:
        title: what this is, ``"Plan: upgrade to 015"``.
        summary: the one line that counts, with the counts.
        state: how the whole is to be taken.
        facts: lines with a name, at the top.
        sections: the parts.
    """

    title: str
    summary: str = ""
    state: State = ""
    facts: tuple[Fact, ...] = ()
    sections: tuple[Section, ...] = ()
