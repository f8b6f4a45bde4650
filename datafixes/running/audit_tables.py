"""Makes, follows and drops audit tables and ledgers, in Alembic's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datafixes.running.execution import limits_of
from datafixes.running.run import hand_over, settings_for
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
    settings = settings_for(alembic)
    table = AuditTable(target[1], audit[1], target[0], audit[0])
    hand_over(alembic, create_script(table, limits_of(settings)), settings, table.name)


def update(alembic: MigrationContext, target: tuple[str, str], audit: tuple[str, str]) -> None:
    """Bring an audit table to the shape of its target; both are (schema, name)."""
    settings = settings_for(alembic)
    table = AuditTable(target[1], audit[1], target[0], audit[0])
    hand_over(alembic, update_script(table, limits_of(settings)), settings, table.name)


def update_ledger(alembic: MigrationContext, audit_schema: str) -> None:
    """Bring a ledger to the version of this package."""
    settings = settings_for(alembic)
    hand_over(alembic, ledger_script(audit_schema, limits_of(settings)), settings, LEDGER)


def drop(alembic: MigrationContext, name: str, audit_schema: str, discard: bool) -> None:
    """Drop an audit table; the operator may tell to discard what is in it."""
    settings = settings_for(alembic)
    discard = discard or name in settings.discard
    script = drop_script(name, audit_schema, limits_of(settings), discard=discard)
    hand_over(alembic, script, settings, name)
