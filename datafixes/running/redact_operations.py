"""The Alembic operation that erases values in audit tables; see ``datafixes.operations``, which loads this module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alembic.operations import MigrateOperation, Operations
from alembic.util import CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence


@Operations.register_operation("redact_audit")
class RedactAuditOp(MigrateOperation):
    """Erase values in images."""

    def __init__(self, *redaction: Any) -> None:
        self.redaction = redaction

    @classmethod
    def redact_audit(  # noqa: PLR0913 - the arguments of an operation
        cls,
        operations: Operations,
        name: str,
        *,
        where: str,
        columns: Sequence[str],
        reason: str,
        schema: str | None = None,
        audit_schema: str | None = None,
    ) -> None:
        """Erase values in images of an audit table: they become NULL, and are marked as redacted.

        It is a run of its own. Its line in the ledger has the columns and the runs, but neither the values nor the
        condition. All other images stay proven, and can be reverted. It cannot be undone, so a downgrade has nothing
        to do. Only the owner of the audit table can do it, and only in runs that are sealed.

        Args:
            operations: Alembic's.
            name: the audit table.
            where: which images, in SQL over the columns of the audit table; the other image of the same row in the same
                run is meant too.
            columns: the columns to redact.
            reason: why, for the readers of the ledger; without personal data.
            schema: the target's schema; by default public.
            audit_schema: the schema of the audit table; by default the target's.
        """
        named = (columns,) if isinstance(columns, str) else tuple(columns)
        for argument, given in (("where", where), ("reason", reason), ("columns", "".join(named))):
            if not str(given).strip():
                raise CommandError(f"redact_audit: {argument} is empty.")
        operations.invoke(cls(name, audit_schema or schema or "public", where, named, reason))


@Operations.implementation_for(RedactAuditOp)
def _redact(operations: Operations, operation: RedactAuditOp) -> None:
    from datafixes.running import audit_tables

    audit_tables.redact(operations.migration_context, audit_tables.Redaction(*operation.redaction))
