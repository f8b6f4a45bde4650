"""Reads a fix from the ledger, without a file that declares it."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.engine import Connection

from datafixes.audit.history import ask, known_fixes, ledger_schemas
from datafixes.declaration.project_fixes import nearest
from datafixes.declaration.recalled import RecalledFix
from datafixes.declaration.table import Table
from datafixes.errors import NothingToRevert
from datafixes.script.literal import qualified, text
from datafixes.script.tables import LEDGER, LEDGER_TABLES, NEWEST_FIRST, NOT_A_PART


def recall(connection: Connection, wanted: RecalledFix) -> RecalledFix:
    """Add the facts from the ledger to a fix.

    Args:
        connection: the ledger's database.
        wanted: its name or the number of its run, and the schema of its ledger, if known.

    Returns:
        the same with its tables; unchanged if several ledgers have runs of it.

    Raises:
        NothingToRevert: no ledger has a run of it.
    """
    schemas = [wanted.schema_of_audit] if wanted.schema_of_audit else ledger_schemas(connection)
    found = [(schema, run) for schema in schemas for run in _newest(connection, schema, wanted)]
    if not found:
        raise _unknown(connection, wanted, schemas)
    if len(found) > 1:
        return wanted
    [(schema, run)] = found
    if wanted.run is not None and wanted.is_named and run["fix"] != wanted.name:
        return wanted  # the engine refuses
    declaration = run.get("declaration") or {}
    return RecalledFix(
        run["fix"],
        wanted.run,
        schema,
        tuple(_tables(connection, schema, run["run_id"], declaration.get("tables") or [])),
        run["reason"] or "",
        declaration.get("fire_triggers", True),
        run["rows_expected"],
        run["fingerprint"] or "",
        wanted.is_named,
    )


def _newest(connection: Connection, schema: str, wanted: RecalledFix) -> list[Mapping[str, Any]]:
    condition = (
        f"run_id = {wanted.run}" if wanted.run is not None else f"fix = {text(wanted.name)} AND {NOT_A_PART}"
    )
    rows = ask(
        connection,
        f"SELECT to_jsonb(r) FROM {qualified(schema, LEDGER)} AS r"
        f" WHERE {condition} AND outcome NOT IN ('started', 'failed') ORDER BY {NEWEST_FIRST} LIMIT 1",
    )
    return [run for (run,) in rows]


def _unknown(connection: Connection, wanted: RecalledFix, schemas: list[str]) -> NothingToRevert:
    if not schemas:
        return NothingToRevert(
            f"datafix {wanted.name}: this database has no ledger ({LEDGER}), so there is nothing to revert.",
            hint="Check which database is used: datafixes where",
        )
    if wanted.run is not None:
        return NothingToRevert(
            f"The ledger of {', '.join(schemas)} has no completed run {wanted.run}.",
            hint="List the runs: datafixes history",
        )
    known = [name for schema in schemas for name in known_fixes(connection, schema)]
    return NothingToRevert(
        f"No revision declares a fix {wanted.name}, and no ledger knows it.{nearest(wanted.name, known)}",
        hint="List the runs: datafixes history",
    )


def _tables(connection: Connection, schema: str, run: int, declared: list[Mapping[str, Any]]) -> list[Table]:
    rows = ask(
        connection,
        "SELECT parse_ident(target_table), parse_ident(audit_table), key_columns"
        f" FROM {qualified(schema, LEDGER_TABLES)} WHERE run_id = {run} ORDER BY position",
    )
    return [
        Table(
            target[1],
            audit[1],
            target[0],
            key=tuple(key),
            housekeeping=tuple(declared[place]["housekeeping"]) if place < len(declared) else (),
        )
        for place, (target, audit, key) in enumerate(rows)
    ]
