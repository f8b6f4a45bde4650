"""Finds the failing statement of an SQL text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqlalchemy.exc import DBAPIError

from datafixes.script.parameters import verbatim
from datafixes.testing.databases import Database

_SHOWN = 400
_PART = re.compile(
    r"\b[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$"
    r"|--[^\n]*|/\*.*?\*/|(?P<end>;)",
    re.DOTALL,
)


def statements(text: str) -> Iterator[str]:
    """The statements of a text; quoted parts are not split."""
    start = 0
    for part in _PART.finditer(text):
        if part["end"]:
            yield text[start : part.end()].strip()
            start = part.end()
    if text[start:].strip():
        yield text[start:].strip()


def failing_statement(database: Database, text: str) -> tuple[int, str]:
    """The number of the first failing statement, from 1, and its beginning; 0 if none fails by itself."""
    try:
        with database.connect() as connection:
            outer = connection.begin_nested()
            for number, statement in enumerate(statements(text), 1):
                try:
                    connection.exec_driver_sql(verbatim(connection, statement))
                except DBAPIError:
                    shown = statement if len(statement) <= _SHOWN else f"{statement[:_SHOWN]} ..."
                    outer.rollback()
                    return number, shown
            outer.rollback()
    except DBAPIError:
        pass  # a text that commits by itself cannot be tried
    return 0, ""
