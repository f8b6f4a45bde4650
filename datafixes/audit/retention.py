"""Copies that were given up: which, when, and by which run; and those that could be."""

import datetime as dt
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from datafixes.audit.history import ask
from datafixes.script.literal import qualified, text
from datafixes.script.tables import LEDGER

# A ledger of version 0.1 has no declarations.
_OF_RUN = """
SELECT string_agg(pg_catalog.format('copies in %s given up on %s by run %s', d.gives_up ->> 'audit_table',
                                    CAST(r.finished_at AT TIME ZONE 'UTC' AS date), r.run_id), ', ' ORDER BY r.run_id)
  FROM {ledger} AS r CROSS JOIN LATERAL (SELECT to_jsonb(r) -> 'declaration' -> 'gives_up') AS d (gives_up)
 WHERE r.outcome = 'pruned'
   AND EXISTS (SELECT FROM jsonb_array_elements(d.gives_up -> 'runs') AS went
                 JOIN {ledger} AS gone ON gone.run_id = (went -> 'run')::bigint
                WHERE gone.run_id = {run} OR to_jsonb(gone) -> 'part_of' = to_jsonb({run}))  -- or of a batch of it
"""
_BY_RUN = """
SELECT (one -> 'run')::bigint, one ->> 'fix', CAST(one ->> 'finished_at' AS timestamptz), (one -> 'found')::bigint
  FROM {ledger} AS r CROSS JOIN jsonb_array_elements(to_jsonb(r) -> 'declaration' -> 'gives_up' -> 'runs') AS one
 WHERE r.run_id = {run} AND r.outcome = 'pruned'
 ORDER BY 1
"""


@dataclass(frozen=True)
class GivenUp:
    """The copies of one run that were given up or redacted, or would be.

    Attributes:
        run_id: the run.
        fix: its fix.
        finished_at: when it was finished.
        images: how many images it had in the audit table; or of how many values were redacted.
    """

    run_id: int
    fix: str
    finished_at: dt.datetime
    images: int


def given_up(connection: Connection, schema: str, run: int) -> str:
    """When the copies of a run were given up, and by which runs, in words; empty if they were not."""
    [(words,)] = ask(connection, _OF_RUN.format(ledger=qualified(schema, LEDGER), run=run))
    return words or ""


def gave_up(connection: Connection, schema: str, run: int) -> list[GivenUp]:
    """The runs whose copies a run gave up."""
    rows = ask(connection, _BY_RUN.format(ledger=qualified(schema, LEDGER), run=run))
    return [GivenUp(*row) for row in rows]


def last_pruning(connection: Connection, schema: str, table: str) -> tuple[int, list[GivenUp]]:
    """The newest run that gave up copies of an audit table, and what it gave up."""
    [(run,)] = ask(
        connection,
        f"SELECT max(r.run_id) FROM {qualified(schema, LEDGER)} AS r WHERE r.outcome = 'pruned'"
        f" AND r.declaration -> 'gives_up' ->> 'audit_table' = {text(table)}",
    )
    return run, gave_up(connection, schema, run)


def prunable(
    connection: Connection, schema: str, table: str, older_than: dt.datetime, keep: str
) -> list[GivenUp]:
    """What ``op.prune_audit`` would give up now.

    Args:
        connection: a connection on which the engine's ``datafix_prunable`` has been created.
        schema: the schema of ledger and audit table.
        table: the audit table.
        older_than: the time before which the runs were finished.
        keep: ``open`` or ``none``.
    """
    call = f"pg_temp.datafix_prunable({text(schema)}, {text(table)}, {text(older_than.isoformat())}, {text(keep)})"
    rows = ask(
        connection,
        "SELECT (one -> 'run')::bigint, one ->> 'fix', CAST(one ->> 'finished_at' AS timestamptz),"
        f" (one -> 'found')::bigint FROM jsonb_array_elements(coalesce({call}, '[]')) AS one ORDER BY 1",
    )
    return [GivenUp(*row) for row in rows]
