"""A document for a terminal or a plain file: aligned, as wide as the terminal, coloured only in a terminal."""

import io
import os
import shutil
from collections.abc import Iterable, Iterator
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from datafixes.report.document import SIGNS, Document, Fact, Grid, Section, State, above
from datafixes.report.terminal_rows import changes_lines, padded, wrapped
from datafixes.report.text import lines, one_line

STYLES: dict[State, str] = {"": "", "good": "green", "bad": "red", "attention": "yellow", "unknown": "yellow"}
# Replacements for characters that the stream's encoding lacks.
_PLAIN = {"→": "->", "✓": "+", "✗": "x", "…": "...", "·": "-", "\u200e": ""}
_NARROWEST, _LONGEST_NAME = 40, 30


def to_terminal(document: Document, stream: TextIO | None) -> str:
    """The text for a stream.

    Args:
        document: the document.
        stream: its destination, or None for a file. Only a terminal gets colours and its own width; ``COLUMNS``,
            ``NO_COLOR`` and ``TERM=dumb`` are respected.
    """
    terminal = stream is not None and stream.isatty()
    colours = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    width = shutil.get_terminal_size((80, 24)).columns if terminal or os.environ.get("COLUMNS") else 80
    out = io.StringIO()
    console = Console(
        file=out, force_terminal=colours, color_system="standard" if colours else None, no_color=not colours,
        width=10_000, highlight=False, markup=False, emoji=False, legacy_windows=False, _environ={},
    )  # fmt: skip
    for line in _document(document, max(width, _NARROWEST)):
        line.rstrip()
        console.print(line, soft_wrap=True)
    return _as_encoded(out.getvalue(), getattr(stream, "encoding", None) or "utf-8")


def _as_encoded(text: str, encoding: str) -> str:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        for character, plain in _PLAIN.items():
            text = text.replace(character, plain)
        return text.encode(encoding, "backslashreplace").decode(encoding)
    return text


def _document(document: Document, width: int) -> Iterator[Text]:
    yield from (Text(line, "bold") for line in wrapped(one_line(document.title), width))
    if document.summary:
        yield from _marked(document.summary, document.state, width)
    first, last = (_facts(above(document.facts, below=below), width, 0) for below in (False, True))
    for part in map(list, (first, *(_section(one, width) for one in document.sections), last)):
        if part:
            yield Text()
            yield from part


def _marked(text: str, state: State, width: int) -> Iterator[Text]:
    sign = SIGNS[state]
    for number, line in enumerate(wrapped(one_line(text), width - len(sign))):
        yield Text.assemble((sign if number == 0 else " " * len(sign)), line, style=STYLES[state])


def _section(section: Section, width: int) -> Iterator[Text]:
    heading = SIGNS[section.state] + one_line(section.title)
    yield from (Text(line, f"bold {STYLES[section.state]}".strip()) for line in wrapped(heading, width))
    parts = [list(part) for part in _parts(section, width)]
    for number, part in enumerate(part for part in parts if part):
        if number:
            yield Text()
        yield from part


def _parts(section: Section, width: int) -> Iterator[Iterable[Text]]:
    yield _facts(above(section.facts), width, 2)
    for note in section.notes:
        yield (Text(f"  {part}") for line in lines(note) for part in wrapped(line, width - 2))
    if section.block:
        # Never cut, because it is evidence.
        yield (Text(f"  {line}") for line in lines(section.block.rstrip("\n")))
    for grid in section.grids:
        yield _indented(_grid(grid, width - 2))
    for changes in section.changes:
        yield _indented(changes_lines(changes, width - 2))
    yield _facts(above(section.facts, below=True), width, 2)


def _indented(given: Iterable[Text]) -> Iterator[Text]:
    for line in given:
        yield Text.assemble("  ", line) if line.plain else line


def _facts(facts: Iterable[Fact], width: int, indent: int) -> Iterator[Text]:
    named = [(one_line(fact.name), fact) for fact in facts]
    longest = min(_LONGEST_NAME, width // 3)
    column = max((cell_len(name) for name, _ in named if cell_len(name) <= longest), default=longest)
    for name, fact in named:
        yield from _fact(name, fact, indent, (column, width - indent - column - 2))


def _fact(name: str, fact: Fact, indent: int, columns: tuple[int, int]) -> Iterator[Text]:
    column, room = columns
    sign = SIGNS[fact.state]
    texts = [
        part
        for line in lines(fact.text)
        for part in ([line] if fact.exact else wrapped(line, room - len(sign)))
    ]
    head = Text.assemble(" " * indent, (name, "dim"), " " * (column - cell_len(name) + 2))
    beside = cell_len(name) <= column
    if not beside:
        yield head
    for number, text in enumerate(texts):
        first = head if beside and number == 0 else Text(" " * (indent + column + 2))
        mark = sign if number == 0 else " " * len(sign)
        yield Text.assemble(first, (mark + text, STYLES[fact.state]))


def _grid(grid: Grid, width: int) -> Iterator[Text]:
    if grid.title:
        yield Text(one_line(grid.title), "bold")
    if not grid.rows:
        yield Text(f"({one_line(grid.empty)})", "dim")
        return
    names = [one_line(name) for name in grid.columns]
    rows = [[None if text is None else one_line(text) for text in row] for row in grid.rows]
    widths = [
        max(cell_len(name), *(cell_len(row[at] or "") for row in rows)) for at, name in enumerate(names)
    ]
    if sum(widths) + 2 * (len(widths) - 1) <= width:
        yield from _as_table(names, rows, widths)
    else:
        yield from _as_cards(names, rows, width)


def _as_table(names: list[str], rows: list[list[str | None]], widths: list[int]) -> Iterator[Text]:
    heading: list[str | None] = [*names]
    for number, row in enumerate([heading, *rows]):
        texts = [padded(text or "", width) for text, width in zip(row, widths, strict=True)]
        yield Text("  ".join(texts), "" if number else "dim")


def _as_cards(names: list[str], rows: list[list[str | None]], width: int) -> Iterator[Text]:
    """The cells of rows one below the other, if they do not fit side by side: whole texts, without empty ones."""
    for row in rows:
        values = [f"{name}: {text}" for name, text in zip(names, row, strict=True) if text is not None]
        first, *others = values or ["(nothing)"]
        yield Text(first, "bold")
        yield from (Text(f"  {line}") for line in _flowing(others, width - 2))


def _flowing(parts: list[str], width: int) -> Iterator[str]:
    """Parts side by side as far as they fit; a part longer than a line is wrapped."""
    line = ""
    for part in parts:
        longer = f"{line} · {part}" if line else part
        if cell_len(longer) <= width:
            line = longer
            continue
        if line:
            yield line
        *whole, line = wrapped(part, width)
        yield from whole
    if line:
        yield line
