"""Hands the script of an operation to the server, and ends what went wrong so that nothing of it can be committed."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING
from weakref import WeakSet

from datafixes.errors import DatafixError, UnsafeTransaction
from datafixes.running import refusal
from datafixes.running.execution import Attempts, execute
from datafixes.running.journal import Attempt, record_failure, tell
from datafixes.running.migration import revision_running
from datafixes.running.operation import DatafixFailed, Operation
from datafixes.running.planned import check_plan
from datafixes.running.printing import print_script
from datafixes.script.frame import Script

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext

_logger = logging.getLogger("alembic.datafixes")

recording: WeakSet[MigrationContext] = WeakSet()
"""Where a fix is being recorded: another one inside it would be copied twice."""


def hand_over(operation: Operation, script: Script) -> None:
    """The one text goes to the printed script (``--sql``) or to the server, verbatim.

    Raises:
        DatafixFailed: the database said no; the transaction has been rolled back.
    """
    refuse_inside_another(operation)
    if operation.alembic.as_sql:
        print_script(operation, script)
        return
    started = time.monotonic()
    send(operation, script, Attempts.of(operation.settings))
    ended_well(operation, script.direction, started)


def refuse_inside_another(operation: Operation) -> None:
    """Refuse what begins while a fix is being recorded.

    Raises:
        DatafixFailed: one is.
    """
    if operation.alembic in recording:
        told = f"{operation.label}: another fix is being recorded; a fix inside a fix would be copied twice."
        raise DatafixFailed(UnsafeTransaction(told, hint="Run one after the other."))


def send(operation: Operation, script: Script, attempts: Attempts) -> None:
    """Send a script to the server.

    Raises:
        DatafixFailed: the database said no; the transaction has been rolled back.
    """
    try:
        _check_transaction(operation)
        execute(operation.connection, script, operation.label, attempts)
    except DatafixError as error:
        raise failed(operation, script.direction, error) from error


def ended_well(operation: Operation, direction: str, started: float) -> None:
    """Tell what a run did; of a run that was planned, only after it did what the plan showed.

    Raises:
        DatafixFailed: the rows are no longer the ones planned; the transaction has been rolled back.
    """
    fix, connection, settings = operation.fix, operation.connection, operation.settings
    if fix is None:
        return
    if operation.collector is not None:
        operation.collector.ran(connection, fix, started)
        return
    if settings.plan:
        try:
            check_plan(operation.alembic, connection, fix, settings.plan)
        except DatafixError as error:
            raise failed(operation, direction, error) from error
    tell(connection, fix, settings.mask)


def failed(operation: Operation, direction: str, error: DatafixError) -> DatafixFailed:
    """End the transaction of an operation that failed, write the failure down, and return what Alembic shows of it."""
    alembic, connection, shown = operation.alembic, operation.connection, DatafixFailed(error)
    if operation.collector is not None:
        return shown  # nothing is kept anyway, and the plan shows what went wrong
    begun = not _is_external(alembic) and alembic._transaction is not None
    # Whoever swallows this error must not be able to commit what is left: the transaction ends here, and Alembic does
    # not get past it.
    if begun:
        connection.rollback()
    refusal.stands(connection, shown, (lambda: alembic._transaction is None) if begun else None)
    if error.detail:
        # The message itself follows in Alembic's own line.
        _logger.error("%s: refused, in detail:\n%s", operation.label, error.detail)
    if operation.fix is not None:
        attempt = Attempt(revision_running()[0], direction, operation.settings.application)
        record_failure(connection, operation.fix, attempt, error, is_free=begun)
    return shown


def _check_transaction(operation: Operation) -> None:
    """A fix is all or nothing only in a transaction that Alembic, or the caller, commits as a whole."""
    if getattr(operation.connection.connection.dbapi_connection, "autocommit", False):
        raise UnsafeTransaction(
            f"{operation.label}: the connection commits every statement by itself.",
            hint="Move the fix out of autocommit_block(), or into a migration of its own.",
        )
    begun = getattr(operation.alembic, "_transaction", None)
    if begun is not None and not begun.is_active:
        raise UnsafeTransaction(
            f"{operation.label}: the transaction that Alembic began has ended: something in this migration commits or "
            "rolls back.",
            hint="Remove the commit() or rollback(): what follows it, and the new version, would be lost.",
        )
    if _is_external(operation.alembic) and operation.collector is None:
        _logger.warning(
            "%s: Alembic did not begin this transaction, and will not commit it. If nobody does, nothing is kept: "
            "does env.py run a statement before context.configure()?",
            operation.label,
        )


def _is_external(alembic: MigrationContext) -> bool:
    return bool(getattr(alembic, "_in_external_transaction", False))
