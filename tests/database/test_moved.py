"""Promises 5 and 6, where a database moved since a fix ran: dumped and restored, to a newer server too, or copied table by table.

Object ids are others there. Images are the ones that the run wrote all the same, and go back to the bit.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from datafixes.errors import ImagesChanged, NotRestorable
from tests.conftest import VERSIONS
from tests.database.every_type import OWN_TYPES, STATISTICS, own, scalars, with_arrays
from tests.database.test_renamed import AS_0_1, KINDS, RENAMED, STAGE, Made, applied
from tests.database.type_matrix import (
    DECOYS,
    EAST,
    PLAIN,
    Column,
    Matrix,
    differing,
    images,
    lay_out,
    let_sessions_start_with,
    reset,
)
from tests.database.type_tables import columns_of
from tests.database.type_ways import DELETE, INSERT, KEYLESS, UPDATE, Way
from tests.fixes import apply, revert
from tests.one_row import is_back
from tests.servers import INSTALLED, Database, Server, running_server, server_of
from tests.tampering import tamper

NOT_RESTORED: Mapping[str, str] = {
    "xml": "needs a server with libxml",
    **dict.fromkeys(STATISTICS, "is read by no server"),
}
"""Types of which PostgreSQL restores no value: why."""

NOT_RESTORED_VALUES = ("makeaclitem(4000000000, 10, 'SELECT', false)",)
"""The same of single values: of a role that is not there."""

OLDEST_INSTALLED = 15
"""A server that the wheel does not have."""


@dataclass(frozen=True)
class Move:
    """From one server to another one."""

    source: Server
    target: Server


@pytest.fixture(scope="module", params=[OLDEST_INSTALLED, min(VERSIONS)], ids=lambda version: f"pg{version}")
def move(request: pytest.FixtureRequest) -> Iterator[Move]:
    """Two servers; the second one is the newest."""
    if request.param > max(VERSIONS):
        pytest.skip("a database moves to a server that is as new at least")
    with ExitStack() as stack:
        if request.param == OLDEST_INSTALLED:
            if not (INSTALLED / str(OLDEST_INSTALLED) / "bin/initdb").exists():
                pytest.skip(f"PostgreSQL {OLDEST_INSTALLED} is not installed here")
            source = stack.enter_context(server_of(INSTALLED / str(request.param) / "bin"))
        else:
            source = stack.enter_context(running_server(request.param))
        yield Move(source, stack.enter_context(running_server(max(VERSIONS))))


@pytest.fixture
def database(move: Move) -> Iterator[Database]:
    """The database in which a fix runs."""
    with move.source.database("source") as database:
        yield database


@pytest.fixture
def moved_to(move: Move) -> Iterator[Database]:
    """The one to which it moves. It has had objects, so that each gets another number than it had."""
    with move.target.database("target") as database:
        database.execute(
            *(f"CREATE TYPE t{n} AS ENUM ('a', 'b', 'c')" for n in range(50)),
            *(f"DROP TYPE t{n}" for n in range(50)),
        )
        yield database


def restore(database: Database, moved_to: Database) -> None:
    """As everybody does it: pg_dump, psql."""
    moved_to.psql(database.backup(), "-q", "-v", "ON_ERROR_STOP=1")


# --- every type


def restorable(version: int) -> dict[str, list[str]]:
    """Type → values, and its arrays, as far as PostgreSQL itself restores them; none of an extension that a server may lack."""
    types = {**scalars(version), **own([])}
    return with_arrays(
        {
            name: [value for value in values if value not in NOT_RESTORED_VALUES]
            for name, values in types.items()
            if name not in NOT_RESTORED
        }
    )


@pytest.fixture(scope="module")
def every_type(move: Move) -> Iterator[tuple[Database, Matrix]]:
    """A table with a column for every type."""
    with move.source.database("every_type") as database:
        database.execute(*DECOYS, "CREATE TABLE public.things ()", *OWN_TYPES)
        yield database, lay_out(database, Matrix("types", columns_of(restorable(move.source.version))))


@pytest.mark.parametrize("way", [UPDATE, DELETE, INSERT], ids=lambda way: way.name)
def test_promise_5_every_type_comes_back_in_a_restored_database(
    every_type: tuple[Database, Matrix], moved_to: Database, way: Way
) -> None:
    there_and_back(every_type, moved_to, way)


@pytest.mark.parametrize("way", KEYLESS[:1], ids=lambda way: way.name)
def test_c32_rows_without_a_key_come_back_in_a_restored_database(
    every_type: tuple[Database, Matrix], moved_to: Database, way: Way
) -> None:
    database, matrix = every_type
    things = matrix.table("things")
    database.execute(f"ALTER TABLE {things} DROP CONSTRAINT things_pkey")
    try:
        there_and_back(every_type, moved_to, way)
    finally:
        database.execute(
            f"TRUNCATE {things}", f"ALTER TABLE {things} ADD CONSTRAINT things_pkey PRIMARY KEY (id)"
        )


def there_and_back(every_type: tuple[Database, Matrix], moved_to: Database, way: Way) -> None:
    database, matrix = every_type
    things, starts = matrix.table("things"), matrix.table(way.starts)
    reset(database, matrix, way.starts)
    way.apply(database, matrix)
    restore(database, moved_to)
    for name in ("app.mood", "types.things"):
        number = f"SELECT '{name}'::regtype::oid"
        assert database.value(number) != moved_to.value(number)
    let_sessions_start_with(moved_to, EAST)
    way.revert(moved_to, matrix)
    let_sessions_start_with(moved_to, PLAIN)
    assert differing(moved_to, matrix, things, starts) == {}, "not given back"
    assert differing(moved_to, matrix, images(moved_to, matrix, "revert", "after"), starts) == {}


# --- objects, roles, labels


STAGES = ("place", [STAGE, "CREATE TYPE place AS (n integer, s stage[])"], "'(1,{open})'", "'(1,{done})'")


def test_promise_6_objects_have_other_numbers_in_a_restored_database_and_the_images_are_the_same(
    database: Database, moved_to: Database
) -> None:
    """A column for every kind of object, and one for it inside of a composite."""
    database.execute("CREATE SCHEMA app")
    columns: list[Column] = []
    for kind, (create, *_, name) in KINDS.items():
        own_name = name.replace("thing", f"{kind}_thing")
        database.execute(
            create.replace("thing", f"{kind}_thing"),
            f"CREATE TYPE in_{kind} AS (n integer, o {kind}, many {kind}[])",
        )
        value = f"'{own_name}'::{kind}"
        columns += [
            Column(f"c{len(columns)}", kind, [value, "NULL"]),
            Column(f"c{len(columns) + 1}", f"in_{kind}", [f"ROW(1, {value}, ARRAY[{value}])", "NULL"]),
        ]
    matrix = lay_out(database, Matrix("objects", tuple(columns)))
    UPDATE.apply(database, matrix)
    restore(database, moved_to)
    numbers = f"SELECT {', '.join(f'max({c.name}::oid)' for c in columns[::2])} FROM objects.was"
    assert not set(database.rows(numbers)[0]) & set(moved_to.rows(numbers)[0])
    UPDATE.revert(moved_to, matrix)
    assert differing(moved_to, matrix, "objects.things", "objects.was") == {}


@pytest.mark.parametrize("type_", ["regclass", "regclass[]", "aclitem", "aclitem[]", "regrole"])
def test_promise_6_values_that_point_at_nothing_or_at_a_role_move(
    database: Database, moved_to: Database, type_: str
) -> None:
    one = {"regclass": "4000000000", "aclitem": "postgres=r/postgres", "regrole": "postgres"}[
        type_.removesuffix("[]")
    ]
    fix = applied(database, (type_, [], f"'{{{one}}}'" if type_.endswith("[]") else f"'{one}'", "NULL"))
    restore(database, moved_to)
    revert(moved_to, fix)
    assert is_back(moved_to)


@pytest.mark.parametrize("copied", [False, True], ids=["restored", "copied"])
def test_promise_6_a_changed_image_shows_there_too_and_nobody_is_accused(
    database: Database, moved_to: Database, copied: bool
) -> None:
    fix = applied(database, ("regclass", ["CREATE TABLE shipped ()"], "'shipped'", "NULL"))
    (copy if copied else restore)(database, moved_to)
    for change, words in (
        ("UPDATE things_audit SET v = 'was' WHERE audit_image = 'before'", "are not the ones it wrote: it wrote 2 with the digest"),
        ("UPDATE things_audit SET v = NULL", "are not the ones it wrote"),
        ("DELETE FROM things_audit WHERE audit_image = 'after'", "it wrote 2 .* and there are 1 with"),
    ):  # fmt: skip
        tamper(moved_to, "CREATE TABLE kept AS TABLE things_audit", change)
        before = moved_to.dump()
        with pytest.raises(ImagesChanged, match=words) as failed:
            revert(moved_to, fix)
        assert "omebody" not in str(failed.value)
        assert "SELECT * FROM public.things_audit WHERE audit_run_id = 1" in str(failed.value.hint)
        assert moved_to.dump() == before
        tamper(
            moved_to,
            "TRUNCATE things_audit",
            "INSERT INTO things_audit OVERRIDING SYSTEM VALUE TABLE kept",
            "DROP TABLE kept",
        )
    revert(moved_to, fix)
    assert is_back(moved_to)


def copy(database: Database, moved_to: Database) -> None:
    """As a logical copy does it: the definitions, then the rows of each table as text, and the sequences at last."""
    moved_to.psql(database.backup("--section=pre-data"), "-q", "-v", "ON_ERROR_STOP=1")
    for (table,) in reversed(
        database.rows(
            "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY oid"
        )
    ):
        rows = database.psql(f"SET search_path = pg_catalog; COPY public.{table} TO STDOUT", "-q").stdout
        moved_to.psql(
            f"SET search_path = pg_catalog;\nCOPY public.{table} FROM STDIN;\n{rows}\\.\n",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
        )
    moved_to.psql(database.backup("--section=post-data"), "-q", "-v", "ON_ERROR_STOP=1")
    moved_to.execute("SELECT setval('things_audit_audit_id_seq', 100), setval('datafix_run_run_id_seq', 100)")


@pytest.mark.parametrize("moved", [False, True], ids=["here", "moved"])
def test_promise_6_a_run_of_0_1_over_objects_is_given_back(
    database: Database, moved_to: Database, moved: bool
) -> None:
    """Its digest holds numbers only: where these are others, the number of images tells."""
    fix = applied(database, ("regclass", ["CREATE TABLE shipped ()"], "'shipped'", "NULL"))
    tamper(database, AS_0_1)
    place = moved_to if moved else database
    if moved:
        restore(database, moved_to)
    tamper(
        place,
        "CREATE TABLE kept AS TABLE things_audit",
        "DELETE FROM things_audit WHERE audit_image = 'after'",
    )
    with pytest.raises(ImagesChanged):
        revert(place, fix)
    tamper(place, "TRUNCATE things_audit", "INSERT INTO things_audit OVERRIDING SYSTEM VALUE TABLE kept")
    if not moved:
        tamper(place, "UPDATE things_audit SET v = 'was' WHERE audit_image = 'before'")
        with pytest.raises(ImagesChanged):
            revert(place, fix)
        tamper(place, "UPDATE things_audit SET v = 'shipped' WHERE audit_image = 'before'")
    revert(place, fix)
    assert is_back(place)


@pytest.mark.parametrize("renamed", ["replaced", "swapped", "gone"])
def test_a12_labels_that_were_renamed_in_a_restored_database(
    database: Database, moved_to: Database, renamed: str
) -> None:
    fix = applied(database, STAGES)
    restore(database, moved_to)
    moved_to.execute(*RENAMED[renamed][0])
    with pytest.raises(
        NotRestorable, match=r"the type public.stage of v had the labels|has no label 'open' any more"
    ):
        revert(moved_to, fix)


def test_a12_labels_that_were_added_in_a_restored_database(database: Database, moved_to: Database) -> None:
    fix = applied(database, STAGES)
    restore(database, moved_to)
    moved_to.execute("ALTER TYPE stage ADD VALUE 'late' AFTER 'held'")
    revert(moved_to, fix)
    assert is_back(moved_to)


def test_promise_6_text_in_another_encoding_is_the_same_text(move: Move, moved_to: Database) -> None:
    with move.source.database("postgres_") as empty:
        empty.execute(
            "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        )
        database = Database("latin", empty.server_version, empty.address, empty.binaries)
        try:
            one: Made = ("text", [], "U&'Z\\00fcrich'", "U&'Gen\\00e8ve'")
            fix = applied(database, one)
            revert(database, fix)
            apply(database, fix)
            restore(database, moved_to)
        finally:
            empty.execute("DROP DATABASE latin")
    revert(moved_to, fix)
    assert is_back(moved_to)
    assert moved_to.value("SELECT v FROM things") == "Zürich"


def test_fixes_go_on_in_a_restored_database(database: Database, moved_to: Database) -> None:
    fix = applied(database, ("regclass", ["CREATE TABLE shipped ()"], "'shipped'", "NULL"))
    restore(database, moved_to)
    revert(moved_to, fix)
    apply(moved_to, fix)
    moved_to.execute("ALTER TABLE shipped RENAME TO other")
    revert(moved_to, fix)
    assert moved_to.value("SELECT v::text FROM things") == "other"
