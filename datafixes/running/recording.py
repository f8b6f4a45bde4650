"""Runs a recorded fix: its statements on the migration's connection, or the script that they become offline."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, NoReturn

from alembic.util import CommandError
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from datafixes.declaration.recorded import RecordedFix
from datafixes.errors import DatafixError, Refused, UnsafeTransaction
from datafixes.running.collecting import collecting, no_script
from datafixes.running.execution import Attempts, failure, hint_of
from datafixes.running.operation import DatafixFailed, Operation
from datafixes.running.printing import print_script
from datafixes.running.run import decline, is_declined
from datafixes.running.sending import ended_well, failed, recording, refuse_inside_another, send
from datafixes.script.masking import sent_without_values
from datafixes.script.parameters import verbatim
from datafixes.script.record import recorded_script
from datafixes.script.record import recording as scripts_of

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy.engine import Connection

# Literals, quoted names and comments, in which no statement begins.
_QUOTED = re.compile(
    r"\b[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$|--[^\n]*|/\*.*?\*/",
    re.DOTALL,
)
_ENDS_TRANSACTION = re.compile(
    r"(?:^|;)\s*(commit|end|abort|begin|start\s+transaction|prepare\s+transaction"
    r"|rollback(?!\s+(?:work\s+|transaction\s+)?to\b)|close\s+all|discard)\b",
    re.IGNORECASE,
)
_SAVEPOINT = re.compile(
    r"(?:^|;)\s*(savepoint|release|rollback\s+(?:work\s+|transaction\s+)?to)\b", re.IGNORECASE
)


class Body:
    """The statements of a recorded fix, inside ``with op.record_datafix(fix) as body:``."""

    def __init__(self, execute: Callable[[str], None]) -> None:
        self._execute = execute

    def execute(self, sql: str) -> None:
        """Run SQL verbatim, online and in a script: no parameters, no ``:name``, no ``%%``.

        Args:
            sql: one statement, or several separated by semicolons.
        """
        self._execute(sql)


@contextmanager
def record(alembic: MigrationContext, fix: RecordedFix) -> Iterator[Body]:
    """Record what the statements inside the block change in the tables of a fix, and verify the result.

    Raises:
        DatafixFailed: a statement failed, or the result is not as expected; everything is rolled back.
    """
    if not isinstance(fix, RecordedFix):
        raise CommandError(f"datafix {fix.name}: it is a DataFix. Use op.apply_datafix(fix).")
    operation = Operation.on_fix(alembic, fix)
    refuse_inside_another(operation)
    if is_declined(operation, fix):
        decline(operation, fix)
        yield from _unheard(operation)
        return
    recording.add(alembic)
    try:
        yield from (_script if alembic.as_sql else _run)(operation, fix)
    finally:
        recording.discard(alembic)


def _unheard(operation: Operation) -> Iterator[Body]:
    """Run the block of a declined fix without letting any of its statements reach the server."""
    alembic, label = operation.alembic, operation.label
    connection = None if alembic.as_sql else alembic.connection
    # Its queries get no results; if the block fails on that, nothing is lost.
    with (
        nullcontext() if connection is None else _deaf(connection, label),
        suppress(Exception),
        collecting(alembic, lambda _: None, label),
    ):
        yield Body(lambda _: None)


@contextmanager
def _deaf(connection: Connection, label: str) -> Iterator[None]:
    """Refuse SQLAlchemy's statements, and roll back those of the driver's own cursors.

    Raises:
        DatafixFailed: the block ended the transaction, with what this migration did before.
    """
    ended: list[str] = []

    def before_cursor_execute(*_: Any) -> NoReturn:
        raise UnsafeTransaction(f"{label}: the fix was declined, so its statements are not sent.")

    def commit(_: Any) -> NoReturn:
        ended.append("commit()")
        _refuse_end(label, "commit()")

    def rollback(_: Any) -> NoReturn:
        ended.append("rollback()")
        _refuse_end(label, "rollback()")

    # On the driver's own cursor: SQLAlchemy does not know this savepoint, so the block cannot end it by accident.
    driver = connection.connection
    driver.cursor().execute("SAVEPOINT datafixes_declined")
    listeners = (before_cursor_execute, commit, rollback)
    for listener in listeners:
        event.listen(connection, listener.__name__, listener)
    try:
        yield
    finally:
        for listener in listeners:
            event.remove(connection, listener.__name__, listener)
        if not ended:
            driver.cursor().execute("ROLLBACK TO SAVEPOINT datafixes_declined")
            driver.cursor().execute("RELEASE SAVEPOINT datafixes_declined")
    if ended:
        error = UnsafeTransaction(
            f"{label}: the fix was declined, but its block runs {ended[0]}, which would end the transaction.",
            hint="Nothing was changed. Remove that statement, or the whole block, from the revision.",
        )
        driver.rollback()
        raise DatafixFailed(error)


def _run(operation: Operation, fix: RecordedFix) -> Iterator[Body]:
    connection, started, masks = operation.connection, time.monotonic(), operation.settings.mask
    scripts = scripts_of(fix, operation.context, operation.limits)
    send(operation, scripts.opening, Attempts.of(operation.settings))
    try:
        with _no_end_of_transaction(connection, operation.label):
            yield Body(lambda sql: _send(connection, sql, masks))
    except DBAPIError as error:
        told = failure(error, operation.label, hint=hint_of(error, operation.limits), masked=bool(masks))
        raise failed(operation, "apply", told) from error
    except DatafixError as error:
        raise failed(operation, "apply", error) from error
    except BaseException as error:
        # Alembic shows the error itself; code that catches it meets the refusal again.
        words = "" if masks else f": {error}"
        failed(
            operation, "apply", Refused(f"{operation.label}: its body failed: {type(error).__name__}{words}")
        )
        raise
    # No further attempt: the statements would have to run again too.
    send(operation, scripts.closing, Attempts(1, 0))
    ended_well(operation, "apply", started)


def _send(connection: Connection, sql: str, masks: tuple[str, ...]) -> None:
    bare = _bare(sql)
    # asyncpg prepares everything, and a prepared statement is one.
    are_several = connection.dialect.driver == "asyncpg" and ";" in bare.rstrip("; \t\n")
    # A savepoint must be the client's own; other errors carry no values.
    if (masks or are_several) and not _SAVEPOINT.search(bare):
        check_statement(sql, "body.execute")
        sql = sent_without_values(sql, masks)
    connection.exec_driver_sql(verbatim(connection, sql))


@contextmanager
def _no_end_of_transaction(connection: Connection, label: str) -> Iterator[None]:
    """Refuse, before they reach the server, statements that end the transaction: later ones would not be recorded."""

    def before_cursor_execute(_: Any, __: Any, statement: str, *___: Any) -> None:
        check_statement(statement, label)

    def commit(_: Any) -> None:
        _refuse_end(label, "commit()")

    def rollback(_: Any) -> None:
        _refuse_end(label, "rollback()")

    listeners = (before_cursor_execute, commit, rollback)
    for listener in listeners:
        event.listen(connection, listener.__name__, listener)
    try:
        yield
    finally:
        for listener in listeners:
            event.remove(connection, listener.__name__, listener)


def check_statement(statement: str, label: str) -> None:
    """Refuse a statement that begins or ends a transaction.

    Raises:
        UnsafeTransaction: it does.
    """
    bare = _bare(statement)
    found = None if re.search(r"\bbegin\s+atomic\b", bare, re.IGNORECASE) else _ENDS_TRANSACTION.search(bare)
    if found:
        _refuse_end(label, found[1].upper())


def _bare(statement: str) -> str:
    return _QUOTED.sub(lambda found: " " if found[0][:2] in ("--", "/*") else "''", statement)


def _refuse_end(label: str, what: str) -> NoReturn:
    raise UnsafeTransaction(
        f"{label}: its body runs {what}, which would begin or end the transaction, or remove its safeguard.",
        hint="Nothing was changed. Leave that to Alembic; use a savepoint for a part that may fail.",
    )


def _script(operation: Operation, fix: RecordedFix) -> Iterator[Body]:
    """The statements are collected, and become one script."""
    label, statements = operation.label, list[str]()

    def collect(sql: str) -> None:
        check_statement(sql, label)
        if found := _SAVEPOINT.search(_bare(sql)):
            raise no_script(label, f"it runs {found[1].upper()}; use a DO block with EXCEPTION instead")
        statements.append(sql.strip().removesuffix(";"))

    try:
        with collecting(operation.alembic, collect, label):
            yield Body(collect)
    except (DatafixError, CommandError) as error:
        raise error if isinstance(error, CommandError) else DatafixFailed(error) from error
    except Exception as error:
        raise DatafixFailed(no_script(label, f"{type(error).__name__}: {error}")) from error
    print_script(operation, recorded_script(fix, statements, operation.context, operation.limits))
