"""An extension that fails or is gone: the engine needs none, and a table that holds its values is left alone (A21)."""

import pytest

from datafixes import DataFix, Rows, Update
from datafixes.errors import Refused
from tests.fixes import apply, create_audit_table, revert
from tests.one_row import fix_of, is_back, one_row
from tests.servers import Database

EXTENSION = "CREATE EXTENSION vector"
# What a minor upgrade of the package under a running server came to: the library cannot be loaded any more.
BROKEN = "UPDATE pg_proc SET probin = '$libdir/gone' WHERE probin = '$libdir/vector'"
REPAIRED = "UPDATE pg_proc SET probin = '$libdir/vector' WHERE probin = '$libdir/gone'"


def broken(database: Database) -> bool:
    try:
        database.execute("SELECT '[1]'::vector")
    except Exception as error:
        return "gone" in str(error)
    return False


@pytest.mark.parametrize("then", [BROKEN, "DROP EXTENSION vector"], ids=["broken", "dropped"])
def test_a21_no_extension_stands_between_a_fix_and_its_revert(then: str, database: Database) -> None:
    one_row(database, "text", "'before'", EXTENSION)
    apply(database, fix_of("after"))
    database.execute(then)
    revert(database, fix_of("after"))
    assert is_back(database)
    apply(database, fix_of("after"))
    assert database.rows("SELECT v FROM things") == [("after",)]


def test_a21_values_of_an_extension_that_fails_are_left_alone_until_it_works_again(
    database: Database,
) -> None:
    database.execute(
        EXTENSION,
        "CREATE TABLE things (id integer PRIMARY KEY, place vector(3), v text)",
        "INSERT INTO things VALUES (1, '[1,2.5,-0]', 'before'), (2, '[0,0,1e-30]', 'before')",
        "CREATE TABLE was AS TABLE things",
    )
    create_audit_table(database, "things", "things_audit")
    fix = DataFix(
        name="one_column",
        reason="A test.",
        change=Update("things", set={"v": "after"}),
        rows=Rows(key="id", expect=[1]),
        audit="things_audit",
    )
    for step in (apply, revert):
        database.execute(BROKEN)
        assert broken(database)
        before = database.dump("public.things", "public.was")
        v = database.rows("SELECT v FROM things ORDER BY id")
        # It cannot be copied, so it is not changed; and one line says why.
        with pytest.raises(Refused, match=r"could not access file .*gone") as refused:
            step(database, fix)
        assert "\n" not in refused.value.one_line()
        assert database.dump("public.things", "public.was") == before
        assert database.rows("SELECT v FROM things ORDER BY id") == v
        database.execute(REPAIRED)
        step(database, fix)
    assert database.value("SELECT bool_and(record_image_eq(t, w)) FROM things AS t JOIN was AS w USING (id)")
    assert database.value("SELECT count(*) FROM things_audit") == 4
