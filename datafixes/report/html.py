"""A document as a page: one file that loads nothing and runs only its own script; it is readable without scripts."""

import base64
import hashlib
from functools import cache
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from datafixes.report.document import Document, State
from datafixes.report.html_rows import names_of, rows_of
from datafixes.report.text import counts_of, lines, one_line

SIGNS: dict[State, tuple[str, str]] = {
    "": ("", ""), "good": ("✓", "Good: "), "bad": ("✗", "Bad: "), "attention": ("!", "Attention: "),
    "unknown": ("?", "Unknown: "),
}  # fmt: skip
"""The sign of a state, and its text for screen readers."""

_AT_ONCE = 200
"""Rows that a page shows at first; page.js adds the rest."""


def to_html(document: Document) -> str:
    """The page with its style and script, and a policy that allows nothing else to run or load."""
    style, script = _file("page.css"), _file("page.js")
    page = _environment().get_template("page.html")
    return page.render(
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
        "signs": SIGNS, "at_once": _AT_ONCE, "names_of": names_of,
        "rows_of": lambda changes: [Markup(row) for row in rows_of(changes)],
        "counts_of": lambda changes: counts_of([row.kind for row in changes.rows]),
    }  # fmt: skip
    return environment
