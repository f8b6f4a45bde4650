"""A run in batches and its parts, each of which is a run of its own in the ledger."""

from sqlalchemy.engine import Connection

from datafixes.script import literal
from datafixes.script.parameters import verbatim
from datafixes.script.tables import LEDGER, RANGES


def condition_of_run(connection: Connection, schema: str, run: int) -> str:
    """The condition that images are of a run, or of the batches that are parts of it, in SQL; ``{at}`` is their table.

    The numbers of the first and the last batch lead through the index of an audit table.
    """
    if knows_batches(connection, schema):
        ledger = literal.qualified(schema, LEDGER)
        query = f"SELECT min(run_id), max(run_id) FROM {ledger} WHERE part_of = {run}"
        [(first, last)] = connection.exec_driver_sql(verbatim(connection, query)).all()
        if first is not None:
            return (
                f"{{at}}audit_run_id BETWEEN {min(first, run)} AND {max(last, run)} AND {{at}}audit_run_id IN"
                f" (SELECT r.run_id FROM {ledger} AS r WHERE {run} IN (r.run_id, r.part_of))"
            )
    return f"{{at}}audit_run_id = {run}"


def knows_batches(connection: Connection, schema: str) -> bool:
    """Whether a ledger can have runs in batches: one that has not been upgraded yet lacks their columns."""
    ranges = literal.text(literal.qualified(schema, RANGES))
    query = f"SELECT pg_catalog.to_regclass({ranges}) IS NOT NULL"
    return bool(connection.exec_driver_sql(verbatim(connection, query)).scalar_one())
