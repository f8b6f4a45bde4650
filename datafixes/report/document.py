"""What is to be read, before anybody decides how it looks: one neutral form for terminal, Markdown and HTML."""

from dataclasses import dataclass
from typing import Literal

from datafixes.audit.changes import Cell as Cell
from datafixes.audit.changes import Changes as Changes
from datafixes.audit.changes import Kind as Kind
from datafixes.audit.changes import Row as Row
from datafixes.audit.changes import Value as Value

State = Literal["", "good", "bad", "attention", "unknown"]
"""How a fact is to be taken. Never told by colour alone."""


@dataclass(frozen=True)
class Fact:
    """Something with a name, in a line.

    Attributes:
        name: what it is.
        text: what there is to say.
        state: how it is to be taken.
        exact: the text is to be copied as it is, such as a command: it is never wrapped.
    """

    name: str
    text: str
    state: State = ""
    exact: bool = False


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
