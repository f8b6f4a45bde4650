"""Statements with the author's text in them, laid out so that a block reads from top to bottom."""

from collections.abc import Iterable

from datafixes.script import literal

# Stands for a line break in the author's text while a statement is indented; no declared text holds a NUL.
_THEIR_BREAK = "\x00"

_WIDTH = 108


def run(function: str, statement: str, table: str = "fix") -> str:
    """A call that runs one statement of the fix, with the engine's marks filled in from what is known of a table."""
    return f"    {function} pg_temp.datafix_sql({table}, {literal.body(indented(statement))})"


def listed(items: Iterable[str], margin: int) -> str:
    """Items with commas between, on as many lines as they need, each behind a margin; no item is broken."""
    lines = [""]
    for item in items:
        if lines[-1] and len(lines[-1]) + len(item) > _WIDTH - margin:
            lines.append("")
        lines[-1] += f", {item}" if lines[-1] else item
    return f",\n{' ' * margin}".join(lines)


def indented(statement: str) -> str:
    """A statement, a line each, inside a call."""
    lines = (f"        {line}".rstrip() for line in statement.split("\n"))
    return "\n" + "\n".join(lines).replace(_THEIR_BREAK, "\n") + "\n    "


def own(text: str) -> str:
    """The author's text, which may hold a literal of several lines: it is not indented."""
    return text.replace("\n", _THEIR_BREAK)


def bracketed(condition: str) -> str:
    """The author's condition or expression in brackets."""
    # It may end in a comment: the closing bracket stands on a line of its own if it has several.
    return f"({condition})" if "--" not in condition and "\n" not in condition else f"({own(condition)}\n)"
