"""Reverts across tables: foreign keys in every direction, unique values that change places, rows without a key."""

from dataclasses import replace

import pytest

from datafixes import DataFix, Delete, Insert, RecordedFix, Rows, Table, Update, sql
from datafixes.errors import Conflicts, Refused
from tests import fixes
from tests.servers import LEDGER, Database
from tests.shop import contents, fix, lay, table


def there_and_back(database: Database, given: RecordedFix, *statements: str) -> None:
    """Record, revert, compare; and all of it once more, as one script."""
    before = contents(database)
    for offline in (False, True):
        fixes.record(database, given, *statements, offline=offline)
        assert contents(database) != before
        fixes.revert(database, given)
        assert contents(database) == before


# --- foreign keys


def test_a_delete_with_its_children(database: Database) -> None:
    lay(database)
    all_of_it = fix(
        table("customer", deleted=2),
        table("invoice", deleted=1),
        table("line", deleted=3),
        table("note", deleted=1, inserted=1),
    )
    there_and_back(
        database, all_of_it,
        "DELETE FROM invoice WHERE customer IN (3, 4)", "DELETE FROM customer WHERE id IN (3, 4)",
    )  # fmt: skip


def test_c4_set_null_and_cascade_are_copied_and_undone(database: Database) -> None:
    lay(database)
    removed = fix(
        table("customer", deleted=1),
        table("note", deleted=2, inserted=2),
        table("invoice", deleted=2),
        table("line", deleted=6),
    )
    there_and_back(
        database, removed, "DELETE FROM invoice WHERE customer = 2", "DELETE FROM customer WHERE id = 2"
    )


def test_rows_that_refer_to_each_other_and_to_themselves(database: Database) -> None:
    lay(
        database,
        "ALTER TABLE customer ADD COLUMN best_note text",
        "CREATE TABLE pair (id integer PRIMARY KEY, other integer NOT NULL REFERENCES pair DEFERRABLE INITIALLY DEFERRED)",
        "INSERT INTO pair VALUES (1, 2), (2, 1), (3, 3)",
    )
    fixes.create_audit_table(database, "pair", "pair_audit")
    before = database.rows("TABLE pair ORDER BY id")
    gone = fix(Table("pair", "pair_audit", deleted=3))
    fixes.record(database, gone, "DELETE FROM pair")
    fixes.revert(database, gone)
    assert database.rows("TABLE pair ORDER BY id") == before


def test_a_primary_key_that_changes_with_what_follows_it(database: Database) -> None:
    lay(
        database,
        "ALTER TABLE line DROP CONSTRAINT line_invoice_fkey",
        "ALTER TABLE line ADD FOREIGN KEY (invoice) REFERENCES invoice ON UPDATE CASCADE",
    )
    renumbered = fix(table("invoice", deleted=1, inserted=1), table("line", deleted=3, inserted=3))
    there_and_back(database, renumbered, "UPDATE invoice SET id = 110 WHERE id = 10")


def test_keys_generated_always_come_back_as_they_were(database: Database) -> None:
    lay(database)
    declared = DataFix(
        name="remove", reason="Nobody.", change=Delete("customer"), rows=Rows(key="id", expect={4: "Coil"}, identity={"name": "name"}),
        audit="customer_audit",
    )  # fmt: skip
    before = contents(database)
    fixes.apply(database, declared)
    fixes.revert(database, declared)
    assert contents(database) == before
    added = DataFix(
        name="add", reason="Missing.", change=Insert("customer", rows=[{"name": "Dyna"}, {"name": "Eel"}]), rows=Rows(key="id", expect=2),
        audit="customer_audit",
    )  # fmt: skip
    fixes.apply(database, added)
    fixes.revert(database, added)
    assert contents(database) == before


def test_c5_an_inserted_row_that_somebody_refers_to_stays(database: Database) -> None:
    lay(database)
    added = fix(table("customer", inserted=1), table("invoice", inserted=1))
    fixes.record(
        database, added,
        "WITH c AS (INSERT INTO customer (name) VALUES ('Dyna') RETURNING id) INSERT INTO invoice SELECT 50, id, 1 FROM c",
    )  # fmt: skip
    database.execute("INSERT INTO line VALUES (50, 1, 'theirs')")
    now = contents(database)
    with pytest.raises(Conflicts, match=r"public\.customer 5 referenced, public\.invoice 50 referenced"):
        fixes.revert(database, added)
    assert contents(database) == now
    fixes.revert(database, added, "skip")
    assert contents(database) == now
    assert database.rows(
        "SELECT rows_changed, rows_skipped FROM datafix_run ORDER BY run_id DESC LIMIT 1"
    ) == [(0, 2)]


def test_an_inserted_parent_is_taken_back_when_its_child_is_the_fixs_own(database: Database) -> None:
    lay(database)
    moved = fix(table("customer", inserted=1), table("invoice", updated=2))
    there_and_back(
        database, moved,
        "INSERT INTO customer (id, name) OVERRIDING SYSTEM VALUE VALUES (90, 'Both')", "UPDATE invoice SET customer = 90 WHERE customer = 2",
    )  # fmt: skip
    fixes.record(
        database, replace(moved, name="again"),
        "INSERT INTO customer (id, name) OVERRIDING SYSTEM VALUE VALUES (90, 'Both')", "UPDATE invoice SET customer = 90 WHERE customer = 2",
    )  # fmt: skip
    database.execute("UPDATE invoice SET customer = 90 WHERE id = 13")
    with pytest.raises(Conflicts, match=r"public\.customer 90 referenced"):
        fixes.revert(database, replace(moved, name="again"))


def test_c33_a_row_that_somebody_put_in_the_place_of_a_deleted_one_is_kept(database: Database) -> None:
    lay(database)
    removed = fix(table("line", deleted=2))
    fixes.record(database, removed, "DELETE FROM line WHERE invoice = 13 AND place > 1")
    database.execute("INSERT INTO line VALUES (13, 2, 'theirs')")
    with pytest.raises(Conflicts, match="13/2 taken"):
        fixes.revert(database, removed)
    fixes.revert(database, removed, "skip")
    assert database.rows("SELECT place, item FROM line WHERE invoice = 13 ORDER BY place") == [
        (1, "item 1"),
        (2, "theirs"),
        (3, "item 3"),
    ]


def test_a_parent_that_is_gone_is_named(database: Database) -> None:
    lay(database)
    removed = fix(table("invoice", deleted=1), table("line", deleted=3))
    fixes.record(database, removed, "DELETE FROM invoice WHERE customer = 3")
    database.execute(
        "DELETE FROM note WHERE customer = 3; UPDATE customer SET referrer = NULL; DELETE FROM customer WHERE id = 3"
    )
    now = contents(database)
    with pytest.raises(
        Refused, match=r"violates foreign key constraint .*Key \(customer\)=\(3\) is not present"
    ):
        fixes.revert(database, removed)
    assert contents(database) == now


# --- unique values


@pytest.mark.parametrize(
    "constraint",
    ["UNIQUE (email)", "UNIQUE (email) DEFERRABLE", "UNIQUE (email) DEFERRABLE INITIALLY DEFERRED"],
)
@pytest.mark.parametrize("rows", [2, 3])
def test_c6_unique_values_that_change_places(database: Database, constraint: str, rows: int) -> None:
    lay(
        database,
        "ALTER TABLE customer DROP CONSTRAINT customer_email_key",
        f"ALTER TABLE customer ADD {constraint}",
        # what refers to a row does not notice that it is deleted and inserted again
        "UPDATE customer SET email = 'c@example.org' WHERE id = 4",
    )
    database.execute("DELETE FROM note")
    there_and_back(
        database, fix(table("customer", updated=rows)),
        "CREATE TEMP TABLE was AS SELECT id, email FROM customer",
        f"UPDATE customer SET email = id || '@parked' WHERE id <= {rows}",
        f"UPDATE customer SET email = (SELECT w.email FROM was AS w WHERE w.id = customer.id % {rows} + 1) WHERE id <= {rows}",
        "DROP TABLE was",
    )  # fmt: skip


def test_c6_a_row_that_others_would_lose_is_not_deleted_to_swap_a_value(database: Database) -> None:
    lay(database)
    swapped = fix(table("customer", updated=2))
    fixes.record(
        database, swapped,
        "UPDATE customer SET email = 'x' WHERE id = 2", "UPDATE customer SET email = 'acme@example.org' WHERE id = 3",
        "UPDATE customer SET email = 'b@example.org' WHERE id = 2",
    )  # fmt: skip
    now = contents(database)
    with pytest.raises(Conflicts, match="2 referenced, 3 referenced"):
        fixes.revert(database, swapped)
    assert contents(database) == now


# --- rows without a key


def test_c32_rows_without_a_key_are_told_apart_by_their_image_as_often_as_they_occur(
    database: Database,
) -> None:
    before = lay(database)
    one_of_two = fix(table("note", deleted=1))
    fixes.record(
        database, one_of_two, "DELETE FROM note WHERE ctid = (SELECT min(ctid) FROM note WHERE customer = 2)"
    )
    assert database.value("SELECT count(*) FROM note WHERE customer = 2") == 1
    fixes.revert(database, one_of_two)
    assert contents(database) == before
    changed = fix(table("note", deleted=3, inserted=3), name="changed")
    there_and_back(database, changed, "UPDATE note SET words = words || '!' WHERE customer IS NOT NULL")


def test_rows_without_a_key_that_somebody_changed_since_are_conflicts(database: Database) -> None:
    lay(database)
    changed = fix(table("note", deleted=2, inserted=2))
    fixes.record(database, changed, "UPDATE note SET words = 'never calls' WHERE customer = 2")
    database.execute(
        "UPDATE note SET words = 'theirs' WHERE ctid = (SELECT min(ctid) FROM note WHERE words = 'never calls')"
    )
    now = contents(database)
    with pytest.raises(
        Conflicts, match=r"1 of 4 rows of public\.note cannot be restored: \(2,\"never calls\"\) gone"
    ):
        fixes.revert(database, changed)
    assert contents(database) == now
    database.execute(
        "UPDATE note SET words = 'never calls' WHERE words = 'theirs'",
        "INSERT INTO note VALUES (2, 'never calls')",
    )
    fixes.revert(database, changed)
    assert database.rows("SELECT words, count(*) FROM note WHERE customer = 2 GROUP BY 1 ORDER BY 1") == [
        ("calls often", 2),
        ("never calls", 1),
    ]


def test_a_key_that_a_table_got_later_does_not_change_how_its_rows_were_told_apart(
    database: Database,
) -> None:
    before = lay(
        database,
        "DELETE FROM note WHERE ctid = (SELECT max(ctid) FROM note WHERE customer = 2)",
        "DELETE FROM note WHERE customer IS NULL",
    )
    changed = fix(table("note", deleted=1, inserted=1))
    fixes.record(database, changed, "UPDATE note SET words = 'x' WHERE customer = 2")
    database.execute("ALTER TABLE note ADD PRIMARY KEY (customer)")
    fixes.revert(database, changed)
    assert contents(database) == before


def test_keys_are_found_where_none_is_named(database: Database) -> None:
    lay(
        database,
        "CREATE TABLE coded (code text NOT NULL UNIQUE, extra text UNIQUE, v integer)",
        "INSERT INTO coded VALUES ('a', NULL, 1)",
    )
    fixes.create_audit_table(database, "coded", "coded_audit")
    fixes.record(
        database, fix(Table("coded", "coded_audit", updated=1), table("line", updated=1)),
        "UPDATE coded SET v = 2", "UPDATE line SET item = 'x' WHERE invoice = 10 AND place = 2",
    )  # fmt: skip
    assert database.rows("SELECT key_columns FROM datafix_run_table ORDER BY position") == [
        (["code"],),
        (["invoice", "place"],),
    ]


# --- partitions


def test_c8_rows_of_partitions_whichever_name_the_statements_use(database: Database) -> None:
    database.execute(
        "CREATE TABLE part (id integer, day integer, v text, twice integer GENERATED ALWAYS AS (day * 2) STORED, PRIMARY KEY (id, day)) PARTITION BY RANGE (day)",
        "CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE part_2 (v text, day integer NOT NULL, id integer NOT NULL, twice integer GENERATED ALWAYS AS (day * 2) STORED)",
        "ALTER TABLE part ATTACH PARTITION part_2 FOR VALUES FROM (10) TO (20)",
        "INSERT INTO part SELECT n, n, 'v' || n FROM generate_series(1, 19) AS n",
    )
    fixes.create_audit_table(database, "part", "part_audit")
    before = database.dump("public.part_audit", *LEDGER)
    moved = fix(Table("part", "part_audit", updated=2, deleted=2, inserted=1))
    for offline in (False, True):
        fixes.record(
            database, moved,
            "UPDATE part_2 SET v = 'direct' WHERE id = 12", "UPDATE part SET day = 15 WHERE id = 5", "DELETE FROM part WHERE id = 19",
            "UPDATE part SET v = 'through' WHERE id = 7", offline=offline,
        )  # fmt: skip
        assert database.rows("SELECT id, day, twice FROM part_2 WHERE id IN (5, 19)") == [(5, 15, 30)]
        fixes.revert(database, moved)
        assert database.dump("public.part_audit", *LEDGER) == before


def test_a_declared_change_is_given_back_together_with_a_recorded_one(database: Database) -> None:
    before = lay(database)
    first = DataFix(
        name="first", reason="Prices.", change=Update("invoice", set={"total": sql("total * 2")}, where="customer = 2"),
        rows=Rows(key="id", expect=2), audit="invoice_audit",
    )  # fmt: skip
    second = fix(table("invoice", updated=1), name="second")
    fixes.apply(database, first)
    fixes.record(database, second, "UPDATE invoice SET total = 0 WHERE id = 11")
    with pytest.raises(Conflicts, match="11 changed since"):
        fixes.revert(database, first)
    fixes.revert(database, second)
    fixes.revert(database, first)
    assert contents(database) == before
