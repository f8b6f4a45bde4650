"""The Alembic operations on audit tables and ledgers; see ``datafixes.operations``, which loads this module."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from alembic.operations import MigrateOperation, Operations
from alembic.util import CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence


def _schemas(schema: str | None, audit_schema: str | None) -> tuple[str, str]:
    """The schemas of a target and of its audit table."""
    return schema or "public", audit_schema or schema or "public"


class _OfTargetAndAuditTable(MigrateOperation):
    """An operation on an audit table and its target."""

    def __init__(self, target: str, name: str, schemas: tuple[str, str], own_types: Sequence[str]) -> None:
        own = (own_types,) if isinstance(own_types, str) else tuple(own_types)
        self.table = (target, name, *schemas, own)


@Operations.register_operation("create_audit_table")
class CreateAuditTableOp(_OfTargetAndAuditTable):
    """Create an audit table."""

    @classmethod
    def create_audit_table(  # noqa: PLR0913 - the arguments of an operation
        cls,
        operations: Operations,
        target: str,
        *,
        name: str,
        schema: str | None = None,
        audit_schema: str | None = None,
        own_types: Sequence[str] = (),
    ) -> None:
        """Create the audit table of a target, and the ledger if its schema has none.

        Args:
            operations: Alembic's.
            target: the table whose rows will be copied.
            name: the audit table.
            schema: the target's schema; by default public.
            audit_schema: the schema of audit table and ledger; by default the target's.
            own_types: columns to keep in their own type, which an extension made, and not as text. As long as the audit
                table exists, the extension cannot be dropped.
        """
        operations.invoke(cls(target, name, _schemas(schema, audit_schema), own_types))


@Operations.register_operation("update_audit_table")
class UpdateAuditTableOp(_OfTargetAndAuditTable):
    """Add the columns of its target to an audit table."""

    @classmethod
    def update_audit_table(  # noqa: PLR0913 - the arguments of an operation
        cls,
        operations: Operations,
        target: str,
        *,
        name: str,
        schema: str | None = None,
        audit_schema: str | None = None,
        own_types: Sequence[str] = (),
    ) -> None:
        """Add new columns of the target to its audit table and to the view beside it.

        Nothing is removed, so a downgrade has nothing to do.

        Args:
            operations: Alembic's.
            target: the table whose rows are copied.
            name: the audit table.
            schema: the target's schema; by default public.
            audit_schema: the schema of the audit table; by default the target's.
            own_types: new columns to keep in their own type, which an extension made, and not as text.
        """
        operations.invoke(cls(target, name, _schemas(schema, audit_schema), own_types))


@Operations.register_operation("update_ledger")
class UpdateLedgerOp(MigrateOperation):
    """Upgrade a ledger to the version of this package."""

    def __init__(self, audit_schema: str) -> None:
        self.audit_schema = audit_schema

    @classmethod
    def update_ledger(cls, operations: Operations, *, audit_schema: str | None = None) -> None:
        """Upgrade a ledger to the version that this package writes, if it has an older one.

        The first run of a fix does the same. Use this operation if the role that runs fixes does not own the ledger.
        It cannot be undone, so a downgrade has nothing to do.

        Args:
            operations: Alembic's.
            audit_schema: the schema of the ledger; by default public.
        """
        operations.invoke(cls(audit_schema or "public"))


@Operations.register_operation("drop_audit_table")
class DropAuditTableOp(MigrateOperation):
    """Drop an audit table."""

    def __init__(self, name: str, audit_schema: str, discard: bool) -> None:
        self.name = name
        self.audit_schema = audit_schema
        self.discard = discard

    @classmethod
    def drop_audit_table(
        cls,
        operations: Operations,
        name: str,
        *,
        schema: str | None = None,
        audit_schema: str | None = None,
        discard: bool = False,
    ) -> None:
        """Drop an audit table; with the last one of a schema, the ledger too.

        Args:
            operations: Alembic's.
            name: the audit table.
            schema: the target's schema; by default public.
            audit_schema: its own schema; by default the target's.
            discard: drop it even if it holds copies; ``alembic -x discard=NAME`` does so for one run.
        """
        operations.invoke(cls(name, _schemas(schema, audit_schema)[1], discard))


class _OfProtection(MigrateOperation):
    """An operation on the protection of an audit table."""

    def __init__(self, name: str, audit_schema: str) -> None:
        self.name = name
        self.audit_schema = audit_schema


@Operations.register_operation("protect_audit_table")
class ProtectAuditTableOp(_OfProtection):
    """Protect an audit table that an older version made."""

    @classmethod
    def protect_audit_table(
        cls, operations: Operations, name: str, *, schema: str | None = None, audit_schema: str | None = None
    ) -> None:
        """Make UPDATE, DELETE and TRUNCATE of an audit table an error, and the same of finished lines of its ledger.

        A new audit table is protected by itself. Only the owner of the tables can do it.

        Args:
            operations: Alembic's.
            name: the audit table.
            schema: the target's schema; by default public.
            audit_schema: its own schema; by default the target's.
        """
        operations.invoke(cls(name, _schemas(schema, audit_schema)[1]))


@Operations.register_operation("unprotect_audit_table")
class UnprotectAuditTableOp(_OfProtection):
    """Remove the protection of an audit table."""

    @classmethod
    def unprotect_audit_table(
        cls, operations: Operations, name: str, *, schema: str | None = None, audit_schema: str | None = None
    ) -> None:
        """Remove the protection of an audit table; with that of the last one of a schema, the ledger's too.

        It is for the downgrade of a revision that added the protection.

        Args:
            operations: Alembic's.
            name: the audit table.
            schema: the target's schema; by default public.
            audit_schema: its own schema; by default the target's.
        """
        operations.invoke(cls(name, _schemas(schema, audit_schema)[1]))


@Operations.register_operation("prune_audit")
class PruneAuditOp(MigrateOperation):
    """Give up old copies."""

    def __init__(self, *pruning: Any) -> None:
        self.pruning = pruning

    @classmethod
    def prune_audit(  # noqa: PLR0913 - the arguments of an operation
        cls,
        operations: Operations,
        name: str,
        *,
        older_than: dt.date | str,
        keep: str = "open",
        reason: str = "",
        schema: str | None = None,
        audit_schema: str | None = None,
    ) -> None:
        """Delete the images of old runs from an audit table: these runs cannot be reverted any more.

        It is a run of its own. Its line in the ledger names each run, with the number and the digest of its images, and
        stays. Only the owner of the audit table, or a role with DELETE on it, can do it. It cannot be undone, so a
        downgrade has nothing to do.

        Args:
            operations: Alembic's.
            name: the audit table.
            older_than: runs that were finished before that are meant: a date (its midnight in UTC), or a time with its
                zone; as text in ISO 8601.
            keep: ``open`` keeps the copies of fixes in force, with those of their partial reverts; ``none`` keeps none.
            reason: why, for the readers of the ledger.
            schema: the target's schema; by default public.
            audit_schema: the schema of the audit table; by default the target's.
        """
        if keep not in ("open", "none"):
            raise CommandError(f"keep={keep!r}: must be open or none.")
        before = _moment(older_than)
        operations.invoke(cls(name, _schemas(schema, audit_schema)[1], before, keep, reason))


def _moment(given: dt.date | str) -> dt.datetime:
    """A time with its zone, from a date, a time, or one of them in ISO 8601."""
    wrong = CommandError(f"older_than={given!r}: must be a date (2024-12-31), or a time with its zone.")
    try:
        found = dt.datetime.fromisoformat(given) if isinstance(given, str) else given
    except ValueError:
        raise wrong from None
    if not isinstance(found, dt.date):
        raise wrong
    is_date = not isinstance(found, dt.datetime) or (
        isinstance(given, str) and len(given) <= len("2024-12-31")
    )
    if is_date:
        return dt.datetime(found.year, found.month, found.day, tzinfo=dt.UTC)
    if not isinstance(found, dt.datetime) or found.tzinfo is None:
        raise wrong
    return found


@Operations.implementation_for(CreateAuditTableOp)
def _create(operations: Operations, operation: CreateAuditTableOp) -> None:
    from datafixes.running import audit_tables

    audit_tables.create(operations.migration_context, audit_tables.AuditTable(*operation.table))


@Operations.implementation_for(UpdateAuditTableOp)
def _update(operations: Operations, operation: UpdateAuditTableOp) -> None:
    from datafixes.running import audit_tables

    audit_tables.update(operations.migration_context, audit_tables.AuditTable(*operation.table))


@Operations.implementation_for(UpdateLedgerOp)
def _update_ledger(operations: Operations, operation: UpdateLedgerOp) -> None:
    from datafixes.running import audit_tables

    audit_tables.update_ledger(operations.migration_context, operation.audit_schema)


@Operations.implementation_for(DropAuditTableOp)
def _drop(operations: Operations, operation: DropAuditTableOp) -> None:
    from datafixes.running import audit_tables

    audit_tables.drop(operations.migration_context, operation.name, operation.audit_schema, operation.discard)


@Operations.implementation_for(ProtectAuditTableOp)
def _protect(operations: Operations, operation: ProtectAuditTableOp) -> None:
    from datafixes.running import audit_tables

    audit_tables.protect(operations.migration_context, operation.name, operation.audit_schema)


@Operations.implementation_for(UnprotectAuditTableOp)
def _unprotect(operations: Operations, operation: UnprotectAuditTableOp) -> None:
    from datafixes.running import audit_tables

    audit_tables.unprotect(operations.migration_context, operation.name, operation.audit_schema)


@Operations.implementation_for(PruneAuditOp)
def _prune(operations: Operations, operation: PruneAuditOp) -> None:
    from datafixes.running import audit_tables

    audit_tables.prune(operations.migration_context, audit_tables.Pruning(*operation.pruning))
