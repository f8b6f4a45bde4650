"""Seals runs: each gets an entry in the chain, in a transaction of its own, after the run's commit."""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError

from datafixes.audit.chain import forms
from datafixes.audit.chain.entries import UTC, Entry, SealedTable, Shape, last_entry, literals
from datafixes.audit.history import ask
from datafixes.errors import sqlstate
from datafixes.script.literal import qualified
from datafixes.script.parameters import verbatim
from datafixes.script.tables import CHAIN, KEYS, LEDGER, LEDGER_TABLES, MARKS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

    from datafixes.script.frame import Limits

_LOCK = "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('datafixes seal', 0))"
_DENIED = "42501"
_TAKES_OUT = ("pruned", "redacted")

# In the same transaction as its images and never changed afterwards; what is still running has no end yet.
_UNSEALED = """
SELECT r.run_id, r.outcome FROM {ledger} AS r
 WHERE r.finished_at IS NOT NULL AND r.outcome NOT IN ('started', 'running'){among}
   AND NOT EXISTS (SELECT FROM {chain} AS c WHERE c.run_id = r.run_id)
 ORDER BY r.run_id"""


def unsealed_runs(connection: Connection, schema: str, run: int | None = None) -> dict[int, str]:
    """The finished runs without an entry, in the order of their numbers, with their outcomes; or one of them."""
    among = "" if run is None else f" AND r.run_id = {run}"
    query = _UNSEALED.format(ledger=qualified(schema, LEDGER), chain=qualified(schema, CHAIN), among=among)
    return dict(tuple(row) for row in ask(connection, query))


# Whoever ran the later one should have sealed the earlier one. Batches of one fix are sealed when it has ended.
FOLLOWED = """
EXISTS (SELECT FROM {ledger} AS later WHERE later.started_at > r.finished_at AND later.finished_at IS NOT NULL
           AND coalesce(to_jsonb(later) ->> 'part_of' <> to_jsonb(r) ->> 'part_of', true))"""
"""Whether another run began since the run ``r`` ended."""


def overdue_runs(connection: Connection, schema: str) -> list[int]:
    """The finished runs without an entry that ended before another began: nobody sealed them for longer than one upgrade."""
    ledger = qualified(schema, LEDGER)
    waiting = unsealed_runs(connection, schema)
    followed = ask(
        connection, f"SELECT r.run_id FROM {ledger} AS r WHERE {FOLLOWED.format(ledger=ledger)} ORDER BY 1"
    )
    return [run for (run,) in followed if run in waiting]


def seal_runs(connection: Connection, schema: str, limits: Limits) -> Iterator[Entry]:
    """Seal every finished run that has no entry yet, one transaction each.

    Args:
        connection: with no transaction begun; commits.
        schema: the schema of ledger and chain.
        limits: the time-outs: how long to wait for somebody else who seals, and for a statement.

    Yields:
        The entries, each after its commit.

    Raises:
        DBAPIError: the role may not, or the database is read-only.
    """
    with connection.begin():
        _begin(connection, limits)
        runs = unsealed_runs(connection, schema)
    for run in runs:
        with connection.begin():
            _begin(connection, limits)
            _execute(connection, _LOCK)
            # Whoever held the lock may have sealed it.
            outcome = unsealed_runs(connection, schema, run).get(run)
            entry = _seal(connection, schema, run, outcome) if outcome else None
        if entry is not None:
            yield entry


def _begin(connection: Connection, limits: Limits) -> None:
    # Whatever the database prefers: what others committed while this one waited must be seen. It precedes all queries.
    for statement in (
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
        f"SET LOCAL lock_timeout = '{limits.lock_timeout}'",
        f"SET LOCAL statement_timeout = '{limits.statement_timeout}'",
        *forms.SETTINGS,
    ):
        _execute(connection, statement)


def _seal(connection: Connection, schema: str, run: int, outcome: str) -> Entry:
    form = forms.encoding(connection)
    columns = tuple(
        forms.columns_of(connection, qualified(schema, table)).among(wanted)
        for table, wanted in ((LEDGER, forms.RUN_COLUMNS), (LEDGER_TABLES, forms.TABLE_COLUMNS))
    )
    tables = tuple(_sealed_tables(connection, schema, run, form))
    [(line,)] = ask(
        connection,
        f"SELECT encode(sha256(({forms.line(schema, run, (columns[0], columns[1]), form)})), 'hex')",
    )
    before = last_entry(connection, schema)
    [(at, database)] = ask(connection, f"SELECT {UTC.format('clock_timestamp()')}, current_database()")
    cluster, timeline = _server(connection)
    entry = Entry(
        position=before.position + 1 if before else 1,
        kind=outcome if outcome in _TAKES_OUT else "run",
        run_id=run,
        line=line,
        shape=Shape(columns[0], columns[1], tables).as_text,
        images=sum(one.images for one in tables),
        images_sha256=hashlib.sha256(b"".join(bytes.fromhex(one.sha256) for one in tables)).hexdigest(),
        details=_redacts(connection, schema, run) if outcome == "redacted" else None,
        sealed_at=at,
        ledger=before.ledger if before else str(uuid.uuid4()),
        database=database,
        cluster=cluster,
        timeline=timeline,
        previous=before.head if before else "",
    )
    entry = replace(entry, head=entry.computed_head)
    _execute(connection, f"INSERT INTO {qualified(schema, CHAIN)} VALUES ({', '.join(literals(entry))})")
    return entry


def _sealed_tables(connection: Connection, schema: str, run: int, form: str) -> Iterator[SealedTable]:
    """The tables of a run, with the digests of its images as they are now."""
    rows = ask(
        connection,
        "SELECT position, audit_table, ARRAY(SELECT c ->> 'name' FROM jsonb_array_elements(shape -> 'columns') AS c)"
        f" FROM {qualified(schema, LEDGER_TABLES)} WHERE run_id = {run} ORDER BY position",
    )
    if rows:
        # Two random numbers of 122 bits each.
        _execute(
            connection,
            f"INSERT INTO {qualified(schema, KEYS)} VALUES ({run}, decode(replace(concat(gen_random_uuid(),"
            " gen_random_uuid()), '-', ''), 'hex')) ON CONFLICT DO NOTHING",
        )
    for position, noted, names in rows:
        audit = forms.audit_table_here(schema, noted)
        there, wanted = forms.columns_of(connection, audit), forms.image_columns(names)
        columns = there.among(wanted)
        images, digest = 0, hashlib.sha256().hexdigest()
        if columns:
            image = forms.image(columns, form, MARKS in there.types)
            [(images, digest)] = ask(connection, forms.images_digest(schema, run, (audit, position), image))
        yield SealedTable(position, noted, columns, there.uncovered(wanted), images, digest)


def _redacts(connection: Connection, schema: str, run: int) -> str:
    """What a run redacted: JSON in ASCII, so that no client's encoding changes it."""
    query = (
        f"SELECT CAST(declaration -> 'redacts' AS text) FROM {qualified(schema, LEDGER)} WHERE run_id = {run}"
    )
    [(redacts,)] = ask(connection, query)
    return json.dumps(json.loads(redacts))


def _server(connection: Connection) -> tuple[str | None, int | None]:
    """The server's system identifier and its timeline, if this role may read them."""
    try:
        with connection.begin_nested():
            [(cluster, timeline)] = connection.exec_driver_sql(
                "SELECT (pg_control_system()).system_identifier::text, (pg_control_checkpoint()).timeline_id"
            ).all()
    except DBAPIError as error:
        if sqlstate(error) != _DENIED:
            raise
        return None, None
    return cluster, timeline


def _execute(connection: Connection, statement: str) -> Any:
    return connection.exec_driver_sql(verbatim(connection, statement))
