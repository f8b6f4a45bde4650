"""Keys and identities under a collation that takes different spellings for the same."""

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from datafixes import DataFix, Delete, Insert, RecordedFix, Rows, Table, Update
from datafixes.audit.changes import View
from datafixes.audit.images import changes_of_run, tables_of_run
from datafixes.errors import Refused
from tests.fixes import apply, create_audit_table, record, revert
from tests.servers import Database

IGNORE_CASE = (
    "CREATE COLLATION ignore_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
)
# Where the collation comes from: of the column; of its domain; of the index alone; and an index that ignores it.
KEYS = {
    "column": ["CREATE TABLE item (email text COLLATE ignore_case PRIMARY KEY, note text)"],
    "varchar": ["CREATE TABLE item (email varchar(40) COLLATE ignore_case PRIMARY KEY, note text)"],
    "domain": [
        "CREATE DOMAIN address AS text COLLATE ignore_case",
        "CREATE TABLE item (email address PRIMARY KEY, note text)",
    ],
    "index": [
        "CREATE TABLE item (email text NOT NULL, note text)",
        "CREATE UNIQUE INDEX ON item (email COLLATE ignore_case)",
    ],
    "one of two": [
        "CREATE TABLE item (email text COLLATE ignore_case, n integer DEFAULT 1, note text, PRIMARY KEY (n, email))"
    ],
}
ROWS = "INSERT INTO item (email, note) VALUES ('ann@example.org', 'a'), ('bob@example.org', 'b')"


def lay_out(database: Database, statements: Sequence[str]) -> None:
    database.execute(IGNORE_CASE, *statements, ROWS, "CREATE TABLE was AS TABLE item")
    create_audit_table(database, "item", "item_audit")


def contents(database: Database) -> list[tuple[str, str]]:
    return database.rows('SELECT email, note FROM item ORDER BY email COLLATE "C"')


def is_back(database: Database) -> bool:
    return bool(
        database.value(
            "SELECT (SELECT count(*) FROM item) = (SELECT count(*) FROM was) AND NOT EXISTS (SELECT FROM was AS w WHERE NOT"
            " EXISTS (SELECT FROM item AS i WHERE record_image_eq(i, w)))"
        )
    )


def counted(database: Database) -> tuple[int, int, int]:
    [counts] = database.rows(
        "SELECT rows_inserted, rows_updated, rows_deleted FROM datafix_run_table ORDER BY run_id DESC LIMIT 1"
    )
    return counts


def spelling(**kinds: Any) -> RecordedFix:
    return RecordedFix(
        name="spelling", reason="A test.", tables=[Table("item", "item_audit", **({"updated": 1} | kinds))]
    )


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "statements",
    [
        ["UPDATE item SET email = 'Ann@example.org' WHERE email = 'ann@example.org'"],
        ["DELETE FROM item WHERE email = 'ann@example.org'", "INSERT INTO item (email, note) VALUES ('Ann@example.org', 'a')"],
        ["UPDATE item SET email = 'ANN@example.org' WHERE note = 'a'", "UPDATE item SET email = 'Ann@example.org' WHERE note = 'a'"],
    ],
    ids=["update", "delete and insert", "twice"],
)  # fmt: skip
def test_a_key_is_spelled_otherwise(key: str, statements: list[str], database: Database) -> None:
    lay_out(database, KEYS[key])
    fix = spelling()
    record(database, fix, *statements)
    assert contents(database) == [("Ann@example.org", "a"), ("bob@example.org", "b")]
    assert counted(database) == (0, 1, 0)
    assert database.rows("SELECT audit_image, email::text FROM item_audit ORDER BY audit_id") == [
        ("before", "ann@example.org"), ("after", "Ann@example.org"),
    ]  # fmt: skip
    revert(database, fix)
    assert is_back(database)
    record(database, fix, *statements)
    assert contents(database)[0] == ("Ann@example.org", "a")


def test_both_spellings_of_a_key_are_shown(database: Database) -> None:
    lay_out(database, KEYS["column"])
    record(database, spelling(), "UPDATE item SET email = 'Ann@example.org' WHERE note = 'a'")
    with create_engine(database.url, poolclass=NullPool).connect() as connection:
        [table] = tables_of_run(connection, "public", 1)
        shown = changes_of_run(connection, table, View(10, 100)).rows
    assert [(row.kind, row.key) for row in shown] == [
        ("deleted", "ann@example.org"),
        ("inserted", "Ann@example.org"),
    ]


def test_a_key_that_somebody_spelled_otherwise_since_is_a_conflict(database: Database) -> None:
    lay_out(database, KEYS["column"])
    record(database, spelling(), "UPDATE item SET email = 'Ann@example.org' WHERE note = 'a'")
    database.execute("UPDATE item SET email = 'ANN@example.org' WHERE note = 'a'")
    with pytest.raises(Refused, match="changed since"):
        revert(database, spelling())
    assert contents(database)[0] == ("ANN@example.org", "a")
    revert(database, spelling(), "overwrite")
    assert is_back(database)


@pytest.mark.parametrize("key", KEYS)
def test_declared_fixes_find_a_row_by_any_spelling_of_its_key(key: str, database: Database) -> None:
    lay_out(database, KEYS[key])
    columns = ("n", "email") if key == "one of two" else "email"
    rows = Rows(key=columns, expect=[(1, "ANN@example.org") if key == "one of two" else "ANN@example.org"])
    for change in (Update("item", set={"note": "c"}), Delete("item")):
        fix = DataFix(name="one", reason="A test.", change=change, rows=rows, audit="item_audit")
        apply(database, fix)
        assert ("ann@example.org", "a") not in contents(database)
        revert(database, fix)
        assert is_back(database)


def test_one_row_named_twice_is_said_so(database: Database) -> None:
    lay_out(database, KEYS["column"])
    fix = DataFix(
        name="twice", reason="A test.", change=Update("item", set={"note": "c"}), audit="item_audit",
        rows=Rows(key="email", expect=["ann@example.org", "ANN@example.org"]),
    )  # fmt: skip
    with pytest.raises(Refused, match=r"name the same row: ann@example.org, ANN@example.org"):
        apply(database, fix)
    assert is_back(database)


def test_an_insert_is_reverted_and_its_key_taken_by_another_spelling_is_a_conflict(
    database: Database,
) -> None:
    lay_out(database, KEYS["column"])
    fix = DataFix(
        name="one", reason="A test.", change=Insert("item", rows=[{"email": "Carl", "note": "c"}]), audit="item_audit",
        rows=Rows(key="email", expect=1),
    )  # fmt: skip
    apply(database, fix)
    revert(database, fix)
    assert is_back(database)
    apply(database, fix)
    database.execute("UPDATE item SET email = 'CARL' WHERE email = 'Carl'")
    with pytest.raises(Refused, match="changed since"):
        revert(database, fix)
    gone = DataFix(
        name="gone", reason="A test.", change=Delete("item"), rows=Rows(key="email", expect=["carl"]), audit="item_audit",
    )  # fmt: skip
    apply(database, gone)
    database.execute("INSERT INTO item VALUES ('cArL', 'another')")
    with pytest.raises(Refused, match="taken"):
        revert(database, gone)
    assert ("cArL", "another") in contents(database)


def test_an_index_tells_apart_what_its_column_takes_for_the_same(database: Database) -> None:
    lay_out(
        database,
        [
            "CREATE TABLE item (email text COLLATE ignore_case NOT NULL, note text)",
            'CREATE UNIQUE INDEX ON item (email COLLATE "C")',
            "INSERT INTO item VALUES ('ANN@example.org', 'other')",
        ],
    )
    for change in (Update("item", set={"note": "c"}), Delete("item")):
        fix = DataFix(
            name="one", reason="A test.", change=change, audit="item_audit",
            rows=Rows(key="email", expect=["ann@example.org"]),
        )  # fmt: skip
        apply(database, fix)
        assert ("ANN@example.org", "other") in contents(database)
        assert ("ann@example.org", "a") not in contents(database)
        revert(database, fix)
        assert is_back(database)
    record(database, spelling(), "UPDATE item SET note = 'c' WHERE note = 'other'")
    revert(database, spelling())
    assert is_back(database)


IDENTITIES = {
    "text": ("text COLLATE ignore_case", "'Ann'", "ANN"),
    "varchar": ("varchar(9) COLLATE ignore_case", "'Ann'", "ANN"),
    "array": ("text[] COLLATE ignore_case", "'{Ann}'", "{ANN}"),
    "domain": ("name_of", "'Ann'", "ANN"),
    "composite": ("pair_of", "'(Ann,1)'", "(ANN,1)"),
    "range": ("reach", "'[Ann,Bob]'", "[ANN,Bob]"),
    "citext": ("citext", "'Ann'", "ANN"),
}
TYPES = (
    "CREATE EXTENSION citext",
    "CREATE DOMAIN name_of AS text COLLATE ignore_case",
    "CREATE TYPE pair_of AS (a text COLLATE ignore_case, n integer)",
    "CREATE TYPE reach AS RANGE (subtype = text, collation = ignore_case)",
)


def of_identity(right: str) -> tuple[DataFix, RecordedFix]:
    return (
        DataFix(
            name="declared", reason="A test.", change=Update("item", set={"note": "c"}), audit="item_audit",
            rows=Rows(key="id", identity={"who": "who"}, expect={1: right}),
        ),
        RecordedFix(
            name="recorded", reason="A test.",
            tables=[Table("item", "item_audit", key="id", identity={"who": "who"}, updated={1: right})],
        ),
    )  # fmt: skip


@pytest.mark.parametrize("type_", IDENTITIES)
def test_a_guard_compares_what_is_there(type_: str, database: Database) -> None:
    name, there, other = IDENTITIES[type_]
    database.execute(
        IGNORE_CASE,
        *TYPES,
        f"CREATE TABLE item (id integer PRIMARY KEY, who {name}, note text)",
        f"INSERT INTO item VALUES (1, {there}, 'a')",
        "CREATE TABLE was AS TABLE item",
    )
    create_audit_table(database, "item", "item_audit")
    change = "UPDATE item SET note = 'c'"
    declared, recorded = of_identity(other)
    with pytest.raises(Refused, match=r"who is .*Ann.*, not .*ANN"):
        apply(database, declared)
    with pytest.raises(Refused, match=r"who is .*Ann.*, not .*ANN"):
        record(database, recorded, change)
    assert is_back(database)
    declared, recorded = of_identity(there.strip("'"))
    for fix in (declared, recorded):
        apply(database, fix) if isinstance(fix, DataFix) else record(database, fix, change)
        revert(database, fix)
        assert is_back(database)
        # the row of another person, in whose name only the case differs
        apply(database, fix) if isinstance(fix, DataFix) else record(database, fix, change)
        database.execute(f"UPDATE item SET who = '{other}'")
        with pytest.raises(Refused, match="taken"):
            revert(database, fix)
        database.execute(f"UPDATE item SET who = {there}")
        revert(database, fix)


def test_an_identity_is_evaluated_under_the_collation_of_the_table(database: Database) -> None:
    lay_out(
        database, ["CREATE TABLE item (id serial PRIMARY KEY, email text COLLATE ignore_case, note text)"]
    )
    identity = {"is_ann": "email = 'ANN@example.org'"}
    declared = DataFix(
        name="declared", reason="A test.", change=Update("item", set={"note": "c"}), audit="item_audit",
        rows=Rows(key="id", identity=identity, expect={1: True}),
    )  # fmt: skip
    recorded = RecordedFix(
        name="recorded", reason="A test.",
        tables=[Table("item", "item_audit", key="id", identity=identity, updated={1: True})],
    )  # fmt: skip
    apply(database, declared)
    revert(database, declared)
    record(database, recorded, "UPDATE item SET note = 'c' WHERE id = 1")
    revert(database, recorded)
    assert is_back(database)


REFERENCES = {
    # parent, child, rows of the parent, the row of the child, the key that goes
    "the parent ignores case": ("text COLLATE ignore_case", "text", "('X')", "x", "X"),
    "neither ignores it": ('text COLLATE "C"', 'text COLLATE "de-x-icu"', "('X')", "X", "X"),
    # PostgreSQL 15 itself lets the child go with a row to which it does not refer.
    "the child ignores it": ("text", "text COLLATE ignore_case", "('X'), ('x')", "X", "x"),
}


@pytest.mark.parametrize("what", REFERENCES)
def test_rows_that_would_go_with_a_row_are_found_as_postgresql_finds_them(
    what: str, database: Database
) -> None:
    parent, child, rows, referring, gone = REFERENCES[what]
    lay_out(
        database,
        [
            f"CREATE TABLE item (email {parent} PRIMARY KEY, note text)",
            f"CREATE TABLE child (email {child} REFERENCES item ON DELETE CASCADE)",
            f"INSERT INTO item VALUES {rows}",
            f"INSERT INTO child VALUES ('{referring}')",
        ],
    )
    fix = DataFix(
        name="gone", reason="A test.", change=Delete("item"), rows=Rows(key="email", expect=[gone]), audit="item_audit",
    )  # fmt: skip
    with pytest.raises(Refused, match=r"1 rows of public\.child refer to these rows"):
        apply(database, fix)
    assert is_back(database)


def test_a_unique_value_that_is_taken_by_another_spelling_is_a_conflict(database: Database) -> None:
    lay_out(
        database,
        [
            "CREATE TABLE item (id serial PRIMARY KEY, email text, note text)",
            "CREATE UNIQUE INDEX ON item (email COLLATE ignore_case)",
        ],
    )
    fix = DataFix(
        name="one", reason="A test.", change=Update("item", set={"email": "new"}), rows=Rows(key="id", expect=[1]),
        audit="item_audit",
    )  # fmt: skip
    apply(database, fix)
    database.execute("INSERT INTO item (email, note) VALUES ('ANN@example.org', 'another')")
    with pytest.raises(Refused, match="taken"):
        revert(database, fix)
    database.execute("DELETE FROM item WHERE note = 'another'")
    revert(database, fix)
    assert is_back(database)


# --- equal and not identical, by the operators of the key's own type: as it was before


@pytest.mark.parametrize(
    ("type_", "was", "becomes"),
    [
        ("citext", "ann", "Ann"),
        ("numeric", "1.0", "1.00"),
        ("interval", "1 day", "24:00:00"),
        ("jsonb", '{"a": 1.0}', '{"a": 1.00}'),
        ("double precision", "0", "-0"),
        ("real", "0", "-0"),
        ("character(5)", "ab", "ab"),
    ],
)
@pytest.mark.parametrize("way", ["update", "delete and insert"])
def test_keys_that_are_equal_and_not_identical(
    type_: str, was: str, becomes: str, way: str, database: Database
) -> None:
    database.execute(
        "CREATE EXTENSION citext",
        f"CREATE TABLE item (k {type_} PRIMARY KEY, note text)",
        f"INSERT INTO item VALUES ('{was}', 'a')",
        "CREATE TABLE was AS TABLE item",
    )
    create_audit_table(database, "item", "item_audit")
    if way == "update":
        statements = [f"UPDATE item SET k = '{becomes}', note = 'c'"]
    else:
        statements = ["DELETE FROM item", f"INSERT INTO item VALUES ('{becomes}', 'c')"]
    record(database, spelling(), *statements)
    assert counted(database) == (0, 1, 0)
    assert database.value(f"SELECT record_image_eq(ROW(k), ROW('{becomes}'::{type_})) FROM item")
    revert(database, spelling())
    assert is_back(database)
