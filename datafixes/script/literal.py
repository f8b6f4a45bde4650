"""Text for SQL scripts: names, literals and quoted bodies. ASCII only, the same bytes under every setting.

psql with any ``client_encoding`` and any driver may read a script, so nothing here depends on
``standard_conforming_strings`` or on an encoding.
"""

import datetime as dt
import decimal
import json
import math
import re
import uuid
from collections.abc import Iterable, Mapping

from sqlalchemy.dialects.postgresql.base import RESERVED_WORDS

from datafixes.declaration.expressions import Value, sql

_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]*")
# Words that PostgreSQL reserves for functions and types, and that SQLAlchemy's list lacks.
_ALSO_RESERVED = frozenset({"collation", "concurrently", "tablesample"})


def name(identifier: str) -> str:
    """An identifier, quoted only if necessary."""
    if _PLAIN_NAME.fullmatch(identifier) and identifier not in RESERVED_WORDS | _ALSO_RESERVED:
        return identifier
    quoted = identifier.replace('"', '""')
    if quoted.isascii() and quoted.isprintable():
        return f'"{quoted}"'
    escaped = "".join(
        c if c.isascii() and c.isprintable() else _unicode_escape(c, "\\", "\\+")
        for c in quoted.replace("\\", "\\\\")
    )
    return f'U&"{escaped}"'


def names(identifiers: Iterable[str]) -> str:
    """Identifiers, separated by commas."""
    return ", ".join(name(identifier) for identifier in identifiers)


def qualified(schema: str, table: str) -> str:
    """``schema.table``."""
    return f"{name(schema)}.{name(table)}"


def text(value: str) -> str:
    """A text literal. Plain if possible; otherwise in the E'' form, which does not depend on settings."""
    if value.isascii() and value.isprintable() and "\\" not in value:
        return "'" + value.replace("'", "''") + "'"
    return "E'" + "".join(_escaped(c) for c in value) + "'"


def value(given: Value | sql) -> str:  # noqa: C901 - one case for each type
    """A declared value as SQL, untyped if possible, so that the column's type parses it."""
    match given:
        case sql():
            if given.text.strip().upper() == "DEFAULT":
                return "DEFAULT"
            # A comment at the end must not hide the bracket.
            return f"({given.text}\n)" if "--" in given.text else f"({given.text})"
        case None:
            return "NULL"
        case bool():
            return "TRUE" if given else "FALSE"
        case int():
            return str(given)
        case float() | decimal.Decimal():
            return _number(given)
        case dt.date() | dt.time():  # a datetime is a date
            return _moment(given)
        case dt.timedelta():
            # Each field with its own sign: IntervalStyle sql_standard applies a single leading minus to all fields.
            sign, length = "-" if given < dt.timedelta() else "+", abs(given)
            return f"'{sign}{length.days} days {sign}{length.seconds}.{length.microseconds:06d} seconds'"
        case bytes():
            return f"pg_catalog.decode('{given.hex()}', 'hex')"
        case uuid.UUID() | str():
            return text(str(given))
    raise TypeError(f"no SQL literal for {type(given).__name__}")


def _moment(given: dt.date | dt.time) -> str:
    shown = f"'{given.isoformat(' ') if isinstance(given, dt.datetime) else given.isoformat()}'"
    if isinstance(given, dt.datetime | dt.time) and given.tzinfo is None:
        return f"{'TIMESTAMP' if isinstance(given, dt.datetime) else 'TIME'} {shown}"
    return shown


def body(statement: str, tag: str = "sql") -> str:
    """A statement inside another one, dollar-quoted for readability; E'' if it is not ASCII."""
    statement = statement.replace("\r\n", "\n")
    if not statement.isascii() or "\r" in statement:
        return text(statement)
    while f"${tag}$" in statement:
        tag += "_"
    return f"${tag}${statement}${tag}$"


def json_body(facts: Mapping[str, object], tag: str) -> str:
    """Facts as a JSON object, one per line, dollar-quoted; objects in a list are also one per line."""
    lines = ",\n".join(f"        {json.dumps(key)}: {_json(fact)}" for key, fact in facts.items())
    return body(f"{{\n{lines}\n    }}", tag)


def _json(fact: object) -> str:
    if isinstance(fact, list) and fact and isinstance(fact[0], dict):
        objects = ",\n".join(f"            {{{_pairs(item)}}}" for item in fact)
        return f"[\n{objects}\n        ]"
    return json.dumps(fact)


def _pairs(item: Mapping[str, object]) -> str:
    """The pairs of an object, a few on each line."""
    lines = [""]
    for key, fact in item.items():
        pair = f"{json.dumps(key)}: {json.dumps(fact)}"
        if lines[-1] and len(lines[-1]) + len(pair) > 100:
            lines.append("")
        lines[-1] += f", {pair}" if lines[-1] else pair
    return ",\n             ".join(lines)


def comment(prose: str) -> str:
    """Prose as comment lines, with non-ASCII characters as escapes."""
    plain = prose.encode("ascii", "backslashreplace").decode("ascii")
    return "\n".join(f"-- {line}".rstrip() for line in plain.splitlines())


def _number(given: float | decimal.Decimal) -> str:
    if isinstance(given, float):
        if math.isnan(given) or math.isinf(given):
            return f"'{given}'"
        # repr() is the shortest text that yields the same bits; quoted, so that it is not parsed as numeric.
        return f"'{given!r}'"
    return str(given) if given.is_finite() and "E" not in str(given) else f"'{given}'"


def _escaped(character: str) -> str:
    if character == "'":
        return "''"
    if character == "\\":
        return "\\\\"
    if character in "\n\r\t":
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[character]
    if character.isascii() and character.isprintable():
        return character
    return _unicode_escape(character, "\\u", "\\U", wide=8)


def _unicode_escape(character: str, narrow_prefix: str, wide_prefix: str, wide: int = 6) -> str:
    code = ord(character)
    return f"{narrow_prefix}{code:04x}" if code <= 0xFFFF else f"{wide_prefix}{code:0{wide}x}"
