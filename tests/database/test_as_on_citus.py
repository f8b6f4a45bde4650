"""The way of a fix of a table of Citus, on an ordinary table: a setting forces it, and all of it is ordinary SQL.

The same on a cluster, with what is not ordinary there: tests/citus.
"""

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import pytest

from datafixes import DataFix, Insert, Rows
from datafixes.errors import Conflicts, DatafixError, LockNotAvailable
from datafixes.script.frame import Limits
from tests import fixes
from tests.citus_tables import (
    FIXES,
    MANY,
    ROWS,
    contents,
    many_update,
    refuses_what_begins_to_refer,
    some_update,
    very_many_delete,
    very_many_update,
)  # fmt: skip
from tests.faults.deploys import until
from tests.servers import Database

TABLE = (
    "CREATE TABLE item (id integer, shop integer, v text, amount numeric, at timestamptz, PRIMARY KEY (id{}))"
)
kinds = pytest.mark.parametrize("kind", ["a key of one column", "a part of the key"])
copies = pytest.mark.parametrize("copies", ["on", "beside"])
"""Whether the copies are on the coordinator, or beside the rows."""


def lay(database: Database, kind: str = "", copies: str = "on") -> None:
    database.execute(TABLE.format(", shop" if "part" in kind else ""), ROWS)
    database.execute(f"ALTER DATABASE {database.name} SET datafixes.as_on_citus = {copies}")
    fixes.create_audit_table(database, "item", "item_audit")


@copies
@kinds
@pytest.mark.parametrize("which", FIXES)
def test_a_fix_is_applied_and_taken_back(database: Database, kind: str, which: str, copies: str) -> None:
    lay(database, kind, copies)
    before, fix = contents(database), FIXES[which](kind)
    fixes.apply(database, fix)
    assert len(set(before) ^ set(contents(database))) == database.value("SELECT count(*) FROM item_audit")
    fixes.revert(database, fix)
    assert contents(database) == before


def test_what_is_not_as_expected_changes_nothing(database: Database) -> None:
    lay(database)
    database.execute("UPDATE item SET amount = 500 WHERE id = 5", "DELETE FROM item WHERE id = 40")
    before = contents(database)
    with pytest.raises(DatafixError, match=r"1 of the 7 expected rows of public\.item is not as expected: 5"):
        fixes.apply(database, some_update(""))
    with pytest.raises(DatafixError, match=r"found 19 rows of public\.item, expected 20"):
        fixes.apply(database, many_update(""))
    assert contents(database) == before


@copies
def test_conflicts_are_named_and_can_be_skipped(database: Database, copies: str) -> None:
    lay(database, copies=copies)
    fix = some_update("")
    fixes.apply(database, fix)
    database.execute(
        "UPDATE item SET v = 'theirs' WHERE id = 3", "UPDATE item SET at = NULL WHERE id = 5",
        "UPDATE item SET shop = 0 WHERE id = 2", "DELETE FROM item WHERE id = 8",
    )  # fmt: skip
    after = contents(database)
    with pytest.raises(Conflicts, match="2 taken, 3 changed since, 8 gone"):
        fixes.revert(database, fix)
    assert contents(database) == after
    fixes.revert(database, fix, "skip")
    now = dict(database.rows("SELECT id, v FROM item"))
    assert [now.get(number) for number in (1, 2, 3, 5, 8)] == ["v1", "x", "theirs", "v5", None]
    assert database.value("SELECT at FROM item WHERE id = 5") is None


@copies
@kinds
@pytest.mark.parametrize("which", [very_many_update, very_many_delete])
def test_many_rows(database: Database, kind: str, copies: str, which: Callable[[str], DataFix]) -> None:
    lay(database, kind, copies)
    database.execute(MANY)
    before, fix = contents(database), which(kind)
    fixes.apply(database, fix)
    after = contents(database)
    images = 2500 if which is very_many_delete else 5000
    assert len(set(before) ^ set(after)) == images
    assert database.value("SELECT count(DISTINCT (audit_run_id, audit_id)) FROM item_audit") == images
    fixes.revert(database, fix)
    assert contents(database) == before
    fixes.apply(database, replace(fix, name="again"))
    assert contents(database) == after


@pytest.mark.parametrize(("copies", "method"), [("on", "brin"), ("beside", "btree")])
def test_a_run_beside_its_rows_is_found_without_entering_it(
    database: Database, copies: str, method: str
) -> None:
    """On shards nobody enters what a run wrote into an index over ranges of pages."""
    lay(database, copies=copies)
    assert method in database.value(
        "SELECT indexdef FROM pg_indexes WHERE tablename = 'item_audit' AND indexdef LIKE '%(audit_run_id)%'"
    )


def test_conflicts_among_many_rows(database: Database) -> None:
    """Not all rows can be restored where they are: they are compared in this session, as few are."""
    lay(database, copies="beside")
    database.execute(MANY)
    fix = very_many_update("")
    fixes.apply(database, fix)
    database.execute("UPDATE item SET v = 'theirs' WHERE id = 600", "DELETE FROM item WHERE id = 700")
    after = contents(database)
    with pytest.raises(Conflicts, match="600 changed since, 700 gone"):
        fixes.revert(database, fix)
    assert contents(database) == after
    assert database.value("SELECT count(*) FROM item_audit") == 5000
    fixes.revert(database, fix, "skip")
    assert database.rows("SELECT id, v FROM item WHERE id IN (600, 700, 800) ORDER BY id") == [
        (600, "theirs"), (800, "v800"),
    ]  # fmt: skip


def test_rows_that_would_go_along_with_a_deleted_one(database: Database) -> None:
    lay(database)
    fixes.apply(database, FIXES["inserted"](""))
    database.execute(
        "CREATE TABLE child (id integer REFERENCES item ON DELETE CASCADE)", "INSERT INTO child VALUES (101)"
    )
    with pytest.raises(
        Conflicts, match=r"1 rows of public\.child refer to rows of public\.item that the revert would delete"
    ):
        fixes.revert(database, FIXES["inserted"](""))
    assert database.value("SELECT count(*) FROM child") == 1


def test_a_row_that_begins_to_refer_meanwhile(database: Database) -> None:
    """A lock of the table of the fix does not keep it from that."""
    lay(database)
    database.execute(
        "CREATE TABLE child (n integer, id integer REFERENCES item ON DELETE CASCADE, shop integer)"
    )
    refuses_what_begins_to_refer(database, FIXES["deleted"](""))


def test_a_row_that_begins_to_refer_to_one_that_a_revert_deletes(database: Database) -> None:
    """Of more rows than are locked one by one."""
    lay(database)
    database.execute(
        "CREATE TABLE child (n integer, id integer REFERENCES item ON DELETE CASCADE, shop integer)"
    )
    fix = replace(
        FIXES["inserted"](""),
        change=Insert("item", rows=[{"id": number, "shop": 1} for number in range(101, 301)]),
        rows=Rows(key="id", expect=200),
    )
    fixes.apply(database, fix)
    after = contents(database)
    with closing(database.connect()) as theirs, theirs.cursor() as cursor, ThreadPoolExecutor(1) as pool:
        cursor.execute("INSERT INTO child VALUES (1, 150, 1)")
        reverting = pool.submit(fixes.revert, database, fix)
        until(lambda: database.value("SELECT count(*) FROM pg_locks WHERE NOT granted") > 0, "nothing waits")
        theirs.commit()
        with pytest.raises(Conflicts, match=r"1 rows of public\.child refer to rows of public\.item"):
            reverting.result(30)
    assert contents(database) == after
    assert database.value("SELECT count(*) FROM child") == 1


def test_a_few_rows_are_locked_one_by_one_and_many_by_their_table(database: Database) -> None:
    lay(database)
    limits = Limits("200ms", "1min")
    with closing(database.connect()) as theirs, theirs.cursor() as cursor:
        cursor.execute("UPDATE item SET v = v WHERE id = 7")  # another row: nobody waits
        fixes.apply(database, some_update(""), limits=limits)
        with pytest.raises(LockNotAvailable, match="lock timeout"):
            fixes.apply(database, many_update(""), limits=limits)
        cursor.execute("UPDATE item SET v = v WHERE id = 8")  # one of the rows
        with pytest.raises(LockNotAvailable, match="lock timeout"):
            fixes.revert(database, some_update(""), limits=limits)
    fixes.revert(database, some_update(""))


@pytest.mark.parametrize(("there", "found"), [(True, False), (False, True)])
@pytest.mark.parametrize("which", ["named", "a number", "deleted"])
def test_its_statements_have_no_form_that_citus_cannot_run(
    database: Database, which: str, there: bool, found: bool
) -> None:
    """No EXISTS over tables of the session, and no lock of rows in a copy; elsewhere these are there."""
    database.execute(TABLE.format(""), ROWS)
    script = fixes.apply_script(FIXES[which](""), fixes.Context(), fixes.LIMITS)
    fix = {
        "key_columns": [{"name": "id", "equals": "OPERATOR(pg_catalog.=)", "base": "", "collate": ""}],
        "columns": [{"name": "id", "type": "integer", "kept": "integer", "position": 1}],
        "left": [{"name": "id", "type": "integer", "kept": "integer", "position": 1}],
        "target_alias": "item", "lock": "UPDATE", "run": 1,
    } | ({"citus": "distributed"} if there else {})  # fmt: skip
    with closing(database.connect()) as connection, connection.cursor() as cursor:
        for statement in script.preparation():
            cursor.execute(statement)
        statements = []
        for template in re.findall(r"\$sql\$(.*?)\$sql\$", script.own[0], re.DOTALL):
            cursor.execute("SELECT pg_temp.datafix_sql(%s, %s)", (json.dumps(fix), template))
            statements += cursor.fetchone()
    assert len(statements) >= 4
    assert "{{" not in "".join(statements)
    assert any(re.search(r"EXISTS|FOR UPDATE", statement) for statement in statements) is found
