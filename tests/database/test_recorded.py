"""Recorded fixes: what any statements change in the tables of a fix is copied, proved, and given back."""

import pytest

from datafixes.errors import Refused
from tests import fixes, shop
from tests.servers import Database
from tests.shop import MERGE, contents, fix, lay, merged, table

ways = pytest.mark.parametrize("offline", [False, True], ids=["online", "one script"])


def images(database: Database, name: str) -> list[tuple[str, int]]:
    """How many images of each kind an audit table holds."""
    return database.rows(f"SELECT audit_image, count(*) FROM {name}_audit GROUP BY 1 ORDER BY 1 DESC")


@ways
def test_several_statements_on_several_tables_and_a_temporary_one(database: Database, offline: bool) -> None:
    before = lay(database)
    fixes.record(database, merged(), *MERGE, offline=offline)
    assert database.rows("SELECT id FROM customer ORDER BY id") == [(1,), (3,), (4,)]
    assert [images(database, name) for name in ("customer", "invoice", "note")] == [
        [("before", 1)], [("before", 2), ("after", 2)], [("before", 2), ("after", 2)],
    ]  # fmt: skip
    assert database.rows(
        "SELECT r.outcome, r.rows_expected, r.rows_changed, t.target_table, t.key_columns, t.rows_inserted, t.rows_updated, t.rows_deleted"
        " FROM datafix_run r JOIN datafix_run_table t USING (run_id) ORDER BY position"
    ) == [
        ("applied", 7, 7, "public.customer", ["id"], 0, 0, 1),
        ("applied", 7, 7, "public.invoice", ["id"], 0, 2, 0),
        ("applied", 7, 7, "public.note", [], 2, 0, 2),
    ]
    fixes.revert(database, merged())
    assert contents(database) == before
    fixes.record(database, merged(), *MERGE, offline=offline)
    fixes.revert(database, merged())
    assert contents(database) == before


@ways
def test_of_a_row_touched_often_the_first_before_and_the_last_after_are_kept(
    database: Database, offline: bool
) -> None:
    before = lay(database)
    often = fix(table("customer", updated=1, inserted=1))
    fixes.record(
        database, often,
        "UPDATE customer SET name = 'one' WHERE id = 3",
        "UPDATE customer SET name = 'two' WHERE id = 3; UPDATE customer SET name = 'three' WHERE id IN (3, 4)",
        "UPDATE customer SET name = 'Coil' WHERE id = 4",
        "INSERT INTO customer (name) VALUES ('new'), ('new'), ('gone')",
        "DELETE FROM customer WHERE name = 'gone' OR id = 5",
        "UPDATE customer SET name = 'renamed' WHERE name = 'new'",
        offline=offline,
    )  # fmt: skip
    assert database.rows("SELECT audit_image, id, name FROM customer_audit ORDER BY audit_id") == [
        ("before", 3, "Bolt"), ("after", 3, "three"), ("after", 6, "renamed"),
    ]  # fmt: skip
    fixes.revert(database, often)
    assert contents(database) == before


def test_upserts_merges_functions_and_generated_keys(database: Database) -> None:
    before = lay(
        database,
        "CREATE FUNCTION raise_totals(integer) RETURNS void LANGUAGE sql AS 'UPDATE invoice SET total = total + 1 WHERE customer = $1'",
    )
    everything = fix(
        table("customer", inserted=1), table("invoice", updated=3, inserted=2), table("line", inserted=1)
    )
    fixes.record(
        database, everything,
        "WITH new AS (INSERT INTO customer (name) VALUES ('Dyna') RETURNING id) INSERT INTO invoice SELECT 20, id, 5 FROM new",
        "INSERT INTO invoice VALUES (10, 1, 1), (20, 1, 1) ON CONFLICT (id) DO UPDATE SET total = excluded.total",
        "MERGE INTO invoice USING (VALUES (13), (21)) AS given (id) ON invoice.id = given.id"
        " WHEN MATCHED THEN UPDATE SET total = 99 WHEN NOT MATCHED THEN INSERT (id, customer, total) VALUES (given.id, 3, 98)",
        "DO $$ BEGIN PERFORM raise_totals(3); END $$",
        "SELECT raise_totals(1)",
        "INSERT INTO line VALUES (21, 1, 'x')",
        "UPDATE invoice SET total = 20.50 + 0.0 WHERE id = 11",
        "UPDATE invoice SET total = 3 WHERE id = 12",
    )  # fmt: skip
    fixes.revert(database, everything)
    assert contents(database) == before


def test_c4_what_a_foreign_key_deletes_along_is_found_copied_and_given_back(database: Database) -> None:
    before = lay(database)
    statements = ("DELETE FROM invoice WHERE customer = 2",)
    with pytest.raises(
        Refused, match=r"rows of 1 other table changed along, without a copy: public\.line \(6 deleted\)"
    ):
        fixes.record(database, fix(table("invoice", deleted=2)), *statements)
    assert contents(database) == before
    both = fix(table("invoice", deleted=2), table("line", deleted=6))
    fixes.record(database, both, *statements)
    assert database.value("SELECT count(*) FROM line") == 6
    fixes.revert(database, both)
    assert contents(database) == before
    said = fix(table("invoice", deleted=2), may_differ=["line"], name="said")
    fixes.record(database, said, *statements)
    assert shop.contents(database) != before
