"""Lays out statements with the author's text, so that a block reads from top to bottom."""

from collections.abc import Iterable

from datafixes.script import literal

# Replaces a line break in the author's text while a statement is indented; declared texts contain no NUL.
_THEIR_BREAK = "\x00"

_WIDTH = 108


def run(function: str, statement: str, table: str = "fix") -> str:
    """A call that runs one statement of the fix, with the engine's marks replaced by facts of a table."""
    return f"    {function} pg_temp.datafix_sql({table}, {literal.body(indented(statement))})"


def listed(items: Iterable[str], margin: int) -> str:
    """Items separated by commas, wrapped at a margin without breaking an item."""
    lines = [""]
    for item in items:
        if lines[-1] and len(lines[-1]) + len(item) > _WIDTH - margin:
            lines.append("")
        lines[-1] += f", {item}" if lines[-1] else item
    return f",\n{' ' * margin}".join(lines)


def indented(statement: str) -> str:
    """A statement, indented for a call."""
    lines = (f"        {line}".rstrip() for line in statement.split("\n"))
    return "\n" + "\n".join(lines).replace(_THEIR_BREAK, "\n") + "\n    "


def own(text: str) -> str:
    """The author's text, which is not indented, because it may contain a literal of several lines."""
    return text.replace("\n", _THEIR_BREAK)


def bracketed(condition: str) -> str:
    """The author's condition or expression in brackets."""
    # It may end in a comment: a text of several lines gets the closing bracket on its own line.
    return f"({condition})" if "--" not in condition and "\n" not in condition else f"({own(condition)}\n)"
