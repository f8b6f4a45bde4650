"""Python expressions for a revision: on one line if they fit, otherwise one argument per line.

The project's own post-write hooks do any further formatting.
"""

import datetime as dt
import decimal
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from datafixes.declaration.expressions import sql
from datafixes.declaration.rows import AtMost

WIDTH = 88
_STEP = "    "


@dataclass(frozen=True)
class Source:
    """An expression: a literal, or parts in brackets.

    Attributes:
        opening: the text before the parts, ``"Rows("`` or ``"{"``; for a literal, all of it.
        parts: each with its prefix, such as ``key=``.
        closing: the closing bracket.
        needs: the modules and names to import: ``dt``, ``Decimal``, ``Rows``.
    """

    opening: str
    parts: "tuple[tuple[str, Source], ...]" = ()
    closing: str = ""
    needs: frozenset[str] = frozenset()

    @property
    def line(self) -> str:
        """The expression on one line."""
        return f"{self.opening}{', '.join(before + part.line for before, part in self.parts)}{self.closing}"

    @property
    def imports(self) -> frozenset[str]:
        """The imports that it and all its parts need."""
        return self.needs.union(*(part.imports for _, part in self.parts))


def call(function: str, /, *arguments: Source, **named: Source | None) -> Source:
    """A call; named arguments that are None are omitted."""
    parts = [("", argument) for argument in arguments]
    parts += [(f"{word}=", part) for word, part in named.items() if part is not None]
    return Source(f"{function}(", tuple(parts), ")", frozenset({function}))


def operation(name: str, arguments: Iterable[str]) -> Source:
    """A call of an operation of Alembic; each argument is a literal, with its name if it has one."""
    return Source(f"op.{name}(", tuple(("", Source(one)) for one in arguments), ")")


def source_of(value: Any) -> Source:
    """A value of a declaration as an expression.

    Args:
        value: a value of a declaration, or a tuple, list or mapping of values.
    """
    match value:
        case sql():
            return call("sql", source_of(value.text))
        case str():
            return Source(quoted(value))
        case float():
            # Formatters omit the plus in an exponent.
            return Source(repr(value).replace("e+", "e") if math.isfinite(value) else f'float("{value}")')
        case decimal.Decimal():
            return Source(f"Decimal({quoted(str(value))})", needs=frozenset({"Decimal"}))
        case dt.date() | dt.time():
            return Source(_moment(value), needs=frozenset({"dt"}))
        case AtMost():
            return call("AtMost", Source(f"{value.rows:_}"))
        case tuple():
            return Source("(", tuple(("", source_of(one)) for one in value), ",)" if len(value) == 1 else ")")
        case list():
            return Source("[", tuple(("", source_of(one)) for one in value), "]")
        case Mapping():
            pairs = [(source_of(key), source_of(one)) for key, one in value.items()]
            needs = frozenset[str]().union(*(key.imports for key, _ in pairs))
            return Source("{", tuple((f"{key.line}: ", one) for key, one in pairs), "}", needs)
        case _:
            return Source(repr(value))


def laid_out(source: Source, indent: str = "", taken: int = 0) -> str:
    """An expression on one line, or one part per line.

    Args:
        source: the expression.
        indent: the indentation of its line.
        taken: the width of the other text on that line.
    """
    if not source.parts or len(indent) + taken + len(source.line) <= WIDTH:
        return source.line
    deeper = indent + _STEP
    lines = [f"{deeper}{before}{laid_out(part, deeper, len(before) + 1)}," for before, part in source.parts]
    return "\n".join([source.opening, *lines, indent + source.closing.removeprefix(",")])


def _moment(value: dt.date | dt.time) -> str:
    """The shortest call that creates a date or a time; a zone is UTC."""
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


def quoted(text: str) -> str:
    """A string literal on one line, with the quotes that need fewer backslashes, preferably double ones."""
    quote = "'" if text.count('"') > text.count("'") else '"'
    return quote + "".join(_escaped(mark, quote) for mark in text) + quote


def _escaped(mark: str, quote: str) -> str:
    if mark in ("\\", quote):
        return f"\\{mark}"
    if mark.isprintable():
        return mark
    return mark.encode("unicode_escape").decode("ascii")
