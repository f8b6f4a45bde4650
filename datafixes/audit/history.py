"""Queries of the ledger: all runs, the fixes in force, and the history of a row."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from datafixes.audit.changes import View
from datafixes.audit.long_values import begin_of_part
from datafixes.declaration.project_fixes import nearest
from datafixes.errors import DatafixError, sqlstate
from datafixes.script.literal import name, qualified, text
from datafixes.script.parameters import verbatim
from datafixes.script.tables import AUDIT_COLUMNS, LEDGER, LEDGER_TABLES, NEWEST_FIRST, NOT_A_PART

HISTORY, OPEN, ROW = "datafix_history", "datafix_open", "datafix_row"
"""The views that answer the same questions in SQL."""

IS_AUDIT_TABLE = f"""(SELECT count(*) FROM pg_catalog.pg_attribute AS o WHERE o.attrelid = c.oid AND NOT o.attisdropped
   AND o.attname IN ({", ".join(map(text, AUDIT_COLUMNS))})) = {len(AUDIT_COLUMNS)}"""
"""Whether the columns of the table ``c`` are those of an audit table."""

_COLUMNS = """
SELECT a.attname FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname = {schema} AND c.relname = {view} AND a.attnum > 0
"""
_GIVEN_BACK = """
SELECT reverts_run, sum(rows_changed)::int FROM {history}
 WHERE rows_chosen IS NOT NULL AND outcome = 'reverted' AND reverted_by_run IS NULL GROUP BY reverts_run
"""
# Their images take their numbers from no sequence.
_IS_SPREAD = f"""
SELECT EXISTS (SELECT FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid
                WHERE c.relnamespace = pg_catalog.to_regnamespace(pg_catalog.quote_ident({{schema}})) AND {IS_AUDIT_TABLE}
                  AND c.relkind = 'r' AND a.attname = 'audit_id' AND a.attidentity = '')
"""
MASKED, REDACTED = "(masked)", "(redacted)"
_DENIED = "42501"
_OF_THE_VIEW = ("tables", "reverted_by_run", "batches")
# For views without the start of a run; no two runs that changed rows overlap.
_NEWEST_FINISHED = "finished_at DESC, run_id DESC"


@dataclass(frozen=True)
class Run:
    """One run from the ledger or the view ``datafix_history``. Counts that do not apply are None.

    Only the view has ``reverted_by_run``, ``tables`` and ``batches``, which come from other rows.
    """

    run_id: int
    fix: str
    revision: str | None
    direction: str
    outcome: str
    rows_expected: int | None
    rows_found: int | None
    rows_changed: int | None
    rows_already: int | None
    rows_skipped: int | None
    rows_overwritten: int | None
    rows_chosen: str | None
    reverts_run: int | None
    reverted_by_run: int | None
    tables: Sequence[str]
    applied_by: str
    application: str | None
    reason: str | None
    started_at: dt.datetime
    finished_at: dt.datetime | None
    on_conflict: str | None
    already: str | None
    error: str | None
    fingerprint: str | None
    logged_in_as: str | None = None
    engine: str | None = None
    declined_because: str | None = None
    batches: int | None = None
    wish: str | None = None


@dataclass(frozen=True)
class OpenFix:
    """A fix in force, from the view ``datafix_open``."""

    fix: str
    run_id: int
    revision: str | None
    tables: Sequence[str]
    rows_changed: int | None
    rows_reverted: str | None
    finished_at: dt.datetime | None
    applied_by: str
    application: str | None
    reason: str | None
    rows_given_back: int = 0


@dataclass(frozen=True)
class ChangeOfRow:
    """One column that a run changed in a row, from the view ``datafix_row``."""

    run_id: int
    finished_at: dt.datetime | None
    fix: str
    direction: str
    revision: str | None
    change: str
    column_name: str
    before: str | None
    before_characters: int | None
    after: str | None
    after_characters: int | None
    applied_by: str
    application: str | None
    reason: str | None
    start: int = 0


def ledger_schemas(connection: Connection) -> list[str]:
    """The schemas with a ledger that this role can see."""
    rows = ask(
        connection,
        "SELECT n.nspname FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
        f" WHERE c.relname = {text(LEDGER)} AND c.relkind = 'r' AND EXISTS (SELECT FROM pg_catalog.pg_class AS t"
        f" WHERE t.relnamespace = n.oid AND t.relname = {text(LEDGER_TABLES)}) ORDER BY n.nspname",
    )
    return [schema for (schema,) in rows]


def the_schema(connection: Connection, wanted: str | None) -> str:
    """The schema of the ledger: the given one, or the only one.

    Raises:
        DatafixError: there is none, or there are several and none was given.
    """
    schemas = ledger_schemas(connection)
    if wanted is not None and wanted in schemas:
        return wanted
    if not schemas:
        raise DatafixError(
            "This database has no ledger (datafix_run): no audit table was created in it.",
            hint="Check which database is used: datafixes where",
        )
    if wanted is not None:
        raise DatafixError(f"The schema {wanted} has no ledger.{nearest(wanted, schemas)}")
    if len(schemas) > 1:
        raise DatafixError(
            f"Several schemas have a ledger: {', '.join(schemas)}.",
            hint=f"Choose one: --schema {schemas[0]}",
        )
    return schemas[0]


def history(connection: Connection, schema: str, *, limit: int, fix: str | None = None) -> list[Run]:
    """The runs, newest first.

    Args:
        connection: the ledger's database.
        schema: the schema of the ledger.
        limit: the maximum number.
        fix: only those of one fix.
    """
    where = f" WHERE fix = {text(fix)}" if fix is not None else ""
    return [
        Run(*row)
        for row in _select(connection, Run, schema, HISTORY, f"{where} ORDER BY {NEWEST_FIRST} LIMIT {limit}")
    ]


def run_of(connection: Connection, schema: str, run: int) -> Run:
    """One run.

    Raises:
        DatafixError: the ledger has no run of that number; the message names the nearest.
    """
    rows = _select(connection, Run, schema, HISTORY, f" WHERE run_id = {run}")
    if rows:
        return Run(*rows[0])
    ledger = qualified(schema, LEDGER)
    whole = ask(connection, f"SELECT to_jsonb(r) ->> 'part_of' FROM {ledger} AS r WHERE run_id = {run}")
    if whole and whole[0][0]:
        raise DatafixError(
            f"Run {run} is a batch of run {whole[0][0]}.", hint=f"datafixes show {whole[0][0]}"
        )
    near = ask(
        connection,
        f"SELECT run_id FROM {ledger} AS r WHERE {NOT_A_PART} ORDER BY abs(run_id - {run}), run_id LIMIT 3",
    )
    words = (
        f" The nearest are {', '.join(str(n) for (n,) in sorted(near))}." if near else " The ledger is empty."
    )
    raise DatafixError(f"The ledger {schema}.{LEDGER} has no run {run}.{words}")


def last_run(connection: Connection, schema: str, fix: str) -> Run | None:
    """The newest run of a fix that did not fail, from the ledger itself, which every role that runs fixes can read."""
    columns = ("NULL" if one.name in _OF_THE_VIEW else name(one.name) for one in fields(Run))
    rows = ask(
        connection,
        f"SELECT {', '.join(columns)} FROM {qualified(schema, LEDGER)} AS r"
        # a run in batches that was refused goes on behind the line of its failure
        f" WHERE fix = {text(fix)} AND outcome <> 'failed'"
        f" AND {NOT_A_PART} ORDER BY {NEWEST_FIRST} LIMIT 1",
    )
    return Run(*rows[0]) if rows else None


def open_fixes(connection: Connection, schema: str) -> list[OpenFix]:
    """The fixes that are in force, newest first; and how many of their rows were given back since, by partial reverts."""
    back = dict(tuple(row) for row in ask(connection, _GIVEN_BACK.format(history=qualified(schema, HISTORY))))
    rows = _select(connection, OpenFix, schema, OPEN, f" ORDER BY {_NEWEST_FINISHED}")
    found = (OpenFix(*row) for row in rows)
    return [replace(fix, rows_given_back=back.get(fix.run_id, 0)) for fix in found]


def row_history(connection: Connection, schema: str, table: str, key: str, view: View) -> list[ChangeOfRow]:
    """The changes of a row by all runs, newest first.

    Args:
        connection: the ledger's database.
        schema: the schema of the ledger.
        table: the table's name in the ledger.
        key: the key as text; ``a/b`` for several columns.
        view: how much of each value to show.
    """
    columns = [one.name for one in fields(ChangeOfRow)]
    for side in ("before", "after"):
        columns[columns.index(side)] = f"substr({side}, start + 1, {view.characters})"
        columns[columns.index(f"{side}_characters")] = f"length({side})"
    [(is_spread,)] = ask(connection, _IS_SPREAD.format(schema=text(schema)))
    begin = begin_of_part("before", "after", view, is_spread=is_spread)
    query = (
        f"SELECT {', '.join(columns)} FROM {qualified(schema, ROW)} CROSS JOIN LATERAL (SELECT {begin} AS start OFFSET 0) AS part"
        f" WHERE target_table = {text(table)} AND key = {text(key)} ORDER BY {_NEWEST_FINISHED}, audit_id"
    )
    with connection.begin_nested() as savepoint:
        # before an audit table is analyzed for the first time, PostgreSQL thinks little of its index over keys
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        rows = ask(connection, query)
        savepoint.rollback()
    found = [ChangeOfRow(*row) for row in rows]
    return [
        replace(one, before=MASKED, after=MASKED, before_characters=None, after_characters=None, start=0)
        if view.hides(table, one.column_name)
        else one
        for one in found
    ]


def known_tables(connection: Connection, schema: str) -> list[str]:
    """The tables whose rows were changed by runs."""
    return [
        table
        for (table,) in ask(
            connection,
            f"SELECT DISTINCT target_table FROM {qualified(schema, LEDGER_TABLES)} ORDER BY target_table",
        )
    ]


def known_fixes(connection: Connection, schema: str) -> list[str]:
    """The fixes in the ledger."""
    return [
        fix
        for (fix,) in ask(connection, f"SELECT DISTINCT fix FROM {qualified(schema, LEDGER)} ORDER BY fix")
    ]


def _select(connection: Connection, kind: type, schema: str, view: str, rest: str) -> list[Any]:
    known = {column for (column,) in ask(connection, _COLUMNS.format(schema=text(schema), view=text(view)))}
    # A ledger that has not been upgraded yet has fewer columns.
    columns = (name(one.name) if one.name in known else "NULL" for one in fields(kind))
    return ask(connection, f"SELECT {', '.join(columns)} FROM {qualified(schema, view)}{rest}")


def ask(connection: Connection, query: str) -> list[Any]:
    """The rows of a query.

    Raises:
        DatafixError: this role lacks the right to read them.
    """
    try:
        return list(connection.exec_driver_sql(verbatim(connection, query)).all())
    except DBAPIError as error:
        if sqlstate(error) != _DENIED:
            raise
        words = " ".join(str(error.orig).split())
        raise DatafixError(
            f"This role lacks the right to read: {words}.",
            hint="Copies and ledgers are private to their owner; ask the owner of that table for SELECT on it.",
        ) from None
