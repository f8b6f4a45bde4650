"""After-images hold what a run wrote, where the ledger knows that; whoever reads them sees whole rows."""

from dataclasses import replace

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from datafixes.audit.changes import View
from datafixes.audit.images import changes_of_run, tables_of_run
from datafixes.audit.reversal import compare_with_revert
from datafixes.declaration.fix import DataFix, Insert, Update
from datafixes.declaration.recorded import RecordedFix
from datafixes.declaration.rows import Rows
from datafixes.declaration.table import Table
from datafixes.errors import Conflicts
from datafixes.script.tables import AuditTable, update_script
from tests.fixes import LIMITS, apply, create_audit_table, record, revert, run
from tests.servers import Database

LAY = """
CREATE TABLE item (
    id integer PRIMARY KEY, code text, v integer, doubled integer GENERATED ALWAYS AS (v * 2) STORED, w text, mood text[]);
INSERT INTO item (id, code, v, mood) SELECT g, 'c' || g, g, ARRAY['m' || g] FROM generate_series(1, 4) AS g;
"""
FIX = DataFix(
    name="f",
    reason="r",
    change=Update("item", set={"v": 0}, where="id <= 2"),
    rows=Rows(key="id", expect=2),
    audit="item_audit",
)
NARROW, WHOLE = ("1", None, "0", "0", None, None), ("1", "c1", "0", "0", None, "{m1}")
COLUMNS = "id::text, code, v::text, doubled::text, w, mood::text"


def lay(database: Database, *more: str) -> list[tuple[object, ...]]:
    database.psql(LAY)
    create_audit_table(database, "item", "item_audit")
    database.execute(*more)
    return database.rows("SELECT * FROM item ORDER BY id")


def left(database: Database) -> tuple[object, ...]:
    """The newest after-image of the first row, as it is stored."""
    return database.rows(
        f"SELECT {COLUMNS} FROM item_audit WHERE id = 1 AND audit_image = 'after' ORDER BY audit_run_id DESC LIMIT 1"
    )[0]


def changes(database: Database, run_id: int) -> list[tuple[object, ...]]:
    """What the view tells of the first row; it must be what :func:`changes_of_run` tells."""
    told = database.rows(
        f"SELECT column_name, before, after, change FROM item_audit_changes WHERE audit_run_id = {run_id} AND key = '1'"
    )
    with create_engine(database.url, poolclass=NullPool).connect() as connection:
        [table] = tables_of_run(connection, "public", run_id)
        row = next(iter(changes_of_run(connection, table, View()).rows))
    cells = [
        (cell.column, cell.before and cell.before.text, cell.after and cell.after.text, row.kind)
        for cell in row.cells
    ]
    assert [cell for cell, one in zip(cells, row.cells, strict=True) if one.changed] == told
    assert cells[1][1:3] == ("c1", "c1")  # whole, although no image holds it
    assert cells[5][1:3] == ("{m1}", "{m1}")
    return told


def test_an_update_and_its_revert_keep_the_columns_that_they_write(database: Database) -> None:
    before = lay(database)
    apply(database, FIX)
    assert left(database) == NARROW
    assert changes(database, 1) == [("v", "1", "0", "updated"), ("doubled", "2", "0", "updated")]
    revert(database, FIX)
    assert database.rows("SELECT * FROM item ORDER BY id") == before
    assert left(database) == ("1", None, "1", "2", None, None)
    assert changes(database, 2) == [("v", "0", "1", "updated"), ("doubled", "0", "2", "updated")]


@pytest.mark.parametrize(
    "why",
    [
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';"
        "CREATE TRIGGER touch BEFORE UPDATE ON item FOR EACH ROW EXECUTE FUNCTION touch()",
        "DROP VIEW item_audit_changes CASCADE",
        # as version 0.1 made it, as far as that matters here
        "DROP VIEW item_audit_changes CASCADE; CREATE VIEW item_audit_changes AS SELECT i.audit_run_id, i.audit_id, i.id::text AS key,"
        " ''::text AS column_name, ''::text AS before, ''::text AS after, ''::text AS change, ''::text AS target_table FROM item_audit AS i",
    ],
    ids=["a trigger", "no view of the changes", "a view that does not know of them"],
)
def test_whole_rows_where_others_may_write_or_nobody_would_explain(why: str, database: Database) -> None:
    before = lay(database, why)
    apply(database, FIX)
    assert left(database) == WHOLE
    revert(database, FIX)
    assert database.rows("SELECT * FROM item ORDER BY id") == before
    assert left(database) == ("1", "c1", "1", "2", None, "{m1}")


def test_a_view_of_version_0_1_is_brought_along_with_its_audit_table(database: Database) -> None:
    lay(database, "DROP VIEW item_audit_changes CASCADE")
    run(database, update_script(AuditTable("item", "item_audit", "public", "public"), LIMITS))
    apply(database, FIX)
    assert left(database) == NARROW
    assert changes(database, 1) == [("v", "1", "0", "updated"), ("doubled", "2", "0", "updated")]


def test_what_others_write_beside_it_stays_and_is_no_conflict(database: Database) -> None:
    lay(database)
    apply(database, FIX)
    database.execute("UPDATE item SET code = NULL, w = 'theirs' WHERE id = 1")
    revert(database, FIX)
    assert database.rows("SELECT id, code, v, w FROM item ORDER BY id LIMIT 2") == [(1, None, 1, "theirs"), (2, "c2", 2, None)]  # fmt: skip


def test_identities_are_read_from_whole_rows(database: Database) -> None:
    before = lay(database)
    named = replace(FIX, rows=Rows(key="id", identity={"code": "code"}, expect={1: "c1", 2: "c2"}))
    apply(database, named)
    assert left(database) == NARROW
    revert(database, named)
    assert database.rows("SELECT * FROM item ORDER BY id") == before
    apply(database, named)
    database.execute("UPDATE item SET code = 'another' WHERE id = 1")
    with pytest.raises(Conflicts, match="1 taken"):
        revert(database, named)


def test_a_row_whose_key_changed_is_found_by_its_other_values(database: Database) -> None:
    lay(database)
    apply(database, FIX)
    database.execute("UPDATE item SET id = 11 WHERE id = 1")
    with pytest.raises(Conflicts, match="1 moved"):
        revert(database, FIX)


def test_a_later_fix_is_not_blamed_for_a_column_that_its_images_do_not_hold(database: Database) -> None:
    lay(database)
    apply(database, FIX)
    apply(database, replace(FIX, name="later", change=Update("item", set={"w": "shut"}, where="id <= 2")))
    database.execute("UPDATE item SET v = NULL WHERE id = 1")
    with pytest.raises(Conflicts, match="1 changed since") as refused:
        revert(database, FIX)
    assert "by later" not in refused.value.detail
    database.execute("UPDATE item SET v = 0 WHERE id = 1")
    apply(database, replace(FIX, name="latest", change=Update("item", set={"v": 5}, where="id = 1"), rows=Rows(key="id", expect=1)))  # fmt: skip
    with pytest.raises(Conflicts, match="1 changed since") as refused:
        revert(database, FIX)
    assert "by latest (run" in refused.value.detail


CHANGED = "SELECT audit_run_id, key, column_name, before, after FROM {}_changes ORDER BY 1, 2, 3"
BOTH = [
    (1, "1", "doubled", "2", "0"), (1, "1", "v", "1", "0"), (1, "2", "doubled", "4", "0"), (1, "2", "v", "2", "0"),
    (2, "1", "doubled", "0", "2"), (2, "1", "v", "0", "1"), (2, "2", "doubled", "0", "4"), (2, "2", "v", "0", "2"),
]  # fmt: skip
"""What the fix and its revert changed."""


@pytest.mark.parametrize(
    "how",
    ["", "ALTER TABLE item DROP CONSTRAINT item_pkey, ADD PRIMARY KEY (code)"],
    ids=["another key", "another primary key since"],
)
def test_the_view_finds_rows_by_its_own_key(how: str, database: Database) -> None:
    lay(
        database,
        "ALTER TABLE item ALTER code SET NOT NULL",
        "CREATE UNIQUE INDEX ON item (code)",
        how or "SELECT",
    )
    fix = replace(FIX, rows=Rows(key="code", expect=2))
    apply(database, fix)
    assert left(database) == ("1", "c1", "0", "0", None, None)
    revert(database, fix)
    assert database.rows(CHANGED.format("item_audit")) == BOTH


@pytest.mark.parametrize("key", ["id", "code"])
def test_a_later_fix_by_another_key_is_named(key: str, database: Database) -> None:
    lay(database, "ALTER TABLE item ALTER code SET NOT NULL", "CREATE UNIQUE INDEX ON item (code)")
    other = {"id": "code", "code": "id"}[key]
    first = replace(FIX, rows=Rows(key=key, expect=2))
    apply(database, first)
    apply(database, replace(FIX, name="later", change=Update("item", set={"v": 5}, where="id = 1"), rows=Rows(key=other, expect=1)))  # fmt: skip
    with pytest.raises(Conflicts, match="1 changed since") as refused:
        revert(database, first)
    assert "by later (run" in refused.value.detail


def test_a_later_fix_is_named_for_what_was_generated_from_its_values(database: Database) -> None:
    lay(database)
    added = DataFix(
        name="add", reason="r", change=Insert("item", [{"id": 9, "v": 3}]), rows=Rows(key="id", expect=1), audit="item_audit"
    )  # fmt: skip
    apply(database, added)
    apply(
        database,
        replace(FIX, change=Update("item", set={"v": 0}, where="id = 9"), rows=Rows(key="id", expect=1)),
    )
    with pytest.raises(Conflicts, match="9 changed since") as refused:
        revert(database, added)
    assert refused.value.detail.count("by f (run 2)") == 2  # v and doubled


def test_each_view_tells_of_its_own_table_where_a_run_has_two(database: Database) -> None:
    lay(
        database,
        "CREATE TABLE other AS SELECT id, v, 'w' AS w FROM item",
        "ALTER TABLE other ADD PRIMARY KEY (id)",
    )
    create_audit_table(database, "other", "other_audit")
    tables = [Table("item", audit="item_audit", updated=2), Table("other", audit="other_audit", updated=1)]
    fix = RecordedFix(name="both", reason="r", tables=tables)
    record(database, fix, "UPDATE item SET v = 0 WHERE id <= 2", "UPDATE other SET w = 'x' WHERE id = 1")
    revert(database, fix)
    assert database.rows(CHANGED.format("item_audit")) == BOTH
    assert database.rows(CHANGED.format("other_audit")) == [(1, "1", "w", "w", "x"), (2, "1", "w", "x", "w")]


def test_columns_that_are_generated_no_longer_or_only_now(database: Database) -> None:
    lay(database, "ALTER TABLE item ALTER doubled DROP EXPRESSION, DROP w", "ALTER TABLE item ADD w text GENERATED ALWAYS AS (v::text) STORED")  # fmt: skip
    apply(database, FIX)
    revert(database, FIX)
    assert database.rows(CHANGED.format("item_audit") + " LIMIT 2") == [
        (1, "1", "v", "1", "0"),
        (1, "1", "w", "1", "0"),
    ]


def test_rows_whose_keys_look_the_same_as_text_are_told_apart(database: Database) -> None:
    database.psql(
        "CREATE TABLE item (a text, b text, v integer, w text, PRIMARY KEY (a, b));"
        "INSERT INTO item VALUES ('x/y', 'z', 1, 'one'), ('x', 'y/z', 2, 'two')"
    )
    create_audit_table(database, "item", "item_audit")
    fix = replace(FIX, change=Update("item", set={"v": 0}, where="true"), rows=Rows(key=("a", "b"), expect=2))
    apply(database, fix)
    revert(database, fix)
    with create_engine(database.url, poolclass=NullPool).connect() as connection:
        assert compare_with_revert(connection, fix, 1)[0]
