"""Revert of deleted and inserted rows: keys, generated columns, who refers to them, who took their place."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from datafixes import DataFix, Delete, Insert, RecordedFix, Rows, Table, Update, sql
from datafixes.declaration.recalled import RecalledFix
from datafixes.errors import Conflicts, NothingToRevert, OthersWouldChange, Refused
from tests.fixes import apply, create_audit_table, record, revert
from tests.servers import Database

LAST = (
    "SELECT outcome, rows_found, rows_changed, rows_already, rows_skipped, rows_overwritten"
    " FROM datafix_run ORDER BY run_id DESC LIMIT 1"
)
ALL = "SELECT * FROM item ORDER BY id"


def a_table(database: Database, definition: str, *more: str) -> None:
    """A table `item`, its audit table, and what else a test needs."""
    database.execute(f"CREATE TABLE item ({definition})", *more)
    create_audit_table(database, "item", "item_audit")


def delete(*keys: Any, key: str | tuple[str, ...] = "id", name: str = "delete") -> DataFix:
    rows = Rows(key=key, expect=list(keys))
    return DataFix(name=name, reason="A test.", change=Delete("item"), rows=rows, audit="item_audit")


def insert(*added: dict[str, Any], name: str = "insert") -> DataFix:
    rows = Rows(key="id", expect=len(added))
    return DataFix(name=name, reason="A test.", change=Insert("item", added), rows=rows, audit="item_audit")


def ids(database: Database) -> Sequence[int]:
    return [row[0] for row in database.rows(ALL)]


def test_deleted_rows_come_back_with_their_keys(database: Database) -> None:
    a_table(
        database,
        "id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, no serial, v text, twice text GENERATED ALWAYS AS (v || v) STORED",
        "INSERT INTO item (v) VALUES ('a'), ('b'), ('c')",
    )
    was = database.rows(ALL)
    apply(database, delete(1, 3))
    assert ids(database) == [2]
    revert(database, delete(1, 3))
    assert database.rows(ALL) == was
    database.execute("INSERT INTO item (v) VALUES ('d')")
    assert ids(database) == [1, 2, 3, 4]


def test_a_deleted_row_whose_key_is_taken_is_a_conflict(database: Database) -> None:
    a_table(database, "id integer PRIMARY KEY, v text", "INSERT INTO item VALUES (1, 'a'), (2, 'b')")
    apply(database, delete(1, 2))
    database.execute("INSERT INTO item VALUES (1, 'somebody else')")
    for policy in ("refuse", "overwrite"):
        with pytest.raises(Conflicts, match=r"1 of 2 rows .*: 1 taken"):
            revert(database, delete(1, 2), policy)
    assert database.rows(ALL) == [(1, "somebody else")]
    revert(database, delete(1, 2), "skip")
    assert database.rows(ALL) == [(1, "somebody else"), (2, "b")]
    assert database.rows(LAST) == [("reverted", 2, 1, 0, 1, 0)]


def test_a_deleted_row_that_somebody_brought_back_as_it_was_is_no_conflict(database: Database) -> None:
    a_table(database, "id integer PRIMARY KEY, v text", "INSERT INTO item VALUES (1, 'a'), (2, 'b')")
    apply(database, delete(1, 2))
    database.execute("INSERT INTO item VALUES (1, 'a')")
    revert(database, delete(1, 2))
    assert database.rows(LAST) == [("reverted", 2, 1, 1, 0, 0)]


def test_a_unique_value_that_another_row_holds_now_is_a_conflict(database: Database) -> None:
    a_table(
        database,
        'id integer PRIMARY KEY, code text COLLATE "C", no integer, UNIQUE (code, no), UNIQUE (no)',
        "INSERT INTO item VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', NULL)",
    )
    apply(database, delete(1, 2, 3))
    database.execute("INSERT INTO item VALUES (9, 'z', 1), (10, 'c', NULL)")
    with pytest.raises(Conflicts, match=r"1 of 3 rows .*: 1 taken"):
        revert(database, delete(1, 2, 3))
    revert(database, delete(1, 2, 3), "skip")
    assert ids(database) == [2, 3, 9, 10]


def test_a_unique_value_that_an_update_gave_up_and_another_row_took_is_a_conflict(database: Database) -> None:
    a_table(
        database,
        "id integer PRIMARY KEY, code text UNIQUE, v text",
        "INSERT INTO item VALUES (1, 'a', 'x'), (2, 'b', 'y')",
    )
    fix = DataFix(
        name="update", reason="A test.", change=Update("item", set={"code": sql("code || '!'"), "v": "z"}),
        rows=Rows(key="id", expect=[1, 2]), audit="item_audit",
    )  # fmt: skip
    apply(database, fix)
    database.execute("INSERT INTO item VALUES (3, 'a', 'theirs')")
    with pytest.raises(Conflicts, match=r"1 of 2 rows .*: 1 taken"):
        revert(database, fix)
    revert(database, fix, "skip")
    assert database.rows(ALL) == [(1, "a!", "z"), (2, "b", "y"), (3, "a", "theirs")]


def test_inserted_rows_are_taken_back(database: Database) -> None:
    a_table(
        database, "id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text, at timestamptz DEFAULT now()"
    )
    database.execute("INSERT INTO item (v) VALUES ('a')")
    fix = insert({"v": "b", "at": sql("DEFAULT")}, {"v": "c", "at": None})
    apply(database, fix)
    assert ids(database) == [1, 2, 3]
    images = "SELECT audit_image, id, v FROM item_audit ORDER BY audit_id"
    assert database.rows(images) == [("after", 2, "b"), ("after", 3, "c")]
    revert(database, fix)
    assert ids(database) == [1]
    assert database.rows(images)[2:] == [("before", 2, "b"), ("before", 3, "c")]
    apply(database, fix)
    assert ids(database) == [1, 4, 5]


def test_inserted_rows_that_changed_since_are_not_taken_back(database: Database) -> None:
    a_table(database, "id integer PRIMARY KEY, v text, n integer")
    fix = insert(*({"id": n, "v": "new"} for n in (1, 2, 3)))
    apply(database, fix)
    database.execute("UPDATE item SET n = 7 WHERE id = 2", "DELETE FROM item WHERE id = 3")
    with pytest.raises(Conflicts, match=r"1 of 3 rows .*: 2 changed since") as refused:
        revert(database, fix)
    assert refused.value.detail.split()[-7:] == ["2", "changed", "since", "n", "NULL", "NULL", "7"]
    assert ids(database) == [1, 2]
    revert(database, fix, "skip")
    assert ids(database) == [2]
    assert database.rows(LAST) == [("reverted", 3, 1, 1, 1, 0)]


def test_overwrite_takes_back_inserted_rows_that_changed_since(database: Database) -> None:
    a_table(database, "id integer PRIMARY KEY, v text")
    fix = insert({"id": 1, "v": "new"}, {"id": 2, "v": "new"})
    apply(database, fix)
    database.execute("UPDATE item SET v = 'theirs' WHERE id = 2")
    revert(database, fix, "overwrite")
    assert ids(database) == []
    assert database.rows("SELECT v FROM item_audit WHERE audit_image = 'before' AND id = 2") == [("theirs",)]


@pytest.mark.parametrize("action", ["NO ACTION", "CASCADE", "SET NULL"])
@pytest.mark.parametrize("policy", ["refuse", "overwrite"])
def test_inserted_rows_that_somebody_refers_to_stay(database: Database, action: str, policy: str) -> None:
    a_table(
        database,
        "id integer PRIMARY KEY, v text",
        f"CREATE TABLE child (id integer PRIMARY KEY, item integer REFERENCES item ON DELETE {action})",
    )
    fix = insert({"id": 1, "v": "new"}, {"id": 2, "v": "new"})
    apply(database, fix)
    database.execute("INSERT INTO child VALUES (10, 2)", "UPDATE item SET v = 'theirs' WHERE id = 2")
    if policy == "refuse":
        database.execute("UPDATE item SET v = 'new' WHERE id = 2")
    with pytest.raises(Conflicts, match=r"1 of 2 rows .*: 2 referenced"):
        revert(database, fix, policy)
    revert(database, fix, "skip")
    assert ids(database) == [2]
    assert database.rows("TABLE child") == [(10, 2)]


def test_rows_that_refer_to_each_other_stay_together_when_one_of_them_is_referred_to(
    database: Database,
) -> None:
    a_table(database, "id integer PRIMARY KEY, parent integer REFERENCES item ON DELETE CASCADE")
    fix = insert(
        *({"id": n, "parent": n - 1 or None} for n in (1, 2, 3)),
        {"id": 5, "parent": None},
        {"id": 6, "parent": 5},
    )
    apply(database, fix)
    database.execute("INSERT INTO item VALUES (4, 3)")
    revert(database, fix, "skip")
    assert ids(database) == [1, 2, 3, 4]
    assert database.rows(LAST) == [("reverted", 5, 2, 0, 3, 0)]


def test_a_value_that_others_follow_is_not_changed_back_under_them(database: Database) -> None:
    a_table(
        database,
        "id integer PRIMARY KEY, code text UNIQUE",
        "INSERT INTO item VALUES (1, 'a'), (2, 'b')",
        "CREATE TABLE child (id integer PRIMARY KEY, code text REFERENCES item (code) ON UPDATE CASCADE)",
    )
    fix = DataFix(
        name="update", reason="A test.", change=Update("item", set={"code": sql("code || '!'")}),
        rows=Rows(key="id", expect=[1, 2]), audit="item_audit",
    )  # fmt: skip
    apply(database, fix)
    database.execute("INSERT INTO child VALUES (10, 'a!')")
    with pytest.raises(Conflicts, match=r"1 of 2 rows .*: 1 referenced"):
        revert(database, fix)
    revert(database, fix, "skip")
    assert database.rows(ALL) == [(1, "a!"), (2, "b")]
    assert database.rows("TABLE child") == [(10, "a!")]


def test_a_partition_as_target_has_the_references_to_its_parent(database: Database) -> None:
    database.execute(
        "CREATE TABLE parent (id integer PRIMARY KEY, v text) PARTITION BY RANGE (id)",
        "CREATE TABLE item PARTITION OF parent FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE child (id integer PRIMARY KEY, item integer REFERENCES parent ON DELETE CASCADE)",
        "INSERT INTO parent VALUES (1, 'a')",
        "INSERT INTO child VALUES (10, 1)",
    )
    create_audit_table(database, "item", "item_audit")
    with pytest.raises(OthersWouldChange, match=r"1 rows of public.child"):
        apply(database, delete(1))
    fix = insert({"id": 2, "v": "new"})
    apply(database, fix)
    database.execute("INSERT INTO child VALUES (11, 2)")
    with pytest.raises(Conflicts, match="2 referenced"):
        revert(database, fix)
    assert database.value("SELECT count(*) FROM child") == 2


def test_composite_keys(database: Database) -> None:
    a_table(
        database,
        "account text, id integer, v text, PRIMARY KEY (account, id)",
        "INSERT INTO item VALUES ('large', 1, 'a'), ('tiny', 1, 'b'), ('large', 2, 'c'), ('l/1', 1, 'd')",
    )
    was = database.rows("SELECT * FROM item ORDER BY account, id")
    key = ("id", "account")
    fix = DataFix(
        name="update", reason="A test.", change=Update("item", set={"v": "x"}),
        rows=Rows(key=key, expect=[(1, "large"), (2, "large"), (1, "l/1")]), audit="item_audit",
    )  # fmt: skip
    gone = delete((1, "tiny"), key=key)
    apply(database, fix)
    apply(database, gone)
    assert database.rows("SELECT v FROM item ORDER BY account, id") == [("x",), ("x",), ("x",)]
    database.execute("UPDATE item SET v = 'y' WHERE id = 2")
    with pytest.raises(Conflicts, match="2/large changed since"):
        revert(database, fix)
    database.execute("UPDATE item SET v = 'x' WHERE id = 2")
    revert(database, gone)
    revert(database, fix)
    assert database.rows("SELECT * FROM item ORDER BY account, id") == was


KEYS: dict[str, list[Any]] = {
    "app.word": ["a", "b"],
    "app.mood": ["sad", "glad"],
    "timestamptz": ["2024-11-03 05:30:00+00", "2024-11-03 06:30:00+00"],
    "bytea": [b"\x00", b"\xff"],
    "uuid": ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-4fff-bfff-ffffffffffff"],
    'text COLLATE "POSIX"': ["a", "b"],
    "character(3)": ["a", "b"],
    "numeric": ["1.0", "2.00"],
    "int4range": ["[1,3)", "empty"],
}


def test_keys_of_many_types(database: Database) -> None:
    database.execute(
        "CREATE SCHEMA app",
        "CREATE TYPE app.mood AS ENUM ('glad', 'sad')",
        "CREATE DOMAIN app.word AS varchar(10)",
    )
    for number, (type_, keys) in enumerate(KEYS.items()):
        a_table(database, f"id {type_} PRIMARY KEY, v text")
        fix = insert(*({"id": key, "v": "new"} for key in keys), name=f"insert_{number}")
        apply(database, fix)
        gone = delete(keys[0], name=f"delete_{number}")
        was = database.rows(ALL)
        apply(database, gone)
        revert(database, gone)
        assert database.rows(ALL) == was
        revert(database, fix)
        assert database.rows(ALL) == []
        database.execute("DROP TABLE item", "DROP TABLE item_audit CASCADE")


def test_a_row_that_cannot_be_put_back_is_refused_by_its_constraint(database: Database) -> None:
    a_table(database, "id integer PRIMARY KEY, v text", "INSERT INTO item VALUES (1, 'a'), (2, 'b')")
    apply(database, delete(1))
    database.execute("ALTER TABLE item ADD CONSTRAINT never_a CHECK (v <> 'a')")
    with pytest.raises(Refused, match="never_a"):
        revert(database, delete(1))
    assert ids(database) == [2]


# --- rows whose key somebody changed


def test_an_inserted_row_whose_key_somebody_changed_is_a_conflict_that_names_it(database: Database) -> None:
    a_table(database, "id integer PRIMARY KEY, v text, n numeric", "INSERT INTO item VALUES (9, 'old', 1.0)")
    fix = insert({"id": 1, "v": "new", "n": None}, {"id": 2, "v": "newer", "n": 1})
    apply(database, fix)
    database.execute("UPDATE item SET id = 20 WHERE id = 2")
    before = database.dump()
    for policy in ("refuse", "overwrite"):
        with pytest.raises(
            Conflicts, match=r"1 of 2 rows of public\.item cannot be restored: 2 moved"
        ) as refused:
            revert(database, fix, policy)
        assert refused.value.detail.splitlines()[-1].split() == ["2", "moved", "id", "NULL", "2", "20"]
        assert "overwrite" not in refused.value.hint
        assert database.dump() == before
    revert(database, fix, "skip")
    assert ids(database) == [9, 20]
    assert database.rows(LAST) == [("reverted", 2, 1, 0, 1, 0)]


def test_an_inserted_row_that_somebody_deleted_is_back_already(database: Database) -> None:
    """Whatever else is there: a row of another content, one of the fix's own, one whose values are all NULL."""
    a_table(
        database,
        "id integer PRIMARY KEY, v text, n integer",
        "INSERT INTO item VALUES (8, NULL, NULL), (9, 'x', 1)",
    )
    fix = insert({"id": 1, "v": "x", "n": 2}, {"id": 2, "v": "x", "n": 2}, {"id": 3, "v": None, "n": None})
    apply(database, fix)
    database.execute("DELETE FROM item WHERE id IN (1, 3)")
    revert(database, fix)
    assert ids(database) == [8, 9]
    assert database.rows(LAST) == [("reverted", 3, 1, 2, 0, 0)]


def test_a_unique_value_tells_that_the_key_changed_whatever_else_did(database: Database) -> None:
    a_table(database, "id integer PRIMARY KEY, code text UNIQUE, at timestamptz DEFAULT now()")
    fix = insert({"id": 1, "code": "EUR"}, {"id": 2, "code": None}, {"id": 3, "code": "USD"})
    apply(database, fix)
    database.execute("UPDATE item SET id = id + 10, at = '2020-01-01 00:00+00'")
    with pytest.raises(Conflicts, match=r"2 of 3 rows .*: 1 moved, 3 moved"):
        revert(database, fix)


def test_housekeeping_does_not_tell_rows_apart(database: Database) -> None:
    a_table(
        database,
        "id integer PRIMARY KEY, v text, at timestamptz DEFAULT now(), twice int GENERATED ALWAYS AS (id * 2) STORED",
    )
    fix = replace(insert({"id": 1, "v": "x"}), housekeeping=["at"])
    apply(database, fix)
    database.execute("UPDATE item SET id = 7, at = '2020-01-01 00:00+00'")
    with pytest.raises(Conflicts, match="1 moved"):
        revert(database, fix)


def test_a_row_of_several_key_columns_and_of_types_of_its_own(database: Database) -> None:
    database.execute(
        "CREATE TYPE mood AS ENUM ('sad', 'glad')", "CREATE TYPE pair AS (a timestamptz, b text)"
    )
    a_table(
        database,
        "id integer, kind mood, j json, at timestamptz, both_ pair, PRIMARY KEY (id, kind)",
    )
    fix = insert(
        {"id": 1, "kind": "sad", "j": sql("'{\"a\": 1}'"), "at": sql("now()"), "both_": sql("(now(), 'x')")}
    )
    fix = replace(fix, rows=Rows(key=("id", "kind"), expect=1))
    apply(database, fix)
    database.execute("UPDATE item SET kind = 'glad'")
    with pytest.raises(Conflicts, match="1/sad moved") as refused:
        revert(database, fix)
    assert refused.value.detail.splitlines()[-1].split() == [
        "1/sad",
        "moved",
        "id/kind",
        "NULL",
        "1/sad",
        "1/glad",
    ]


def test_an_updated_row_whose_key_somebody_changed_says_where_it_is(database: Database) -> None:
    a_table(database, "id integer PRIMARY KEY, v text", "INSERT INTO item VALUES (1, 'a'), (2, 'b')")
    fix = DataFix(
        name="update", reason="A test.", change=Update("item", set={"v": sql("v || '!'")}),
        rows=Rows(key="id", expect=[1, 2]), audit="item_audit",
    )  # fmt: skip
    apply(database, fix)
    database.execute("UPDATE item SET id = 20 WHERE id = 2", "DELETE FROM item WHERE id = 1")
    with pytest.raises(Conflicts, match=r"2 of 2 rows .*: 1 gone, 2 moved") as refused:
        revert(database, fix)
    assert ["2", "moved", "id", "2", "2", "20"] in [
        line.split() for line in refused.value.detail.splitlines()
    ]
    revert(database, fix, "skip")
    assert database.rows(ALL) == [(20, "b!")]


def test_a_row_that_a_later_fix_deleted_is_back_already_though_it_has_a_twin(database: Database) -> None:
    a_table(database, "id integer PRIMARY KEY, v text", "INSERT INTO item VALUES (9, 'x')")
    fix, later = insert({"id": 1, "v": "x"}), delete(1)
    apply(database, fix)
    apply(database, later)
    revert(database, fix)
    assert database.rows(LAST) == [("reverted", 1, 0, 1, 0, 0)]
    # Brought back by that fix's revert, and moved: somebody's change again.
    revert(database, later)
    database.execute("UPDATE item SET id = 5 WHERE id = 1")
    with pytest.raises(NothingToRevert):
        revert(database, fix)


def test_a_recorded_insert_whose_key_somebody_changed_is_a_conflict(database: Database) -> None:
    a_table(database, "id integer PRIMARY KEY, v text")
    database.execute("CREATE TABLE heap (v text)")
    create_audit_table(database, "heap", "heap_audit")
    fix = RecordedFix(
        name="record", reason="A test.", tables=[Table("item", "item_audit", inserted=1), Table("heap", "heap_audit", inserted=1)]
    )  # fmt: skip
    record(database, fix, "INSERT INTO item VALUES (1, 'x')", "INSERT INTO heap VALUES ('x')")
    database.execute("UPDATE item SET id = 2", "UPDATE heap SET v = 'y'")
    with pytest.raises(Conflicts, match=r"public\.heap \(x\) gone, public\.item 1 moved"):
        revert(database, fix)


def test_the_revert_of_a_deletes_revert_is_refused_too(database: Database) -> None:
    """A deleted row came back, and its key was changed: to take that back would leave it."""
    a_table(database, "id integer PRIMARY KEY, v text", "INSERT INTO item VALUES (1, 'x')")
    fix = delete(1)
    apply(database, fix)
    revert(database, fix)
    database.execute("UPDATE item SET id = 2")
    back = RecalledFix("delete", database.value("SELECT max(run_id) FROM datafix_run"), "public")
    with pytest.raises(Conflicts, match="1 moved"):
        revert(database, back)
