"""A document as a page: one file that loads nothing and runs only its own script; it is readable without scripts."""

import base64
import hashlib
from collections.abc import Iterator
from functools import cache
from html import escape
from importlib import resources
from itertools import islice

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from datafixes.report.document import Cell, Changes, Document, Row, State, Value
from datafixes.report.text import counts_of, is_plain, lines, one_line, same_ends, shown

SIGN = {"updated": "~", "inserted": "+", "deleted": "−"}
_LONGEST, _LONG = 20_000, 240
# A mark helps if most of the text is the same; otherwise it is noise.
_SHARED = 16


def rows_of(changes: Changes) -> Iterator[str]:
    """A ``<tr>`` for each row, with all values escaped."""
    names = {name: escape(one_line(name)) for name in changes.columns}
    return (_row(row, names) for row in changes.rows)


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


SIGNS: dict[State, tuple[str, str]] = {
    "": ("", ""), "good": ("✓", "Good: "), "bad": ("✗", "Bad: "), "attention": ("!", "Attention: "),
    "unknown": ("?", "Unknown: "),
}  # fmt: skip
"""The sign of a state, and its text for screen readers."""

_AT_ONCE = 200
"""Rows that a page shows at first; page.js adds the rest."""


def to_html(document: Document) -> Iterator[str]:
    """The page in parts, with its style and script, and a policy that allows nothing else to run or load."""
    style, script = _file("page.css"), _file("page.js")
    page = _environment().get_template("page.html")
    return page.generate(
        document=document, style=Markup(style), script=Markup(script), policy=_policy(style, script)
    )


@cache
def _file(name: str) -> str:
    return resources.files("datafixes.report").joinpath("page", name).read_text("utf-8")


def _policy(style: str, script: str) -> str:
    style_hash, script_hash = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)
    )
    return (
        f"default-src 'none'; style-src 'sha256-{style_hash}'; script-src 'sha256-{script_hash}';"
        " img-src 'none'; base-uri 'none'; form-action 'none'"
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_file), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= {"plain": one_line, "lines": lines, "number": "{:,}".format}
    environment.globals |= {
        "signs": SIGNS, "at_once": _AT_ONCE, "counts_of": counts_of, "some": islice,
        "rows_of": lambda changes: map(Markup, rows_of(changes)),
    }  # fmt: skip
    return environment
