"""The query Lambda, which answers a SELECT if the database itself cannot be reached."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from datafixes.database.aws_client import Aws, NotAsked, in_words
from datafixes.errors import DatafixError
from datafixes.settings import Settings
from datafixes.settings.values import masked

_SECONDS = 60
_LONGEST_WORDS = 300


def query(settings: Settings, function: str, select: str) -> list[Mapping[str, Any]]:
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
        raise only_selects(function)
    answer = _Answer(function)
    return answer.rows(_invoke(settings, answer, select))


def only_selects(function: str) -> DatafixError:
    """The error for a statement that the Lambda cannot run."""
    return DatafixError(
        f"The Lambda {function} only answers SELECT: datafixes reconcile can use it, but fixes cannot.",
        hint="Use the database itself: alembic -x url=postgresql://ROLE@HOST/DATABASE upgrade head",
    )


class _Answer:
    """The parsed answer of a Lambda; a problem becomes a one-line error."""

    def __init__(self, function: str) -> None:
        self._function = function

    def rows(self, payload: bytes) -> list[Mapping[str, Any]]:
        """The rows of an answer."""
        outer = self._object(payload, "its answer")
        status = outer.get("statusCode")
        if status != 200:
            raise self.wrong(f"statusCode {status}: {outer.get('body', outer)}")
        body = outer.get("body")
        inner = body if isinstance(body, dict) else self._object(body, "the body of its answer")
        if inner.get("success") is not True:
            raise self.wrong(f"it reports a failure: {inner.get('error') or inner.get('message') or inner}")
        rows = inner.get("rows")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise self.wrong("its answer has no list of rows")
        if isinstance(inner.get("count"), bool) or inner.get("count") != len(rows):
            raise self.wrong(f"it counts {inner.get('count')} rows, but its answer has {len(rows)}")
        return rows

    def wrong(self, words: object, hint: str = "") -> DatafixError:
        """An error that names the Lambda, on one line and without passwords."""
        said = masked(" ".join(str(words).split()))
        said = said if len(said) <= _LONGEST_WORDS else f"{said[:_LONGEST_WORDS]}..."
        return DatafixError(f"The Lambda {self._function} gave no reliable answer: {said}", hint=hint)

    def _object(self, text: Any, what: str) -> dict[str, Any]:
        try:
            value = json.loads(text, parse_float=Decimal, parse_constant=_no_number)
        except (TypeError, ValueError) as error:
            # A truncated text is reported like any other that is not JSON.
            raise self.wrong(f"{what} is not JSON, or is truncated ({error})") from None
        if not isinstance(value, dict):
            raise self.wrong(f"{what} is not a JSON object")
        return value


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not a number")


def _invoke(settings: Settings, answer: _Answer, select: str) -> bytes:
    aws = Aws(settings.aws_region)
    try:
        with in_words():
            client = aws.client("lambda", attempts=2, seconds=_SECONDS)
            found = client.invoke(FunctionName=answer._function, Payload=json.dumps({"sql": select}).encode())
            payload: bytes = found["Payload"].read()
    except NotAsked as error:
        hint = f"Check the credentials: aws sts get-caller-identity. Region: {aws.region}"
        raise (answer.wrong(error, hint) if error.is_answer else answer.wrong(error.words)) from None
    if found.get("FunctionError"):
        raise answer.wrong(f"it failed ({found['FunctionError']}): {_error_of(payload)}")
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
