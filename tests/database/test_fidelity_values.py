"""Values that copies of rows are known to lose, hazard by hazard (A1-A17)."""

import datetime as dt
import decimal
from dataclasses import dataclass

import pytest

from datafixes import DataFix, Rows, Update, sql
from datafixes.declaration.expressions import Value
from datafixes.errors import Conflicts
from tests.fixes import apply, create_audit_table, revert
from tests.one_row import fix_of, is_back, one_row
from tests.servers import Database


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
        + ", ".join(
            f"pg_typeof(t.{n}) <> pg_typeof(w.{n}) OR record_image_ne(ROW(t.{n}), ROW(w.{n}))" for n in values
        )
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
    for settings in (
        [],
        ["intervalstyle = sql_standard", "standard_conforming_strings = off", "extra_float_digits = -15"],
    ):
        database.execute(*(f"ALTER DATABASE {database.name} SET {setting}" for setting in settings), "SELECT")
        apply(database, fix)
        database.execute(f"ALTER DATABASE {database.name} RESET ALL")
        [row] = database.rows(f"SELECT {', '.join(f'{name}::text' for name in DECLARED)} FROM things")
        assert dict(zip(DECLARED, row, strict=True)) == {
            name: text for name, (_, _, text) in DECLARED.items()
        }
        revert(database, fix)


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
        change=Update(
            "things", set={name: sql(f"({left})::{type_}") for name, (type_, left, _) in SAME.items()}
        ),
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
