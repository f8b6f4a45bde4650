"""Runs fixes on a test's database without revision files: a declaration, the engine, a commit.

Each call is a connection and a transaction of its own, as a migration's is. What the engine refuses comes out as the
`Refused` that a pipeline would see.
"""

from collections.abc import Sequence

from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from datafixes.declaration.fix import DataFix
from datafixes.declaration.recorded import Fix, RecordedFix
from datafixes.running.execution import Attempts, execute
from datafixes.script.apply import apply_script
from datafixes.script.context import Context
from datafixes.script.frame import Limits, Script
from datafixes.script.parameters import verbatim
from datafixes.script.record import recorded_script, recording
from datafixes.script.revert import revert_script
from datafixes.script.tables import AuditTable, create_script, drop_script, protect_script, unprotect_script
from tests.servers import Database

__all__ = [
    "LIMITS", "ONCE", "Context", "apply", "apply_script", "create_audit_table", "drop_audit_table", "protect_script", "record",
    "recorded_script", "recording", "revert", "run", "unprotect_script",
]  # fmt: skip

LIMITS = Limits()
ONCE = Attempts(1, 0)


def apply(
    database: Database,
    fix: DataFix,
    *,
    role: str = "postgres",
    driver: str = "psycopg2",
    limits: Limits = LIMITS,
) -> None:
    """Apply a fix and commit."""
    run(database, apply_script(fix, Context(), limits), f"datafix {fix.name}", role=role, driver=driver)


def record(
    database: Database,
    fix: RecordedFix,
    *statements: str,
    role: str = "postgres",
    offline: bool = False,
) -> None:
    """Record the statements of a fix and commit: statement by statement, or as the one script that they become."""
    label = f"datafix {fix.name}"
    if offline:
        run(database, recorded_script(fix, statements, Context(), LIMITS), label, role=role)
        return
    scripts = recording(fix, Context(), LIMITS)
    engine = create_engine(database.url_for(role), poolclass=NullPool)
    with engine.connect() as connection:
        execute(connection, scripts.opening, label, ONCE)
        for statement in statements:
            connection.exec_driver_sql(verbatim(connection, statement))
        execute(connection, scripts.closing, label, ONCE)
        connection.commit()


def revert(
    database: Database,
    fix: Fix,
    on_conflict: str = "refuse",
    *,
    role: str = "postgres",
    driver: str = "psycopg2",
    limits: Limits = LIMITS,
) -> None:
    """Revert a fix and commit."""
    script = revert_script(fix, Context(on_conflict=on_conflict), limits)
    run(database, script, f"datafix {fix.name}", role=role, driver=driver)


def create_audit_table(
    database: Database,
    target: str,
    name: str,
    *,
    schema: str = "public",
    audit_schema: str = "",
    own_types: Sequence[str] = (),
    role: str = "postgres",
) -> None:
    """Make an audit table, and the ledger where there is none, and commit."""
    table = AuditTable(target, name, schema, audit_schema or schema, tuple(own_types))
    run(database, create_script(table, LIMITS), f"audit table {name}", role=role)


def drop_audit_table(
    database: Database,
    name: str,
    *,
    audit_schema: str = "public",
    discard: bool = False,
    role: str = "postgres",
) -> None:
    """Drop an audit table and commit."""
    run(database, drop_script(name, audit_schema, LIMITS, discard=discard), f"audit table {name}", role=role)


def run(
    database: Database,
    script: Script,
    label: str = "script",
    *,
    role: str = "postgres",
    driver: str = "psycopg2",
) -> None:
    """Run any script in a transaction of its own and commit."""
    engine = create_engine(database.url_for(role, driver), poolclass=NullPool)
    with engine.connect() as connection:
        execute(connection, script, label, ONCE)
        connection.commit()
