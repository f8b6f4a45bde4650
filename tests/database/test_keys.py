"""What a key is: only what is proven to tell every two rows apart (C32), for a fix, for the auditor's view and for `datafixes new`."""

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from datafixes import DataFix, Delete, RecordedFix, Rows, Table, Update
from datafixes.drafting.survey import table_seen
from datafixes.errors import NoKey, NotRestorable, Refused, RowsNotAsExpected
from tests.fixes import LIMITS, Context, apply, apply_script, create_audit_table, record, revert
from tests.servers import LEDGER, Database

ITEM = "CREATE TABLE item (id integer, code integer, note text, at int4range)"
ROWS = "INSERT INTO item VALUES (1, 1, 'a', '[1,2)'), (2, 2, 'b', '[2,3)')"

KEYS: dict[str, tuple[list[str], list[str], int]] = {
    "none": ([], [], 14),
    "primary": (["ALTER TABLE item ADD PRIMARY KEY (id)"], ["id"], 14),
    "unique": (["ALTER TABLE item ALTER code SET NOT NULL", "CREATE UNIQUE INDEX ON item (code)"], ["code"], 14),
    "the primary one first": (
        ["ALTER TABLE item ALTER code SET NOT NULL", "CREATE UNIQUE INDEX ON item (code)", "ALTER TABLE item ADD PRIMARY KEY (id)"],
        ["id"], 14,
    ),
    "the first of several": (
        [
            "ALTER TABLE item ALTER code SET NOT NULL, ALTER id SET NOT NULL",
            "CREATE UNIQUE INDEX ON item (code, id)", "CREATE UNIQUE INDEX ON item (id)",
        ],
        ["code", "id"], 14,
    ),
    "columns that are only included": (
        ["ALTER TABLE item ALTER code SET NOT NULL", "CREATE UNIQUE INDEX ON item (code) INCLUDE (note)"], ["code"], 14
    ),
    "deferrable": (["ALTER TABLE item ADD PRIMARY KEY (id) DEFERRABLE INITIALLY DEFERRED"], ["id"], 14),
    "nullable": (["CREATE UNIQUE INDEX ON item (code)"], [], 14),
    "nullable, one null only": (["CREATE UNIQUE INDEX ON item (code) NULLS NOT DISTINCT"], [], 15),
    "not null by a check": (["CREATE UNIQUE INDEX ON item (code)", "ALTER TABLE item ADD CHECK (code IS NOT NULL)"], [], 14),
    "not null by a domain": (
        ["CREATE DOMAIN number AS integer NOT NULL", "ALTER TABLE item ALTER code TYPE number", "CREATE UNIQUE INDEX ON item (code)"], [], 14
    ),
    "not null, not valid": (
        ["CREATE UNIQUE INDEX ON item (code)", "ALTER TABLE item ADD CONSTRAINT given NOT NULL code NOT VALID"], [], 18
    ),
    "not null, validated since": (
        [
            "CREATE UNIQUE INDEX ON item (code)", "ALTER TABLE item ADD CONSTRAINT given NOT NULL code NOT VALID",
            "ALTER TABLE item VALIDATE CONSTRAINT given",
        ],
        ["code"], 18,
    ),
    "not null, not inherited": (
        ["CREATE UNIQUE INDEX ON item (code)", "ALTER TABLE item ADD CONSTRAINT given NOT NULL code NO INHERIT"], ["code"], 18
    ),
    "partial": (["ALTER TABLE item ALTER code SET NOT NULL", "CREATE UNIQUE INDEX ON item (code) WHERE id > 0"], [], 14),
    "expression": (["ALTER TABLE item ALTER code SET NOT NULL", "CREATE UNIQUE INDEX ON item ((code + 0))"], [], 14),
    "not unique": (["ALTER TABLE item ALTER code SET NOT NULL", "CREATE INDEX ON item (code)"], [], 14),
    "exclusion": (
        ["ALTER TABLE item ALTER at SET NOT NULL", "ALTER TABLE item ADD EXCLUDE USING gist (at WITH &&)"], [], 14
    ),
    "without overlaps": (
        ["ALTER TABLE item ADD during int4range DEFAULT '[1,2)'", "ALTER TABLE item ADD PRIMARY KEY (at, during WITHOUT OVERLAPS)"], [], 18
    ),
    "not valid: its making failed": (
        [
            "ALTER TABLE item ALTER code SET NOT NULL", "INSERT INTO item VALUES (3, 2, 'again', '[3,4)')",
            "CREATE UNIQUE INDEX CONCURRENTLY failed ON item (code)", "DELETE FROM item WHERE id = 3",
        ],
        [], 14,
    ),
    "partitioned": (
        [
            "DROP TABLE item", f"{ITEM} PARTITION BY LIST (id)", "CREATE TABLE one PARTITION OF item FOR VALUES IN (1)",
            "CREATE TABLE two PARTITION OF item FOR VALUES IN (2)", "ALTER TABLE item ADD PRIMARY KEY (id)", ROWS,
        ],
        ["id"], 14,
    ),
    "of the partitioned table alone": (
        [
            "DROP TABLE item", f"{ITEM} PARTITION BY LIST (id)", "CREATE TABLE one PARTITION OF item FOR VALUES IN (1, 2)",
            "ALTER TABLE item ALTER id SET NOT NULL", "CREATE UNIQUE INDEX ON ONLY item (id)", ROWS,
        ],
        [], 14,
    ),
}  # fmt: skip
"""What the table has, what its first key is, and which server knows it."""


@pytest.mark.parametrize("what", KEYS)
def test_c32_a_key_is_what_is_proven_to_tell_rows_apart_and_all_agree(database: Database, what: str) -> None:
    statements, key, since = KEYS[what]
    if database.server_version < since:
        pytest.skip(f"PostgreSQL {since} and newer")
    database.execute(ITEM, ROWS)
    for statement in statements:
        if "CONCURRENTLY" in statement:
            database.psql(statement, check=False)  # it fails, and leaves an index behind
        else:
            database.execute(statement)
    create_audit_table(database, "item", "item_audit")
    fix = RecordedFix(name="all", reason="A test.", tables=[Table("item", "item_audit", deleted=2)])
    record(database, fix, "DELETE FROM item")
    assert database.value("SELECT key_columns FROM datafix_run_table") == key
    assert bool(database.rows("SELECT FROM pg_class WHERE relname = 'item_audit_changes'")) == bool(key)
    engine = create_engine(database.url, poolclass=NullPool)
    with engine.connect() as connection:
        keys = table_seen(connection, "public", "item").keys
    assert list(keys[0] if keys else ()) == key
    revert(database, fix)
    assert database.rows("SELECT id, code FROM item ORDER BY id") == [(1, 1), (2, 2)]
    for column in ("id", "code"):
        declared = DataFix(
            name=f"by_{column}", reason="A test.", change=Update("item", set={"note": "c"}),
            rows=Rows(key=column, expect=[1]), audit="item_audit",
        )  # fmt: skip
        if (column,) in keys:
            apply(database, declared)
        else:
            with pytest.raises(NoKey):
                apply(database, declared)


# --- NOT NULL ... NOT VALID


NOT_VALID = (
    "CREATE TABLE item (code integer, note text)",
    "CREATE UNIQUE INDEX item_code ON item (code)",
    "INSERT INTO item VALUES (1, 'a'), (NULL, 'b'), (NULL, 'c')",
    "ALTER TABLE item ADD CONSTRAINT code_given NOT NULL code NOT VALID",
)


@pytest.fixture
def not_valid(database: Database) -> Database:
    """A table with two rows whose code is null, though its column is said to be NOT NULL."""
    if database.server_version < 18:
        pytest.skip("PostgreSQL 18 and newer")
    database.execute(*NOT_VALID)
    create_audit_table(database, "item", "item_audit")
    return database


@pytest.mark.parametrize(
    ("statement", "wrong", "right"),
    [
        ("DELETE FROM item WHERE code IS NULL", {"deleted": 1}, {"deleted": 2}),
        ("DELETE FROM item", {"deleted": 2}, {"deleted": 3}),
        (
            "UPDATE item SET code = ascii(note) WHERE code IS NULL",
            {"inserted": 2, "deleted": 1},
            {"inserted": 2, "deleted": 2},
        ),
    ],
    ids=["two", "all", "filled in"],
)
def test_promise_2_rows_whose_key_is_null_all_count(
    not_valid: Database, statement: str, wrong: dict[str, int], right: dict[str, int]
) -> None:
    before = not_valid.dump()
    for counts in (wrong, right):
        fix = RecordedFix(name="f", reason="A test.", tables=[Table("item", "item_audit", **counts)])  # type: ignore[arg-type]
        if counts is wrong:
            with pytest.raises(RowsNotAsExpected):
                record(not_valid, fix, statement)
            assert not_valid.dump() == before
        else:
            record(not_valid, fix, statement)
    with pytest.raises(NotRestorable, match=r"2 rows of public\.item cannot be restored: code would be NULL"):
        revert(not_valid, fix)
    not_valid.execute("ALTER TABLE item ALTER COLUMN code DROP NOT NULL")
    revert(not_valid, fix)
    assert not_valid.rows("SELECT code, note FROM item ORDER BY note") == [(1, "a"), (None, "b"), (None, "c")]


def test_c32_a_key_that_is_not_null_without_proof_is_refused_and_can_be_proven(not_valid: Database) -> None:
    fix = DataFix(
        name="f", reason="A test.", change=Update("item", set={"note": "x"}), rows=Rows(key="code", expect=[1]),
        audit="item_audit",
    )  # fmt: skip
    with pytest.raises(NoKey, match=r"the key column code of public\.item can be null") as failed:
        apply(not_valid, fix)
    [advice] = [part for part in str(failed.value.hint).split(": ") if part.startswith("ALTER TABLE")]
    assert advice == "ALTER TABLE public.item VALIDATE CONSTRAINT code_given"
    not_valid.execute("UPDATE item SET code = ascii(note) WHERE code IS NULL", advice)
    apply(not_valid, fix)


# --- a null that does not go back


def filled() -> DataFix:
    """Fills in the nulls of a column that is not the key."""
    return DataFix(
        name="filled", reason="A test.", change=Update("item", set={"code": 5}, where="code IS NULL"),
        rows=Rows(key="id", expect=[2, 3]), audit="item_audit",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("forbids", "allows"),
    [
        (["ALTER TABLE item ALTER code SET NOT NULL"], "ALTER TABLE public.item ALTER COLUMN code DROP NOT NULL"),
        (["ALTER TABLE item ADD CONSTRAINT c NOT NULL code NOT VALID"], "ALTER TABLE public.item ALTER COLUMN code DROP NOT NULL"),
        (["ALTER TABLE item ADD PRIMARY KEY (code, id)"], ""),
    ],
    ids=["not null", "not valid", "primary key"],
)  # fmt: skip
def test_promise_5_a_null_that_the_table_takes_no_more_is_refused_with_its_rows(
    database: Database, forbids: list[str], allows: str
) -> None:
    if "NOT VALID" in forbids[0] and database.server_version < 18:
        pytest.skip("PostgreSQL 18 and newer")
    database.execute(
        "CREATE TABLE item (id integer NOT NULL UNIQUE, code integer)",
        "INSERT INTO item VALUES (1, 1), (2, NULL), (3, NULL)",
    )
    create_audit_table(database, "item", "item_audit")
    apply(database, filled())
    database.execute(*forbids)
    before = database.dump()
    for policy in ("refuse", "skip", "overwrite"):
        with pytest.raises(
            NotRestorable, match=r"2 rows of public\.item cannot be restored: code would be NULL, but is NOT NULL now: 2, 3$"
        ) as failed:  # fmt: skip
            revert(database, filled(), policy)
        assert str(failed.value.hint).endswith("ALTER TABLE public.item ALTER COLUMN code DROP NOT NULL")
    assert database.dump() == before
    if allows:
        database.execute(allows)
        revert(database, filled())
        assert database.rows("SELECT id, code FROM item ORDER BY id") == [(1, 1), (2, None), (3, None)]


def test_promise_5_a_row_that_keeps_a_null_cannot_be_written_where_not_null_is_not_valid(
    database: Database,
) -> None:
    """Another column goes back; PostgreSQL holds the whole row against the constraint."""
    if database.server_version < 18:
        pytest.skip("PostgreSQL 18 and newer")
    database.execute(
        "CREATE TABLE item (id integer PRIMARY KEY, code integer, note text)",
        "INSERT INTO item VALUES (1, 1, 'a'), (2, NULL, 'b')",
    )
    create_audit_table(database, "item", "item_audit")
    fix = DataFix(
        name="f", reason="A test.", change=Update("item", set={"note": "x"}), rows=Rows(key="id", expect=[1, 2]),
        audit="item_audit",
    )  # fmt: skip
    apply(database, fix)
    database.execute("ALTER TABLE item ADD CONSTRAINT c NOT NULL code NOT VALID")
    with pytest.raises(NotRestorable, match=r"code would be NULL, but is NOT NULL now: 2$"):
        revert(database, fix)
    database.execute("ALTER TABLE item ALTER COLUMN code DROP NOT NULL")
    revert(database, fix)
    assert database.rows("SELECT id, note FROM item ORDER BY id") == [(1, "a"), (2, "b")]


def test_a_column_that_came_later_may_be_filled_in_by_a_trigger(database: Database) -> None:
    database.execute(
        "CREATE TABLE item (id integer PRIMARY KEY, code integer)",
        "INSERT INTO item VALUES (1, 1), (2, NULL)",
    )
    create_audit_table(database, "item", "item_audit")
    fix = DataFix(
        name="f",
        reason="A test.",
        change=Delete("item"),
        rows=Rows(key="id", expect=[1, 2]),
        audit="item_audit",
    )
    apply(database, fix)
    database.execute(
        "ALTER TABLE item ADD COLUMN later integer NOT NULL",
        "ALTER TABLE item_audit ADD COLUMN later integer",
        "CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.later := 7; RETURN NEW; END'",
        "CREATE TRIGGER fill BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION fill()",
    )
    revert(database, fix)
    assert database.rows("SELECT id, code, later FROM item ORDER BY id") == [(1, 1, 7), (2, None, 7)]


# --- deferrable keys


def test_c32_a_deferrable_key_that_does_not_hold_when_the_fix_begins_is_refused(database: Database) -> None:
    database.execute(
        "CREATE TABLE item (id integer PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, note text)",
        "INSERT INTO item VALUES (1, 'a'), (2, 'b')",
    )
    create_audit_table(database, "item", "item_audit")
    fix = DataFix(
        name="f", reason="A test.", change=Update("item", set={"note": "x"}), rows=Rows(key="id", expect=[1]),
        audit="item_audit",
    )  # fmt: skip
    script = apply_script(fix, Context(), LIMITS).text
    before = database.dump()
    done = database.psql(
        f"BEGIN;\nUPDATE item SET id = 1 WHERE id = 2;\n{script}UPDATE item SET id = 2 WHERE note = 'b';\nCOMMIT;\n",
        "-v", "ON_ERROR_STOP=1", check=False,
    )  # fmt: skip
    assert "this transaction has left two rows of public.item with the same key" in done.stderr
    assert database.dump() == before
    # What is put right in time is no matter, and the key is deferred as before.
    done = database.psql(
        f"BEGIN;\nUPDATE item SET id = 1 WHERE id = 2;\nUPDATE item SET id = 2 WHERE note = 'b';\n{script}"
        "UPDATE item SET id = 1 WHERE id = 2;\nUPDATE item SET id = 2 WHERE note = 'b';\nCOMMIT;\n",
        "-v", "ON_ERROR_STOP=1",
    )  # fmt: skip
    assert database.rows("SELECT * FROM item ORDER BY id") == [(1, "x"), (2, "b")]


def test_c32_rows_that_change_places_under_a_deferrable_key_are_told_apart(database: Database) -> None:
    database.execute(
        "CREATE TABLE item (id integer PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, note text)",
        "INSERT INTO item VALUES (1, 'a'), (2, 'b'), (3, 'c')",
    )
    create_audit_table(database, "item", "item_audit")
    before = database.dump("public.item_audit", *LEDGER)
    fix = RecordedFix(name="f", reason="A test.", tables=[Table("item", "item_audit", updated=2)])
    record(
        database, fix,
        "UPDATE item SET id = 2 WHERE note = 'a'", "UPDATE item SET note = note || 'x' WHERE id = 2", "UPDATE item SET id = 1 WHERE note = 'bx'",
    )  # fmt: skip
    assert database.rows("SELECT * FROM item ORDER BY id") == [(1, "bx"), (2, "ax"), (3, "c")]
    revert(database, fix)
    assert database.dump("public.item_audit", *LEDGER) == before
    with pytest.raises(Refused, match="duplicate key value"):
        record(database, fix, "UPDATE item SET id = 2 WHERE note = 'a'")
