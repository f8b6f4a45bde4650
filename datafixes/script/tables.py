"""Audit tables and the ledger: their fixed names, and the scripts that make and drop them."""

from dataclasses import dataclass

from datafixes.declaration.expressions import check_identifiers
from datafixes.script import literal
from datafixes.script.frame import Limits, Script, frame

LEDGER = "datafix_run"
LEDGER_TABLES = "datafix_run_table"
LEDGER_VERSION = 2
NEWEST_FIRST = "started_at DESC, run_id DESC"
"""The order of runs. Numbers alone are none: after a switchover they may have begun from below once more."""

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

    def __post_init__(self) -> None:
        # The view beside it has the longest name.
        check_identifiers(self.target, self.name + CHANGES_SUFFIX, self.target_schema, self.audit_schema)


def create_script(table: AuditTable, limits: Limits) -> Script:
    """The script that makes an audit table, and the ledger where its schema has none yet."""
    block = f"""
BEGIN
    -- Two runs must not make the same table at the same time.
    PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('datafixes fix', 0));
    PERFORM pg_temp.datafix_create_ledger({literal.text(table.audit_schema)});
    PERFORM pg_temp.datafix_create_audit_table({literal.text(table.target_schema)}, {literal.text(table.target)},
                                               {literal.text(table.audit_schema)}, {literal.text(table.name)});
    {_finished("create", table.name)}
END
"""
    title = f"audit table {table.audit_schema}.{table.name}: images of rows of {table.target_schema}.{table.target}"
    return frame(title, f"create {table.name}", block, limits)


def update_script(table: AuditTable, limits: Limits) -> Script:
    """The script that brings an audit table to the shape of a target that has gained columns."""
    block = f"""
BEGIN
    PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('datafixes fix', 0));
    PERFORM pg_temp.datafix_update_audit_table({literal.text(table.target_schema)}, {literal.text(table.target)},
                                               {literal.text(table.audit_schema)}, {literal.text(table.name)});
    {_finished("update", table.name)}
END
"""
    title = (
        f"audit table {table.audit_schema}.{table.name}: to the shape of {table.target_schema}.{table.target}"
    )
    return frame(title, f"update {table.name}", block, limits)


def ledger_script(audit_schema: str, limits: Limits) -> Script:
    """The script that brings a ledger to the version that this package writes."""
    check_identifiers(audit_schema)
    block = f"""
BEGIN
    PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('datafixes fix', 0));
    PERFORM pg_temp.datafix_update_ledger({literal.text(audit_schema)});
    {_finished("update", LEDGER)}
END
"""
    title = f"ledger {audit_schema}.{LEDGER}: to the version of this engine"
    return frame(title, f"update {LEDGER}", block, limits)


def drop_script(name: str, audit_schema: str, limits: Limits, *, discard: bool) -> Script:
    """The script that drops an audit table, and with the last one the ledger.

    Args:
        name: the audit table.
        audit_schema: its schema.
        limits: the time-outs.
        discard: drop it although it holds copies.
    """
    block = f"""
BEGIN
    PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('datafixes fix', 0));
    PERFORM pg_temp.datafix_drop_audit_table({literal.text(audit_schema)}, {literal.text(name)},
                                             discard => {literal.value(discard)});
    {_finished("drop", name)}
END
"""
    return frame(f"audit table {audit_schema}.{name}: drop", f"drop {name}", block, limits)


def _finished(what: str, name: str) -> str:
    return (
        "PERFORM pg_catalog.set_config('datafixes.finished',\n"
        "        pg_catalog.concat(pg_catalog.current_setting('datafixes.finished', true),\n"
        f"                          {literal.text(f'<{what} {name}>')}), true);"
    )
