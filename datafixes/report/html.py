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

from datafixes.report.differences import Piece, difference
from datafixes.report.document import Cell, Changes, Document, Row, State, Value, above
from datafixes.report.text import counts_of, is_plain, lines, one_line, shown, with_links

SIGN = {"updated": "~", "inserted": "+", "deleted": "−"}
_LONG_KEY = 30
_LONGEST, _LONG, _SHORT, _AROUND = 20_000, 240, 60, 60


def rows_of(changes: Changes) -> Iterator[str]:
    """A ``<tr>`` for each row, with all values escaped."""
    names = {name: escape(one_line(name)) for name in changes.columns}
    return (_row(row, names) for row in changes.rows)


def _row(row: Row, names: dict[str, str]) -> str:
    cells = {cell.column: cell for cell in row.cells}
    wide = ' class="broken"' if len(row.label) > _LONG_KEY else ""
    parts = [
        f'<tr class="{row.kind}"><th scope="row"{wide}>{escape(one_line(row.label)) or "<i>no key</i>"}</th>'
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
        inner = "" if one is None else _value(one)
        return f'<td class="same" colspan="2" data-name="{label}">{inner}</td>'
    if before is None or after is None:
        one, css = (after, "is") if before is None else (before, "was")
        there, none = f'<td class="{css}" data-name="{label}">{_value(one)}</td>', '<td class="no"></td>'
        return none + there if css == "is" else there + none
    pieces = difference(cell, _AROUND, laid_out=True)
    was, now = (_marked(pieces, side, value) for side, value in (("was", before), ("is", after)))
    return f'<td class="was" data-name="{label}">{was}</td><td class="is">{now}</td>'


def _value(value: Value | None) -> str:
    if value is None or not is_plain(value):
        return "" if value is None else f"<i>{shown(value, _LONGEST)}</i>"
    text = shown(value, _LONGEST)
    return _boxed(_broken(text), len(text))


def _marked(pieces: list[Piece], side: str, value: Value) -> str:
    """A side of a change, with marks; what is far from any change is folded, but in its place."""
    if not pieces:
        return _value(value)
    parts, visible = [], 0
    for piece in pieces:
        if piece.kind == "gap" and piece.text:
            inner = f'<summary data-of="{len(piece.text):,}"></summary>{_broken(piece.text)}'
            parts.append(f'<details class="gap">{inner}</details>')
        elif piece.kind == "gap":
            parts.append("<i>…</i>")
        elif piece.kind in ("same", side):
            visible += len(piece.text)
            parts.append(_broken(piece.text) if piece.kind == "same" else _mark(piece.text))
    if value.characters is not None:
        parts.append(f" <i>({value.characters:,} characters)</i>")
    return _boxed("".join(parts), visible)


def _mark(text: str) -> str:
    """A marked text; blanks around it are not marked."""
    inner = text.strip()
    start = text.index(inner)
    return (
        f"{text[:start]}<mark>{_broken(inner)}</mark>{text[start + len(inner) :]}"
        if inner
        else f"<mark>{text}</mark>"
    )


def _boxed(inner: str, characters: int) -> str:
    """Long texts get room, and longer ones a box that scrolls."""
    if characters > _LONG and "<mark>" not in inner:
        return f'<div class="long" tabindex="0">{inner}</div>'
    return f'<div class="room">{inner}</div>' if characters > _SHORT else inner


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
    environment.filters |= {"plain": one_line, "lines": lines, "links": with_links, "number": "{:,}".format}
    environment.globals |= {
        "signs": SIGNS, "at_once": _AT_ONCE, "counts_of": counts_of, "some": islice, "above": above,
        "rows_of": lambda changes: map(Markup, rows_of(changes)),
    }  # fmt: skip
    return environment
