"""The digest of a run: which rows it changed, in which columns, from which values. A plan and its upgrade have the same."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy.engine import Connection

from datafixes.audit.history import Run, ask, run_of
from datafixes.audit.images import TableOfRun, key_text, read_images, tables_of_run
from datafixes.declaration.recorded import Fix
from datafixes.script import literal
from datafixes.script.tables import LEDGER

_MARK = 6


def digest_of_run(connection: Connection, fix: Fix, run: int) -> str:
    """Sixteen hexadecimal digits over the fix and the rows that a run changed; the first six depend on the fix alone.

    The new values are left out, because many are a time. They follow from the fix, whose fingerprint is included.
    Housekeeping columns, which others write all the time, are left out too; of inserted rows, only the number counts.
    Of a run in batches, the digest covers the number of its rows, and their first and last key.

    Args:
        connection: the run's database.
        fix: its declaration.
        run: its number in the ledger.
    """
    if (bounds := _bounds(connection, fix, run)) is not None:
        return _digest_of_batches(run_of(connection, fix.schema_of_audit, run), bounds)
    fingerprint = run_of(connection, fix.schema_of_audit, run).fingerprint or ""
    return mark_of(fingerprint) + digest_as_before(connection, fix, run)[_MARK:]


def _bounds(connection: Connection, fix: Fix, run: int) -> list[Any] | None:
    """The first and the last key of the rows of a run in batches; None of any other run."""
    ledger = literal.qualified(fix.schema_of_audit, LEDGER)
    [(found,)] = ask(
        connection,
        f"SELECT to_jsonb(r) #>> '{{declaration,batches,bounds}}' FROM {ledger} AS r WHERE run_id = {run}",
    )
    return None if found is None else list(json.loads(found))


def _digest_of_batches(line: Run, bounds: list[Any]) -> str:
    """It is known before the first batch: it covers the number of rows and the bounds of their keys."""
    content = [line.fix, line.fingerprint, line.revision, line.direction, line.rows_found, bounds]
    found = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return mark_of(line.fingerprint or "") + found[_MARK:16]


def mark_of(digest: str) -> str:
    """The part of a digest, or of a fingerprint, that identifies the declaration."""
    return digest[:_MARK]


def digest_as_before(connection: Connection, fix: Fix, run: int) -> str:
    """The digest of plans of version 0.1: sixteen digits over everything."""
    schema = fix.schema_of_audit
    line, tables = run_of(connection, schema, run), tables_of_run(connection, schema, run)
    # A declined run has no tables.
    housekeeping = [set(table.housekeeping) for table in fix.tables[: len(tables)]]
    with read_images(connection):
        parts = [
            [
                table.target,
                table.inserted,
                table.updated,
                table.deleted,
                _cells(connection, table, left_out),
            ]
            for table, left_out in zip(tables, housekeeping, strict=True)
        ]
    content = [line.fix, line.fingerprint, line.revision, line.direction, line.outcome, parts]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _cells(connection: Connection, table: TableOfRun, left_out: Iterable[str]) -> str:
    """A number that depends on every row, its changed columns and their old values, but not on the order of rows."""
    columns = {
        literal.name(name): table.as_left(name, "was", "has")
        for name in table.columns
        if name not in set(left_out)
    }
    was, has = (f"(SELECT * FROM {table.audit} WHERE {table.images(image)})" for image in ("before", "after"))
    if table.key:
        source = (
            f"{was} AS was LEFT JOIN {has} AS has ON {key_text(table.key, 'was')} = {key_text(table.key, 'has')}"
            " AND was.audit_run_id = has.audit_run_id"
        )
        cells = [
            f"CASE WHEN record_image_ne(ROW(was.{c}), ROW({has_now})) THEN concat('=', was.{c}) END"
            for c, has_now in columns.items()
        ]
        cells.append(key_text(table.key, "was"))
    else:
        source, cells = (
            f"{was} AS was",
            [f"CASE WHEN num_nulls(was.{c}) = 0 THEN concat('=', was.{c}) END" for c in columns],
        )
    [(digest,)] = ask(
        connection,
        f"SELECT coalesce(sum(hash_record_extended(ROW({', '.join(cells)}), 0)), 0)::text FROM {source}",
    )
    return str(digest)
