"""A document for a pull request's comment: counts first, rows below, within the length limit of a comment."""

from collections.abc import Iterator
from itertools import groupby

from datafixes.report.differences import Piece, as_text, difference, is_ambiguous, lengths, one_side
from datafixes.report.document import SIGNS, Cell, Changes, Document, Fact, Grid, Row, Section, above
from datafixes.report.markdown_text import code, fenced, linked, paragraph, sentence, value
from datafixes.report.text import arrow, counts_of

LIMIT = 65_000
"""The maximum length, in UTF-16 units. GitHub refuses a comment of more than 65,536."""

_FOLDED, _COLUMNS, _FACTS = 20, 8, 40
_SHORT, _AROUND, _LONGEST = 80, 24, 200
_CUTS = (2000, 1000, 500, 250, 120, 60, 30, 15, 7, 3, 1, 0)


def to_markdown(document: Document) -> str:
    """The text. If it would be too long, each list has fewer rows and says how many are omitted."""
    for rows in _CUTS:
        text = "\n\n".join(_document(document, rows)) + "\n"
        if _length(text) <= LIMIT:
            return text
    return _beginning(list(_document(document, 0)))


def _length(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _beginning(parts: list[str]) -> str:
    kept, room = [], LIMIT - 200
    for part in parts:
        room -= _length(part) + 2
        if room < 0:
            break
        kept.append(part)
    left = len(parts) - len(kept)
    return (
        "\n\n".join([*kept, f"**! The rest does not fit into a comment: {left:,} parts are omitted.**"])
        + "\n"
    )


def _document(document: Document, rows: int) -> Iterator[str]:
    yield f"## {sentence(document.title)}"
    if document.summary:
        yield f"**{SIGNS[document.state]}{sentence(document.summary)}**"
    yield from _facts(above(document.facts))
    for section in document.sections:
        yield from _section(section, rows)
    # another list would continue that of the last section
    if facts := above(document.facts, below=True):
        yield "<br>\n".join(f"{_name(fact)}{SIGNS[fact.state]}{_text(fact)}" for fact in facts)


def _section(section: Section, rows: int) -> Iterator[str]:
    yield f"### {SIGNS[section.state]}{sentence(section.title)}"
    yield from _facts(above(section.facts))
    yield from map(paragraph, section.notes)
    if section.block:
        yield _block(section.block)
    for grid in section.grids:
        yield from _grid(grid, rows)
    for changes in section.changes:
        yield from _changes(changes, rows)
    yield from _facts(above(section.facts, below=True))


def _facts(facts: tuple[Fact, ...]) -> Iterator[str]:
    items = [f"- {_name(fact)}{SIGNS[fact.state]}{_text(fact)}" for fact in facts[:_FACTS]]
    if left := len(facts) - len(items):
        items.append(f"- ({left:,} more lines are omitted)")
    if items:
        yield "\n".join(items)


def _name(fact: Fact) -> str:
    return f"**{sentence(fact.name)}:** " if fact.name else ""


def _text(fact: Fact) -> str:
    if fact.exact:
        return code(fact.text)
    return linked(fact.text) if fact.links else paragraph(fact.text)


def _block(block: str) -> str:
    text, count = fenced(block)
    return _folded(f"{count:,} lines", text) if count > _FOLDED else text


def _folded(title: str, text: str) -> str:
    return f"<details>\n<summary>{title}</summary>\n\n{text}\n\n</details>"


def _grid(grid: Grid, rows: int) -> Iterator[str]:
    if grid.title:
        yield f"**{sentence(grid.title)}**"
    if not grid.rows:
        yield f"_({sentence(grid.empty)})_"
        return
    names = [sentence(name) for name in grid.columns]
    body = [[sentence(text or "") for text in row] for row in grid.rows[:rows]]
    yield from _list_of_rows(names, body, len(grid.rows))


def _list_of_rows(names: list[str], body: list[list[str]], total: int) -> Iterator[str]:
    if body:
        table = "\n".join(_line(cells) for cells in (names, ["---"] * len(names), *body))
        yield _folded(f"{total:,} rows", table) if total > _FOLDED else table
    if left := total - len(body):
        yield f"**! {left:,} of {total:,} rows are not shown.**"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _changes(changes: Changes, rows: int) -> Iterator[str]:
    kinds = counts_of(changes.kinds)
    whole = changes.kinds.total() == changes.total
    summary = (
        (kinds or "no row changes") if whole else f"{changes.total:,} rows, shown here: {kinds or 'none'}"
    )
    yield f"**{code(changes.table)}: {summary}**"
    room = rows
    for kind, found in groupby(sorted(changes.rows, key=_order), lambda row: row.kind):
        of_kind = list(found)
        names = list(dict.fromkeys(cell.column for row in of_kind for cell in row.cells if cell.changed))
        table = _wide if len(names) <= _COLUMNS else _long
        header, body = table(of_kind[:room], names)
        room -= len(of_kind[:room])
        if body:
            text = "\n".join(_line(cells) for cells in (header, ["---"] * len(header), *body))
            yield _folded(f"{len(of_kind):,} {kind}", text) if len(body) > _FOLDED else text
    if left := changes.total - (rows - room):
        yield f"**! {left:,} of {changes.total:,} rows are not shown.**"


def _order(row: Row) -> int:
    return ("updated", "inserted", "deleted").index(row.kind)


def _wide(rows: list[Row], names: list[str]) -> tuple[list[str], list[list[str]]]:
    """A line for each row."""
    body = []
    for row in rows:
        cells = {cell.column: _change(cell) for cell in row.cells if cell.changed}
        body.append([_key(row), row.kind, *(cells.get(name, "") for name in names)])
    return ["key", "change", *(code(name) for name in names)], body


def _long(rows: list[Row], names: list[str]) -> tuple[list[str], list[list[str]]]:
    """A line for each changed column, if there are many."""
    body = [
        [_key(row), row.kind, code(cell.column), _change(cell)]
        for row in rows
        for cell in row.cells
        if cell.changed
    ]
    return ["key", "change", "column", "value"], body


def _key(row: Row) -> str:
    return code(row.label) if row.label else "(no key)"


def _difference(cell: Cell) -> list[Piece]:
    """What differs between long texts; short ones are read faster side by side."""
    sides = [len(side.text or "") for side in (cell.before, cell.after) if side is not None]
    return difference(cell, _AROUND) if sum(sides) > _SHORT else []


def _change(cell: Cell) -> str:
    if pieces := _difference(cell):
        counts = f" {sentence(lengths(cell))}" if any(piece.kind == "gap" for piece in pieces) else ""
        if not is_ambiguous(pieces):
            return code(as_text(pieces, _LONGEST)) + counts
        before, after = (code(one_side(pieces, side, _LONGEST)) for side in ("was", "is"))
        return f"{before}{arrow(before, after)}{after}{counts}"
    before, after = ("" if side is None else value(side) for side in (cell.before, cell.after))
    return f"{before}{arrow(before, after)}{after}" if before and after else before or after
