"""Promise 5 where values are unique: a value that would come back and that another row has now is a conflict that names the row."""

import pytest

from datafixes import DataFix, Delete, RecordedFix, Rows, Table, Update
from datafixes.errors import Conflicts
from tests.fixes import apply, create_audit_table, record, revert
from tests.servers import Database

ALL = "SELECT * FROM item ORDER BY id"


def lay(database: Database, definition: str, *more: str) -> None:
    database.execute(f"CREATE TABLE item (id integer PRIMARY KEY, {definition})", *more)
    create_audit_table(database, "item", "item_audit")


def delete(*keys: int) -> DataFix:
    rows = Rows(key="id", expect=list(keys))
    return DataFix(name="fix", reason="A test.", change=Delete("item"), rows=rows, audit="item_audit")


def test_c6_a_value_that_another_row_of_the_fix_has_now_is_a_conflict(database: Database) -> None:
    lay(database, "code text UNIQUE, v text", "INSERT INTO item VALUES (1, 'a', 'x'), (2, NULL, 'x')")
    fix = DataFix(
        name="fix", reason="A test.", change=Update("item", set={"code": None, "v": "y"}), rows=Rows(key="id", expect=[1, 2]),
        audit="item_audit",
    )  # fmt: skip
    apply(database, fix)
    # Code is not what the fix changed in row 2: it keeps what others wrote, and row 1 cannot have it back.
    database.execute("UPDATE item SET code = 'a' WHERE id = 2")
    with pytest.raises(Conflicts, match=r"1 of 2 rows .*: 1 taken"):
        revert(database, fix)
    assert database.rows(ALL) == [(1, None, "y"), (2, "a", "y")]
    revert(database, fix, "skip")
    assert database.rows(ALL) == [(1, None, "y"), (2, "a", "x")]


def test_c6_a_row_that_is_skipped_keeps_its_value_from_the_others(database: Database) -> None:
    lay(
        database,
        "a text UNIQUE, b text UNIQUE",
        "INSERT INTO item VALUES (1, 'a1', 'b1'), (2, 'a2', 'b2'), (3, 'a3', 'b3')",
    )
    fix = RecordedFix(
        name="fix",
        reason="A test.",
        tables=[Table("item", "item_audit", key="id", updated=2)],
    )
    record(
        database,
        fix,
        "UPDATE item SET a = NULL WHERE id = 1",
        "UPDATE item SET a = 'a1', b = 'other' WHERE id = 2",
    )
    database.execute("UPDATE item SET b = 'b2' WHERE id = 3")
    # Row 2 cannot have b2 back, so it stays as it is and keeps a1, which row 1 had.
    with pytest.raises(Conflicts, match=r"2 taken"):
        revert(database, fix)
    revert(database, fix, "skip")
    assert database.rows(ALL) == [(1, None, "b1"), (2, "a1", "other"), (3, "a3", "b2")]


@pytest.mark.parametrize(
    ("constraint", "was", "theirs"),
    [
        pytest.param("UNIQUE NULLS NOT DISTINCT (code)", "NULL", "NULL", id="nulls not distinct"),
        pytest.param("EXCLUDE USING btree ((id > 0) WITH =, code WITH =)", "'a'", "'a'", id="exclusion"),
        pytest.param("EXCLUDE (lower(code) WITH =)", "'a'", "'A'", id="expression"),
        pytest.param("EXCLUDE (code WITH =) WHERE (id > 0)", "'a'", "'a'", id="partial"),
    ],
)
def test_c6_a_value_that_another_kind_of_constraint_keeps_unique_is_a_conflict(
    database: Database, constraint: str, was: str, theirs: str
) -> None:
    if "NULLS NOT DISTINCT" in constraint and database.server_version < 15:
        pytest.skip("came with PostgreSQL 15")
    lay(database, f"code text, {constraint}", f"INSERT INTO item VALUES (1, {was})")
    apply(database, delete(1))
    database.execute(f"INSERT INTO item VALUES (3, {theirs})")
    with pytest.raises(Conflicts, match=r"1 of 1 rows .*: 1 taken"):
        revert(database, delete(1))
    revert(database, delete(1), "skip")
    assert database.value("SELECT count(*) FROM item") == 1
