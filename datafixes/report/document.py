"""A document independent of its format: the source for terminal, Markdown and HTML."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from datafixes.audit.changes import Cell as Cell
from datafixes.audit.changes import Changes as Changes
from datafixes.audit.changes import Kind as Kind
from datafixes.audit.changes import Row as Row
from datafixes.audit.changes import Value as Value

State = Literal["", "good", "bad", "attention", "unknown"]
"""Whether a fact is good or bad. Never shown by colour alone.

Of a check: skipped; as expected; to be fixed; may be intended; could not be checked.
"""

SIGNS: dict[State, str] = {"": "", "good": "✓ ", "bad": "✗ ", "attention": "! ", "unknown": "? "}
"""The sign of a state, before a text."""


@dataclass(frozen=True)
class Fact:
    """A line with a name: of a report, or the result of a check.

    Attributes:
        name: the name.
        text: the text.
        state: whether it is good or bad.
        remedy: what to do about it, or an empty string.
        lasting: waiting will not change it.
        exact: the text is meant for copying, such as a command, and is never wrapped.
        below: it comes after the rows, which people look for first.
        links: addresses in it are links, such as those of tickets.
    """

    name: str
    text: str
    state: State = ""
    remedy: str = ""
    lasting: bool = False
    exact: bool = False
    below: bool = False
    links: bool = False


def above(facts: Iterable[Fact], *, below: bool = False) -> tuple[Fact, ...]:
    """The facts that come before the rows, or those that come after."""
    return tuple(fact for fact in facts if fact.below == below)


def good(check: str, text: str) -> Fact:
    """Nothing to fix."""
    return Fact(check, text, "good")


def attention(check: str, text: str, remedy: str) -> Fact:
    """Something that may be intended."""
    return Fact(check, text, "attention", remedy)


def bad(check: str, text: str, remedy: str = "", *, lasting: bool = False) -> Fact:
    """Something to fix."""
    return Fact(check, text, "bad", remedy, lasting)


def unknown(check: str, text: str, remedy: str = "", *, lasting: bool = False) -> Fact:
    """Something that could not be checked."""
    return Fact(check, text, "unknown", remedy, lasting)


@dataclass(frozen=True)
class Grid:
    """A table of texts; None is an empty cell. ``empty`` is shown if there are no rows."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]
    empty: str = "none"


@dataclass(frozen=True)
class Section:
    """A part of a document, with a heading.

    Attributes:
        title: the heading.
        state: whether the part is good or bad.
        facts: lines with a name.
        notes: paragraphs.
        block: preformatted text, such as a table of conflicts.
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
    """A document.

    Attributes:
        title: the title, ``"Plan: upgrade to 015"``.
        summary: the most important line, with the counts.
        state: whether the whole is good or bad.
        facts: lines with a name, at the top.
        sections: the parts.
    """

    title: str
    summary: str = ""
    state: State = ""
    facts: tuple[Fact, ...] = ()
    sections: tuple[Section, ...] = ()
