"""Stops a fix in batches after each batch, with the means of an operator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from datafixes.script.literal import qualified
from datafixes.script.tables import LEDGER, RANGES
from datafixes.testing.databases import Database

_ON = """
CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE {ledger} SET wish = 'stop' WHERE outcome = 'running' AND wish IS NULL;
    RETURN NULL;
END
$$;
CREATE TRIGGER datafix_stopping AFTER UPDATE OF rows_changed ON {ranges}
    FOR EACH ROW WHEN (new.rows_changed > old.rows_changed) EXECUTE FUNCTION {function}()
"""
_OFF = "DROP TRIGGER datafix_stopping ON {ranges}; DROP FUNCTION {function}()"


@contextmanager
def stopping(database: Database, schema: str) -> Iterator[None]:
    """Stop every fix in batches after its next batch, as ``datafixes stop`` does.

    Args:
        database: the database of the test.
        schema: the schema of the ledger.
    """
    database.run(_with_names(_ON, schema))
    try:
        yield
    finally:
        go_on(database, schema)


def go_on(database: Database, schema: str) -> None:
    """Stop no longer: also in a copy."""
    database.run(_with_names(_OFF, schema))


def _with_names(statements: str, schema: str) -> str:
    return statements.format(
        ledger=qualified(schema, LEDGER),
        ranges=qualified(schema, RANGES),
        function=qualified(schema, "datafix_stopping"),
    )
