"""Rows before and after, as rows of an HTML table: two cells for a column that changed, one for any other."""

from html import escape

from datafixes.report.document import Cell, Changes, Row, Value
from datafixes.report.text import is_plain, one_line, same_ends, shown

SIGN = {"updated": "~", "inserted": "+", "deleted": "−"}
_LONGEST, _LONG = 20_000, 240
# A mark helps if most of the text is the same; otherwise it is noise.
_SHARED = 16


def names_of(changes: Changes) -> list[str]:
    """The columns of the rows, each once, in the order of the table."""
    return list(dict.fromkeys(cell.column for row in changes.rows for cell in row.cells))


def rows_of(changes: Changes) -> list[str]:
    """A ``<tr>`` for each row, with all values escaped."""
    names = {name: escape(one_line(name)) for name in names_of(changes)}
    return [_row(row, names) for row in changes.rows]


def _row(row: Row, names: dict[str, str]) -> str:
    cells = {cell.column: cell for cell in row.cells}
    parts = [
        f'<tr class="{row.kind}"><th scope="row">{escape(one_line(row.key)) if row.key else "<i>no key</i>"}</th>'
        f'<td class="kind"><b aria-hidden="true">{SIGN[row.kind]}</b> {row.kind}</td>'
    ]
    for name, label in names.items():
        cell = cells.get(name)
        parts.append('<td class="no" colspan="2"></td>' if cell is None else _cell(cell, label))
    return "".join([*parts, "</tr>"])


def _cell(cell: Cell, label: str) -> str:
    before, after = cell.before, cell.after
    if not cell.changed:
        one = after or before
        inner = "" if one is None else _value(one, shown(one, _LONGEST), (0, 0))
        return f'<td class="same" colspan="2" data-name="{label}">{inner}</td>'
    if before is None or after is None:
        one, css = (after, "is") if before is None else (before, "was")
        inner = "" if one is None else _value(one, shown(one, _LONGEST), (0, 0))
        there, none = f'<td class="{css}" data-name="{label}">{inner}</td>', '<td class="no"></td>'
        return none + there if css == "is" else there + none
    texts = shown(before, _LONGEST), shown(after, _LONGEST)
    ends = same_ends(*texts) if is_plain(before) and is_plain(after) else (0, 0)
    if sum(ends) < _SHARED:
        ends = (0, 0)
    return (
        f'<td class="was" data-name="{label}">{_value(before, texts[0], ends)}</td>'
        f'<td class="is">{_value(after, texts[1], ends)}</td>'
    )


def _value(value: Value, text: str, ends: tuple[int, int]) -> str:
    if not is_plain(value):
        return f"<i>{text}</i>"
    start, end = ends
    if start or end:
        stop = len(text) - end
        inner = f"{_broken(text[:start])}<mark>{_broken(text[start:stop])}</mark>{_broken(text[stop:])}"
    else:
        inner = _broken(text)
    return f'<div class="long" tabindex="0">{inner}</div>' if len(text) > _LONG else inner


def _broken(text: str) -> str:
    r"""The text, escaped; a line break is shown as \n and also breaks the line."""
    return escape(text).replace("\\n", "\\n\n")
