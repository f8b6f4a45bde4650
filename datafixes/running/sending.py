"""Sends the script of an operation to the server; after a failure, ends the transaction so it cannot be committed."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING
from weakref import WeakSet

from sqlalchemy.exc import DBAPIError

from datafixes.errors import ConnectionLost, DatafixError, UnsafeTransaction
from datafixes.running import refusal
from datafixes.running.execution import Attempts, execute, failure
from datafixes.running.journal import Attempt, record_failure, tell
from datafixes.running.lost import explained, has_ended, undone, working
from datafixes.running.migration import revision_running
from datafixes.running.operation import DatafixFailed, Operation
from datafixes.running.planned import check_plan
from datafixes.running.printing import print_script
from datafixes.running.sealing import note_run, seal_earlier
from datafixes.script.frame import Script

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext

_logger = logging.getLogger("alembic.datafixes")

recording: WeakSet[MigrationContext] = WeakSet()
"""Marks a connection on which a fix is being recorded: a second one inside it would be copied twice."""


def hand_over(operation: Operation, script: Script) -> None:
    """Send the same text to the printed script (``--sql``) or to the server, verbatim.

    Raises:
        DatafixFailed: the database refused it; the transaction has been rolled back.
    """
    refuse_inside_another(operation)
    if operation.alembic.as_sql:
        print_script(operation, script)
        return
    started = time.monotonic()
    send(operation, script, Attempts.of(operation.settings))
    ended_well(operation, script.direction, started)


def refuse_inside_another(operation: Operation) -> None:
    """Refuse an operation inside of a recorded fix.

    Raises:
        DatafixFailed: a fix is being recorded.
    """
    if operation.alembic in recording:
        told = (
            f"{operation.label}: another fix is being recorded, and a fix inside a fix would be copied twice."
        )
        raise DatafixFailed(UnsafeTransaction(told, hint="Run one after the other."))


def send(operation: Operation, script: Script, attempts: Attempts) -> None:
    """Send a script to the server.

    Raises:
        DatafixFailed: the database refused it; the transaction has been rolled back.
    """
    if operation.fix is not None and operation.collector is None:
        seal_earlier(operation.connection, operation.fix.schema_of_audit, operation.settings)
        note_run(operation.connection, operation.fix.schema_of_audit)
    working.add(operation.connection)
    try:
        _check_transaction(operation)
        execute(operation.connection, script, operation.label, attempts)
    except DatafixError as error:
        raise failed(operation, script.direction, error) from error
    finally:
        working.discard(operation.connection)


def ended_well(operation: Operation, direction: str, started: float) -> None:
    """Report a run, after comparing it with the plan if one is given.

    Raises:
        DatafixFailed: the rows are no longer those planned; the transaction has been rolled back.
    """
    fix, connection, settings = operation.fix, operation.connection, operation.settings
    if fix is None:
        return
    if operation.collector is not None:
        operation.collector.ran(connection, fix, started)
        return
    try:
        has_ended(connection, fix, _attempt(operation, direction))
    except DBAPIError as error:
        raise failed(operation, direction, failure(error, operation.label)) from error
    if settings.plan:
        try:
            check_plan(operation.alembic, connection, fix, settings.plan)
        except DatafixError as error:
            raise failed(operation, direction, error) from error
    tell(connection, fix, settings.mask)


def failed(operation: Operation, direction: str, error: DatafixError) -> DatafixFailed:
    """End the transaction of a failed operation, record the failure, and return the error that Alembic shows."""
    alembic, connection = operation.alembic, operation.connection
    shown = DatafixFailed(explained(error, connection))
    if operation.collector is not None:
        return shown  # a plan is rolled back anyway, and shows the error itself
    begun = not is_external(alembic) and alembic._transaction is not None
    # Code that catches this error must not be able to commit what is left: the transaction ends here, and Alembic stops
    # at the next statement.
    if begun:
        connection.rollback()
    refusal.stands(connection, shown, (lambda: alembic._transaction is None) if begun else None)
    if error.detail:
        # The message itself follows in Alembic's line.
        _logger.error("%s: refused, in detail:\n%s", operation.label, error.detail)
    if operation.fix is not None:
        record_failure(connection, operation.fix, _attempt(operation, direction), error, is_free=begun)
    if isinstance(error, ConnectionLost):
        undone(connection, error)
    return shown


def _attempt(operation: Operation, direction: str) -> Attempt:
    return Attempt(revision_running()[0], direction, operation.settings.application)


def _check_transaction(operation: Operation) -> None:
    """Refuse a connection without a transaction of Alembic's or the caller's: a fix would not be atomic."""
    if getattr(operation.connection.connection.dbapi_connection, "autocommit", False):
        raise UnsafeTransaction(
            f"{operation.label}: the connection is in autocommit mode.",
            hint="Move the fix out of autocommit_block(), or into a migration of its own.",
        )
    begun = getattr(operation.alembic, "_transaction", None)
    if begun is not None and not begun.is_active:
        raise UnsafeTransaction(
            f"{operation.label}: the transaction that Alembic began has ended: this migration commits or rolls back.",
            hint="Remove the commit() or rollback(): later changes, and the new version, would be lost.",
        )
    if is_external(operation.alembic) and operation.collector is None:
        _logger.warning(
            "%s: Alembic did not begin this transaction, and will not commit it. Unless the caller does, "
            "nothing is kept: does env.py run a statement before context.configure()?",
            operation.label,
        )


def is_external(alembic: MigrationContext) -> bool:
    """Whether the transaction is the caller's, and not Alembic's."""
    return bool(getattr(alembic, "_in_external_transaction", False))
