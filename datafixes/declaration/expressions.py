"""Values, SQL expressions and names in declarations, and their checks."""

import datetime as dt
import decimal
import enum
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datafixes.errors import DeclarationError

Value = (
    None | bool | int | float | str | bytes | decimal.Decimal | dt.date | dt.time | dt.timedelta | uuid.UUID
)

# PostgreSQL truncates longer identifiers with a NOTICE, so that two of them may become one.
_IDENTIFIER_BYTES = 63
# The meaning of '2024-01-02 03:04' without an offset depends on the session's TimeZone.
_TIME_WITHOUT_ZONE = re.compile(
    r"(?P<typed>\b(?:timestamp|time|without\s+time\s+zone)\s*(?:\(\d\)\s*)?)?"
    r"'(?P<time>\d{4}-\d{1,2}-\d{1,2}[ T]\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?)'",
    re.IGNORECASE,
)
# The marks that the engine expands in its own statements; an author's text must not contain one.
_MARK = re.compile(r"\{\{(?:\w+\.)?(?:columns|key|lock|run|n)(?: = \w+\.key)?\}\}")


@dataclass(frozen=True)
class sql:  # noqa: N801 - reads as a function in a declaration: sql("now()")
    """An SQL expression, used instead of a plain value.

    Args:
        text: the expression, e.g. ``"now()"`` or ``"entry_price"``. It can use the columns of the target row, and runs
            with the session's own ``search_path``.
    """

    text: str

    def __post_init__(self) -> None:
        check_text("sql()", self.text)


def plain(value: Any) -> Any:
    """A value as JSON that differs whenever the declared values differ in type or in content."""
    match value:
        case sql():
            return {"sql": value.text}
        case Mapping():
            # A list of pairs, because keys may not be strings, and the author's order of columns is kept.
            pairs = [[plain(key), plain(item)] for key, item in value.items()]
            return pairs if not all(isinstance(key, str) for key in value) else dict(pairs)
        case list() | tuple():
            return [plain(item) for item in value]
        case set() | frozenset():
            return sorted((plain(item) for item in value), key=repr)
        case None | bool() | int() | str():
            return value
        case _:
            return {type(value).__name__: repr(value)}


def lacks_zone(value: object) -> bool:
    """Whether a value is a time whose meaning depends on the session's time zone."""
    if isinstance(value, dt.datetime | dt.time):
        return value.tzinfo is None
    return isinstance(value, str) and _TIME_WITHOUT_ZONE.fullmatch(f"'{value.strip()}'") is not None


def check_values(where: str, values: Mapping[Any, Any]) -> None:
    """Refuse a value without a unique SQL form."""
    for name, value in values.items():
        if isinstance(value, str) and "\x00" in value:
            raise DeclarationError(
                f"{where}: the text for {name} contains a NUL byte, which PostgreSQL cannot store."
            )
        if isinstance(value, enum.Enum):
            raise DeclarationError(
                f"{where}: {name} is a member of an enumeration, {value}, whose value may change later.",
                hint=f"Write the value itself: {value.value!r}.",
            )
        if isinstance(value, str) and (mark := _MARK.search(value)):
            raise DeclarationError(
                f"{where}: {mark.group()} in {name} has the form of one of the engine's marks."
            )
        if not isinstance(value, Value | sql):
            raise DeclarationError(
                f"{where}: {name} is a {type(value).__name__}, which has no unique SQL form.",
                hint="Write it as sql(\"...\"), for example sql(\"'{}'::jsonb\") or sql(\"ARRAY['a', 'b']\").",
            )


def check_text(where: str, text: str, *, expression: bool = True) -> None:
    """Refuse text that a script cannot contain, or with a time that depends on the session's time zone."""
    if not isinstance(text, str):
        raise DeclarationError(
            f"{where} is a {type(text).__name__}, not text.",
            hint="A fix is plain data: write SQL as text, because models change later.",
        )
    if "\x00" in text:
        raise DeclarationError(f"{where} contains a NUL byte, which PostgreSQL cannot store.")
    if not expression:
        return
    if mark := _MARK.search(text):
        raise DeclarationError(
            f"{where}: {mark.group()} has the form of one of the engine's marks.",
            hint="Separate the braces, for example '{' || '{...}' || '}'.",
        )
    for found in _TIME_WITHOUT_ZONE.finditer(text):
        if not found["typed"]:
            raise DeclarationError(
                f"{where}: the time '{found['time']}' has no zone, so it would depend on the session's time zone.",
                hint=f"Write '{found['time']}+00', or timestamp '{found['time']}' if the column has no zone.",
            )


def check_identifiers(*names: str) -> None:
    """Refuse an invalid name of a table or column, or one that PostgreSQL would truncate."""
    for name in names:
        if not isinstance(name, str) or not name or "\x00" in name:
            raise DeclarationError(f"{name!r} is not the name of a table or column.")
        if mark := _MARK.search(name):
            raise DeclarationError(
                f"The name {name} contains {mark.group()}, the form of one of the engine's marks."
            )
        if len(name.encode()) > _IDENTIFIER_BYTES:
            raise DeclarationError(
                f"The name {name} is {len(name.encode())} bytes long; the maximum is {_IDENTIFIER_BYTES}."
            )
