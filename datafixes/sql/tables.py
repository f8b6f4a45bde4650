"""The scripts that make and drop an audit table, with the ledger beside it."""

from datafixes.audit.tables import AuditTable
from datafixes.sql import literal
from datafixes.sql.script import Limits, Script, frame


def create_script(table: AuditTable, limits: Limits) -> Script:
    """The script that makes an audit table, and the ledger where its schema has none yet."""
    block = f"""
BEGIN
    -- Two runs must not make the same table at the same time.
    PERFORM pg_advisory_xact_lock(hashtextextended('datafixes fix', 0));
    PERFORM pg_temp.datafix_create_ledger({literal.text(table.audit_schema)});
    PERFORM pg_temp.datafix_create_audit_table({literal.text(table.target_schema)}, {literal.text(table.target)},
                                               {literal.text(table.audit_schema)}, {literal.text(table.name)});
    {_finished("create", table.name)}
END
"""
    title = f"audit table {table.audit_schema}.{table.name}: images of rows of {table.target_schema}.{table.target}"
    return frame(title, f"create {table.name}", block, limits)


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
    PERFORM pg_advisory_xact_lock(hashtextextended('datafixes fix', 0));
    PERFORM pg_temp.datafix_drop_audit_table({literal.text(audit_schema)}, {literal.text(name)}, discard => {literal.value(discard)});
    {_finished("drop", name)}
END
"""
    return frame(f"audit table {audit_schema}.{name}: drop", f"drop {name}", block, limits)


def _finished(what: str, name: str) -> str:
    return (
        "PERFORM set_config('datafixes.finished', current_setting('datafixes.finished', true) || "
        f"{literal.text(f'<{what} {name}>')}, true);"
    )
