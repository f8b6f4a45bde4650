"""Creates, updates, protects and drops audit tables and ledgers, in Alembic's transaction."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from datafixes.audit.redaction import last_redaction
from datafixes.audit.retention import last_pruning
from datafixes.audit.wording import counted
from datafixes.running.operation import Operation
from datafixes.running.sealing import note_run, seal_now
from datafixes.running.sending import hand_over
from datafixes.script.tables import (
    LEDGER,
    AuditTable,
    Pruning,
    Redaction,
    create_script,
    drop_script,
    ledger_script,
    protect_script,
    prune_script,
    redact_script,
    unprotect_script,
    update_script,
)

__all__ = [
    "AuditTable",
    "Pruning",
    "Redaction",
    "create",
    "drop",
    "protect",
    "prune",
    "redact",
    "unprotect",
    "update",
    "update_ledger",
]

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alembic.runtime.migration import MigrationContext

    from datafixes.audit.retention import GivenUp

_logger = logging.getLogger("alembic.datafixes")


def create(alembic: MigrationContext, table: AuditTable) -> None:
    """Create an audit table."""
    operation = Operation.on_table(alembic, table.name)
    hand_over(operation, create_script(table, operation.limits))


def update(alembic: MigrationContext, table: AuditTable) -> None:
    """Add the columns of its target to an audit table."""
    operation = Operation.on_table(alembic, table.name)
    hand_over(operation, update_script(table, operation.limits))


def update_ledger(alembic: MigrationContext, audit_schema: str) -> None:
    """Upgrade a ledger to the version of this package."""
    operation = Operation.on_table(alembic, LEDGER)
    hand_over(operation, ledger_script(audit_schema, operation.limits))


def protect(alembic: MigrationContext, name: str, audit_schema: str) -> None:
    """Protect an audit table, and the ledger beside it."""
    operation = Operation.on_table(alembic, name)
    hand_over(operation, protect_script(name, audit_schema, operation.limits))


def unprotect(alembic: MigrationContext, name: str, audit_schema: str) -> None:
    """Remove the protection of an audit table."""
    operation = Operation.on_table(alembic, name)
    hand_over(operation, unprotect_script(name, audit_schema, operation.limits))


def prune(alembic: MigrationContext, pruning: Pruning) -> None:
    """Give up old copies."""
    operation = Operation.on_table(alembic, pruning.name)
    _seal_before(operation, pruning.audit_schema)
    hand_over(operation, prune_script(pruning, operation.context, operation.limits))
    if alembic.as_sql:
        return
    run, went = last_pruning(operation.connection, pruning.audit_schema, pruning.name)
    if operation.collector is not None:
        operation.collector.gave_up(went)
        return
    _tell(operation, f"copies of {counted(len(went), 'run')} given up, {_images(went)} (run {run})", went)


def redact(alembic: MigrationContext, redaction: Redaction) -> None:
    """Take values out of images."""
    operation = Operation.on_table(alembic, redaction.name)
    _seal_before(operation, redaction.audit_schema)
    hand_over(operation, redact_script(redaction, operation.context, operation.limits))
    if alembic.as_sql:
        return
    run, went = last_redaction(operation.connection, redaction.audit_schema, redaction.name)
    if operation.collector is not None:
        operation.collector.redacted(went)
    elif went:
        _tell(operation, f"{', '.join(redaction.columns)} redacted in {_images(went)} (run {run})", went)
    else:
        _logger.warning("%s: no image has values to redact (run %d)", operation.label, run)


def _seal_before(operation: Operation, audit_schema: str) -> None:
    """What goes unsealed cannot be proven: a plan leaves that to the upgrade, a printed script to who pastes it."""
    if not operation.alembic.as_sql and operation.collector is None:
        seal_now(operation.connection, audit_schema, operation.settings)
        note_run(operation.connection, audit_schema)


def _tell(operation: Operation, what: str, went: Sequence[GivenUp]) -> None:
    _logger.info("%s: %s", operation.label, what)
    for one in went:
        _logger.info("  run %d of %s: %s", one.run_id, one.fix, counted(one.images, "image"))


def _images(went: Sequence[GivenUp]) -> str:
    return counted(sum(one.images for one in went), "image")


def drop(alembic: MigrationContext, name: str, audit_schema: str, discard: bool) -> None:
    """Drop an audit table; ``-x discard=NAME`` discards its copies."""
    operation = Operation.on_table(alembic, name)
    discard = discard or name in operation.settings.discard
    hand_over(operation, drop_script(name, audit_schema, operation.limits, discard=discard))
