"""The query Lambda, which answers a SELECT if the database itself cannot be reached."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from datafixes.database.aws_client import Aws, NotAsked, in_words
from datafixes.errors import DatafixError
from datafixes.script import literal
from datafixes.settings import Settings
from datafixes.settings.values import masked

_SECONDS = 60
_LONGEST_WORDS = 300
_PAGE = 5000  # rows; an answer is limited to 6 MB

# Whether rows of the book may be hidden from the role; always for a view.
_HIDES = (
    "(SELECT pg_catalog.row_security_active(c.oid) OR c.relkind NOT IN ('r', 'p') FROM pg_catalog.pg_class AS c"
    " JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
    " WHERE n.nspname = {schema} AND c.relname = {name})"
)

Row = Mapping[str, Any]
"""A row by name of column."""


def query(settings: Settings, function: str, select: str) -> list[Row]:
    """Send a SELECT to the Lambda, and accept only a complete answer.

    Args:
        settings: the region.
        function: the name of the Lambda.
        select: one SELECT.

    Returns:
        The rows by name of column, numbers with a fraction as exact decimals.

    Raises:
        DatafixError: the text is not a SELECT; the Lambda does not exist, or may not be invoked; it failed or did not
            answer in time; or its answer is not complete.
    """
    if not select.lstrip().upper().startswith(("SELECT ", "SELECT\n")):
        raise DatafixError(
            f"The Lambda {function} only answers SELECT: datafixes reconcile can use it, but fixes cannot.",
            hint="Use the database itself: alembic -x url=postgresql://ROLE@HOST/DATABASE upgrade head",
        )
    return _rows(function, _invoke(settings, function, select))


def pages(
    ask: Callable[[str], Iterable[Row]], table: tuple[str, str], columns: Mapping[str, str], where: str
) -> Iterator[Row]:
    """All rows of a query of the table, by id: answers are limited to some megabytes, and may be cut.

    Raises:
        DatafixError: an answer is of another query, or lacks rows; or rows of the table may be hidden from the role.
    """
    last: int | None = None
    hides = _HIDES.format(schema=literal.text(table[0]), name=literal.text(table[1]))
    source = f"FROM {literal.qualified(*table)} WHERE {where}"
    while True:
        select = f"SELECT {selected(columns)}, count(*) OVER () AS rows_left, {hides} AS hides {source}"
        rows = list(ask(f"{select}{'' if last is None else f' AND id > {last}'} ORDER BY id LIMIT {_PAGE}"))
        left = 0
        for row in rows:
            number = whole(row.get("id"))
            if not row.keys() >= columns.keys() or number is None or (last is not None and number <= last):
                words = masked(", ".join(f"{name}: {value}" for name, value in row.items()))
                raise DatafixError(f"The Lambda answered another query: {words[:200]}")
            _check_sees_all(row)
            last, left = number, whole(row.get("rows_left")) or 0
            yield row
        if rows and left < len(rows):
            raise DatafixError(f"The Lambda answered {len(rows)} rows, but counts {left}.")
        if not rows and last is None:
            _check_empty(list(ask(f"SELECT count(*) AS rows, {hides} AS hides {source}")))
        if left == len(rows):
            return


def _check_empty(counted: Sequence[Row]) -> None:
    """Confirm an empty answer by a count: rows may have been lost."""
    for row in counted:
        _check_sees_all(row)
    count = whole(counted[-1].get("rows")) if counted else None
    if count != 0:
        words = "nothing" if count is None else count
        raise DatafixError(f"The Lambda answered no rows, but counts {words}.")


def _check_sees_all(row: Mapping[str, Any]) -> None:
    """Refuse a role from which a policy may hide rows."""
    if row.get("hides"):
        raise DatafixError(
            "The book is a view, or row security hides rows of it from the Lambda's role.",
            hint="Set book_table to the table itself, and give its ownership or BYPASSRLS to the role.",
        )


def selected(columns: Mapping[str, str]) -> str:
    """The expressions of a SELECT, by their names in the answer."""
    return ", ".join(f"{expression} AS {name}" for name, expression in columns.items())


def whole(value: Any) -> int | None:
    """A whole number, or None."""
    try:
        return int(str(value))
    except ValueError:
        return None


def _rows(function: str, payload: bytes) -> list[Row]:
    """The rows of an answer."""
    outer = _object(function, payload, "its answer")
    status, body = outer.get("statusCode"), outer.get("body")
    if status != 200:
        raise _wrong(function, f"statusCode {status}: {outer.get('body', outer)}")
    inner = body if isinstance(body, dict) else _object(function, body, "the body of its answer")
    if inner.get("success") is not True:
        words = inner.get("error") or inner.get("message") or inner
        raise _wrong(function, f"it reports a failure: {words}")
    rows = inner.get("rows")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise _wrong(function, "its answer has no list of rows")
    if isinstance(inner.get("count"), bool) or inner.get("count") != len(rows):
        raise _wrong(function, f"it counts {inner.get('count')} rows, but its answer has {len(rows)}")
    return rows


def _wrong(function: str, words: object, hint: str = "") -> DatafixError:
    """An error that names the Lambda, on one line and without passwords."""
    said = masked(" ".join(str(words).split()))
    said = said if len(said) <= _LONGEST_WORDS else f"{said[:_LONGEST_WORDS]}..."
    return DatafixError(f"The Lambda {function} gave no reliable answer: {said}", hint=hint)


def _object(function: str, text: Any, what: str) -> dict[str, Any]:
    try:
        value = json.loads(text, parse_float=Decimal, parse_constant=_no_number)
    except (TypeError, ValueError) as error:
        # A truncated text is reported like any other that is not JSON.
        raise _wrong(function, f"{what} is not JSON, or is truncated ({error})") from None
    if not isinstance(value, dict):
        raise _wrong(function, f"{what} is not a JSON object")
    return value


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not a number")


def _invoke(settings: Settings, function: str, select: str) -> bytes:
    aws = Aws(settings.aws_region)
    try:
        with in_words():
            client = aws.client("lambda", attempts=2, seconds=_SECONDS)
            found = client.invoke(FunctionName=function, Payload=json.dumps({"sql": select}).encode())
            payload: bytes = found["Payload"].read()
    except NotAsked as error:
        hint = f"Check the credentials: aws sts get-caller-identity. Region: {aws.region}"
        raise _wrong(function, *((error, hint) if error.is_answer else (error.words,))) from None
    if found.get("FunctionError"):
        raise _wrong(function, f"it failed ({found['FunctionError']}): {_error_of(payload)}")
    return payload


def _error_of(payload: bytes) -> str:
    """The message of a failed Lambda, without its stack trace."""
    try:
        value = json.loads(payload)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        return payload.decode("utf-8", "replace")
    return str(value.get("errorMessage") or value.get("errorType") or "no message")
