"""The ways in which a fix changes every row of a matrix, and takes that back."""

from collections.abc import Callable
from dataclasses import dataclass

from datafixes import DataFix, Delete, Insert, Rows, Update, sql
from datafixes.expressions import Value
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
