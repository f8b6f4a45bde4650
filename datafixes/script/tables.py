"""Audit tables and the ledger: their fixed names, and the scripts that create and drop them."""

import datetime as dt
from dataclasses import dataclass

from datafixes import __version__
from datafixes.declaration.expressions import check_identifiers
from datafixes.script import literal
from datafixes.script.context import Context
from datafixes.script.frame import Limits, Script, finished, frame

LEDGER = "datafix_run"
LEDGER_TABLES = "datafix_run_table"
RANGES = "datafix_range"
"""How far runs in batches are, by ranges of keys; a ledger before version 3 has none."""
LEDGER_VERSION = 3
APPEND_ONLY = "datafix_append_only"
"""The function beside the ledger that refuses changes, and the trigger on each table."""
PRUNED = "datafix_pruned"
"""The trigger of an audit table that lets those copies go that a run gives up, and no others."""
REDACTED = "datafix_redacted"
"""The trigger of an audit table that lets those values go that a run redacts, and no others."""
FINISHED = "datafix_finished"
"""The trigger of the ledger that refuses changes of finished lines."""
CHAIN, KEYS, SALTS = "datafix_chain", "datafix_key", "datafix_salt"
RECORDS = (LEDGER, LEDGER_TABLES, RANGES, CHAIN, KEYS, SALTS)
"""The tables beside the audit tables of a schema."""

NEWEST_FIRST = "started_at DESC, run_id DESC"
"""The order of runs. Not by number alone, because after a switchover old numbers may come again."""

NOT_A_PART = "pg_catalog.to_jsonb(r) ->> 'part_of' IS NULL"
"""The condition that the run ``r`` is no batch of another; a ledger before version 3 has no such column."""

AUDIT_COLUMNS = ("audit_id", "audit_run_id", "audit_image", "audit_recorded_at")
MARKS = "audit_redacted"
"""The column of an audit table that names the values that were redacted; it is added with the first of them."""
CHANGES_SUFFIX = "_changes"


@dataclass(frozen=True)
class AuditTable:
    """An audit table and its target.

    Attributes:
        target: the catalog name of the table whose rows are copied.
        name: the audit table.
        target_schema: the target's schema.
        audit_schema: the schema of the audit table and of the ledger.
        own_types: columns that are kept in their own type, which an extension made, and not as text.
    """

    target: str
    name: str
    target_schema: str
    audit_schema: str
    own_types: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # The name of the view beside it is longer.
        check_identifiers(self.target, self.name + CHANGES_SUFFIX, self.target_schema, self.audit_schema)


def create_script(table: AuditTable, limits: Limits) -> Script:
    """The script that creates an audit table, and the ledger if its schema has none."""
    block = f"""
BEGIN
    -- Two runs must not create the same table at the same time.
    PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('datafixes fix', 0));
    PERFORM pg_temp.datafix_create_ledger({literal.text(table.audit_schema)});
    PERFORM pg_temp.datafix_create_audit_table({literal.text(table.target_schema)}, {literal.text(table.target)},
                                               {literal.text(table.audit_schema)}, {literal.text(table.name)}{_own_types(table)});
    {finished(f"create {table.name}")}
END
"""
    title = f"audit table {table.audit_schema}.{table.name}: images of rows of {table.target_schema}.{table.target}"
    return frame(title, f"create {table.name}", block, limits)


@dataclass(frozen=True)
class Pruning:
    """Which copies an audit table gives up.

    Attributes:
        name: the audit table.
        audit_schema: its schema.
        older_than: the time before which the runs were finished, with its zone.
        keep: ``open`` keeps the copies of fixes in force; ``none`` gives up these too.
        reason: why, for the readers of the ledger.
    """

    name: str
    audit_schema: str
    older_than: dt.datetime
    keep: str
    reason: str

    def __post_init__(self) -> None:
        check_identifiers(self.name, self.audit_schema)


@dataclass(frozen=True)
class Redaction:
    """Which values are taken out of images.

    Attributes:
        name: the audit table.
        audit_schema: its schema.
        where: the condition for images, in SQL over the columns of the audit table. It is not kept.
        columns: the columns whose values go.
        reason: why, for the readers of the ledger.
    """

    name: str
    audit_schema: str
    where: str
    columns: tuple[str, ...]
    reason: str

    def __post_init__(self) -> None:
        check_identifiers(self.name, self.audit_schema, *self.columns)


def prune_script(pruning: Pruning, context: Context, limits: Limits) -> Script:
    """The script that gives up old copies.

    Args:
        pruning: which.
        context: the context of the run.
        limits: the time-outs.
    """
    older_than = pruning.older_than.astimezone(dt.UTC).isoformat(sep=" ")
    run = {
        "revision": context.revision,
        "reason": pruning.reason,
        "application": context.application,
        "engine": __version__,
    }
    block = f"""
BEGIN
    PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('datafixes fix', 0));
    PERFORM pg_temp.datafix_prune({literal.text(pruning.audit_schema)}, {literal.text(pruning.name)},
        older_than => {literal.text(older_than)}, keep => {literal.text(pruning.keep)},
        run => {literal.json_body(run, "run")});
    {finished(f"prune {pruning.name}")}
END
"""
    title = f"audit table {pruning.audit_schema}.{pruning.name}: give up copies of runs before {older_than}"
    return frame(title, f"prune {pruning.name}", block, limits)


def redact_script(redaction: Redaction, context: Context, limits: Limits) -> Script:
    """The script that takes values out of images.

    Args:
        redaction: which.
        context: the context of the run.
        limits: the time-outs.
    """
    columns = ", ".join(map(literal.text, redaction.columns))
    run = {
        "revision": context.revision,
        "reason": redaction.reason,
        "application": context.application,
        "engine": __version__,
    }
    block = f"""
DECLARE
    -- A text, in a variable: so no error repeats it, neither here nor in the server's log.
    condition text := {literal.text(redaction.where)};
BEGIN
    PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('datafixes fix', 0));
    PERFORM pg_temp.datafix_redact({literal.text(redaction.audit_schema)}, {literal.text(redaction.name)}, condition,
        columns => ARRAY[{columns}],
        run => {literal.json_body(run, "run")});
    {finished(f"redact {redaction.name}")}
END
"""
    title = f"audit table {redaction.audit_schema}.{redaction.name}: redact {', '.join(redaction.columns)}"
    return frame(title, f"redact {redaction.name}", block, limits)


def update_script(table: AuditTable, limits: Limits) -> Script:
    """The script that adds new columns of the target to an audit table."""
    block = f"""
BEGIN
    PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('datafixes fix', 0));
    PERFORM pg_temp.datafix_update_audit_table({literal.text(table.target_schema)}, {literal.text(table.target)},
                                               {literal.text(table.audit_schema)}, {literal.text(table.name)}{_own_types(table)});
    {finished(f"update {table.name}")}
END
"""
    title = f"audit table {table.audit_schema}.{table.name}: add new columns of {table.target_schema}.{table.target}"
    return frame(title, f"update {table.name}", block, limits)


def ledger_script(audit_schema: str, limits: Limits) -> Script:
    """The script that upgrades a ledger to the version that this package writes."""
    check_identifiers(audit_schema)
    block = f"""
BEGIN
    PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('datafixes fix', 0));
    PERFORM pg_temp.datafix_update_ledger({literal.text(audit_schema)});
    {finished(f"update {LEDGER}")}
END
"""
    title = f"ledger {audit_schema}.{LEDGER}: upgrade to the version of this engine"
    return frame(title, f"update {LEDGER}", block, limits)


def protect_script(name: str, audit_schema: str, limits: Limits) -> Script:
    """The script that protects an audit table and its ledger against changes."""
    return _of_protection("protect", name, audit_schema, limits)


def unprotect_script(name: str, audit_schema: str, limits: Limits) -> Script:
    """The script that removes the protection of an audit table."""
    return _of_protection("unprotect", name, audit_schema, limits)


def _of_protection(what: str, name: str, audit_schema: str, limits: Limits) -> Script:
    check_identifiers(name, audit_schema)
    block = f"""
BEGIN
    PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('datafixes fix', 0));
    PERFORM pg_temp.datafix_{what}_audit_table({literal.text(audit_schema)}, {literal.text(name)});
    {finished(f"{what} {name}")}
END
"""
    return frame(f"audit table {audit_schema}.{name}: {what}", f"{what} {name}", block, limits)


def chain_script(audit_schema: str, limits: Limits) -> Script:
    """The script that creates the chain of seals beside a ledger."""
    check_identifiers(audit_schema)
    block = f"""
BEGIN
    PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('datafixes fix', 0));
    PERFORM pg_temp.datafix_create_chain({literal.text(audit_schema)});
    {finished(f"create {CHAIN}")}
END
"""
    return frame(f"ledger {audit_schema}.{LEDGER}: the chain of seals", f"create {CHAIN}", block, limits)


def drop_script(name: str, audit_schema: str, limits: Limits, *, discard: bool) -> Script:
    """The script that drops an audit table; with the last one, the ledger too.

    Args:
        name: the audit table.
        audit_schema: its schema.
        limits: the time-outs.
        discard: drop it even if it holds copies.
    """
    block = f"""
BEGIN
    PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('datafixes fix', 0));
    PERFORM pg_temp.datafix_drop_audit_table({literal.text(audit_schema)}, {literal.text(name)},
                                             discard => {literal.value(discard)});
    {finished(f"drop {name}")}
END
"""
    return frame(f"audit table {audit_schema}.{name}: drop", f"drop {name}", block, limits)


def _own_types(table: AuditTable) -> str:
    own = ", ".join(map(literal.text, table.own_types))
    return f",\n        own_types => ARRAY[{own}]" if own else ""
