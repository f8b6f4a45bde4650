"""Recorded fixes: what any statements change in the tables of a fix is copied, proved, and given back."""

import psycopg2
import pytest

from datafixes import Table
from datafixes.errors import Refused
from tests import fixes, shop
from tests.servers import Database
from tests.shop import MERGE, contents, fix, lay, merged, table
from tests.small_book import session

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
    merge = (
        "MERGE INTO invoice USING (VALUES (13), (21)) AS given (id) ON invoice.id = given.id"
        " WHEN MATCHED THEN UPDATE SET total = 99 WHEN NOT MATCHED THEN INSERT (id, customer, total) VALUES (given.id, 3, 98)"
        if database.server_version >= 15
        else "INSERT INTO invoice VALUES (13, 3, 98), (21, 3, 98) ON CONFLICT (id) DO UPDATE SET total = 99"
    )
    fixes.record(
        database, everything,
        "WITH new AS (INSERT INTO customer (name) VALUES ('Dyna') RETURNING id) INSERT INTO invoice SELECT 20, id, 5 FROM new",
        "INSERT INTO invoice VALUES (10, 1, 1), (20, 1, 1) ON CONFLICT (id) DO UPDATE SET total = excluded.total",
        merge,
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
        Refused, match=r"rows of 1 other table changed too, without a copy: public\.line \(6 deleted\)"
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


@ways
def test_a18_generated_columns_are_in_the_images_and_generated_again(
    database: Database, offline: bool
) -> None:
    virtual = ", v integer GENERATED ALWAYS AS (a * 3) VIRTUAL" if database.server_version >= 18 else ""
    database.execute(
        "CREATE FUNCTION app_twice(integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN app_once($1) * 2; END'",
        "CREATE FUNCTION app_once(integer) RETURNS integer IMMUTABLE LANGUAGE sql AS 'SELECT $1'",
        f"CREATE TABLE made (id integer PRIMARY KEY, a integer NOT NULL, s integer GENERATED ALWAYS AS (app_twice(a)) STORED{virtual})",
        "INSERT INTO made (id, a) VALUES (1, 5), (2, 6)",
    )
    fixes.create_audit_table(database, "made", "made_audit")
    before = database.rows("TABLE made ORDER BY id")
    both = fix(Table("made", "made_audit", updated=1, deleted=1))
    fixes.record(
        database, both, "UPDATE made SET a = 7 WHERE id = 1", "DELETE FROM made WHERE id = 2", offline=offline
    )
    shown = "id, a, s" + (", v" if virtual else "")
    assert database.rows(f"SELECT {shown} FROM made_audit WHERE audit_image = 'before' ORDER BY id") == before
    fixes.revert(database, both)
    assert database.rows("TABLE made ORDER BY id") == before


def test_a10_names_that_need_quotes_or_are_called_like_the_engines_own(database: Database) -> None:
    database.execute(
        'CREATE SCHEMA "Odd Schema"',
        'CREATE TABLE "Odd Schema"."select ""x""" ("Key 1" integer, s text, i text, o text, t text, r text, "fix" text, "n" text, own text, child text,'
        ' "audit""id" text, same text, PRIMARY KEY ("Key 1", s))',
        'INSERT INTO "Odd Schema"."select ""x""" VALUES (1, \'a\'), (2, \'b\'), (3, \'c\')',
    )
    fixes.create_audit_table(
        database, 'select "x"', "Audit It", schema="Odd Schema", audit_schema="Odd Schema"
    )
    before = database.rows('TABLE "Odd Schema"."select ""x""" ORDER BY 1')
    odd = fix(
        Table('select "x"', "Audit It", "Odd Schema", key=("Key 1", "s"), updated={(1, "a"): "one"}, deleted=1, identity={"What?": "'one'"}),
        ensure='(SELECT count(*) FROM "Odd Schema"."select ""x""") = 2',
    )  # fmt: skip
    for offline in (False, True):
        fixes.record(
            database, odd, 'UPDATE "Odd Schema"."select ""x""" SET o = $$x$$, own = $sql$y$sql$ WHERE s = \'a\'',
            'DELETE FROM "Odd Schema"."select ""x""" WHERE s = \'b\'', offline=offline,
        )  # fmt: skip
        fixes.revert(database, odd)
        assert database.rows('TABLE "Odd Schema"."select ""x""" ORDER BY 1') == before


def test_what_a_savepoint_took_back_was_never_recorded(database: Database) -> None:
    before = lay(database)
    some = fix(table("invoice", updated=1))
    fixes.record(
        database, some,
        "DO $$ BEGIN BEGIN UPDATE invoice SET total = 0; RAISE 'no'; EXCEPTION WHEN OTHERS THEN NULL; END; UPDATE invoice SET total = 1 WHERE id = 10; END $$",
    )  # fmt: skip
    assert images(database, "invoice") == [("before", 1), ("after", 1)]
    fixes.revert(database, some)
    assert contents(database) == before


def test_c14_nobody_else_writes_while_a_fix_is_recorded_and_everybody_reads(database: Database) -> None:
    lay(database)
    some = fix(table("invoice", updated=1))
    scripts = fixes.recording(some, fixes.Context(), fixes.LIMITS)
    with session(database) as recorder, recorder.cursor() as cursor:
        for statement in scripts.opening.statements():
            cursor.execute(statement)
        assert database.value("SELECT count(*) FROM invoice") == 4
        with pytest.raises(psycopg2.errors.LockNotAvailable):
            database.execute("SET lock_timeout = '100ms'; UPDATE invoice SET total = 5 WHERE id = 13")
        cursor.execute("UPDATE invoice SET total = 1 WHERE id = 10")
        for statement in scripts.closing.statements(scripts.closing.engine.functions):
            cursor.execute(statement)
        recorder.commit()
    assert images(database, "invoice") == [("before", 1), ("after", 1)]


def test_values_of_every_kind_of_comparison_cancel_out_only_bit_by_bit(database: Database) -> None:
    """1.0 is not 1.00, -0 is not 0, and json has no equality at all."""
    database.execute(
        "CREATE TABLE v (id integer PRIMARY KEY, n numeric, f float8, j json, p point)",
        "INSERT INTO v VALUES (1, 1.0, '-0', '{\"a\": 1}', '(1,2)'), (2, 1.0, 0, '[]', '(0,0)')",
        "CREATE TABLE was AS TABLE v",
    )
    fixes.create_audit_table(database, "v", "v_audit")
    one = fix(Table("v", "v_audit", updated=1))
    fixes.record(
        database, one, "UPDATE v SET n = 1.00, f = 0, j = '{\"a\":1}' WHERE id = 1", "UPDATE v SET n = 5, p = '(9,9)'",
        "UPDATE v SET n = 1.0, p = CASE id WHEN 1 THEN point '(1,2)' ELSE '(0,0)' END",
    )  # fmt: skip
    assert database.rows("SELECT id, n::text, f::text, j::text FROM v_audit ORDER BY audit_id") == [
        (1, "1.0", "-0", '{"a": 1}'), (1, "1.0", "0", '{"a":1}'),
    ]  # fmt: skip
    fixes.revert(database, one)
    assert database.value("SELECT bool_and(record_image_eq(v, was)) FROM v JOIN was USING (id)")


def test_a_key_by_whose_operator_no_full_join_is_possible(database: Database) -> None:
    """PostgreSQL joins in full only by operators that can merge or hash, and an index needs none that can."""
    database.execute(
        "CREATE OPERATOR === (LEFTARG = integer, RIGHTARG = integer, FUNCTION = int4eq)",
        "CREATE OPERATOR CLASS alike FOR TYPE integer USING btree AS"
        " OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 ===, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 btint4cmp(integer, integer)",
        "CREATE TABLE odd (id integer NOT NULL, v text)",
        "CREATE UNIQUE INDEX ON odd (id alike)",
        "INSERT INTO odd VALUES (1, 'a'), (2, 'b'), (3, 'c')",
    )
    fixes.create_audit_table(database, "odd", "odd_audit")
    some = fix(Table("odd", "odd_audit", updated=1, deleted=1, inserted=1))
    fixes.record(
        database, some, "UPDATE odd SET v = upper(v) WHERE id < 3", "UPDATE odd SET v = 'b' WHERE id = 2",
        "DELETE FROM odd WHERE id = 3", "INSERT INTO odd VALUES (4, 'd')",
    )  # fmt: skip
    assert database.rows("SELECT audit_image, id, v FROM odd_audit ORDER BY id, audit_image DESC") == [
        ("before", 1, "a"), ("after", 1, "A"), ("before", 3, "c"), ("after", 4, "d"),
    ]  # fmt: skip
    fixes.revert(database, some)
    assert database.rows("TABLE odd ORDER BY id") == [(1, "a"), (2, "b"), (3, "c")]


def test_a_change_that_one_statement_makes_to_nothing_leaves_no_image(database: Database) -> None:
    lay(database)
    fixes.record(
        database, fix(table("invoice", updated=1)), "UPDATE invoice SET total = 20.5 WHERE id IN (10, 11)"
    )
    assert database.rows("SELECT audit_image, id FROM invoice_audit ORDER BY audit_id") == [
        ("before", 10),
        ("after", 10),
    ]
