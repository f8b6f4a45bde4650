"""The Alembic operations on fixes. Each only holds facts; its implementation is in another module, loaded when it runs.

Alembic loads its plugins with every command, during its own import: this module may import only what is complete by
then and fast to load.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from alembic.operations import MigrateOperation, Operations
from alembic.util import CommandError

from datafixes.audit.autogenerate import leave_alone
from datafixes.running import (
    redact_operations,  # noqa: F401 - importing it registers the operation
    refusal,  # noqa: F401 - a wrong declaration is one line of Alembic's, too
    table_operations,  # noqa: F401 - importing it registers those of audit tables
)

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
        """Copy the rows of a fix into its audit table, change them, and verify the result.

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
        """Record what the statements inside a ``with`` block change in the tables of a fix, and verify the result.

        The block's ``execute(sql)`` sends a statement verbatim, online and offline; ``op.execute`` and
        ``op.get_bind()`` work as usual.

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
    def revert_datafix(  # noqa: PLR0913 - the arguments of an operation
        cls,
        operations: Operations,
        fix: Fix | str | None = None,
        *,
        run: int | None = None,
        on_conflict: str = "refuse",
        revision: str | None = None,
        rows: Any = None,
        audit_schema: str | None = None,
        reason: str = "",
    ) -> None:
        """Restore every value that a run of a fix changed, or change nothing.

        In a downgrade, that run is the one of the same revision's upgrade, which applied the fix or reverted it. The
        ledger holds the fix as it ran: the file that declared it may be missing or edited.

        Args:
            operations: Alembic's.
            fix: the declaration that was applied, or its name; omitted if a run is given.
            run: the number of the run in the ledger, which differs between databases. With a fix, a run of that fix.
            on_conflict: what happens to rows that somebody changed since: ``refuse`` the whole revert, ``skip`` them,
                or ``overwrite`` them. ``alembic -x on_conflict=FIX:skip`` takes precedence.
            revision: in an upgrade, the revision whose run is reverted; by default the one that applied the fix last.
            rows: the keys of the rows to revert, if not all; for a fix of several tables ``{table: keys}``.
            audit_schema: the schema of the ledger; by default that of the fix, or of the one ledger with a run of it.
            reason: why it is reverted, for the readers of the ledger; by default the reason of the run.
        """
        if on_conflict not in ("refuse", "skip", "overwrite"):
            raise CommandError(f"on_conflict={on_conflict!r}: must be refuse, skip or overwrite.")
        if run is not None and (isinstance(run, bool) or not isinstance(run, int)):
            raise CommandError(f"run={run!r} is not the number of a run; use the ledger's run_id.")
        if (fix is None and run is None) or (run is not None and revision is not None):
            raise CommandError("revert_datafix needs a fix (its declaration or name), or run=NUMBER.")
        how = {"on_conflict": on_conflict, "undoes": revision or "", "rows": rows, "run": run}
        operations.invoke(cls(fix, how | {"audit_schema": audit_schema or "", "reason": reason}))


def schema_of_run(op: Any) -> str:
    """The schema for which env.py runs the migrations; ``fix.in_schema(schema_of_run(op))`` is each tenant's fix.

    ``schema_translate_map`` names it, or else the ``search_path``; in a printed script, ``version_table_schema``.
    """
    from datafixes.running import migration

    return migration.schema_of_run(op.get_context())


@Operations.implementation_for(ApplyDatafixOp)
def _apply(operations: Operations, operation: ApplyDatafixOp) -> None:
    from datafixes.running import run

    run.apply(operations.migration_context, operation.fix)


@Operations.implementation_for(RevertDatafixOp)
def _revert(operations: Operations, operation: RevertDatafixOp) -> None:
    from datafixes.running import reverting, run

    run.revert(operations.migration_context, operation.fix, reverting.Revert(**operation.how))


@Operations.implementation_for(RecordDatafixOp)
def _record(operations: Operations, operation: RecordDatafixOp) -> AbstractContextManager[Body]:
    from datafixes.running import recording

    return recording.record(operations.migration_context, operation.fix)


# Before 1.18 there are no plugins: importing this module registers the operations.
if find_spec("alembic.runtime.plugins") is None:
    from alembic.autogenerate import comparators

    comparators.dispatch_for("schema")(leave_alone)
