"""Values that were redacted: in which runs, and by which."""

from sqlalchemy.engine import Connection

from datafixes.audit.history import ask
from datafixes.audit.retention import GivenUp
from datafixes.audit.wording import counted
from datafixes.script.literal import qualified, text
from datafixes.script.tables import LEDGER

# A ledger of version 0.1 has no declarations.
_OF_RUN = """
SELECT string_agg(pg_catalog.format('%s of %s redacted on %s by run %s',
                                    (SELECT string_agg(c, ', ') FROM jsonb_array_elements_text(d.redacts -> 'columns') AS c),
                                    d.redacts ->> 'audit_table', CAST(r.finished_at AT TIME ZONE 'UTC' AS date), r.run_id),
                  ', ' ORDER BY r.run_id)
  FROM {ledger} AS r CROSS JOIN LATERAL (SELECT to_jsonb(r) -> 'declaration' -> 'redacts') AS d (redacts)
 WHERE r.outcome = 'redacted' AND d.redacts -> 'runs' @> '[{{"run": {run}}}]'
"""
_BY_RUN = """
SELECT r.run_id, r.fix, r.finished_at, max((one -> 'images')::bigint)
  FROM {ledger} AS by
 CROSS JOIN jsonb_array_elements(to_jsonb(by) -> 'declaration' -> 'redacts' -> 'runs') AS one
  JOIN {ledger} AS r ON r.run_id = (one -> 'run')::bigint
 WHERE by.run_id = {run} AND by.outcome = 'redacted'
 GROUP BY r.run_id ORDER BY r.run_id
"""


def redacted(connection: Connection, schema: str, run: int) -> str:
    """Which columns of a run were redacted, when, and by which runs, in words; empty if none was."""
    [(words,)] = ask(connection, _OF_RUN.format(ledger=qualified(schema, LEDGER), run=run))
    return words or ""


def redacted_by(connection: Connection, schema: str, run: int) -> list[GivenUp]:
    """The runs of whose images a run redacted values; how many images."""
    rows = ask(connection, _BY_RUN.format(ledger=qualified(schema, LEDGER), run=run))
    return [GivenUp(*row) for row in rows]


def last_redaction(connection: Connection, schema: str, table: str) -> tuple[int, list[GivenUp]]:
    """The newest run of a redaction of an audit table, and what it redacted."""
    [(run,)] = ask(
        connection,
        f"SELECT max(r.run_id) FROM {qualified(schema, LEDGER)} AS r"
        f" WHERE r.declaration -> 'redacts' ->> 'audit_table' = {text(table)}",
    )
    return run, redacted_by(connection, schema, run)


def left_out(connection: Connection, schema: str, run: int) -> list[str]:
    """Which values a revert did not restore, because they were redacted: ``email of 2 rows of public.users``."""
    [(tables,)] = ask(
        connection,
        f"SELECT to_jsonb(r) -> 'declaration' -> 'left_out' FROM {qualified(schema, LEDGER)} AS r WHERE r.run_id = {run}",
    )
    return [
        f"{', '.join(one['columns'])} of {counted(one['rows'], 'row')} of {one['table']}"
        for one in tables or ()
    ]
