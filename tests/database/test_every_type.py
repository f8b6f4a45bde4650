"""Promise 5, to the bit: every type of PostgreSQL and of an application, in every way of changing rows, whatever the settings."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from datafixes import DataFix, Delete, Rows, Update
from datafixes.errors import Refused
from tests.database.every_type import EXTENSIONS, NO_VALUE, NOT_TOLD_BY_TEXT, own, with_arrays
from tests.database.type_matrix import (
    EAST,
    NORTH,
    PLAIN,
    SOUTH,
    Column,
    Matrix,
    differing,
    images,
    lay_out,
    let_sessions_start_with,
    reset,
)
from tests.database.type_tables import KEYS_OF_THEIR_OWN, matrices
from tests.database.type_ways import DECLARED, DELETE, INSERT, KEYLESS, RECORDED, TOUCH, UPDATE, Way
from tests.fixes import apply, revert
from tests.one_row import is_back, one_row
from tests.servers import Database, Server

PAIRS = {"south-east": (SOUTH, EAST), "east-north": (EAST, NORTH), "north-south": (NORTH, SOUTH)}
"""The settings when a fix is applied, and when it is reverted."""


@dataclass(frozen=True)
class Laid:
    """A database with every matrix. Each test puts the ones that it needs into their first state."""

    database: Database
    matrices: Mapping[str, Matrix]


@pytest.fixture(scope="module")
def laid_once(server: Server) -> Iterator[Laid]:
    with server.database("every_type") as database:
        yield Laid(database, {matrix.schema: matrix for matrix in matrices(database)})


@pytest.fixture
def laid(laid_once: Laid) -> Laid:
    let_sessions_start_with(laid_once.database, PLAIN)
    return laid_once


def there_and_back(laid: Laid, name: str, way: Way, pair: str) -> None:
    """Each state is what it must be in every bit, and so is each image."""
    at_apply, at_revert = PAIRS[pair]
    database, matrix = laid.database, laid.matrices[name]
    things, starts, leaves = (matrix.table(state) for state in ("things", way.starts, way.leaves))
    reset(database, matrix, way.starts)
    let_sessions_start_with(database, at_apply)
    way.apply(database, matrix)
    let_sessions_start_with(database, PLAIN)
    assert differing(database, matrix, things, leaves) == {}, "not what the fix wanted"
    assert differing(database, matrix, images(database, matrix, "apply", "before"), starts) == {}
    assert differing(database, matrix, images(database, matrix, "apply", "after"), leaves) == {}
    let_sessions_start_with(database, at_revert)
    way.revert(database, matrix)
    let_sessions_start_with(database, PLAIN)
    assert differing(database, matrix, things, starts) == {}, "not given back"
    assert differing(database, matrix, images(database, matrix, "revert", "before"), leaves) == {}
    assert differing(database, matrix, images(database, matrix, "revert", "after"), starts) == {}


def ways(*every: Way, once: tuple[Way, ...] = ()) -> pytest.MarkDecorator:
    """Each way with every pair of settings; some with the first pair only."""
    return pytest.mark.parametrize(
        ("way", "pair"),
        [
            *(pytest.param(way, pair, id=f"{way.name}-{pair}") for way in every for pair in PAIRS),
            *(pytest.param(way, "south-east", id=f"{way.name}-south-east") for way in once),
        ],
    )


@ways(UPDATE, DELETE, once=(TOUCH, INSERT, *RECORDED))
def test_a1_a2_a5_a6_a7_a15_a17_every_type_comes_back(laid: Laid, way: Way, pair: str) -> None:
    there_and_back(laid, "types", way, pair)


@ways(once=KEYLESS)
def test_c32_rows_of_every_type_without_a_key_come_back(laid: Laid, way: Way, pair: str) -> None:
    things = laid.matrices["types"].table("things")
    laid.database.execute(f"ALTER TABLE {things} DROP CONSTRAINT things_pkey")
    try:
        there_and_back(laid, "types", way, pair)
    finally:
        laid.database.execute(
            f"TRUNCATE {things}", f"ALTER TABLE {things} ADD CONSTRAINT things_pkey PRIMARY KEY (id)"
        )


@ways(once=(UPDATE, DELETE, *RECORDED))
def test_a6_rows_of_the_catalogs_come_back(laid: Laid, way: Way, pair: str) -> None:
    there_and_back(laid, "catalogs", way, pair)


@ways(once=(*DECLARED, *RECORDED))
def test_a18_generated_columns_of_every_type_come_back(laid: Laid, way: Way, pair: str) -> None:
    there_and_back(laid, "generated", way, pair)


@ways(once=(UPDATE, DELETE, *RECORDED))
def test_a19_large_values_come_back(laid: Laid, way: Way, pair: str) -> None:
    there_and_back(laid, "large", way, pair)


@ways(once=(DELETE,))
def test_a13_a_key_of_any_type_tells_rows_apart(laid: Laid, way: Way, pair: str) -> None:
    for name in laid.matrices:
        if name.startswith("keys"):
            there_and_back(laid, name, way, pair)


@pytest.mark.parametrize(
    "type_",
    KEYS_OF_THEIR_OWN,
)
def test_a6_a11_a_key_of_an_application_s_type_tells_rows_apart(laid: Laid, type_: str) -> None:
    types = with_arrays(own([]))
    column = Column("c0", type_, types[type_][:2])
    database = laid.database
    database.execute("DROP SCHEMA IF EXISTS one_key CASCADE")
    matrix = lay_out(database, Matrix("one_key", (column,), ("id", "c0")))
    for way in (DELETE, INSERT):
        there_and_back(Laid(database, {"one_key": matrix}), "one_key", way, "north-south")


def test_a6_an_identity_reads_an_application_s_type_as_the_fix_left_it(database: Database) -> None:
    one_row(database, "composite", "ROW('{1,NULL}')", "CREATE TYPE composite AS (numbers integer[])")
    fix = DataFix(
        name="identity", reason="A test.", change=Update("things", set={"other": "another"}),
        rows=Rows(key="id", identity={"numbers": "cardinality((v).numbers)"}, expect={1: 2}), audit="things_audit",
    )  # fmt: skip
    apply(database, fix)
    let_sessions_start_with(database, SOUTH)
    revert(database, fix)
    assert is_back(database)


def test_every_type_that_a_column_can_have_has_values(laid: Laid) -> None:
    database = laid.database
    missing = database.rows(
        "SELECT format_type(oid, NULL) FROM pg_type WHERE oid < 16384 AND typisdefined AND elsewhere.can_be_a_column(oid)"
        " AND oid NOT IN (SELECT atttypid FROM pg_attribute WHERE attnum > 0"
        " AND attrelid IN ('types.things'::regclass, 'catalogs.things'::regclass))"
    )
    assert {name for (name,) in missing} == set(NO_VALUE)
    for matrix in laid.matrices.values():
        [counts] = database.rows(
            f"SELECT {', '.join(f'count({c.name})' for c in matrix.columns)} FROM {matrix.table('was')}"
        )
        assert [c.type_ for c, count in zip(matrix.columns, counts, strict=True) if count == 0] == []


def test_the_states_of_a_matrix_differ_in_every_column(laid: Laid) -> None:
    # Or a fix that does nothing at all would pass.
    for name in ("types", "catalogs", "generated", "large"):
        matrix = laid.matrices[name]
        differ = differing(laid.database, matrix, matrix.table("was"), matrix.table("wanted"))
        assert [c.type_ for c in matrix.columns if f"{c.type_} {c.options}".strip() not in differ] == []
        assert set(differing(laid.database, matrix, matrix.table("was"), matrix.table("touched"))) == {"note"}
        assert "row" in differing(laid.database, matrix, matrix.table("was"), matrix.table("nothing"))


def test_types_of_extensions_are_tried_where_the_server_has_them(laid: Laid) -> None:
    available = {name for (name,) in laid.database.rows("SELECT name FROM pg_available_extensions")}
    tried = {column.type_ for column in laid.matrices["types"].columns}
    for name in EXTENSIONS.keys() & available:
        assert {f"app.{type_}" for type_ in EXTENSIONS[name]} <= tried
    if missing := sorted(EXTENSIONS.keys() - available):
        pytest.skip(f"this server has no {', '.join(missing)}")


@pytest.mark.parametrize("what", NOT_TOLD_BY_TEXT)
def test_a5_a7_a11_what_a_text_does_not_tell_is_given_back_or_not_changed(
    database: Database, what: str
) -> None:
    before, value = NOT_TOLD_BY_TEXT[what]
    one_row(
        database,
        "app.kept",
        value,
        "CREATE SCHEMA app",
        "CREATE CAST (bytea AS xml) WITHOUT FUNCTION",
        *before,
    )
    fix = DataFix(
        name="gone", reason="A test.", change=Delete("things"), rows=Rows(key="id", expect=[1]), audit="things_audit",
    )  # fmt: skip
    try:
        apply(database, fix)
    except Refused:
        assert is_back(database)
    else:
        revert(database, fix)
        assert is_back(database)
