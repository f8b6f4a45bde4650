"""How others audit a change, in plain SQL: their shape, and nobody's code."""

from psycopg2.extensions import connection as Connection  # noqa: N812 - a class

from tests.benchmarks.measuring import Cost, measured, run
from tests.benchmarks.shapes import Shape


def _update(table: str, shape: Shape) -> str:
    return f"UPDATE {table} SET {shape.assignments} WHERE status = 'open'"


def copy(connection: Connection, table: str, *, shape: Shape) -> Cost:
    """A copy of the rows, then the UPDATE: no guard, no after-image, no lock."""
    statement = f"CREATE TABLE {table}_audit AS SELECT * FROM {table} WHERE status = 'open'"
    return measured(connection, f"{statement};\n{_update(table, shape)}")


def row_triggers(connection: Connection, table: str, *, shape: Shape) -> Cost:
    """A trigger for each row that writes both images as jsonb."""
    run(
        connection,
        f"CREATE TABLE {table}_audit (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
        " at timestamptz DEFAULT clock_timestamp(), was jsonb, became jsonb)",
        f"CREATE OR REPLACE FUNCTION {table}_audit() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$BEGIN INSERT INTO {table}_audit (was, became) VALUES (to_jsonb(OLD), to_jsonb(NEW)); RETURN NULL; END$$",
        f"CREATE TRIGGER audit AFTER UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION {table}_audit()",
    )
    return measured(connection, _update(table, shape))


def statement_triggers(connection: Connection, table: str, *, shape: Shape) -> Cost:
    """A trigger for each statement that writes both images as typed rows, and nothing else: the least that it takes."""
    run(
        connection,
        f"CREATE TABLE {table}_audit AS SELECT 'before' AS image, t.* FROM {table} AS t WITH NO DATA",
        f"CREATE OR REPLACE FUNCTION {table}_audit() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$BEGIN INSERT INTO {table}_audit SELECT 'before', was.* FROM was;"
        f" INSERT INTO {table}_audit SELECT 'after', became.* FROM became; RETURN NULL; END$$",
        f"CREATE TRIGGER audit AFTER UPDATE ON {table} REFERENCING OLD TABLE AS was NEW TABLE AS became"
        f" FOR EACH STATEMENT EXECUTE FUNCTION {table}_audit()",
    )
    return measured(connection, _update(table, shape))


PEERS = {
    "peer: copy, then UPDATE": copy,
    "peer: row triggers, jsonb": row_triggers,
    "peer: statement triggers": statement_triggers,
}
