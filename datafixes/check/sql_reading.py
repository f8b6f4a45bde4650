"""Parses SQL with sqlglot into statements or tokens, or says why it cannot."""

import logging
from functools import lru_cache

from sqlglot import Token, exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import ErrorLevel, SqlglotError

# sqlglot warns of statements that it does not parse; the rules decide what that means here.
logging.getLogger("sqlglot").setLevel(logging.CRITICAL)

UNKNOWN = "datafixes_unknown"
"""Placeholder for a part of a text that is known only at run time."""

_LONGEST, _DEEPEST = 300_000, 150


class Unreadable(Exception):
    """sqlglot cannot parse the text."""


def tokens_of(text: str) -> list[Token]:
    """The tokens of a text.

    Raises:
        Unreadable: it has none, such as an unterminated quote.
    """
    if len(text) > _LONGEST:
        raise Unreadable(f"it has {len(text):,} characters")
    try:
        return list(Postgres().tokenize(text))
    except (SqlglotError, RecursionError, IndexError, ValueError) as error:
        raise Unreadable(_first_line(error)) from None


@lru_cache(maxsize=512)
def statements_of(text: str) -> tuple[exp.Expression, ...]:
    """The statements of a text.

    Raises:
        Unreadable: sqlglot cannot parse a part of it.
    """
    depth = 0
    tokens = tokens_of(text)
    for token in tokens:
        depth += (token.text == "(") - (token.text == ")")
        if depth > _DEEPEST:
            raise Unreadable("it is nested too deeply")
    try:
        read = Postgres().parser(error_level=ErrorLevel.RAISE).parse(tokens, text)
    except (SqlglotError, RecursionError, IndexError, ValueError, AttributeError, TypeError) as error:
        raise Unreadable(_first_line(error)) from None
    return tuple(one for one in read if isinstance(one, exp.Expression))


def _first_line(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    errors = getattr(error, "errors", None)
    if errors:
        one = errors[0]
        return f"{one.get('description') or 'it is not known'} near {one.get('highlight') or 'its end'}"
    return str(error).partition("\n")[0].partition(" '")[0] or type(error).__name__


def name_of(table: exp.Expression | None) -> tuple[str, str]:
    """Schema and name of a table; ``public`` if no schema is given."""
    if isinstance(table, exp.Schema):
        table = table.this
    if not isinstance(table, exp.Table):
        return "", ""
    return folded(table.args.get("db")) or "public", folded(table.this)


def folded(name: object) -> str:
    """A name as the catalog has it; empty if there is none."""
    if isinstance(name, exp.Identifier):
        return str(name.this) if name.args.get("quoted") else str(name.this).lower()
    return "" if name is None else str(getattr(name, "name", ""))
