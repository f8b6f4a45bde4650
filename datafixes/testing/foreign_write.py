"""A write by another session to a row that a fix changed, which a downgrade must not lose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from datafixes.audit.changes import Cell, Row, View
from datafixes.audit.history import ask
from datafixes.audit.images import PINNED, TableOfRun, changes_of_run, tables_of_run
from datafixes.declaration.recorded import Fix
from datafixes.script.literal import name as quoted
from datafixes.script.literal import text
from datafixes.script.parameters import verbatim
from datafixes.testing.contents import short
from datafixes.testing.databases import Database

_TRIED_ROWS = 5
_EVERYTHING = 1_000_000_000
"""The maximum length of a value in PostgreSQL, in characters."""

# Expressions for another value, by the category of its type. The first that the table accepts is written.
_OTHER_VALUES = {
    "S": ("coalesce(@, '') || 'x'", "'x'", "left(@, -1)"),
    "N": ("@ + 1", "@ - 1", "0", "1"),
    "B": ("NOT coalesce(@, false)",),
    "D": ("@ + interval '1 day'", "now()"),
    "T": ("@ + interval '1 day'",),
    "E": ("other",),
    "U": ("'{\"changed\": true}'", "gen_random_uuid()", "'\\x78'"),
    "A": ("'{}'",),
}


@dataclass(frozen=True)
class ForeignWrite:
    """The write.

    Attributes:
        table: its table.
        key: the key of the row as text; empty if the table has none.
        words: the write, in words.
    """

    table: str
    key: str
    words: str


@dataclass(frozen=True)
class _Column:
    name: str
    type: str
    category: str
    writable: bool


def write_to_row_of(database: Database, fix: Fix, run: int) -> ForeignWrite | None:
    """Change a row that a run changed, so that a revert of the run conflicts with it.

    Returns:
        The write, or None if the constraints of the tables allow no other value.
    """
    with database.connect() as connection:
        for setting in PINNED:
            connection.exec_driver_sql(setting)
        for number, table in enumerate(tables_of_run(connection, fix.schema_of_audit, run)):
            rows = changes_of_run(connection, table, View(_TRIED_ROWS, _EVERYTHING)).rows
            columns = _columns(connection, table.target)
            housekeeping = fix.tables[number].housekeeping
            for row in rows:
                cells = [cell for cell in row.cells if cell.changed and cell.column not in housekeeping]
                for statement, words in _writes(connection, table, row, cells, columns):
                    if _accepted(connection, statement):
                        return ForeignWrite(table.target, row.key, words)
    return None


def _writes(
    connection: Connection, table: TableOfRun, row: Row, cells: list[Cell], columns: dict[str, _Column]
) -> Iterator[tuple[str, str]]:
    """Statements that change the row, the most common first, and their descriptions."""
    if row.kind == "deleted" and not table.key:
        return  # another row with the same values is no conflict
    row_called = f"{table.target} {row.key}".rstrip()
    for cell in cells:
        column = columns[cell.column]
        if not column.writable or cell.column in table.key:
            continue
        for new in _other_values(connection, column):
            if row.kind == "deleted":
                yield (
                    _insertion(table, row, columns, column, new),
                    f"{row_called} was inserted again, with another {column.name}",
                )
            else:
                words = f"{row_called}.{column.name} is no longer {_left(cell)}"
                yield _update(table, row, column, new), words
    if row.kind == "updated" or (row.kind == "inserted" and not table.key):
        gone = f"DELETE FROM {table.target} AS t WHERE {_is_the_row(table, row)} RETURNING 1"
        yield f"WITH written AS ({gone}) SELECT count(*) FROM written", f"{row_called} was deleted"


def _left(cell: Cell) -> str:
    return short(cell.after.text if cell.after is not None else None)


def _other_values(connection: Connection, column: _Column) -> Iterator[str]:
    for value in _OTHER_VALUES.get(column.category, ()):
        if value == "other":
            of_type = f"enumtypid = {text(column.type)}::regtype"
            labels = ask(
                connection, f"SELECT enumlabel FROM pg_catalog.pg_enum WHERE {of_type} ORDER BY enumsortorder"
            )
            yield from (f"{text(label)}::{column.type}" for (label,) in labels)
        else:
            yield value
    yield "NULL"


def _is_the_row(table: TableOfRun, row: Row) -> str:
    same = " AND ".join(
        f'one.{quoted(cell.column)}::text COLLATE pg_catalog."C" IS NOT DISTINCT FROM '
        f"{_literal(cell.after.text if cell.after else None)}"
        for cell in row.cells
    )
    return f"(t.tableoid, t.ctid) = (SELECT one.tableoid, one.ctid FROM {table.target} AS one WHERE {same} LIMIT 1)"


def _update(table: TableOfRun, row: Row, column: _Column, new: str) -> str:
    name = quoted(column.name)
    value = new.replace("@", f"t.{name}")
    [cell] = [cell for cell in row.cells if cell.column == column.name]
    return _counted(
        f"UPDATE {table.target} AS t SET {name} = ({value}) WHERE {_is_the_row(table, row)}"
        f" RETURNING t.{name}::text AS new",
        cell,
    )


def _insertion(table: TableOfRun, row: Row, columns: dict[str, _Column], other: _Column, new: str) -> str:
    cells = [cell for cell in row.cells if cell.column in columns and columns[cell.column].writable]
    values = {
        cell.column: f"{_literal(cell.before.text if cell.before else None)}::{columns[cell.column].type}"
        for cell in cells
    }
    values[other.name] = f"({new.replace('@', f'({values[other.name]})')})::{other.type}"
    [cell] = [cell for cell in cells if cell.column == other.name]
    return _counted(
        f"INSERT INTO {table.target} ({', '.join(quoted(column) for column in values)}) OVERRIDING SYSTEM VALUE"
        f" VALUES ({', '.join(values.values())}) RETURNING {quoted(other.name)}::text AS new",
        cell,
    )


def _counted(statement: str, cell: Cell) -> str:
    """Count the write only if table and triggers stored a value that differs from those before and after the fix."""
    other = " AND ".join(
        f'new COLLATE pg_catalog."C" IS DISTINCT FROM {_literal(known.text)}'
        for known in (cell.before, cell.after)
        if known
    )
    return f"WITH written AS ({statement}) SELECT count(*) FROM written WHERE {other}"


def _accepted(connection: Connection, statement: str) -> bool:
    savepoint = connection.begin_nested()
    try:
        connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")
        done = connection.exec_driver_sql(verbatim(connection, statement)).scalar_one()
    except DBAPIError:
        savepoint.rollback()
        return False
    if done != 1:
        savepoint.rollback()
        return False
    savepoint.commit()
    return True


def _columns(connection: Connection, table: str) -> dict[str, _Column]:
    rows = ask(
        connection,
        "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), t.typcategory, a.attgenerated = ''"
        " FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid"
        f" WHERE a.attrelid = {text(table)}::regclass AND a.attnum > 0 AND NOT a.attisdropped",
    )
    return {row[0]: _Column(*row) for row in rows}


def _literal(value: str | None) -> str:
    return "NULL" if value is None else text(value)
