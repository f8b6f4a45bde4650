"""Finds images: in which runs somebody appears."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from datafixes.audit.chain.forms import audit_table_here, columns_of
from datafixes.audit.history import ask
from datafixes.script.literal import name, qualified, text
from datafixes.script.tables import AUDIT_COLUMNS, LEDGER, LEDGER_TABLES, MARKS

# The images that meet the condition, and the others of the same rows in the same runs: those that op.redact_audit means.
_FOUND = """
WITH met AS MATERIALIZED (SELECT audit_run_id AS run, audit_id AS image, {key} AS key FROM {audit} WHERE ({where}
))
SELECT coalesce(r.part_of, r.run_id), r.fix, r.direction, max(r.finished_at), count(*),
       count(DISTINCT ({row})), ARRAY[{values}]::bigint[], ARRAY[{redacted}]::bigint[]
  FROM {audit} AS i
  JOIN (SELECT run_id, fix, direction, finished_at, (to_jsonb(whole) ->> 'part_of')::bigint AS part_of
          FROM {ledger} AS whole OFFSET 0) AS r ON r.run_id = i.audit_run_id
 WHERE i.audit_run_id IN (SELECT t.run_id FROM {tables} AS t WHERE t.target_table = {target} AND t.audit_table = {noted}
                             AND t.key_columns = {keys}::text[])
   AND EXISTS (SELECT FROM met WHERE met.run = i.audit_run_id AND (met.image = i.audit_id OR met.key = {own_key}))
 GROUP BY 1, 2, 3 ORDER BY 1
"""


@dataclass(frozen=True)
class Found:
    """The images of one run in one audit table.

    Attributes:
        run_id: the run; of a batch, the run that it is a part of.
        fix: its fix.
        direction: ``apply`` or ``revert``.
        finished_at: when it was finished.
        audit_table: the audit table.
        images: how many images.
        rows: of how many rows.
        values: column → how many of these images have a value there.
        redacted: column → in how many of them it was redacted.
    """

    run_id: int
    fix: str
    direction: str
    finished_at: dt.datetime | None
    audit_table: str
    images: int
    rows: int
    values: dict[str, int]
    redacted: dict[str, int]


def find(connection: Connection, schema: str, target: str, where: str) -> list[Found]:
    """The images that meet a condition, with the others of the same rows in the same runs, counted by run.

    Args:
        connection: the ledger's database.
        schema: the schema of the ledger.
        target: the table whose rows were copied, by its name in the ledger.
        where: the condition, in SQL over the columns of the audit table.
    """
    tables = qualified(schema, LEDGER_TABLES)
    copies = ask(
        connection,
        f"SELECT DISTINCT audit_table, key_columns FROM {tables} WHERE target_table = {text(target)} ORDER BY 1, 2",
    )
    found = [one for audit, key in copies for one in _find(connection, schema, (target, audit, key), where)]
    return sorted(found, key=lambda one: (one.run_id, one.audit_table))


def _find(
    connection: Connection, schema: str, copies: tuple[str, str, list[str]], where: str
) -> Iterator[Found]:
    target, noted, key = copies
    audit = audit_table_here(schema, noted)
    there = columns_of(connection, audit).types
    columns = [column for column in there if column not in (*AUDIT_COLUMNS, MARKS)]
    if not columns or any(column not in there for column in key):  # dropped, with its copies
        return
    own_key = f"ROW({', '.join(f'i.{name(column)}' for column in key)})::text" if key else "NULL::text"
    marks = f"count(*) FILTER (WHERE {{}} = ANY (i.{MARKS}))" if MARKS in there else "0"
    query = _FOUND.format(
        key=f"ROW({', '.join(map(name, key))})::text" if key else "NULL::text",
        own_key=own_key,
        row=f"coalesce({own_key}, i.audit_id::text)",
        audit=audit,
        where=where,
        values=", ".join(f"count(*) FILTER (WHERE num_nulls(i.{name(column)}) = 0)" for column in columns),
        redacted=", ".join(marks.format(text(column)) for column in columns),
        ledger=qualified(schema, LEDGER),
        tables=qualified(schema, LEDGER_TABLES),
        target=text(target),
        noted=text(noted),
        keys="ARRAY[" + ", ".join(map(text, key)) + "]",
    )
    for run, fix, direction, finished_at, images, rows, values, redacted in ask(connection, query):
        yield Found(
            run, fix, direction, finished_at, audit, images, rows, _some(columns, values), _some(columns, redacted)
        )  # fmt: skip


def _some(columns: list[str], counts: list[int]) -> dict[str, int]:
    return {column: number for column, number in zip(columns, counts, strict=True) if number}
