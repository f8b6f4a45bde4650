"""Makes, follows and drops audit tables and ledgers, in Alembic's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datafixes.running.operation import Operation
from datafixes.running.sending import hand_over
from datafixes.script.tables import (
    LEDGER,
    AuditTable,
    create_script,
    drop_script,
    ledger_script,
    update_script,
)

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext


def create(alembic: MigrationContext, target: tuple[str, str], audit: tuple[str, str]) -> None:
    """Make an audit table; target and audit table are (schema, name)."""
    operation, table = Operation.on_table(alembic, audit[1]), _table(target, audit)
    hand_over(operation, create_script(table, operation.limits))


def update(alembic: MigrationContext, target: tuple[str, str], audit: tuple[str, str]) -> None:
    """Bring an audit table to the shape of its target; both are (schema, name)."""
    operation, table = Operation.on_table(alembic, audit[1]), _table(target, audit)
    hand_over(operation, update_script(table, operation.limits))


def update_ledger(alembic: MigrationContext, audit_schema: str) -> None:
    """Bring a ledger to the version of this package."""
    operation = Operation.on_table(alembic, LEDGER)
    hand_over(operation, ledger_script(audit_schema, operation.limits))


def drop(alembic: MigrationContext, name: str, audit_schema: str, discard: bool) -> None:
    """Drop an audit table; the operator may tell to discard what is in it."""
    operation = Operation.on_table(alembic, name)
    discard = discard or name in operation.settings.discard
    hand_over(operation, drop_script(name, audit_schema, operation.limits, discard=discard))


def _table(target: tuple[str, str], audit: tuple[str, str]) -> AuditTable:
    return AuditTable(target[1], audit[1], target[0], audit[0])
