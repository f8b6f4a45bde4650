"""Python expressions as formatters want them: on one line where they fit, otherwise a line for each part."""

import datetime as dt
import decimal
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datafixes.declaration.expressions import sql

_STEP = "    "


@dataclass(frozen=True)
class Atom:
    """An expression that is never divided, and the modules or names it needs: ``dt``, ``Decimal``."""

    text: str
    needs: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Text:
    """A string literal; a long one is divided at its spaces."""

    text: str


@dataclass(frozen=True)
class Group:
    """Parts in brackets: a call, a list, a tuple or a dictionary.

    Attributes:
        opening: what stands before the parts, ``"Rows("`` or ``"{"``.
        parts: each with what stands right before it, ``("key=", node)``; of a dictionary, a pair of nodes.
        closing: the bracket at the end.
        needs: the names that it needs.
    """

    opening: str
    parts: "tuple[tuple[str | Node, Node], ...]"
    closing: str
    needs: frozenset[str] = frozenset()


Node = Atom | Text | Group


def call(function: str, /, *arguments: Node, **named: Node | None) -> Group:
    """A call; named arguments that are None are left out."""
    parts: list[tuple[str | Node, Node]] = [("", argument) for argument in arguments]
    parts += [(f"{word}=", node) for word, node in named.items() if node is not None]
    return Group(f"{function}(", tuple(parts), ")", frozenset({function}))


def node_of(value: Any) -> Node:
    """A value of a declaration as an expression.

    Args:
        value: what may stand in a declaration, and tuples, lists and mappings of it.
    """
    match value:
        case sql():
            return call("sql", Text(value.text))
        case str():
            return Text(value)
        case float():
            # Formatters write no plus in an exponent.
            return Atom(repr(value).replace("e+", "e") if math.isfinite(value) else f'float("{value}")')
        case decimal.Decimal():
            return Atom(f"Decimal({quoted(str(value))})", frozenset({"Decimal"}))
        case dt.date() | dt.time():
            return Atom(_moment(value), frozenset({"dt"}))
        case tuple():
            # A tuple of one needs its comma, and no part that could be divided.
            if len(value) == 1:
                return Atom(f"({_line(node_of(value[0]))},)", needed(node_of(value[0])))
            return Group("(", tuple(("", node_of(one)) for one in value), ")")
        case list():
            return Group("[", tuple(("", node_of(one)) for one in value), "]")
        case Mapping():
            return Group("{", tuple((node_of(key), node_of(one)) for key, one in value.items()), "}")
        case _:
            return Atom(repr(value))


def _moment(value: dt.date | dt.time) -> str:
    """The shortest call that makes a date or a time; a zone is UTC."""
    if isinstance(value, dt.datetime):
        if value.tzinfo is not None:
            value = value.astimezone(dt.UTC)
        fields = [
            value.year,
            value.month,
            value.day,
            value.hour,
            value.minute,
            value.second,
            value.microsecond,
        ]
        least = 5
    elif isinstance(value, dt.date):
        fields, least = [value.year, value.month, value.day], 3
    else:
        fields, least = [value.hour, value.minute, value.second, value.microsecond], 2
    while len(fields) > least and fields[-1] == 0:
        fields.pop()
    zone = ", tzinfo=dt.UTC" if isinstance(value, dt.datetime) and value.tzinfo is not None else ""
    return f"dt.{type(value).__name__}({', '.join(map(str, fields))}{zone})"


def needed(node: Node | str) -> frozenset[str]:
    """The names that an expression needs to have imported."""
    if isinstance(node, Atom):
        return node.needs
    if not isinstance(node, Group):
        return frozenset()
    inside = (needed(side) for part in node.parts for side in part)
    return node.needs.union(*inside)


def quoted(text: str) -> str:
    """A string literal on one line, with the quotes that need fewer backslashes; double ones by preference."""
    quote = "'" if text.count('"') > text.count("'") else '"'
    return quote + "".join(_escaped(mark, quote) for mark in text) + quote


def _escaped(mark: str, quote: str) -> str:
    if mark in ("\\", quote):
        return f"\\{mark}"
    if mark.isprintable():
        return mark
    return mark.encode("unicode_escape").decode("ascii")


def laid_out(node: Node, width: int, indent: str = "", taken: int = 0) -> str:
    """An expression over as many lines as it needs.

    Args:
        node: the expression.
        width: the longest line.
        indent: how far the line that it stands on is indented.
        taken: how much of that line is taken already, before and after it.
    """
    line = _line(node)
    if len(indent) + taken + len(line) <= width or isinstance(node, Atom):
        return line
    deeper = indent + _STEP
    if isinstance(node, Text):
        pieces = _pieces(node.text, width - len(deeper))
        if len(pieces) == 1:
            return line
        return "\n".join(["(", *(f"{deeper}{piece}" for piece in pieces), f"{indent})"])
    return _exploded(node, width, indent)


def _exploded(node: Group, width: int, indent: str) -> str:
    """The parts, each on a line of its own."""
    deeper, lines = indent + _STEP, [node.opening]
    alone = len(node.parts) == 1 and node.parts[0][0] == "" and isinstance(node.parts[0][1], Text)
    if alone and isinstance(node.parts[0][1], Text):
        # The only argument of a call has its brackets already.
        lines += [f"{deeper}{piece}" for piece in _pieces(node.parts[0][1].text, width - len(deeper))]
    else:
        lines += [f"{deeper}{_part(before, one, width, deeper)}," for before, one in node.parts]
    return "\n".join([*lines, f"{indent}{node.closing}"])


def _part(before: str | Node, node: Node, width: int, indent: str) -> str:
    if isinstance(before, str):
        return before + laid_out(node, width, indent, len(before) + 1)
    key = laid_out(before, width, indent, 1)
    value = laid_out(node, width, indent, len(key) + 3)
    if isinstance(before, Group) and "\n" not in value and len(f"{indent}{key}: {value},") > width:
        # The key goes first.
        key = _exploded(before, width, indent)
        value = laid_out(node, width, indent, len("): "))
    return f"{key}: {value}"


def _line(node: Node) -> str:
    if isinstance(node, Atom):
        return node.text
    if isinstance(node, Text):
        return quoted(node.text)
    parts = (
        f"{before if isinstance(before, str) else _line(before) + ': '}{_line(one)}"
        for before, one in node.parts
    )
    return f"{node.opening}{', '.join(parts)}{node.closing}"


def _longest(mark: str) -> int:
    """How many characters stand for one in a literal, whichever its quotes are."""
    return 2 if mark in "'\"" else len(_escaped(mark, '"'))


def _pieces(text: str, width: int) -> list[str]:
    """Literals that together make up a text, none longer than a line; cut behind a space where there is one."""
    if len(quoted(text)) <= width:
        return [quoted(text)]
    pieces, start = [], 0
    while start < len(text):
        end, taken = start, 2  # the quotes
        while end < len(text) and (end == start or taken + _longest(text[end]) <= width):
            taken += _longest(text[end])
            end += 1
        if end < len(text):
            end = text.rfind(" ", start, end) + 1 or end
        pieces.append(quoted(text[start:end]))
        start = end
    return pieces


@dataclass(frozen=True)
class House:
    """What a project's own ruff wants.

    Attributes:
        width: the longest line that its formatter makes.
        longest: the longest line that its linter lets stand.
        ours: of ``alembic`` and ``datafixes``, which ruff takes for the project's own: a directory is called so.
    """

    width: int = 88
    longest: int = 88
    ours: frozenset[str] = frozenset()


def house_of(directory: Path) -> House:
    """Read the ruff configuration that counts in a directory; its defaults where there is none.

    Args:
        directory: where the revisions stand.
    """
    directory = directory.resolve()
    for folder in (directory, *directory.parents):
        for file in (".ruff.toml", "ruff.toml", "pyproject.toml"):
            options = _options(folder / file)
            if options is not None:
                return _house(folder, options)
    return House()


def _options(file: Path) -> dict[str, Any] | None:
    """The options of ruff, or of black, in a file; None where it has none."""
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if file.name != "pyproject.toml":
        return content
    tool = content.get("tool", {})
    found: dict[str, Any] | None = tool.get("ruff", tool.get("black"))
    return found


def _house(folder: Path, options: dict[str, Any]) -> House:
    width = options.get("line-length", 88)
    longest = options.get("lint", {}).get("pycodestyle", {}).get("max-line-length", width)
    roots = [folder / root for root in options.get("src", (".", "src"))]
    ours = {
        name
        for name in ("alembic", "datafixes")
        if any((root / name).is_dir() or (root / f"{name}.py").is_file() for root in roots)
    }
    return House(width, longest, frozenset(ours))
