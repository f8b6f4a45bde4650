"""What copies of rows are known to lose, hazard by hazard (A1-A20), with one table and one row each."""

import datetime as dt
import decimal
from dataclasses import dataclass

import pytest

from datafixes import DataFix, Delete, Rows, Update, sql
from datafixes.errors import Conflicts, NotRestorable, Refused, ShapeMismatch
from datafixes.fix import Value
from tests.fixes import apply, create_audit_table, revert
from tests.servers import Database


def fix_of(value: Value | sql, column: str = "v") -> DataFix:
    """Sets one column of row 1."""
    return DataFix(
        name="one_column",
        reason="A test.",
        change=Update("things", set={column: value}),
        rows=Rows(key="id", expect=[1]),
        audit="things_audit",
    )


def one_row(database: Database, type_: str, was: str, *before: str) -> None:
    """Row 1 of `things`, and of `was` as proof, with a column `v` of a type."""
    database.execute(
        *before,
        f"CREATE TABLE things (id integer PRIMARY KEY, v {type_}, other text DEFAULT 'other')",
        f"INSERT INTO things (id, v) VALUES (1, {was})",
        "CREATE TABLE was AS TABLE things",
    )
    create_audit_table(database, "things", "things_audit")


def is_back(database: Database) -> bool:
    return bool(database.value("SELECT record_image_eq(t, w) FROM things AS t, was AS w"))


@dataclass(frozen=True)
class Kept:
    """A value that some way of copying loses, and another one that the fix sets."""

    type_: str
    was: str
    becomes: str


A1 = {
    "minus_zero": Kept("double precision", "'-0'", "0"),
    "jsonb_null": Kept("jsonb", "'null'", "NULL"),
    "lower_bounds": Kept("integer[]", "'[5:7]={1,2,3}'", "'{1,2,3}'"),
    "jsonb_array": Kept("jsonb[]", "ARRAY['null'::jsonb, NULL]", "'{}'"),
    "duplicate_keys": Kept("json", '\'{"a":1,"a":2}\'', "'{\"a\":2}'"),
    "vector_of_integers": Kept("int2vector", "'1 2'", "'2 1'"),
}
A2 = {"nul_in_json": Kept("json", "'\"\\u0000\"'", "'1'")}
A5 = {
    "blanks": Kept("character(5)", "'ab'", "'cd'"),
    "regclass_of_nothing": Kept("regclass", "0::regclass", "4000000000::regclass"),
    "scale": Kept("numeric", "1.000", "1.0"),
}
A17 = {
    "infinity": Kept("timestamp", "'infinity'", "timestamp '9999-12-31 23:59:59.999999'"),
    "numeric_infinity": Kept("numeric", "'Infinity'", "'NaN'"),
    "month": Kept("interval", "'1 mon 1 day'", "'31 days'"),
    "midnight": Kept("time", "'24:00:00'", "'00:00:00'"),
    "before_christ": Kept("date", "'0044-03-15 BC'", "'0044-03-15'"),
    "year_10000": Kept("timestamptz", "'10000-01-01 00:00+00'", "'9999-01-01 00:00+00'"),
}


def kept_and_given_back(database: Database, values: dict[str, Kept]) -> None:
    """One row with a column for each value: the before-image holds its bits, and so does the row after the revert."""
    database.execute(
        f"CREATE TABLE things (id integer PRIMARY KEY, {', '.join(f'{name} {v.type_}' for name, v in values.items())})",
        f"INSERT INTO things VALUES (1, {', '.join(value.was for value in values.values())})",
        "CREATE TABLE was AS TABLE things",
    )
    create_audit_table(database, "things", "things_audit")
    fix = DataFix(
        name="one_row",
        reason="A test.",
        change=Update("things", set={name: sql(f"({v.becomes})::{v.type_}") for name, v in values.items()}),
        rows=Rows(key="id", expect=[1]),
        audit="things_audit",
    )
    apply(database, fix)
    assert differing(database, "things", values) == set(values)
    assert differing(database, "(SELECT * FROM things_audit WHERE audit_image = 'before')", values) == set()
    revert(database, fix)
    assert differing(database, "things", values) == set()


def differing(database: Database, table: str, values: dict[str, Kept]) -> set[str]:
    """The columns whose type or bits are not those of `was`."""
    [found] = database.rows(
        "SELECT "
        + ", ".join(f"pg_typeof(t.{n}) <> pg_typeof(w.{n}) OR record_image_ne(ROW(t.{n}), ROW(w.{n}))" for n in values)
        + f" FROM {table} AS t, was AS w"
    )
    return {name for name, differs in zip(values, found, strict=True) if differs}


def test_a1_what_jsonb_loses_is_kept(database: Database) -> None:
    kept_and_given_back(database, A1)


def test_a2_a_value_that_jsonb_refuses_is_kept(database: Database) -> None:
    kept_and_given_back(database, A2)


def test_a5_what_a_cast_to_text_loses_is_kept(database: Database) -> None:
    kept_and_given_back(database, A5)


def test_a17_what_python_loses_is_kept(database: Database) -> None:
    kept_and_given_back(database, A17)


DECLARED: dict[str, tuple[Value, str, str]] = {
    "negative": (dt.timedelta(seconds=-1), "interval", "-00:00:01"),
    "negative_days": (dt.timedelta(days=-3, hours=-2), "interval", "-3 days -02:00:00"),
    "minus_zero": (-0.0, "double precision", "-0"),
    "infinity": (decimal.Decimal("Infinity"), "numeric", "Infinity"),
    "exponent": (decimal.Decimal("1E-7"), "numeric", "0.0000001"),
    "word": ("infinity", "timestamp", "infinity"),
    "bytes": (b"\x00'\\", "bytea", "\\x00275c"),
    "backslash": ("a\\b%s'", "text", "a\\b%s'"),
}


def test_a17_a_declared_value_means_the_same_in_every_session(database: Database) -> None:
    database.execute(
        f"CREATE TABLE things (id integer PRIMARY KEY, {', '.join(f'{n} {type_}' for n, (_, type_, _) in DECLARED.items())})",
        "INSERT INTO things VALUES (1)",
    )
    create_audit_table(database, "things", "things_audit")
    fix = DataFix(
        name="one_row",
        reason="A test.",
        change=Update("things", set={name: value for name, (value, _, _) in DECLARED.items()}),
        rows=Rows(key="id", expect=[1]),
        audit="things_audit",
    )
    for setting in ("intervalstyle = sql_standard", "standard_conforming_strings = off", "extra_float_digits = -15"):
        database.execute(f"ALTER DATABASE {database.name} SET {setting}")
    apply(database, fix)
    database.execute(f"ALTER DATABASE {database.name} RESET ALL")
    [row] = database.rows(f"SELECT {', '.join(f'{name}::text' for name in DECLARED)} FROM things")
    assert dict(zip(DECLARED, row, strict=True)) == {name: text for name, (_, _, text) in DECLARED.items()}


def test_a7_the_declaration_of_an_xml_document_stays(database: Database) -> None:
    one_row(
        database,
        "xml",
        "convert_to('<?xml version=\"1.0\" encoding=\"utf-8\"?><a/>', 'UTF8')::xml",
        # A server without libxml reads no xml; a cast from bytes puts it there.
        "CREATE CAST (bytea AS xml) WITHOUT FUNCTION",
    )
    fix = fix_of(sql("convert_to('<b/>', 'UTF8')::xml"))
    apply(database, fix)
    revert(database, fix)
    assert is_back(database)


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
        ("X", "W", "other"),
        ("V", "W", "other"),
    ]
    revert(database, fix_of("X"))
    assert database.rows("SELECT v, w, other FROM things") == [("V", "W", "other")]


def test_a8_a_composite_read_back_by_position_is_not_read_back(database: Database) -> None:
    one_row(database, "place", "'(1,A,B)'", "CREATE TYPE place AS (a text, b text, c text)")
    fix = DataFix(
        name="gone", reason="A test.", change=Delete("things"), rows=Rows(key="id", expect=[1]), audit="things_audit"
    )
    apply(database, fix)
    database.execute("ALTER TYPE place DROP ATTRIBUTE a", "ALTER TYPE place ADD ATTRIBUTE d text")
    with pytest.raises(NotRestorable, match="the type .*place of v was"):
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
            ("after", "B", "other"),
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
    assert database.rows("SELECT pos, id, side FROM pos_audit WHERE audit_image = 'after'") == [("LONG", 1, "LONGbuy")]
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
    database.execute("CREATE TABLE more (id integer PRIMARY KEY, place app.place, places app.place[], near app.vector(2))")
    create_audit_table(database, "more", "more_audit")
    apply(database, fix_of(14))
    database.execute("DROP TABLE was", "ALTER DOMAIN app.price ADD CHECK (VALUE <> 13)", "DROP TABLE more")
    with pytest.raises(Refused, match="violates check constraint"):
        revert(database, fix_of(14))
    database.execute("ALTER TABLE things ALTER COLUMN v TYPE numeric", "DROP SCHEMA app CASCADE")
    assert database.value("SELECT v FROM things_audit WHERE audit_image = 'before'") == 13
    assert database.value("SELECT count(*) FROM pg_attribute WHERE attrelid = 'more_audit'::regclass AND attnum > 0") == 8


@pytest.mark.parametrize(("renamed", "error"), [("sad", Refused), ("glad", Conflicts)])
def test_a12_a_renamed_label_is_a_refusal(database: Database, renamed: str, error: type[Refused]) -> None:
    one_row(database, "mood", "'sad'", "CREATE TYPE mood AS ENUM ('sad', 'glad')")
    apply(database, fix_of("glad"))
    database.execute(f"ALTER TYPE mood RENAME VALUE '{renamed}' TO 'else'")
    now = database.rows("TABLE things")
    with pytest.raises(error, match="sad|changed since"):
        revert(database, fix_of("glad"))
    assert database.rows("TABLE things") == now


SAME = {
    # what the fix left, and what somebody made of it: equal, or without an equality, and not the same
    "float": ("double precision", "'-0'", "0"),
    "number": ("numeric", "1.0", "1.00"),
    "period": ("interval", "'1 day'", "'24 hours'"),
    "document": ("jsonb", "'{\"a\":1.0}'", "'{\"a\":1.00}'"),
    "written": ("json", "'{}'", "'{ }'"),
    "place": ("point", "'(1,1)'", "'(1,1.0000000001)'"),
    "unknown": ("text", "NULL", "''"),
}


def test_a13_a_change_that_equality_does_not_see_is_a_change(database: Database) -> None:
    database.execute(
        f"CREATE TABLE things (id integer PRIMARY KEY, {', '.join(f'{n} {type_}' for n, (type_, _, _) in SAME.items())})",
        "INSERT INTO things VALUES (1, 5, 5, '5 days', '5', '5', '(5,5)', '5')",
        "CREATE TABLE was AS TABLE things",
    )
    create_audit_table(database, "things", "things_audit")
    fix = DataFix(
        name="one_row",
        reason="A test.",
        change=Update("things", set={name: sql(f"({left})::{type_}") for name, (type_, left, _) in SAME.items()}),
        rows=Rows(key="id", expect=[1]),
        audit="things_audit",
    )
    apply(database, fix)
    for name, (type_, left, now) in SAME.items():
        database.execute(f"UPDATE things SET {name} = {now}")
        with pytest.raises(Conflicts, match="1 changed since") as refused:
            revert(database, fix)
        assert [line.split()[3] for line in refused.value.detail.splitlines()[1:]] == [name]
        database.execute(f"UPDATE things SET {name} = ({left})::{type_}")
    revert(database, fix)
    assert is_back(database)


def test_a13_what_equality_does_not_see_is_restored_too(database: Database) -> None:
    kept_and_given_back(
        database,
        {name: Kept(type_, left, now) for name, (type_, left, now) in SAME.items()},
    )


def test_a14_a_column_that_came_later_keeps_its_value(database: Database) -> None:
    one_row(database, "text", "'A'")
    apply(database, fix_of("B"))
    database.execute(
        "ALTER TABLE things ADD COLUMN later integer DEFAULT 7", "ALTER TABLE things_audit ADD COLUMN later integer"
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
        name="gone", reason="A test.", change=Delete("things"), rows=Rows(key="id", expect=[2]), audit="things_audit"
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
        "ALTER TABLE things DROP COLUMN twice", "ALTER TABLE things ADD COLUMN twice integer GENERATED ALWAYS AS (v * 3) STORED"
    )
    with pytest.raises(NotRestorable, match="twice is another column than it was"):
        revert(database, fix_of(9))
    if database.server_version >= 17:
        database.execute("DROP TABLE things CASCADE", "DELETE FROM datafix_run", "DELETE FROM things_audit")
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
        f"ALTER TABLE things ALTER COLUMN v SET STORAGE EXTERNAL, ADD COLUMN dropped text DEFAULT 'x'",
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
    images = "things_audit AS t JOIN was AS w USING (id) WHERE t.audit_image = 'before' AND t.audit_run_id = 1"
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
        name="gone", reason="A test.", change=Delete("leaf"), rows=Rows(key="id", expect=[2]), audit="leaf_audit"
    )
    apply(database, fix_of("V"))
    apply(database, gone)
    images = "SELECT id, c, v FROM {} WHERE audit_image = 'before'"
    assert database.rows(images.format("things_audit")) == [(1, "c", "v")]
    assert database.rows(images.format("leaf_audit")) == [(2, "c2", "v2")]
    revert(database, gone)
    revert(database, fix_of("V"))
    assert database.rows("SELECT * FROM things ORDER BY id") == [(1, "c", "v"), (2, "c2", "v2")]


def test_a_text_of_several_lines_arrives_as_it_was_written(database: Database) -> None:
    """The script is indented for its reader; what stands between an author's quotes is not."""
    several = "one\n  two  \n\n--three\x0bfour\x85\u2028five"
    one_row(database, "text", f"'{several}'")
    fix = DataFix(
        name="lines",
        reason="A test.",
        change=Update(
            "things", set={"v": sql(f"'{several}'\n|| $$\n{several}$$ -- why"), "other": sql("v -- why")}, where=f"v = '{several}'"
        ),
        rows=Rows(
            key="id", identity={"v": f"'{several}' -- why"}, expect={1: several}, already=f"v = '\n{several}'",
            ensure=f"v = '{several}\n{several}' AND other = '{several}'",
        ),
        audit="things_audit",
    )  # fmt: skip
    apply(database, fix)
    assert database.rows("TABLE things") == [(1, f"{several}\n{several}", several)]
    revert(database, fix)
    assert is_back(database)
