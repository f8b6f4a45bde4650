"""Changes copies and finished lines of the ledger, as the owner of the tables can: without their triggers."""

from tests.servers import Database

TRIGGERS = "('datafix_append_only', 'datafix_finished', 'datafix_pruned', 'datafix_redacted')"
"""What protects audit tables and ledgers, as SQL: it stays where nothing else may."""

_EACH = """
DO $$
DECLARE
    one record;
BEGIN
    FOR one IN SELECT tgrelid::regclass AS relation, tgname FROM pg_trigger
                WHERE tgname IN {TRIGGERS} LOOP
        EXECUTE format('ALTER TABLE %s {STATE} TRIGGER %I', one.relation, one.tgname);
    END LOOP;
END
$$""".replace("{TRIGGERS}", TRIGGERS)

UNPROTECTED = _EACH.replace("{STATE}", "DISABLE")
"""Disables the triggers of all ledgers and audit tables of a database."""

PROTECTED = _EACH.replace("{STATE}", "ENABLE ALWAYS")
"""Enables them again."""


def tamper(database: Database, *statements: str) -> None:
    """Run statements on audit tables and ledgers that the triggers would refuse, each committed by itself."""
    database.execute(UNPROTECTED)
    try:
        database.execute(*statements)
    finally:
        database.execute(PROTECTED)
