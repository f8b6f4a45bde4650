"""Types, columns and tables that change under a copy, or are laid out in odd ways (A8-A20)."""

import pytest

from datafixes import DataFix, Delete, Rows, Update, sql
from datafixes.errors import NotRestorable, Refused, ShapeMismatch
from tests.fixes import apply, create_audit_table, revert
from tests.one_row import fix_of, is_back, one_row
from tests.servers import Database
from tests.tampering import tamper


def test_a8_columns_are_copied_by_name_whatever_was_dropped_before(database: Database) -> None:
    one_row(database, "text", "'A'")
    database.execute(
        "ALTER TABLE things DROP COLUMN v, ADD COLUMN w text DEFAULT 'W', ADD COLUMN v text",
        "UPDATE things SET v = 'V'",
    )
    with pytest.raises(ShapeMismatch, match="w text is missing there"):
        apply(database, fix_of("X"))
    database.execute("ALTER TABLE things_audit ADD COLUMN w text")
    apply(database, fix_of("X"))
    assert database.rows("SELECT v, w, other FROM things_audit ORDER BY audit_image") == [
        ("X", "W", None),  # the view of the changes does not know w, so it is held
        ("V", "W", "other"),
    ]
    revert(database, fix_of("X"))
    assert database.rows("SELECT v, w, other FROM things") == [("V", "W", "other")]


def test_a8_a_composite_read_back_by_position_is_not_read_back(database: Database) -> None:
    one_row(database, "place", "'(1,A,B)'", "CREATE TYPE place AS (a text, b text, c text)")
    fix = DataFix(
        name="gone",
        reason="A test.",
        change=Delete("things"),
        rows=Rows(key="id", expect=[1]),
        audit="things_audit",
    )
    apply(database, fix)
    database.execute("ALTER TYPE place DROP ATTRIBUTE a", "ALTER TYPE place ADD ATTRIBUTE d text")
    with pytest.raises(NotRestorable, match=r"the type .*place of v was"):
        revert(database, fix)
    assert database.value("SELECT count(*) FROM things") == 0


def test_a9_the_audit_table_never_stands_in_the_way_of_its_target(database: Database) -> None:
    one_row(database, "text", "'A'")
    apply(database, fix_of("B"))
    for change in (
        "ALTER TABLE things ALTER COLUMN other TYPE varchar(20)",
        "ALTER TABLE things ADD COLUMN more integer NOT NULL DEFAULT 7",
        "ALTER TABLE things DROP COLUMN v",
        "DROP TABLE things CASCADE",
    ):
        database.execute(change)
        assert database.rows("SELECT audit_image, v, other FROM things_audit ORDER BY audit_id") == [
            ("before", "A", "other"),
            ("after", "B", None),
        ]


def test_a10_a_column_may_be_called_like_its_table(database: Database) -> None:
    database.execute(
        "CREATE TABLE pos (pos text PRIMARY KEY, id integer, side text)",
        "INSERT INTO pos VALUES ('LONG', 1, 'buy'), ('SHORT', 2, 'sell')",
    )
    create_audit_table(database, "pos", "pos_audit")
    fix = DataFix(
        name="pos", reason="A test.", change=Update("pos", set={"side": sql("pos || pos.side")}),
        rows=Rows(key="pos", identity={"id": "pos.id"}, expect={"LONG": 1}), audit="pos_audit",
    )  # fmt: skip
    apply(database, fix)
    assert database.rows("SELECT pos, id, side FROM pos_audit WHERE audit_image = 'after'") == [
        ("LONG", None, "LONGbuy")
    ]
    revert(database, fix)
    assert database.rows("SELECT * FROM pos ORDER BY id") == [("LONG", 1, "buy"), ("SHORT", 2, "sell")]


def test_a11_an_enum_is_swapped_as_alembic_does_it(database: Database) -> None:
    one_row(database, "mood", "'sad'", "CREATE TYPE mood AS ENUM ('sad', 'glad')")
    apply(database, fix_of("glad"))
    database.execute(
        "ALTER TYPE mood RENAME TO mood_old",
        "CREATE TYPE mood AS ENUM ('glad', 'sad', 'new')",
        "ALTER TABLE things ALTER COLUMN v TYPE mood USING v::text::mood",
        "DROP TABLE was",
        "DROP TYPE mood_old",
    )
    revert(database, fix_of("glad"))
    assert database.value("SELECT v::text FROM things") == "sad"


def test_a11_types_of_the_application_can_be_changed_and_dropped(database: Database) -> None:
    one_row(
        database,
        "app.price",
        "13",
        "CREATE SCHEMA app",
        "CREATE EXTENSION vector SCHEMA app",
        "CREATE DOMAIN app.price AS numeric",
        "CREATE TYPE app.place AS (a text)",
    )
    database.execute(
        "CREATE TABLE more (id integer PRIMARY KEY, place app.place, places app.place[], near app.vector(2))"
    )
    create_audit_table(database, "more", "more_audit")
    apply(database, fix_of(14))
    database.execute("DROP TABLE was", "ALTER DOMAIN app.price ADD CHECK (VALUE <> 13)", "DROP TABLE more")
    with pytest.raises(Refused, match="violates check constraint"):
        revert(database, fix_of(14))
    database.execute("ALTER TABLE things ALTER COLUMN v TYPE numeric", "DROP SCHEMA app CASCADE")
    assert database.value("SELECT v FROM things_audit WHERE audit_image = 'before'") == 13
    assert (
        database.value(
            "SELECT count(*) FROM pg_attribute WHERE attrelid = 'more_audit'::regclass AND attnum > 0"
        )
        == 8
    )


@pytest.mark.parametrize("renamed", ["sad", "glad"])
def test_a12_a_renamed_label_is_a_refusal_that_names_it(database: Database, renamed: str) -> None:
    one_row(database, "mood", "'sad'", "CREATE TYPE mood AS ENUM ('sad', 'glad')")
    apply(database, fix_of("glad"))
    database.execute(f"ALTER TYPE mood RENAME VALUE '{renamed}' TO 'else'")
    now = database.rows("TABLE things")
    with pytest.raises(NotRestorable, match=f"the type public.mood of v has no label '{renamed}' any more"):
        revert(database, fix_of("glad"))
    assert database.rows("TABLE things") == now


def test_a14_a_column_that_came_later_keeps_its_value(database: Database) -> None:
    one_row(database, "text", "'A'")
    apply(database, fix_of("B"))
    database.execute(
        "ALTER TABLE things ADD COLUMN later integer DEFAULT 7",
        "ALTER TABLE things_audit ADD COLUMN later integer",
    )
    revert(database, fix_of("B"))
    assert database.rows("TABLE things") == [(1, "A", "other", 7)]


def test_a16_a_row_written_anew_with_the_same_values_is_no_conflict(database: Database) -> None:
    one_row(database, "text", "'A'")
    apply(database, fix_of("B"))
    xmin = database.value("SELECT xmin::text FROM things")
    database.execute(
        "UPDATE things SET v = v, other = other",
        "UPDATE things SET v = 'C'",
        "UPDATE things SET v = 'B'",
        "VACUUM (FULL, FREEZE) things",
    )
    assert database.value("SELECT xmin::text FROM things") != xmin
    revert(database, fix_of("B"))
    assert is_back(database)


def test_a18_generated_and_identity_columns_come_back(database: Database) -> None:
    virtual = ", double integer GENERATED ALWAYS AS (v * 2) VIRTUAL" if database.server_version >= 18 else ""
    database.execute(
        "CREATE TABLE things (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v integer, no bigint GENERATED ALWAYS AS IDENTITY,"
        f" twice integer GENERATED ALWAYS AS (v * 2) STORED{virtual})",
        "INSERT INTO things (id, v, no) OVERRIDING SYSTEM VALUE VALUES (1, 5, 70), (2, 6, 71)",
        "CREATE TABLE was AS TABLE things",
    )
    create_audit_table(database, "things", "things_audit")
    gone = DataFix(
        name="gone",
        reason="A test.",
        change=Delete("things"),
        rows=Rows(key="id", expect=[2]),
        audit="things_audit",
    )
    apply(database, fix_of(9))
    apply(database, gone)
    assert database.rows("SELECT id, v, no, twice FROM things") == [(1, 9, 70, 18)]
    revert(database, gone)
    revert(database, fix_of(9))
    same = "SELECT count(*) FROM things AS t JOIN was AS w USING (id) WHERE record_image_eq(t, w)"
    assert database.value(same) == 2


def test_a18_another_expression_of_a_generated_column_is_no_conflict(database: Database) -> None:
    database.execute(
        "CREATE TABLE things (id integer PRIMARY KEY, v integer, twice integer GENERATED ALWAYS AS (v * 2) STORED)",
        "INSERT INTO things VALUES (1, 5)",
    )
    create_audit_table(database, "things", "things_audit")
    apply(database, fix_of(9))
    database.execute(
        "ALTER TABLE things DROP COLUMN twice",
        "ALTER TABLE things ADD COLUMN twice integer GENERATED ALWAYS AS (v * 3) STORED",
    )
    with pytest.raises(NotRestorable, match="twice is another column than it was"):
        revert(database, fix_of(9))
    if database.server_version >= 17:
        tamper(
            database,
            "DROP TABLE things CASCADE",
            "DELETE FROM datafix_run_table",
            "DELETE FROM datafix_run",
            "DELETE FROM things_audit",
        )
        database.execute(
            "CREATE TABLE things (id integer PRIMARY KEY, v integer, twice integer GENERATED ALWAYS AS (v * 2) STORED)",
            "INSERT INTO things VALUES (1, 5)",
        )
        apply(database, fix_of(9))
        database.execute("ALTER TABLE things ALTER COLUMN twice SET EXPRESSION AS (v * 3)")
        revert(database, fix_of(9))
        assert database.rows("TABLE things") == [(1, 5, 15)]


def test_a19_large_values_and_values_of_fast_defaults_are_the_same_in_the_copy(database: Database) -> None:
    large = "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 30000) AS n)"
    one_row(database, "text", "''")
    database.execute(
        "ALTER TABLE things ALTER COLUMN v SET STORAGE EXTERNAL, ADD COLUMN dropped text DEFAULT 'x'",
        "ALTER TABLE things DROP COLUMN dropped, ADD COLUMN fast text DEFAULT repeat('f', 3000)",
        "ALTER TABLE things_audit ADD COLUMN fast text",
        f"UPDATE things SET v = {large} WHERE id = 1",
        "ALTER TABLE things ALTER COLUMN v SET STORAGE EXTENDED",
        "INSERT INTO things (id, v) SELECT 2, repeat('ab', 500000)",
        "ALTER TABLE things ADD COLUMN faster text DEFAULT repeat('g', 3000)",
        "ALTER TABLE things_audit ADD COLUMN faster text",
        "DROP TABLE was",
        "CREATE TABLE was AS TABLE things",
    )
    fix = DataFix(
        name="large", reason="A test.", change=Update("things", set={"v": sql("v || '!'"), "other": None}),
        rows=Rows(key="id", expect=[1, 2]), audit="things_audit",
    )  # fmt: skip
    apply(database, fix)
    revert(database, fix)
    names = "ROW({0}.v, {0}.other, {0}.fast, {0}.faster)"
    same = f"record_image_eq({names.format('t')}, {names.format('w')})"
    assert database.rows(f"SELECT {same} FROM things AS t JOIN was AS w USING (id)") == [(True,), (True,)]
    images = (
        "things_audit AS t JOIN was AS w USING (id) WHERE t.audit_image = 'before' AND t.audit_run_id = 1"
    )
    assert database.rows(f"SELECT {same} FROM {images}") == [(True,), (True,)]


def test_a20_partitions_may_have_their_columns_in_another_order(database: Database) -> None:
    database.execute(
        "CREATE TABLE things (id integer, c text, v text, PRIMARY KEY (id)) PARTITION BY RANGE (id)",
        "CREATE TABLE leaf (v text, id integer NOT NULL, c text)",
        "ALTER TABLE things ATTACH PARTITION leaf FOR VALUES FROM (0) TO (100)",
        "INSERT INTO things VALUES (1, 'c', 'v'), (2, 'c2', 'v2')",
    )
    create_audit_table(database, "things", "things_audit")
    create_audit_table(database, "leaf", "leaf_audit")
    gone = DataFix(
        name="gone",
        reason="A test.",
        change=Delete("leaf"),
        rows=Rows(key="id", expect=[2]),
        audit="leaf_audit",
    )
    apply(database, fix_of("V"))
    apply(database, gone)
    images = "SELECT id, c, v FROM {} WHERE audit_image = 'before'"
    assert database.rows(images.format("things_audit")) == [(1, "c", "v")]
    assert database.rows(images.format("leaf_audit")) == [(2, "c2", "v2")]
    revert(database, gone)
    revert(database, fix_of("V"))
    assert database.rows("SELECT * FROM things ORDER BY id") == [(1, "c", "v"), (2, "c2", "v2")]
