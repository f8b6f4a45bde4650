"""The SQL texts that a file builds, as far as it shows their contents."""

import ast
import itertools
import string
from collections.abc import Iterator
from dataclasses import dataclass

from datafixes.check.following import Follower
from datafixes.check.module import Module, argument, attribute
from datafixes.check.sql_reading import UNKNOWN

_MOST = 40
_KEEPING = {
    "as_string", "bindparams", "columns", "decode", "encode", "execution_options", "lstrip", "params", "rstrip",
    "strip",
}  # fmt: skip
_WRAPPING = {"DDL", "SQL", "cleandoc", "dedent", "literal_column", "sql", "str", "text"}


@dataclass(frozen=True)
class Text:
    """A text that may occur at run time. If a part of it is unknown, it is not whole."""

    value: str
    whole: bool = True


def texts_of(module: Module, node: ast.expr | None) -> list[Text]:
    """The texts that an expression may be."""
    if node is None:
        return []
    return list(dict.fromkeys(itertools.islice(_texts(Follower(module), node, 0), _MOST)))


def _texts(follower: Follower, node: ast.expr, depth: int) -> Iterator[Text]:
    for value in follower.values(node, depth):
        match value:
            case ast.Constant(value=str() as text):
                yield Text(text)
            case ast.JoinedStr():
                yield _together([_part(follower, part, depth + 1) for part in value.values])
            case ast.BinOp(op=ast.Add()):
                yield _together([_part(follower, part, depth + 1) for part in _summands(value)])
            case ast.BinOp(op=ast.Mod()):
                yield from (Text(text.value, False) for text in _texts(follower, value.left, depth + 1))
            case ast.Call():
                yield from _called(follower, value, depth + 1)


def _part(follower: Follower, node: ast.expr, depth: int) -> Text:
    if isinstance(node, ast.FormattedValue):
        if node.conversion != -1 or node.format_spec is not None:
            return Text(UNKNOWN, False)
        node = node.value
    if (found := next(_texts(follower, node, depth), None)) is not None:
        return found
    numbers = (one.value for one in follower.values(node, depth) if isinstance(one, ast.Constant))
    number = next(
        (one for one in numbers if isinstance(one, int | float) and not isinstance(one, bool)), None
    )
    return Text(UNKNOWN, False) if number is None else Text(str(number))


def _together(parts: list[Text], between: str = "") -> Text:
    return Text(between.join(one.value for one in parts), all(one.whole for one in parts))


def _summands(node: ast.expr) -> list[ast.expr]:
    # Not recursive: a concatenation of a thousand lines is a tree as deep.
    parts: list[ast.expr] = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        parts.append(node.right)
        node = node.left
    return [node, *reversed(parts)]


def _called(follower: Follower, call: ast.Call, depth: int) -> Iterator[Text]:
    name = attribute(call)
    if isinstance(call.func, ast.Attribute):
        holder = call.func.value
        if name in _KEEPING:
            yield from _texts(follower, holder, depth)
        elif name == "replace":
            yield from (Text(text.value, False) for text in _texts(follower, holder, depth))
        elif name == "format":
            yield from (_formatted(follower, text, call, depth) for text in _texts(follower, holder, depth))
        elif name == "join" and call.args:
            for between in _texts(follower, holder, depth):
                if parts := [_part(follower, one, depth) for one in follower.elements(call.args[0], depth)]:
                    yield _together(parts, between.value)
    if name in _WRAPPING and call.args:
        yield from _texts(follower, call.args[0], depth)


def _formatted(follower: Follower, text: Text, call: ast.Call, depth: int) -> Text:
    try:
        parts = list(string.Formatter().parse(text.value))
    except ValueError:
        return Text(text.value, False)
    places = itertools.count()
    filled = [Text("", text.whole)]
    for before, field, spec, conversion in parts:
        filled.append(Text(before))
        if field is not None:
            name = field or str(next(places))
            node = argument(call, int(name) if name.isdecimal() else None, name)
            known = node is not None and not spec and not conversion
            filled.append(
                _part(follower, node, depth) if known and node is not None else Text(UNKNOWN, False)
            )
    return _together(filled)
