"""Tables whose changes PostgreSQL does not count: what a fix may have changed there is refused, or said to differ.

The kinds of it: tables of Citus (by its catalog), foreign tables, foreign partitions, other access methods than heap; as
a table that changes along, as the fix's own, as its audit table. What no lock shows (dblink and the like) is in docs/limits.md.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datafixes import DataFix, Insert, RecordedFix, Rows, Table, Update
from datafixes.errors import OthersWouldChange, ShapeMismatch, WrongTarget
from tests import fixes
from tests.faults.own_server import as_nobody_special
from tests.named import Address
from tests.servers import PROGRAM_VERSION, Database, Server, binaries

ITEMS = "CREATE TABLE item (id integer PRIMARY KEY, v text); INSERT INTO item VALUES (1, 'a'), (2, 'b')"
# What Citus has, as far as it is asked for: which ordinary tables are its own.
CITUS = (
    "SET allow_system_table_mods = on;"
    'CREATE TABLE pg_catalog.pg_dist_partition (logicalrelid regclass, partmethod "char");'
    "RESET allow_system_table_mods;"
)
IN_CITUS = "INSERT INTO pg_catalog.pg_dist_partition VALUES ('{}', 'h')"
# Code that keeps rows as heap does, under a name of its own: nobody could know that it counts.
OTHER_CODE = (
    "CREATE FUNCTION theirs(internal) RETURNS table_am_handler LANGUAGE internal AS 'heap_tableam_handler';"
    "CREATE ACCESS METHOD theirs TYPE TABLE HANDLER theirs"
)
HEAP = "CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler"
WRITES_NOTHING = "INSERT INTO elsewhere SELECT 1 WHERE false"

UNCOUNTED = {
    "of Citus": ("CREATE TABLE elsewhere (id integer)", CITUS, IN_CITUS.format("elsewhere")),
    "other code": (OTHER_CODE, "CREATE TABLE elsewhere (id integer) USING theirs"),
    "materialized view": (OTHER_CODE, "CREATE MATERIALIZED VIEW elsewhere USING theirs AS SELECT 1 AS id"),
    "foreign partition": (
        "CREATE FOREIGN DATA WRAPPER far; CREATE SERVER far FOREIGN DATA WRAPPER far",
        "CREATE TABLE whole (id integer) PARTITION BY LIST (id)",
        "CREATE FOREIGN TABLE elsewhere PARTITION OF whole FOR VALUES IN (1) SERVER far",
    ),
}
WRITES = {
    "foreign partition": "LOCK TABLE whole IN ROW EXCLUSIVE MODE",  # the server does not exist
    "materialized view": "REFRESH MATERIALIZED VIEW elsewhere",
}
kinds = pytest.mark.parametrize("kind", UNCOUNTED)
ways = pytest.mark.parametrize("way", ["recorded", "recorded, one script", "declared", "inserted"])


def lay(database: Database, *more: str) -> None:
    database.execute(ITEMS, *more)
    fixes.create_audit_table(database, "item", "item_audit")


def when_item_changes(database: Database, statement: str) -> None:
    database.execute(
        f"CREATE FUNCTION along() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {statement}; RETURN NULL; END $$",
        "CREATE TRIGGER along AFTER INSERT OR UPDATE ON item FOR EACH STATEMENT EXECUTE FUNCTION along()",
    )


def fix_that(way: str, may_differ: tuple[str, ...] = ()) -> DataFix | RecordedFix:
    if way.startswith("recorded"):
        return recorded(may_differ)
    if way == "inserted":
        change, rows = Insert("item", rows=[{"id": 3, "v": "x"}]), Rows(key="id", expect=1)
        return DataFix(
            name="fix", reason="Test.", change=change, rows=rows, audit="item_audit", may_differ=may_differ
        )
    update, rows = Update("item", set={"v": "x"}), Rows(key="id", expect=[1])
    return DataFix(
        name="fix", reason="Test.", change=update, rows=rows, audit="item_audit", may_differ=may_differ
    )


def recorded(may_differ: tuple[str, ...] = ()) -> RecordedFix:
    tables = [Table("item", "item_audit", updated=1)]
    return RecordedFix(name="fix", reason="Test.", tables=tables, may_differ=may_differ)


def run(database: Database, way: str, fix: DataFix | RecordedFix) -> None:
    if isinstance(fix, DataFix):
        fixes.apply(database, fix)
    else:
        fixes.record(database, fix, "UPDATE item SET v = 'x' WHERE id = 1", offline="script" in way)


@kinds
@ways
def test_what_may_have_changed_where_nothing_is_counted_is_refused(
    database: Database, kind: str, way: str
) -> None:
    lay(database, *UNCOUNTED[kind])
    when_item_changes(database, WRITES.get(kind, WRITES_NOTHING))
    fix = fix_that(way)
    with pytest.raises(OthersWouldChange, match=r"public\.elsewhere (is |\(truncated, altered)") as refused:
        run(database, way, fix)
    assert "may_differ=[...]" in refused.value.hint
    assert database.rows("TABLE item") == [(1, "a"), (2, "b")]
    excused = fix_that(way, ("elsewhere",))
    run(database, way, excused)
    assert database.value("SELECT count(*) FROM item WHERE v = 'x'") == 1
    fixes.revert(database, excused)
    assert database.rows("TABLE item ORDER BY id") == [(1, "a"), (2, "b")]


@kinds
def test_a_revert_that_may_have_changed_more_is_refused(database: Database, kind: str) -> None:
    lay(database, *UNCOUNTED[kind])
    fix = fix_that("declared")
    run(database, "declared", fix)
    when_item_changes(database, WRITES.get(kind, WRITES_NOTHING))
    with pytest.raises(OthersWouldChange, match=r"public\.elsewhere "):
        fixes.revert(database, fix)
    assert database.value("SELECT v FROM item WHERE id = 1") == "x"


@kinds
def test_what_is_only_read_there_is_no_hindrance(database: Database, kind: str) -> None:
    lay(database, *UNCOUNTED[kind])
    reads = "PERFORM FROM elsewhere" if kind != "foreign partition" else "LOCK TABLE whole IN ROW SHARE MODE"
    when_item_changes(database, reads)
    run(database, "declared", fix_that("declared"))


def test_another_name_for_heap_is_counted(database: Database) -> None:
    lay(database, HEAP, "CREATE TABLE elsewhere (id integer) USING heap2")
    fix = recorded()
    fixes.record(database, fix, "UPDATE item SET v = 'x' WHERE id = 1", WRITES_NOTHING)
    fixes.revert(database, fix)
    with pytest.raises(OthersWouldChange, match=r"public\.elsewhere \(1 inserted\)"):
        fixes.record(
            database, fix, "UPDATE item SET v = 'x' WHERE id = 1", "INSERT INTO elsewhere VALUES (1)"
        )


@pytest.mark.parametrize(
    ("before", "refused"),
    [
        (("ALTER TABLE elsewhere ADD COLUMN b integer", "SELECT * FROM elsewhere"), False),
        ((WRITES_NOTHING,), True),
    ],
    ids=["DDL", "rows"],
)
def test_what_the_migration_did_there_before_the_fix(
    database: Database, before: tuple[str, ...], refused: bool
) -> None:
    """DDL takes other locks than rows do; rows written before take the same, and hide what the fix may write."""
    lay(database, *UNCOUNTED["of Citus"])
    script = fixes.apply_script(fix_that("declared"), fixes.Context(), fixes.LIMITS).text  # type: ignore[arg-type]
    ran = database.psql(f"BEGIN; {'; '.join(before)};\n{script}COMMIT;", "-v", "ON_ERROR_STOP=1", check=False)
    said = "public.elsewhere is a table of Citus, and this transaction wrote to it before the fix began"
    assert (said in ran.stderr) is refused
    assert database.value("SELECT v FROM item WHERE id = 1") == ("a" if refused else "x")


def test_rows_of_citus_that_a_foreign_key_takes_along(database: Database) -> None:
    lay(
        database, "CREATE TABLE elsewhere (id integer REFERENCES item ON UPDATE CASCADE)", CITUS, IN_CITUS.format("elsewhere"),
    )  # fmt: skip
    fix = RecordedFix(name="fix", reason="Test.", tables=[Table("item", "item_audit", inserted=1, deleted=1)])
    with pytest.raises(OthersWouldChange, match=r"public\.elsewhere is a table of Citus"):
        fixes.record(database, fix, "UPDATE item SET id = 9 WHERE id = 1")


OWN: dict[str, Callable[[str], tuple[str, ...]]] = {
    "of Citus": lambda name: (CITUS, IN_CITUS.format(name)),
    "other code": lambda name: (OTHER_CODE, f"ALTER TABLE {name} SET ACCESS METHOD theirs"),
}


def own(database: Database, kind: str, name: str) -> tuple[str, ...]:
    if kind == "other code" and database.server_version < 15:
        pytest.skip("SET ACCESS METHOD came with PostgreSQL 15")
    return OWN[kind](name)


@pytest.mark.parametrize("way", ["declared", "recorded"])
@pytest.mark.parametrize("kind", OWN)
def test_a_fix_of_such_a_table_is_refused(database: Database, kind: str, way: str) -> None:
    lay(database, *own(database, kind, "item"))
    # this catalog of Citus does not say how the rows are distributed
    words = r"(.* and PostgreSQL does not count what changes|a table of Citus, distributed in a way that is not known here)"
    with pytest.raises(WrongTarget, match=rf"public\.item is {words}"):
        run(database, way, fix_that(way))


def test_a_fix_of_a_table_with_such_a_part_is_refused(database: Database) -> None:
    database.execute(
        "CREATE TABLE item (id integer PRIMARY KEY, v text) PARTITION BY LIST (id)",
        "CREATE TABLE part PARTITION OF item FOR VALUES IN (1)", CITUS, IN_CITUS.format("part"),
    )  # fmt: skip
    fixes.create_audit_table(database, "item", "item_audit")
    with pytest.raises(WrongTarget, match=r"has the part public\.part, which is a table of Citus"):
        run(database, "declared", fix_that("declared"))


@pytest.mark.parametrize("kind", OWN)
def test_copies_do_not_go_into_such_a_table(database: Database, kind: str) -> None:
    lay(database)
    database.execute(*own(database, kind, "item_audit"))
    with pytest.raises(ShapeMismatch, match=r"item_audit would not keep copies: it is "):
        run(database, "declared", fix_that("declared"))


def test_an_extension_whose_catalog_is_not_known_is_not_trusted(database: Database) -> None:
    lay(database, "UPDATE pg_extension SET extname = 'citus'")
    with pytest.raises(WrongTarget, match=r"public\.item is a table of Citus"):
        run(database, "declared", fix_that("declared"))


def test_copies_are_ordinary_tables_whatever_is_the_default(database: Database) -> None:
    database.execute(OTHER_CODE, f"ALTER ROLE CURRENT_USER IN DATABASE {database.name} SET default_table_access_method = theirs")  # fmt: skip
    database.execute("SET default_table_access_method = heap; " + ITEMS)
    fixes.create_audit_table(database, "item", "item_audit")
    run(database, "declared", fix_that("declared"))
    assert database.value("SELECT a.amname FROM pg_class c JOIN pg_am a ON a.oid = relam WHERE relname = 'item_audit'") == "heap"  # fmt: skip


# --- foreign tables for real, where the system has a PostgreSQL with its extensions


def _with_postgres_fdw() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/lib/postgres_fdw.so"))
    return found[-1].parents[1] / "bin" if found else None


@pytest.fixture(scope="module")
def far_and_near() -> Iterator[Database]:
    """A database whose table ``elsewhere`` is one of another database."""
    programs = _with_postgres_fdw()
    if programs is None:
        pytest.skip("needs a PostgreSQL with postgres_fdw (Debian: postgresql)")
    with (
        tempfile.TemporaryDirectory(prefix="df-") as directory,
        as_nobody_special(Path(directory), programs) as version,
    ):
        server = Server(version, Address(directory), binaries(PROGRAM_VERSION))
        with server.database("far") as far, server.database("near") as near:
            far.execute("CREATE TABLE elsewhere (id integer)")
            near.execute(
                "CREATE EXTENSION postgres_fdw",
                f"CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{directory}', dbname 'far')",
                "CREATE USER MAPPING FOR CURRENT_USER SERVER far OPTIONS (user 'postgres')",
                "IMPORT FOREIGN SCHEMA public FROM SERVER far INTO public",
            )
            lay(near)
            yield near


@pytest.mark.parametrize(
    "writes",
    ["INSERT INTO elsewhere VALUES (1)", "UPDATE elsewhere SET id = 2", "DELETE FROM elsewhere", "TRUNCATE elsewhere"],
)  # fmt: skip
def test_rows_of_another_server(far_and_near: Database, writes: str) -> None:
    fix = recorded()
    with pytest.raises(OthersWouldChange, match=r"public\.elsewhere (is a foreign table|\(truncated)"):
        fixes.record(far_and_near, fix, "UPDATE item SET v = 'x' WHERE id = 1", writes)
    assert far_and_near.rows("TABLE elsewhere") == []
    assert far_and_near.rows("TABLE item") == [(1, "a"), (2, "b")]


def test_rows_of_another_server_that_may_differ(far_and_near: Database) -> None:
    fix = recorded(("elsewhere",))
    fixes.record(
        far_and_near, fix, "UPDATE item SET v = 'x' WHERE id = 1", "INSERT INTO elsewhere VALUES (1)"
    )
    assert far_and_near.rows("TABLE elsewhere") == [(1,)]
    fixes.revert(far_and_near, fix)
