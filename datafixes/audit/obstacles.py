"""What stands in the way of a revert, as far as reading tells: no lock is taken, and nothing is tried."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection

from datafixes.audit.changes import View
from datafixes.audit.history import ask
from datafixes.audit.images import key_text, read_images
from datafixes.audit.parts import condition_of_run
from datafixes.audit.retention import given_up
from datafixes.audit.wording import counted
from datafixes.script.literal import name, qualified
from datafixes.script.tables import LEDGER, LEDGER_TABLES

_TABLES = """
SELECT t.target_table, t.audit_table, t.key_columns, t.written_columns, t.shape -> 'columns', coalesce(t.images, 0),
       jsonb_typeof(d.declaration) IS DISTINCT FROM 'object' OR d.declaration ? 'unidentified',
       coalesce(d.declaration -> 'tables' -> (t.position - 1) -> 'housekeeping', '[]'),
       t.rows_inserted > 0, t.rows_deleted > 0,
       (SELECT jsonb_object_agg(a.attname, format_type(a.atttypid, a.atttypmod)) FROM pg_catalog.pg_attribute AS a
         WHERE a.attrelid = to_regclass(t.target_table) AND a.attnum > 0 AND NOT a.attisdropped)
  FROM {tables} AS t JOIN {ledger} AS r ON r.run_id = t.run_id
 CROSS JOIN LATERAL (SELECT to_jsonb(r) -> 'declaration') AS d (declaration)      -- version 0.1 kept none
 WHERE t.run_id = {run}
 ORDER BY t.position
"""
_MANY, _SHOWN = 1000, 3
"""With so many images, joins must not go through them one by one. So many rows are named."""


@dataclass(frozen=True)
class _Table:
    """A table of a run, as the ledger keeps it, and the types that its columns have now."""

    target: str
    audit: str
    key: list[str]
    written: list[str] | None
    columns: list[dict[str, Any]]
    images: int
    unidentified: bool
    housekeeping: list[str]
    inserted: bool
    deleted: bool
    now: dict[str, str] | None

    def names(self, *, written: bool) -> list[str]:
        """The columns that the run wrote (if it is not known, all), or all; others write housekeeping columns."""
        return [
            c["name"]
            for c in self.columns
            if c["name"] not in self.housekeeping
            and not (written and (c["generated"] or (self.written and c["name"] not in self.written)))
        ]

    def row(self, alias: str, names: list[str]) -> str:
        """Columns of the table (``t``) or of an image as a record, in the types of the images."""
        kept = {c["name"]: c["kept"] for c in self.columns if alias == "t" and c["kept"] != c["type"]}
        columns = (f"{alias}.{name(one)}" + (f"::{kept[one]}" if one in kept else "") for one in names)
        return f"ROW({', '.join(columns)})"

    def differ(self, one: str, other: str, names: list[str]) -> str:
        """Whether two rows differ in these columns, in any bit."""
        return f"record_image_ne({self.row(one, names)}, {self.row(other, names)})" if names else "false"

    def same(self, one: str, other: str) -> str:
        """Whether two rows have the same key."""
        return f"{self.row(one, self.key)} = {self.row(other, self.key)}"


def obstacles(connection: Connection, schema: str, run: int, view: View) -> str:
    """What prevents a run from being reverted, in words; empty if reading finds nothing.

    Rows are compared with their images. Unique values, references and triggers are left to a trial, and so is whether
    the images are still those that the run wrote.

    Args:
        connection: the ledger's database.
        schema: the schema of the ledger.
        run: the run.
        view: which columns are masked.

    Raises:
        DatafixError: this role lacks the right to read the rows.
    """
    tables = _TABLES.format(
        tables=qualified(schema, LEDGER_TABLES), ledger=qualified(schema, LEDGER), run=run
    )
    if gone := given_up(connection, schema, run):
        return gone
    with read_images(connection, loops=True):
        found = [_Table(*line) for line in ask(connection, tables)]
    for table in found:
        if words := _shape(table) or _rows(connection, schema, run, table, view):
            return words
    return ""


def _shape(table: _Table) -> str:
    """How the table has changed since, in words."""
    if table.now is None:
        return f"Table {table.target} does not exist."
    for column in table.columns:
        now = table.now.get(column["name"])
        if now != column["type"]:
            became = "is gone" if now is None else f"was {column['type']} and is {now}"
            return f"{table.target} has changed since the fix ran: {name(column['name'])} {became}."
    return ""


def _rows(connection: Connection, schema: str, run: int, table: _Table, view: View) -> str:
    """Which rows stand in the way, in words."""
    of_run = condition_of_run(connection, schema, run)
    standing = (
        f"SELECT * FROM ({_standing(of_run.replace('{at}', ''), table)}) AS compared WHERE state IS NOT NULL"
    )
    with read_images(connection, loops=table.images < _MANY):
        [(count,)] = ask(connection, f"SELECT count(*) FROM ({standing}) AS standing")
        some = ask(connection, f"{standing} LIMIT {_SHOWN}") if count else []
    if not some:
        return ""
    hidden = any(view.hides(table.target, column) for column in table.key)
    which = ", ".join(f"{'(masked)' if hidden else key} {state}".strip() for key, state in some)
    more = ", and others" if count > len(some) else ""
    return f"{counted(count, 'row')} of {table.target} cannot be restored: {which}{more}."


def _standing(of_run: str, table: _Table) -> str:
    """The query for the rows of a run, each with what stands in its way; NULL if nothing does.

    It says what the engine's comparison says (``datafix_compare_by_key``).
    """
    everything, written = table.names(written=False), table.names(written=True)
    before, after = (
        f"(SELECT * FROM {table.audit} WHERE {of_run} AND audit_image = '{image}')"
        for image in ("before", "after")
    )
    if not table.key:
        left, now = table.row("a", everything), table.row("t", everything)
        gone = f"SELECT {left}::text FROM {after} AS a EXCEPT ALL SELECT {now}::text FROM {table.target} AS t"
        return f"SELECT '' AS key, 'gone' AS state FROM ({gone}) AS missing"
    changed = " OR ".join(
        f"{table.differ('b', 'a', [one])} AND {table.differ('t', 'b', [one])}"
        + ("" if table.unidentified else f" AND {table.differ('t', 'a', [one])}")
        for one in written
    )
    # If its identity is not known, a row that differs in any column may be another one.
    others = [one for one in everything if one not in written] if table.unidentified else []
    differs = f"({table.differ('t', 'a', written)} OR {table.differ('t', 'b', others)})"
    # A key is never null. Citus has no tableoid here.
    now, here = f"LEFT JOIN {table.target} AS t ON", f"t.{name(table.key[0])}"
    queries = [
        f"SELECT {key_text(tuple(table.key), 'b')} AS key, CASE WHEN {here} IS NULL THEN 'gone'"
        f" WHEN {differs} AND ({changed or 'false'}) THEN 'changed since' END AS state"
        f" FROM {before} AS b JOIN {after} AS a ON {table.same('b', 'a')} AND b.audit_run_id = a.audit_run_id {now} {table.same('t', 'b')}"
    ]
    for applies, state, one, mine, other, theirs in (
        (table.inserted, "changed since", "a", after, "b", before),
        (table.deleted, "taken", "b", before, "a", after),
    ):
        if applies:
            queries.append(
                f"SELECT {key_text(tuple(table.key), one)}, CASE WHEN {here} IS NOT NULL"
                f" AND {table.differ('t', one, everything)} THEN '{state}' END FROM {mine} AS {one} {now} {table.same('t', one)}"
                f" WHERE NOT EXISTS (SELECT FROM {theirs} AS {other} WHERE {table.same(one, other)} AND {one}.audit_run_id = {other}.audit_run_id)"
            )
    return " UNION ALL ".join(queries)
