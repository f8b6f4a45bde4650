"""What could pass a recording by, or a revert: each is recorded, or refused in one line, and nothing is left in between."""

from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from datafixes import DataFix, RecordedFix, Rows, Table, Update
from datafixes.errors import (
    AppendOnly,
    Conflicts,
    DatafixError,
    NoKey,
    OthersWouldChange,
    Refused,
    UnsafeTransaction,
    WrongTarget,
)
from datafixes.running.recording import check_statement
from tests import fixes
from tests.servers import LEDGER, Database
from tests.tampering import UNPROTECTED

ITEMS = "CREATE TABLE item (id integer PRIMARY KEY, v text); INSERT INTO item VALUES (1, 'a'), (2, 'b'), (3, 'c');"
LOSE = (
    "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN UPDATE item SET v = 'LOST' WHERE id = 2 AND v <> 'LOST'; RETURN NULL; END $$"
)
ways = pytest.mark.parametrize("offline", [False, True], ids=["online", "one script"])


def lay(database: Database, *more: str, audited: tuple[str, ...] = ("item",)) -> dict[str, list[str]]:
    database.execute(ITEMS, *more)
    for name in audited:
        fixes.create_audit_table(database, name, f"{name}_audit")
    return contents(database)


def contents(database: Database) -> dict[str, list[str]]:
    return {name: rows for name, rows in database.dump(*LEDGER).items() if not name.endswith("_audit")}


def fix(*tables: Table, **more: Any) -> RecordedFix:
    return RecordedFix(
        name="fix", reason="Test.", tables=tables or [Table("item", "item_audit", updated=1)], **more
    )


@ways
def test_c8_a_partition_is_recorded_by_its_root(database: Database, offline: bool) -> None:
    lay(
        database, "CREATE TABLE o (id int, y int, v text, PRIMARY KEY (id, y)) PARTITION BY LIST (y)",
        "CREATE TABLE o24 PARTITION OF o FOR VALUES IN (24)", "INSERT INTO o VALUES (1, 24, 'a'), (2, 24, 'b')",
        "CREATE TABLE p (id int PRIMARY KEY)", "CREATE TABLE k (w int) INHERITS (p)", audited=("item", "o24", "k"),
    )  # fmt: skip
    for part, root in (("o24", "o"), ("k", "p")):
        with pytest.raises(
            WrongTarget,
            match=f"public.{part} is a part of public.{root}, and statements that name that table would not be recorded",
        ):
            fixes.record(
                database,
                fix(Table(part, f"{part}_audit", updated=1)),
                "UPDATE o SET v = 'x'",
                offline=offline,
            )


@ways
@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE item DISABLE TRIGGER USER; UPDATE item SET v = 'LOST' WHERE id = 2; ALTER TABLE item ENABLE TRIGGER USER",
        "ALTER TABLE item ENABLE ROW LEVEL SECURITY",
        "COMMENT ON TABLE item IS 'x'; ALTER TABLE item ALTER COLUMN v SET STATISTICS 7",
    ],
)
def test_ddl_on_its_tables_is_seen_in_a_script_too(database: Database, offline: bool, statement: str) -> None:
    before = lay(database)
    with pytest.raises(UnsafeTransaction, match=r"its statements alter public\.item"):
        fixes.record(database, fix(), "UPDATE item SET v = 'x' WHERE id = 1", statement, offline=offline)
    assert contents(database) == before


@ways
def test_c24_what_the_statements_defer_is_done_and_recorded_before_the_proof(
    database: Database, offline: bool
) -> None:
    lay(
        database,
        LOSE,
        "CREATE CONSTRAINT TRIGGER lose AFTER UPDATE ON item DEFERRABLE FOR EACH ROW WHEN (NEW.id = 1) EXECUTE FUNCTION lose()",
    )
    with pytest.raises(Refused, match=r"public\.item: 2 updated, expected 1"):
        fixes.record(
            database,
            fix(),
            "SET CONSTRAINTS ALL DEFERRED",
            "UPDATE item SET v = 'x' WHERE id = 1",
            offline=offline,
        )
    declared = DataFix(
        name="d",
        reason="x",
        change=Update("item", set={"v": "x"}),
        rows=Rows(key="id", expect=[1]),
        audit="item_audit",
    )
    script = fixes.apply_script(declared, fixes.Context(), fixes.LIMITS).text
    ran = database.psql(
        f"BEGIN; SET CONSTRAINTS ALL DEFERRED;\n{script}COMMIT;", "-v", "ON_ERROR_STOP=1", check=False
    )
    assert "1 other row of public.item changed too, without a copy: 2" in ran.stderr
    assert database.value("SELECT count(*) FROM item WHERE v = 'LOST'") == 0


def test_c24_a_deferred_trigger_of_a_table_that_may_differ_is_done_before_the_proof(
    database: Database,
) -> None:
    lay(
        database, LOSE, "CREATE TABLE log (what text)",
        "CREATE CONSTRAINT TRIGGER lose AFTER INSERT ON log DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION lose()",
    )  # fmt: skip
    with pytest.raises(Refused, match=r"public\.item: 2 updated, expected 1"):
        fixes.record(
            database,
            fix(may_differ=["log"]),
            "UPDATE item SET v = 'x' WHERE id = 1",
            "INSERT INTO log VALUES ('x')",
        )


def test_a_truncate_behind_a_rewrite_of_the_same_transaction_is_seen(database: Database) -> None:
    lay(database, "CREATE TABLE o (x integer)", "INSERT INTO o VALUES (1)")
    script = fixes.recorded_script(
        fix(), ["UPDATE item SET v = 'x' WHERE id = 1", "TRUNCATE o"], fixes.Context(), fixes.LIMITS
    ).text
    ran = database.psql(
        f"BEGIN; ALTER TABLE o ALTER x TYPE bigint;\n{script}COMMIT;", "-v", "ON_ERROR_STOP=1", check=False
    )
    assert "public.o (truncated, altered or dropped)" in ran.stderr
    assert database.value("SELECT count(*) FROM o") == 1


@ways
@pytest.mark.parametrize("protected", [True, False], ids=["protected", "unprotected"])
@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM item_audit", "UPDATE datafix_run SET reason = 'forged'", "DELETE FROM datafix_run_table"],
)
def test_promise_6_a_body_does_not_write_to_copies_and_ledger(
    database: Database, statement: str, protected: bool, offline: bool
) -> None:
    """A body that runs as the owner might even disable the triggers before: what it did is found, too."""
    lay(database)
    fixes.record(
        database,
        RecordedFix(name="first", reason="x", tables=[Table("item", "item_audit", updated=1)]),
        "UPDATE item SET v = 'y' WHERE id = 3",
    )
    if not protected:
        database.execute(UNPROTECTED)
    if protected:
        refused: type[Exception] = AppendOnly if offline else DBAPIError
        words = "only grows|does not change"
    else:
        refused, words = OthersWouldChange, "changed too, without a copy"
    before = database.dump()
    with pytest.raises(refused, match=words):
        fixes.record(database, fix(), "UPDATE item SET v = 'x' WHERE id = 1", statement, offline=offline)
    assert database.dump() == before


@pytest.mark.parametrize("statement", ["CLOSE ALL", "discard all", "UPDATE item SET v = 1; close all"])
def test_a_body_does_not_put_out_the_commit_fuse(statement: str) -> None:
    with pytest.raises(UnsafeTransaction, match="its body runs"):
        check_statement(statement, "datafix x")


def test_c32_rows_without_a_key_are_not_skipped_into_doubles(database: Database) -> None:
    lay(database, "CREATE TABLE l (v text, n integer)", "INSERT INTO l VALUES ('a', 1)", audited=("l",))
    changed = fix(Table("l", "l_audit", deleted=1, inserted=1))
    fixes.record(database, changed, "UPDATE l SET n = 10")
    database.execute("UPDATE l SET n = 11")
    with pytest.raises(Conflicts) as caught:
        fixes.revert(database, changed, "skip")
    assert "Rows without a key cannot be skipped" in caught.value.hint
    assert database.rows("TABLE l") == [("a", 11)]
    database.execute("UPDATE l SET n = 10")
    fixes.revert(database, changed)
    assert database.rows("TABLE l") == [("a", 1)]


def test_a_key_without_overlaps_is_no_key_by_which_rows_are_the_same(database: Database) -> None:
    if database.server_version < 18:
        pytest.skip("came with PostgreSQL 18")
    lay(
        database, "CREATE TABLE rate (id int4range, valid daterange, price integer, PRIMARY KEY (id, valid WITHOUT OVERLAPS))",
        "INSERT INTO rate VALUES ('[2,3)', '[2020-01-01,2020-03-01)', 5)", audited=("rate",),
    )  # fmt: skip
    by_key = DataFix(
        name="d", reason="x", change=Update("rate", set={"price": 6}), audit="rate_audit",
        rows=Rows(key=("id", "valid"), expect=[("[2,3)", "[2020-01-15,2020-01-20)")]),
    )  # fmt: skip
    with pytest.raises(NoKey):
        fixes.apply(database, by_key)
    before = contents(database)
    by_image = fix(Table("rate", "rate_audit", deleted=1, inserted=1))
    fixes.record(database, by_image, "UPDATE rate SET price = 99")
    fixes.revert(database, by_image)
    assert contents(database) == before


def test_a_table_in_which_nothing_changed_is_no_hindrance(database: Database) -> None:
    before = lay(database, "CREATE TABLE o (id integer PRIMARY KEY)", audited=("item", "o"))
    both = fix(Table("item", "item_audit", updated=1), Table("o", "o_audit"))
    fixes.record(database, both, "UPDATE item SET v = 'x' WHERE id = 1")
    fixes.revert(database, both)
    assert contents(database) == before


@pytest.mark.parametrize(
    ("tables", "expected", "statements"),
    [
        pytest.param(
            "CREATE TABLE p (t int, id int, PRIMARY KEY (t, id)); INSERT INTO p VALUES (1, 1);"
            "CREATE TABLE c (id int PRIMARY KEY, t int, p int, FOREIGN KEY (t, p) REFERENCES p); INSERT INTO c VALUES (1, 1, 1)",
            [{"inserted": 1}, {"updated": 1}], ["INSERT INTO p VALUES (1, 9)", "UPDATE c SET p = 9"], id="composite reference",
        ),
        pytest.param(
            "CREATE TABLE p (id int PRIMARY KEY, code text UNIQUE); INSERT INTO p VALUES (1, 'a');"
            "CREATE TABLE c (id int PRIMARY KEY, code text REFERENCES p (code)); INSERT INTO c VALUES (1, 'a')",
            [{"inserted": 1, "deleted": 1}, {}], ["UPDATE p SET id = 101"], id="renumbered, referred to by another key",
        ),
        pytest.param(
            "CREATE TABLE p (id int PRIMARY KEY, code text, low text GENERATED ALWAYS AS (lower(code)) STORED UNIQUE);"
            "INSERT INTO p VALUES (1, 'A'), (2, 'B'); CREATE TABLE c (id int PRIMARY KEY)",
            [{"updated": 2}, {}], ["UPDATE p SET code = 'x' WHERE id = 1", "UPDATE p SET code = 'A' WHERE id = 2", "UPDATE p SET code = 'B' WHERE id = 1"],
            id="unique and generated",
        ),
    ],
)  # fmt: skip
def test_a_revert_that_nobody_stands_in_the_way_of_is_not_refused(
    database: Database, tables: str, expected: list[dict[str, Any]], statements: list[str]
) -> None:
    before = lay(database, tables, audited=("p", "c"))
    both = fix(
        *(Table(name, f"{name}_audit", **counts) for name, counts in zip(("p", "c"), expected, strict=True))
    )
    fixes.record(database, both, *statements)
    fixes.revert(database, both)
    assert contents(database) == before


def test_a_generated_value_that_somebody_took_is_a_conflict(database: Database) -> None:
    lay(
        database, "CREATE TABLE p (id int PRIMARY KEY, code text, low text GENERATED ALWAYS AS (lower(code)) STORED UNIQUE)",
        "INSERT INTO p (id, code) VALUES (1, 'A')", audited=("p",),
    )  # fmt: skip
    gone = fix(Table("p", "p_audit", deleted=1))
    fixes.record(database, gone, "DELETE FROM p")
    database.execute("INSERT INTO p (id, code) VALUES (2, 'a')")
    with pytest.raises(Conflicts, match="1 taken"):
        fixes.revert(database, gone)


def test_c5_children_of_a_row_without_a_key_do_not_go_with_it(database: Database) -> None:
    lay(
        database, "CREATE TABLE p (code text UNIQUE, note text)", "INSERT INTO p VALUES ('a', 'x')",
        "CREATE TABLE c (id int PRIMARY KEY, code text REFERENCES p (code) ON DELETE CASCADE)", "INSERT INTO c VALUES (1, 'a')", audited=("p",),
    )  # fmt: skip
    noted = fix(Table("p", "p_audit", deleted=1, inserted=1), may_differ=["c"])
    fixes.record(database, noted, "UPDATE p SET note = 'm'")
    with pytest.raises(DatafixError, match="cannot be restored"):
        fixes.revert(database, noted)
    assert database.value("SELECT count(*) FROM c") == 1


def test_the_hint_of_other_counts_says_what_to_correct(database: Database) -> None:
    lay(database)
    with pytest.raises(Refused) as caught:
        fixes.record(database, fix(), "UPDATE item SET v = 'x'")
    assert caught.value.hint.startswith(
        "Nothing was changed. Correct its revision if it has run nowhere yet, or "
    )
