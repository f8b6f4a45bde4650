"""The Alembic operations. Each is inert; what it does stands in another module, loaded when one runs.

Alembic loads its plugins with every command and in the midst of its own import: only what is complete by then can be
imported here, and only what costs next to nothing.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from alembic.operations import MigrateOperation, Operations
from alembic.util import CommandError

from datafixes.audit.autogenerate import leave_alone

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from datafixes.declaration.fix import DataFix
    from datafixes.declaration.recorded import Fix, RecordedFix
    from datafixes.running.recording import Body


@Operations.register_operation("apply_datafix")
class ApplyDatafixOp(MigrateOperation):
    """Apply a data fix."""

    def __init__(self, fix: DataFix) -> None:
        self.fix = fix

    @classmethod
    def apply_datafix(cls, operations: Operations, fix: DataFix) -> None:
        """Copy the rows of a fix into its audit table, change them, and prove the result.

        Args:
            operations: Alembic's.
            fix: the declaration.
        """
        operations.invoke(cls(fix))


@Operations.register_operation("record_datafix")
class RecordDatafixOp(MigrateOperation):
    """Record a data fix."""

    def __init__(self, fix: RecordedFix) -> None:
        self.fix = fix

    @classmethod
    def record_datafix(cls, operations: Operations, fix: RecordedFix) -> AbstractContextManager[Body]:
        """Record what the statements inside a ``with`` block change in the tables of a fix, and prove the result.

        The block's ``execute(sql)`` sends a statement as it is written, online and offline; ``op.execute`` and
        ``op.get_bind()`` work as ever.

        Args:
            operations: Alembic's.
            fix: the declaration.
        """
        return operations.invoke(cls(fix))  # type: ignore[no-any-return]


@Operations.register_operation("revert_datafix")
class RevertDatafixOp(MigrateOperation):
    """Revert a data fix."""

    def __init__(self, fix: Fix | str | None, how: dict[str, Any]) -> None:
        self.fix = fix
        self.how = how

    @classmethod
    def revert_datafix(  # noqa: PLR0913 - what an operation can be told
        cls,
        operations: Operations,
        fix: Fix | str | None = None,
        *,
        run: int | None = None,
        on_conflict: str = "refuse",
        revision: str | None = None,
        rows: Any = None,
        audit_schema: str = "",
    ) -> None:
        """Give every value back that a run of a fix changed, or change nothing.

        In a downgrade, that is what the upgrade of the same revision did: it applied the fix, or reverted it. What the
        fix was, the ledger tells: the file that declared it may be gone, or say something else by now.

        Args:
            operations: Alembic's.
            fix: the declaration that was applied, or its name; or nothing, where a run is given.
            run: the number of the run in the ledger, which is one database's own. With a fix, a run of that fix.
            on_conflict: what happens to rows that somebody changed since: ``refuse`` the whole revert, ``skip`` them,
                or ``overwrite`` them. ``alembic -x on_conflict=FIX:skip`` overrules it.
            revision: in an upgrade, the revision whose run is taken back; by default the one that applied the fix last.
            rows: the keys of some of the rows, and no others; of a fix of several tables ``{table: keys}``.
            audit_schema: where the ledger stands; by default, as the fix says, or the one ledger that knows it.
        """
        if on_conflict not in ("refuse", "skip", "overwrite"):
            raise CommandError(f"on_conflict={on_conflict!r}: choose refuse, skip or overwrite.")
        if run is not None and (isinstance(run, bool) or not isinstance(run, int)):
            raise CommandError(
                f"run={run!r} is no number of a run; give it as the ledger has it, such as run=12."
            )
        if (fix is None and run is None) or (run is not None and revision is not None):
            raise CommandError(
                "revert_datafix takes a fix, by declaration or name, or the run=NUMBER of one."
            )
        how = {"on_conflict": on_conflict, "undoes": revision or "", "rows": rows, "run": run}
        operations.invoke(cls(fix, how | {"audit_schema": audit_schema}))


@Operations.register_operation("create_audit_table")
class CreateAuditTableOp(MigrateOperation):
    """Make an audit table."""

    def __init__(self, target: str, name: str, schema: str, audit_schema: str) -> None:
        self.target = target
        self.name = name
        self.schema = schema
        self.audit_schema = audit_schema

    @classmethod
    def create_audit_table(
        cls, operations: Operations, target: str, *, name: str, schema: str = "public", audit_schema: str = ""
    ) -> None:
        """Make the audit table of a target, and the ledger where its schema has none yet.

        Args:
            operations: Alembic's.
            target: the table whose rows will be copied.
            name: the audit table.
            schema: the target's schema.
            audit_schema: where audit table and ledger stand; the target's schema, unless said otherwise.
        """
        operations.invoke(cls(target, name, schema, audit_schema or schema))


@Operations.register_operation("update_audit_table")
class UpdateAuditTableOp(MigrateOperation):
    """Bring an audit table to the shape of its target."""

    def __init__(self, target: str, name: str, schema: str, audit_schema: str) -> None:
        self.target = target
        self.name = name
        self.schema = schema
        self.audit_schema = audit_schema

    @classmethod
    def update_audit_table(
        cls, operations: Operations, target: str, *, name: str, schema: str = "public", audit_schema: str = ""
    ) -> None:
        """Add the columns to an audit table that its target has gained, and show them in the view beside it.

        Nothing is taken away, so a downgrade has nothing to do.

        Args:
            operations: Alembic's.
            target: the table whose rows are copied.
            name: the audit table.
            schema: the target's schema.
            audit_schema: where the audit table stands; the target's schema, unless said otherwise.
        """
        operations.invoke(cls(target, name, schema, audit_schema or schema))


@Operations.register_operation("update_ledger")
class UpdateLedgerOp(MigrateOperation):
    """Bring a ledger to the version of this package."""

    def __init__(self, audit_schema: str) -> None:
        self.audit_schema = audit_schema

    @classmethod
    def update_ledger(cls, operations: Operations, *, audit_schema: str = "public") -> None:
        """Bring a ledger to the version that this package writes; where it is of that version, nothing happens.

        The first run of a fix does the same. This is for where the role that runs fixes does not own the ledger. It
        cannot be brought back, so a downgrade has nothing to do.

        Args:
            operations: Alembic's.
            audit_schema: the schema of the ledger.
        """
        operations.invoke(cls(audit_schema))


@Operations.register_operation("drop_audit_table")
class DropAuditTableOp(MigrateOperation):
    """Drop an audit table."""

    def __init__(self, name: str, audit_schema: str, discard: bool) -> None:
        self.name = name
        self.audit_schema = audit_schema
        self.discard = discard

    @classmethod
    def drop_audit_table(
        cls, operations: Operations, name: str, *, audit_schema: str = "public", discard: bool = False
    ) -> None:
        """Drop an audit table, and with the last one of a schema its ledger.

        Args:
            operations: Alembic's.
            name: the audit table.
            audit_schema: its schema.
            discard: drop it although it holds copies. ``alembic -x discard=NAME`` says the same for one run.
        """
        operations.invoke(cls(name, audit_schema, discard))


@Operations.implementation_for(ApplyDatafixOp)
def _apply(operations: Operations, operation: ApplyDatafixOp) -> None:
    from datafixes.running import run

    run.apply(operations.migration_context, operation.fix)


@Operations.implementation_for(RevertDatafixOp)
def _revert(operations: Operations, operation: RevertDatafixOp) -> None:
    from datafixes.running import reverting, run

    run.revert(operations.migration_context, operation.fix, reverting.Revert(**operation.how))


@Operations.implementation_for(CreateAuditTableOp)
def _create(operations: Operations, operation: CreateAuditTableOp) -> None:
    from datafixes.running import audit_tables

    table = audit_tables.AuditTable(
        operation.target, operation.name, operation.schema, operation.audit_schema
    )
    audit_tables.create(operations.migration_context, table)


@Operations.implementation_for(RecordDatafixOp)
def _record(operations: Operations, operation: RecordDatafixOp) -> AbstractContextManager[Body]:
    from datafixes.running import recording

    return recording.record(operations.migration_context, operation.fix)


@Operations.implementation_for(UpdateAuditTableOp)
def _update(operations: Operations, operation: UpdateAuditTableOp) -> None:
    from datafixes.running import audit_tables

    table = audit_tables.AuditTable(
        operation.target, operation.name, operation.schema, operation.audit_schema
    )
    audit_tables.update(operations.migration_context, table)


@Operations.implementation_for(UpdateLedgerOp)
def _update_ledger(operations: Operations, operation: UpdateLedgerOp) -> None:
    from datafixes.running import audit_tables

    audit_tables.update_ledger(operations.migration_context, operation.audit_schema)


@Operations.implementation_for(DropAuditTableOp)
def _drop(operations: Operations, operation: DropAuditTableOp) -> None:
    from datafixes.running import audit_tables

    audit_tables.drop(operations.migration_context, operation.name, operation.audit_schema, operation.discard)


# Before 1.18 there are no plugins: then this import does what the plugin does elsewhere.
if find_spec("alembic.runtime.plugins") is None:
    from alembic.autogenerate import comparators

    comparators.dispatch_for("schema")(leave_alone)
