"""The fixed names of the audit tables and the ledger."""

from dataclasses import dataclass

LEDGER = "datafix_run"
AUDIT_COLUMNS = ("audit_id", "audit_run_id", "audit_image", "audit_recorded_at")
CHANGES_SUFFIX = "_changes"


@dataclass(frozen=True)
class AuditTable:
    """An audit table and the table whose rows it keeps.

    Attributes:
        target: the table whose rows are copied, exactly as it is in the catalog.
        name: the audit table.
        target_schema: the target's schema.
        audit_schema: the schema of the audit table and of the ledger.
    """

    target: str
    name: str
    target_schema: str
    audit_schema: str
