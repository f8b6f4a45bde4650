"""Rows before and after in a terminal: a line for each row if they fit, else a line for each changed column."""

from collections.abc import Iterator

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from datafixes.report.differences import MARKS, Piece, difference, is_ambiguous, lengths, one_side, shortened
from datafixes.report.document import Cell, Changes, Row, Value
from datafixes.report.text import ELLIPSIS, arrow, is_plain, one_line, shown

SIGN = {"updated": "~", "inserted": "+", "deleted": "-"}
_STYLE = {"updated": "yellow", "inserted": "green", "deleted": "red"}
_OF_PIECE = {"same": "", "gap": "dim", "was": "red", "is": "green"}
_KEY, _NAME, _AROUND, _LONGEST, _ROOM_TO_COUNT, _MOST_LINES = 16, 24, 24, 200, 36, 12
_LIMIT = 10_000


def wrapped(text: str, width: int) -> list[str]:
    """A sentence wrapped into lines. A word that is too long stays whole: it can be a path or digest to copy."""
    found = [""]
    for word in text.split(" "):
        longer = f"{found[-1]} {word}" if found[-1] else word
        if found[-1] and cell_len(longer) > width:
            found.append(word)
        else:
            found[-1] = longer
    return found


def fitting(text: str, width: int) -> str:
    """A text, or its beginning and an ellipsis if it is too wide."""
    if len(text) <= width * 4 and cell_len(text) <= width:
        return text
    cut = text[: max(width, 1) * 4]
    while cut and cell_len(cut) > width - 1:
        cut = cut[:-1]
    return cut + ELLIPSIS


def padded(text: str, width: int) -> str:
    """A text padded to a width."""
    return text + " " * (width - cell_len(text))


def changes_lines(changes: Changes, width: int) -> Iterator[Text]:
    """The changed cells of the rows, and how many rows are not shown."""
    yield Text(one_line(changes.table), "bold")
    if changes.total == 0:
        yield Text("(no row changes)", "dim")
    rows = tuple(changes.rows)
    table = _as_table(rows, width)
    yield from _as_list(rows, width) if table is None else table
    if left := changes.total - len(rows):
        note = f"{left:,} of {changes.total:,} rows not shown" if rows else f"{left:,} rows, not shown"
        yield from (Text(line, "dim") for line in wrapped(f"({note})", width))


def _as_table(rows: tuple[Row, ...], width: int) -> list[Text] | None:
    """A line for each row, or None if they do not fit."""
    names = list(dict.fromkeys(cell.column for row in rows for cell in row.cells if cell.changed))
    lines = [["", "key", "", *(one_line(name) for name in names)]]
    for row in rows:
        cells = {cell.column: _whole(cell) for cell in row.cells if cell.changed}
        lines.append([SIGN[row.kind], _key(row), row.kind, *(cells.get(name, "") for name in names)])
        if sum(len(text) for text in lines[-1]) > width:
            return None
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    if len(rows) < 2 or len(names) > 6 or sum(widths) + 2 * len(widths) - 3 > width:
        return None
    found = []
    for number, line in enumerate(lines):
        style = _STYLE[rows[number - 1].kind] if number else "dim"
        sign, *rest = (padded(text, w) for text, w in zip(line, widths, strict=True))
        text = Text(f"{sign} {'  '.join(rest)}", "dim" if number == 0 else "")
        text.stylize(style, 0, 1)
        found.append(text)
    return found


def _whole(cell: Cell) -> str:
    before, after = _texts(cell)
    return f"{before}{arrow(before, after)}{after}" if cell.before and cell.after else before or after


def _texts(cell: Cell) -> tuple[str, str]:
    before, after = ("" if value is None else shown(value, _LIMIT) for value in (cell.before, cell.after))
    return before, after


def _key(row: Row) -> str:
    return one_line(row.label) or "(no key)"


def _as_list(rows: tuple[Row, ...], width: int) -> Iterator[Text]:
    """A line for each changed column; a long key, such as a UUID, has a line of its own."""
    keys = [cell_len(_key(row)) for row in rows]
    names = [cell_len(one_line(cell.column)) for row in rows for cell in row.cells if cell.changed]
    name_width = min(max(names, default=0), _NAME)
    beside = max(keys, default=0) <= _KEY
    start = max(keys, default=0) + len("~   updated   ") if beside else 4
    for row in rows:
        head = Text.assemble(
            (f"{SIGN[row.kind]} ", _STYLE[row.kind]), (fitting(_key(row), width - 12), "bold")
        )
        if beside:
            head = Text.assemble(head, " " * (max(keys) - cell_len(_key(row))))
        head.append(f"  {row.kind:<8}", _STYLE[row.kind])
        cells = [cell for cell in row.cells if cell.changed]
        if not (beside and cells):
            yield head
            head = Text(" " * (start - 2))
        for cell in cells:
            name = padded(fitting(one_line(cell.column), name_width), name_width)
            first, *more = _cell_lines(cell, width - start - name_width - 2)
            yield Text.assemble(head, "  ", (name, "dim"), "  ", first)
            head = Text(" " * (start - 2))
            yield from (Text.assemble(" " * (start + name_width + 2), line) for line in more)


def _cell_lines(cell: Cell, room: int) -> list[Text]:
    """Before → after on one line if both fit; else their difference, or each on a line of its own."""
    before, after = _texts(cell)
    if cell.before is None or cell.after is None:
        return [_value(cell.before or cell.after, before or after, room)]
    between = arrow(before, after)
    if cell_len(before) + 3 + cell_len(after) <= room:
        return [Text.assemble(_value(cell.before, before, room), between, _value(cell.after, after, room))]
    if pieces := difference(cell, _AROUND):
        if not is_ambiguous(pieces):
            return _difference(pieces, lengths(cell), room)
        before, after = one_side(pieces, "was", _LONGEST), one_side(pieces, "is", _LONGEST)
    return [
        Text.assemble("  ", _value(cell.before, before, room - 2)),
        Text.assemble(between.lstrip(), _value(cell.after, after, room - 2)),
    ]


def _difference(pieces: list[Piece], counts: str, room: int) -> list[Text]:
    """What was removed and added, with the words around it, and the lengths if not all is shown."""
    whole = Text()
    for piece in pieces:
        opening, closing = MARKS.get(piece.kind, ("", ""))
        whole.append(f"{opening}{shortened(piece, _LONGEST)}{closing}", _OF_PIECE[piece.kind])
    if any(piece.kind == "gap" for piece in pieces):
        whole.append(f" {counts}", "dim")
    found = list(whole.wrap(Console(), max(room, _NAME), overflow="fold"))
    if len(found) > _MOST_LINES:
        found[_MOST_LINES:] = [Text(f"{ELLIPSIS} {counts}", "dim")]
    return found


def _value(value: Value | None, text: str, room: int) -> Text:
    if value is None or not is_plain(value):
        return Text(text, "italic")
    if cell_len(text) <= room:
        return Text(text)
    characters = (
        f" ({value.characters or len(value.text or ''):,} characters)" if room > _ROOM_TO_COUNT else ""
    )
    return Text(fitting(text, room - len(characters)) + characters)
