"""Rows that are still as the fix left them are restored without being compared three ways, where nothing else can interfere."""

import re
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from datafixes.declaration.fix import DataFix, Delete, Update
from datafixes.declaration.recorded import RecordedFix
from datafixes.declaration.rows import Rows
from datafixes.declaration.table import Table
from datafixes.errors import Conflicts
from datafixes.script.parameters import verbatim
from datafixes.script.revert import revert_script
from tests.fixes import LIMITS, Context, apply, create_audit_table, record, revert
from tests.servers import Database

LAY = """
CREATE TABLE kind (id integer PRIMARY KEY);
INSERT INTO kind VALUES (1), (2);
CREATE TABLE item (id integer PRIMARY KEY, code text UNIQUE, v integer, w text, kind integer REFERENCES kind, email text);
INSERT INTO item SELECT g, 'c' || g, g, 'open', 1, 'e' || g FROM generate_series(1, 8) AS g;
CREATE UNIQUE INDEX ON item (email) WHERE w = 'closed';
"""


def fix(**sets: Any) -> DataFix:
    return DataFix(
        name="f",
        reason="r",
        change=Update("item", set=sets or {"v": 0}, where="id <= 6"),
        rows=Rows(key="id", expect=6),
        audit="item_audit",
    )


def lay(database: Database) -> None:
    database.psql(LAY)
    for table in ("item", "kind"):
        create_audit_table(database, table, f"{table}_audit")


def compares_three_ways(database: Database, reverted: DataFix | RecordedFix) -> bool:
    """Whether a revert pairs all images, as it must before it compares rows three ways."""
    script = revert_script(reverted, Context(), LIMITS)
    [declared] = re.findall(r"datafix_begin_revert\((\$fix\$.*?\$fix\$)", script.own[0], re.DOTALL)
    with create_engine(database.url, poolclass=NullPool).connect() as connection:
        for statement in (*script.before, *script.preparation()):
            connection.exec_driver_sql(verbatim(connection, statement))
        connection.exec_driver_sql(
            verbatim(
                connection,
                "SELECT pg_temp.datafix_open_revert(fix, NULL)"
                f" FROM pg_temp.datafix_begin_revert({declared}, NULL) AS _ (fix)",
            )
        )
        pair = connection.exec_driver_sql("SELECT to_regclass('pg_temp.datafix_pair_1') IS NOT NULL")
        return bool(pair.scalar_one())


@pytest.mark.parametrize(
    ("sets", "since", "compared"),
    [
        ({"v": 0}, "SELECT", False),
        ({"kind": 2}, "SELECT", False),
        ({"v": 0}, "CREATE UNIQUE INDEX ON item (code) WHERE kind = 1", False),
        ({"v": 0}, "CREATE UNIQUE INDEX ON item (id, v)", True),
        ({"v": 0}, "CREATE UNIQUE INDEX ON item (code) WHERE v > 100", True),
        ({"v": 0}, "CREATE UNIQUE INDEX ON item ((id + v))", True),
        ({"v": 0}, "ALTER TABLE item ADD EXCLUDE USING btree (v WITH =) WHERE (v > 100)", True),
        ({"w": "shut"}, "SELECT", True),
        (
            {"v": 0},
            "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';"
            "CREATE TRIGGER nothing BEFORE UPDATE ON item FOR EACH ROW EXECUTE FUNCTION nothing()",
            True,
        ),
    ],
)
def test_free_are_rows_that_only_their_own_values_can_keep_from_being_restored(
    database: Database, sets: dict[str, object], since: str, compared: bool
) -> None:
    lay(database)
    apply(database, fix(**sets))
    database.execute(since)
    assert compares_three_ways(database, fix(**sets)) is compared
    before = database.rows("SELECT * FROM item_audit WHERE audit_image = 'before' ORDER BY id")
    revert(database, fix(**sets))
    columns = "id, code, v, w, kind, email"
    assert database.rows(f"SELECT {columns} FROM item WHERE id <= 6 ORDER BY id") == [
        row[:6] for row in before
    ]


def test_an_identity_or_a_row_that_went_is_compared(database: Database) -> None:
    lay(database)
    named = DataFix(
        name="f",
        reason="r",
        change=Update("item", set={"v": 0}),
        rows=Rows(key="id", identity={"code": "code"}, expect={1: "c1", 2: "c2"}),
        audit="item_audit",
    )
    apply(database, named)
    assert compares_three_ways(database, named)
    revert(database, named)
    gone = DataFix(
        name="g", reason="r", change=Delete("item", where="id <= 2"), rows=Rows(key="id", expect=2), audit="item_audit"
    )  # fmt: skip
    apply(database, gone)
    assert compares_three_ways(database, gone)


def test_recorded_updates_are_free_unless_the_fix_also_inserted_or_deleted(database: Database) -> None:
    lay(database)
    updated = RecordedFix(name="f", reason="r", tables=[Table("item", "item_audit", updated=2)])
    record(database, updated, "UPDATE item SET v = v + 1, w = 'shut' WHERE id <= 2")
    # "w" is in the condition of a unique index
    assert compares_three_ways(database, updated)
    revert(database, updated)
    record(database, updated, "UPDATE item SET v = v + 1 WHERE id <= 2")
    assert not compares_three_ways(database, updated)
    revert(database, updated)
    mixed = RecordedFix(name="g", reason="r", tables=[Table("item", "item_audit", updated=2, deleted=1)])
    record(database, mixed, "UPDATE item SET v = v + 1 WHERE id <= 2", "DELETE FROM item WHERE id = 8")
    assert compares_three_ways(database, mixed)
    revert(database, mixed)
    assert database.rows("SELECT id, v FROM item ORDER BY id") == [(n, n) for n in range(1, 9)]


def test_a_reference_between_tables_of_one_fix_is_compared(database: Database) -> None:
    lay(database)
    tables = [Table("item", "item_audit", updated=1), Table("kind", "kind_audit", inserted=1)]
    both = RecordedFix(name="f", reason="r", tables=tables)
    record(database, both, "INSERT INTO kind VALUES (3)", "UPDATE item SET kind = 3 WHERE id = 1")
    assert compares_three_ways(database, both)
    revert(database, both)
    assert database.value("SELECT count(*) FROM kind") == 2


MIXED = (
    "UPDATE item SET code = 'theirs' WHERE id = 1",  # another column: stays, and the row is free
    "UPDATE item SET v = 77 WHERE id = 2",  # a conflict
    "UPDATE item SET v = 3, kind = 1 WHERE id = 3",  # back already
    "UPDATE item SET v = 4 WHERE id = 4",  # back in one column, and not in the other
    "DELETE FROM item WHERE id = 5",  # gone
)


def test_only_what_is_left_is_compared_and_each_row_has_its_images_once(database: Database) -> None:
    lay(database)
    changed = fix(v=0, kind=2)
    apply(database, changed)
    database.execute(*MIXED)
    assert not compares_three_ways(database, changed)
    before = database.dump()
    with pytest.raises(Conflicts, match=r"2 of 6 rows .*: 2 changed since, 5 gone"):
        revert(database, changed)
    assert {name: rows for name, rows in database.dump().items() if name != "public.datafix_run"} == {
        name: rows for name, rows in before.items() if name != "public.datafix_run"
    }
    revert(database, changed, "skip")
    assert database.rows("SELECT id, code, v, kind FROM item WHERE id <= 6 ORDER BY id") == [
        (1, "theirs", 1, 1), (2, "c2", 77, 2), (3, "c3", 3, 1), (4, "c4", 4, 1), (6, "c6", 6, 1),
    ]  # fmt: skip
    last = "(SELECT max(run_id) FROM datafix_run)"
    assert database.rows(
        f"SELECT id, audit_image, v, kind FROM item_audit WHERE audit_run_id = {last} ORDER BY 1, 2 DESC"
    ) == [
        (1, "before", 0, 2), (1, "after", 1, 1), (4, "before", 4, 2), (4, "after", 4, 1), (6, "before", 0, 2), (6, "after", 6, 1),
    ]  # fmt: skip
    assert database.rows(
        f"SELECT rows_found, rows_changed, rows_already, rows_skipped FROM datafix_run WHERE run_id = {last}"
    ) == [(6, 3, 1, 2)]


def test_a_row_that_the_fix_left_as_it_was_is_not_written(database: Database) -> None:
    lay(database)
    database.execute("UPDATE item SET v = 0 WHERE id = 1")
    apply(database, fix())
    row = database.value("SELECT ctid::text FROM item WHERE id = 1")
    revert(database, fix())
    assert database.value("SELECT ctid::text FROM item WHERE id = 1") == row
    assert database.value("SELECT count(*) FROM item_audit WHERE audit_run_id = 2") == 10
