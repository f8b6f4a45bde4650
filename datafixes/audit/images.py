"""The rows of a run, before and after, read back from its images."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy.engine import Connection

from datafixes.audit.changes import Cell, Changes, Kind, Reread, Row, Value, View
from datafixes.audit.long_values import begin_of_part, length_in_sql, part_of
from datafixes.audit.parts import condition_of_run
from datafixes.audit.wording import counts
from datafixes.script import literal
from datafixes.script.parameters import verbatim
from datafixes.script.tables import LEDGER, LEDGER_TABLES, MARKS

# Text forms do not depend on the session, numbers are exact, and functions are PostgreSQL's own. To compile a query of
# many columns just in time takes seconds, and reading a few rows does not. The workers of a Citus cluster are told.
PINNED = (
    "SET LOCAL citus.propagate_set_commands = 'local'", "SET LOCAL search_path = pg_catalog, pg_temp",
    "SET LOCAL datestyle = 'ISO, YMD'", "SET LOCAL intervalstyle = 'postgres'", "SET LOCAL timezone = 'UTC'",
    "SET LOCAL extra_float_digits = 1", "SET LOCAL bytea_output = 'hex'", "SET LOCAL jit = off",
)  # fmt: skip

_OWN_NAME = re.compile(r'"(?:[^"]|"")+"|[^."]+')
_AT_ONCE = 500
"""So many rows are in memory at a time, where they are not kept."""
READING = (*PINNED, "SET LOCAL enable_nestloop = off")
"""The settings of :func:`read_images`."""


@dataclass(frozen=True)
class TableOfRun:
    """A table of a run, from the ledger.

    Attributes:
        target: the table's name in SQL.
        audit: the audit table's name in SQL.
        key: the columns of its key; empty if its rows are identified by their whole image.
        columns: its columns when the run copied them.
        inserted: how many rows were inserted.
        updated: how many rows were updated.
        deleted: how many rows were deleted.
        inexact: columns that the run left as they were, and of whose values the images hold a text without every bit.
        left: the columns that after-images of updated rows hold; the others are as in the before-images.
        identity: expressions that name its rows, besides the key.
        without: columns that the fix left out of its images.
        is_spread: whether the images are on the shards of a Citus cluster.
        by: the column by which they are distributed there: both images of a row are on one shard.
        marked: whether its images say what was redacted.
        of_run: the condition that images are of the run, or of the batches that are parts of it, in SQL; ``{at}`` is their table.
    """

    target: str
    audit: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    inserted: int
    updated: int
    deleted: int
    inexact: tuple[str, ...] = ()
    left: tuple[str, ...] | None = None
    identity: tuple[str, ...] = ()
    of_run: str = "false"
    marked: bool = False
    without: tuple[str, ...] = ()
    is_spread: bool = False
    by: str | None = None

    def images(self, image: str, alias: str = "") -> str:
        """The condition of its images, before or after, in SQL.

        Args:
            image: ``before`` or ``after``.
            alias: of the audit table.
        """
        at = f"{alias}." if alias else ""
        return f"{self.of_run.replace('{at}', at)} AND {at}audit_image = '{image}'"

    def left_in(self, column: str, before: str, after: str) -> str:
        """Which of two images, by their aliases, holds a column of a row as the run left it."""
        return after if self.left is None or column in self.left else before

    def as_left(self, column: str, before: str, after: str) -> str:
        """A column of a row as the run left it, in SQL, from the aliases of its two images."""
        return f"{self.left_in(column, before, after)}.{literal.name(column)}"

    def redacted(self, column: str, image: str) -> str:
        """Whether a column of an image was redacted, in SQL."""
        return f"coalesce({literal.text(column)} = ANY ({image}.{MARKS}), false)" if self.marked else "false"

    def same(self, one: str, other: str) -> str:
        """Whether two images, by their aliases, are of one row in one run."""
        there = f" AND {one}.{literal.name(self.by)} = {other}.{literal.name(self.by)}" if self.by else ""
        return f"{key_text(self.key, one)} = {key_text(self.key, other)} AND {one}.audit_run_id = {other}.audit_run_id{there}"

    @property
    def changed(self) -> int:
        """The number of changed rows."""
        return self.inserted + self.updated + self.deleted

    @property
    def inexactly_kept(self) -> str:
        """Which columns have images that do not hold every bit, and why that does no harm."""
        return (
            f"{', '.join(self.inexact)} of {self.target}, without every bit: the fix leaves these values as they are,"
            " so none is restored"
        )

    def counts(self) -> str:
        """``2 updated, 3 deleted``."""
        return counts(self.inserted, self.updated, self.deleted, none="nothing changed")


def tables_of_run(connection: Connection, schema: str, run: int) -> list[TableOfRun]:
    """The tables of a run, in the order of the fix. Of a run in batches, with the rows of the batches that have ended."""
    tables, of_run = literal.qualified(schema, LEDGER_TABLES), condition_of_run(connection, schema, run)
    parts = f"SELECT sum(p.{{}}) FROM {tables} AS p WHERE {of_run.replace('{at}audit_', 'p.')} AND p.position = t.position"
    counts_of_run = (
        f"coalesce(t.{one}, ({parts.format(one)}), 0)::bigint"
        for one in ("rows_inserted", "rows_updated", "rows_deleted")
    )
    rows = _rows(
        connection,
        "SELECT target_table, audit_table, key_columns, ARRAY(SELECT c ->> 'name' FROM jsonb_array_elements(shape -> 'columns') AS c),"
        f" {', '.join(counts_of_run)}, ARRAY(SELECT jsonb_array_elements_text(shape -> 'inexact')),"
        " CASE WHEN written_columns <> '{}' AND NOT written_columns && key_columns THEN key_columns || written_columns || ARRAY("
        "SELECT c ->> 'name' FROM jsonb_array_elements(shape -> 'columns') AS c WHERE (c -> 'generated')::boolean) END,"
        f" EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = pg_catalog.to_regclass(audit_table)"
        f" AND attname = '{MARKS}' AND NOT attisdropped), (SELECT to_jsonb(r) -> 'declaration' -> 'tables' -> (t.position - 1)"
        f" -> 'without' FROM {literal.qualified(schema, LEDGER)} AS r WHERE r.run_id = t.run_id), shape ? 'beside', shape ->> 'beside'"
        f" FROM {tables} AS t WHERE run_id = {run} ORDER BY position",
    )
    return [
        TableOfRun(
            r[0], r[1], tuple(r[2]), tuple(r[3]), r[4], r[5], r[6], tuple(r[7]), r[8] and tuple(r[8]), of_run=of_run,
            marked=r[9], without=tuple(r[10] or ()), is_spread=r[11], by=r[12],
        )
        for r in rows
    ]  # fmt: skip


def changes_of_run(connection: Connection, table: TableOfRun, view: View, *, keep: bool = True) -> Changes:
    """The rows of a table that a run changed, with every column, in the order in which they were copied.

    Args:
        connection: the run's database.
        table: the table, with the run that it is of.
        view: how much of the rows to show.
        keep: read them now; otherwise they are read, a part at a time, whenever they are asked for.
    """
    lines = partial(_rows if keep else _streamed, connection)
    rows = Reread(lambda: _changed(connection, table, view, lines))
    return Changes(table.target, tuple(rows) if keep else rows, table.changed)


def _changed(
    connection: Connection, table: TableOfRun, view: View, lines: Callable[[str], Iterable[Any]]
) -> Iterator[Row]:
    columns = [(name, view.hides(table.target, name)) for name in table.columns]
    left = view.rows
    with read_images(connection):
        for statement in _statements(table, view, columns):
            if left:
                for line in lines(f"{statement} LIMIT {left}"):
                    left -= 1
                    yield _row(columns, *line)


@contextmanager
def read_images(connection: Connection, *, loops: bool = False) -> Iterator[None]:
    """Settings for reading images, reset afterwards.

    Images written in the same transaction have no statistics yet: PostgreSQL would assume few rows, and choose nested
    loops.

    Args:
        connection: their database.
        loops: whether it may; they are few.
    """
    with connection.begin_nested() as savepoint:
        for statement in PINNED if loops else READING:
            connection.exec_driver_sql(statement)
        yield
        savepoint.rollback()


def _statements(table: TableOfRun, view: View, columns: list[tuple[str, bool]]) -> list[str]:
    """Queries for the rows that existed before, and for those that did not."""
    one, other = (
        f"SELECT x.* FROM {table.audit} AS x WHERE {table.images(image, 'x')}"
        for image in ("before", "after")
    )
    none = f"SELECT * FROM {table.audit} WHERE false"
    if not table.key:
        pairs = [(f"({one}) AS one LEFT JOIN ({none}) AS other ON true", "one"),
                 (f"({none}) AS one RIGHT JOIN ({other}) AS other ON true", "other")]  # fmt: skip
        return [_statement(table, view, columns, pair) for pair in pairs]
    same = table.same("one", "other")
    found = []
    if table.updated or table.deleted:
        first = f"({one} ORDER BY x.audit_id LIMIT {view.rows})"
        found.append((f"{first} AS one LEFT JOIN ({other}) AS other ON {same}", "one"))
    # an update may spell a key otherwise (citext, a collation): keys are compared as text here, so it shows as both
    if table.inserted or table.updated:
        found.append((
            f"({none}) AS one RIGHT JOIN ({other} AND NOT EXISTS (SELECT FROM {table.audit} AS was"
            f" WHERE {table.images('before', 'was')} AND {table.same('was', 'x')})) AS other ON true",
            "other",
        ))  # fmt: skip
    return [_statement(table, view, columns, pair) for pair in found]


def key_text(key: tuple[str, ...], alias: str) -> str:
    """The key as text, in the same expression as in the index and the views."""
    return " || '/' || ".join(f"{alias}.{literal.name(column)}::text" for column in key)


def _statement(table: TableOfRun, view: View, columns: list[tuple[str, bool]], pair: tuple[str, str]) -> str:
    before = {name: f"one.{literal.name(name)}" for name, _ in columns}
    after = {name: table.as_left(name, "one", "other") for name, _ in columns}
    erased = {
        "one": {name: table.redacted(name, "one") for name, _ in columns},
        "other": {name: table.redacted(name, table.left_in(name, "one", "other")) for name, _ in columns},
    }
    seen = [name for name, hidden in columns if not hidden]
    key = f"coalesce({key_text(table.key, 'one')}, {key_text(table.key, 'other')}, '')" if table.key else "''"
    if any(view.hides(table.target, column) for column in table.key):
        key = "'(masked)'"
    parts = [key, name_in_sql(table, "one", "other") if table.identity else "''"]
    for alias, image in (("one", before), ("other", after)):
        parts.append(f"{alias}.audit_id IS NOT NULL")
        texts = (
            f"substr({image[name]}::text, begins[{n}] + 1, {view.characters})"
            for n, name in enumerate(seen, 1)
        )
        parts.append(f"ARRAY[{', '.join(texts)}]::text[]")
        parts.append(
            f"ARRAY[{', '.join(length_in_sql(image[name], erased[alias][name]) for name in seen)}]::integer[]"
        )
    differs = ", ".join(_differs(table, name, before[name], after[name]) for name, _ in columns)
    begins = ", ".join(
        begin_of_part(f"{before[name]}::text", f"{after[name]}::text", view, is_spread=table.is_spread)
        for name in seen
    )
    source, first = pair
    return (
        f"SELECT {', '.join(parts)}, begins, ARRAY[{differs}]::boolean[] FROM {source}"
        f" CROSS JOIN LATERAL (SELECT ARRAY[{begins}]::integer[] AS begins OFFSET 0) AS part ORDER BY {first}.audit_id"
    )


def _differs(table: TableOfRun, column: str, before: str, after: str) -> str:
    """Whether a value changed, in SQL. Of two redacted values, only the ledger can tell."""
    plain = f"record_image_ne(ROW({before}), ROW({after}))"
    if not table.marked:
        return plain
    one, other = table.redacted(column, "one"), table.redacted(column, table.left_in(column, "one", "other"))
    is_written = table.left is not None and column in table.left and column not in table.key
    return f"({plain} OR {one} <> {other}{f' OR {one} AND {other}' if is_written else ''})"


def name_in_sql(table: TableOfRun, *images: str) -> str:
    """The readable name of a row, in SQL: its identity in the first of its images."""
    parts = ", ".join("(" + one + "\n)" for one in table.identity)  # may end with a comment
    own = _OWN_NAME.findall(table.target)[-1]
    names = (
        f"CASE WHEN {i}.audit_id IS NOT NULL THEN (SELECT concat_ws(' ', {parts}) FROM (SELECT {i}.*) AS {own}) END"
        for i in images
    )
    return f"coalesce({', '.join(names)})"


def _row(columns: list[tuple[str, bool]], key: str, label: str, *found: Any) -> Row:
    was, before, lengths_before, has, after, lengths_after, begins, differs = found
    kind: Kind = "updated" if was and has else "deleted" if was else "inserted"
    place, cells = 0, []
    for (name, hidden), changed in zip(columns, differs, strict=True):
        pair = [Value(None, masked=True)] * 2 if hidden else [
            part_of(text[place], lengths[place], begins[place])
            for text, lengths in ((before, lengths_before), (after, lengths_after))
        ]  # fmt: skip
        place += not hidden
        cells.append(
            Cell(name, pair[0] if was else None, pair[1] if has else None, changed or not (was and has))
        )
    return Row(key, kind, tuple(cells), label)


def _streamed(connection: Connection, statement: str) -> Iterable[Any]:
    """Through a cursor in the database, which a few rows are not worth."""
    options = {"stream_results": True, "yield_per": _AT_ONCE}
    return connection.exec_driver_sql(verbatim(connection, statement), execution_options=options)


def _rows(connection: Connection, statement: str) -> list[Any]:
    return list(connection.exec_driver_sql(verbatim(connection, statement)).all())
