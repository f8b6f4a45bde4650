"""The ways in which a fix changes every row of a matrix, and takes that back."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from datafixes import DataFix, Delete, Insert, RecordedFix, Rows, Table, Update, sql
from datafixes.declaration.expressions import Value
from tests import fixes
from tests.database.type_matrix import Matrix
from tests.servers import Database

# Some sessions have another operator of that name before PostgreSQL's own.
_SAME = "OPERATOR(pg_catalog.=)"


@dataclass(frozen=True)
class Way:
    """A way of changing every row of a matrix and of taking that back.

    Attributes:
        name: what it is called.
        starts: the state of the table before.
        leaves: the state that it must leave.
        apply: does it.
        revert: takes it back.
    """

    name: str
    starts: str
    leaves: str
    apply: Callable[[Database, Matrix], None]
    revert: Callable[[Database, Matrix], None]


def declared(name: str, starts: str, leaves: str, fix_of: Callable[[Matrix], DataFix]) -> Way:
    """A fix that is declared."""
    return Way(
        name,
        starts,
        leaves,
        lambda database, matrix: fixes.apply(database, fix_of(matrix)),
        lambda database, matrix: fixes.revert(database, fix_of(matrix)),
    )


def recorded(
    name: str,
    starts: str,
    leaves: str,
    statement: Callable[[Matrix], str],
    *kinds: str,
    keyless: bool = False,
) -> Way:
    """A fix whose statement is recorded; without a key, rows are told apart by their image."""

    def fix_of(matrix: Matrix) -> RecordedFix:
        counts: dict[str, Any] = dict.fromkeys(kinds, matrix.count)
        key = () if keyless else matrix.key
        table = Table("things", "things_audit", matrix.schema, key=key, **counts)
        return RecordedFix(name="every_type", reason="A test.", tables=[table])

    return Way(
        name,
        starts,
        leaves,
        lambda database, matrix: fixes.record(database, fix_of(matrix), statement(matrix), offline=keyless),
        lambda database, matrix: fixes.revert(database, fix_of(matrix)),
    )


def _fix(matrix: Matrix, change: Update | Delete | Insert) -> DataFix:
    rows = Rows(key=matrix.key, expect=matrix.count)
    return DataFix(name="every_type", reason="A test.", change=change, rows=rows, audit="things_audit")


def _update(matrix: Matrix) -> DataFix:
    wanted = {name: _from(matrix, "wanted", name, "things.id") for name in matrix.written}
    return _fix(matrix, Update("things", set=wanted, where="true", schema=matrix.schema))


def _touch(matrix: Matrix) -> DataFix:
    return _fix(matrix, Update("things", set={"note": "touched"}, where="true", schema=matrix.schema))


def _delete(matrix: Matrix) -> DataFix:
    return _fix(matrix, Delete("things", where="true", schema=matrix.schema))


def _insert(matrix: Matrix) -> DataFix:
    rows: list[dict[str, Value | sql]] = [
        {"id": row, "note": "note", **{n: _from(matrix, "was", n, str(row)) for n in matrix.written}}
        for row in range(matrix.count)
    ]
    return _fix(matrix, Insert("things", rows, schema=matrix.schema))


def _from(matrix: Matrix, state: str, name: str, row: str) -> sql:
    return sql(f"(SELECT w.{name} FROM {matrix.table(state)} AS w WHERE w.id {_SAME} {row})")


UPDATE = declared("update", "was", "wanted", _update)
TOUCH = declared("update of another column", "was", "touched", _touch)
DELETE = declared("delete", "was", "nothing", _delete)
INSERT = declared("insert", "nothing", "was", _insert)
DECLARED = (UPDATE, TOUCH, DELETE, INSERT)


def _recorded_update(matrix: Matrix) -> str:
    columns = ", ".join(
        f"{name} = {_from(matrix, 'wanted', name, 'things.id').text}" for name in matrix.written
    )
    return f"UPDATE {matrix.table('things')} SET {columns}"


def _recorded_insert(matrix: Matrix) -> str:
    names = ", ".join(("id", "note", *matrix.written))
    return f"INSERT INTO {matrix.table('things')} ({names}) SELECT {names} FROM {matrix.table('was')}"


def _recorded_delete(matrix: Matrix) -> str:
    return f"DELETE FROM {matrix.table('things')}"


RECORDED = (
    recorded("recorded update", "was", "wanted", _recorded_update, "updated"),
    recorded("recorded delete", "was", "nothing", _recorded_delete, "deleted"),
    recorded("recorded insert", "nothing", "was", _recorded_insert, "inserted"),
)
KEYLESS = (
    recorded("keyless update", "was", "wanted", _recorded_update, "deleted", "inserted", keyless=True),
    recorded("keyless delete", "was", "nothing", _recorded_delete, "deleted", keyless=True),
    recorded("keyless insert", "nothing", "was", _recorded_insert, "inserted", keyless=True),
)
