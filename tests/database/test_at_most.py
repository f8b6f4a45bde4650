"""A bound instead of a number: any number of rows up to it, and what was found is bound and kept."""

from typing import Any

import pytest

from datafixes import AtMost, DataFix, Delete, Insert, RecordedFix, Rows, Table, Update
from datafixes.declaration.table import KINDS
from datafixes.errors import DatafixError, DeclarationError, Refused
from tests import fixes
from tests.cli.commands import answer
from tests.projects import Project, project_with_fix
from tests.servers import Database

ALL = "SELECT id, status FROM item ORDER BY id"
LAST = (
    "SELECT outcome, rows_expected, rows_found, rows_changed, declaration ? 'at_most'"
    " FROM datafix_run ORDER BY run_id DESC LIMIT 1"
)


def lay(database: Database, rows: int) -> None:
    database.execute(
        "CREATE TABLE item (id integer PRIMARY KEY, status text NOT NULL)",
        "CREATE TABLE part (item integer REFERENCES item ON DELETE CASCADE, no integer, PRIMARY KEY (item, no))",
        f"INSERT INTO item SELECT n, 'stuck' FROM generate_series(1, {rows}) AS n",
        "INSERT INTO item VALUES (100, 'fine')",
    )
    for name in ("item", "part"):
        fixes.create_audit_table(database, name, f"{name}_audit")


THREE = AtMost(3)


def close(expect: Any = THREE, **more: Any) -> DataFix:
    return DataFix(
        name="close", reason="Stuck.", change=Update("item", set={"status": "closed"}, where="status = 'stuck'"),
        rows=Rows(key="id", expect=expect, **more), audit="item_audit",
    )  # fmt: skip


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_any_number_up_to_the_bound_changes_and_comes_back(rows: int, database: Database) -> None:
    lay(database, rows)
    before = database.rows(ALL)
    fixes.apply(database, close())
    assert database.rows(ALL) == [*((n, "closed") for n in range(1, rows + 1)), (100, "fine")]
    assert database.rows(LAST) == [("applied", 3, rows, rows, True)]
    fixes.revert(database, close())
    assert database.rows(ALL) == before
    # The revert expects what its run changed; so does the revert of the revert.
    assert database.rows(LAST) == [("reverted", rows, rows, rows, False)]


def test_no_row_is_not_applicable_or_refused_where_some_are_required(database: Database) -> None:
    lay(database, 0)
    with pytest.raises(Refused, match=r"found 0 rows of public\.item, expected 1 to 3"):
        fixes.apply(database, close(required=True))
    fixes.apply(database, close())
    assert database.rows(LAST) == [("not_applicable", 3, 0, 0, True)]
    assert database.rows(ALL) == [(100, "fine")]


def test_more_than_the_bound_is_refused_with_their_keys(database: Database) -> None:
    lay(database, 4)
    before = database.dump()
    with pytest.raises(Refused, match=r"found 4 rows of public\.item, expected 1 to 3") as refused:
        fixes.apply(database, close())
    assert "Found: 1, 2, 3, 4." in refused.value.hint
    assert database.dump() == before


def test_rows_that_are_already_as_wanted_do_not_count(database: Database) -> None:
    lay(database, 4)
    database.execute("UPDATE item SET id = 90 WHERE id = 4")
    fixes.apply(database, close(already="id = 90"))
    assert database.rows(LAST) == [("applied", 3, 3, 3, True)]


def recorded(**expected: Any) -> RecordedFix:
    return RecordedFix(
        name="purge",
        reason="Stuck.",
        tables=[Table("item", "item_audit", **expected), Table("part", "part_audit", deleted=AtMost(2))],
    )


DELETE = "DELETE FROM item WHERE status = 'stuck'"


@pytest.mark.parametrize("offline", [False, True])
@pytest.mark.parametrize(("rows", "parts"), [(1, 0), (2, 2)])
def test_each_kind_of_a_recorded_fix_can_have_a_bound(
    rows: int, parts: int, offline: bool, database: Database
) -> None:
    lay(database, rows)
    database.execute(f"INSERT INTO part SELECT 1, n FROM generate_series(1, {parts}) AS n")
    before = database.rows(ALL), database.rows("SELECT * FROM part")
    fix = recorded(deleted=AtMost(2))
    fixes.record(database, fix, DELETE, offline=offline)
    assert (database.rows(ALL), database.rows("SELECT * FROM part")) == ([(100, "fine")], [])
    assert database.rows(LAST) == [("applied", 4, rows + parts, rows + parts, True)]
    fixes.revert(database, fix)
    assert (database.rows(ALL), database.rows("SELECT * FROM part")) == before


def test_a_recorded_fix_beyond_a_bound_or_a_number_beside_it_is_refused(database: Database) -> None:
    lay(database, 2)
    database.execute("INSERT INTO part SELECT 1, n FROM generate_series(1, 3) AS n")
    with pytest.raises(Refused, match=r"public\.part: 3 deleted, expected at most 2$"):
        fixes.record(database, recorded(deleted=2), DELETE)
    with pytest.raises(
        Refused, match=r"public\.item: 2 deleted, expected 3; public\.part: 3 deleted, expected at"
    ):
        fixes.record(database, recorded(deleted=3), DELETE)
    with pytest.raises(Refused, match=r"public\.item: 1 updated, expected 0"):
        fixes.record(database, recorded(deleted=AtMost(2)), "UPDATE item SET status = 'x' WHERE id = 2")


def test_a_recorded_fix_that_changes_nothing_is_not_applicable_under_a_bound(database: Database) -> None:
    lay(database, 0)
    fixes.record(database, recorded(deleted=AtMost(2)), DELETE)
    assert database.rows(LAST) == [("not_applicable", 4, 0, 0, True)]


# --- the plan


PLANNED = """
fix = DataFix(
    name="close_items", reason="Stuck.",
    change=Update("item", set={"status": "closed"}, where="status = 'open'"),
    rows=Rows(key="id", expect=AtMost(5_000)), audit="item_audit",
)
"""


@pytest.fixture
def project(tmp_path: Any, database: Database) -> Project:
    return project_with_fix(tmp_path, database, top="from datafixes import AtMost\n" + PLANNED)


def test_the_number_found_is_in_the_log_and_the_plan_binds_it(project: Project, database: Database) -> None:
    planned = answer(project, "plan")
    [change] = planned["steps"][0]["runs"][0]["changes"]
    assert (change["expected"], change["updated"]) == ("at most 5000 updated", 3)
    digest = planned["digest"]
    database.execute("INSERT INTO item VALUES (4, 'IBM', 'open', NULL, 1)")
    refused = project.alembic("-x", f"plan={digest}", "upgrade", "b")
    assert refused.code != 0
    assert "the rows are not those that were planned" in refused.last_line
    database.execute("DELETE FROM item WHERE id = 4")
    ran = project.alembic("-x", f"plan={digest}", "upgrade", "b")
    assert ran.code == 0, ran.err
    assert "datafix close_items: applied: 3 found, 3 changed, 0 already as wanted" in ran.err


def test_one_printed_script_serves_databases_with_different_numbers(
    project: Project, database: Database
) -> None:
    script = project.script("a:b")
    database.execute("DELETE FROM item WHERE id = 3")
    database.psql(script, "-v", "ON_ERROR_STOP=1")
    assert database.rows("SELECT rows_found, rows_changed FROM datafix_run") == [(2, 2)]
    assert project.alembic("downgrade", "a").code == 0
    assert database.value("SELECT count(*) FROM item WHERE status = 'open'") == 2


# --- declarations

CLASS: Any = AtMost
HALF: Any = 1.5
NOTHING: Any = None


@pytest.mark.parametrize("bound", [0, -1, True, 2.5, "5", None, 2**63])
def test_a_bound_is_a_number_of_rows(bound: Any) -> None:
    with pytest.raises(DeclarationError) as refused:
        AtMost(bound)
    assert refused.value.message == (
        f"AtMost({bound!r}): the bound is a number of rows, 1 or more, such as AtMost(5_000)."
    )


@pytest.mark.parametrize(
    ("declare", "words"),
    [
        (lambda: Rows(key="id", expect=AtMost(3), tolerance=1), "AtMost is the bound itself"),
        (lambda: Rows(key="id", expect=AtMost(3), identity={"s": "s"}), "identity needs the rows themselves"),
        (lambda: Rows(key="id", expect=CLASS), "must be {key: identity}, a list of keys, a number or AtMost(...)"),
        (lambda: Rows(key="id", expect=HALF), "must be {key: identity}, a list of keys, a number or AtMost(...)"),
        (lambda: Table("t", "t_audit", updated=AtMost(3), tolerance=1), "Table t: tolerance goes with a number"),
        (lambda: Table("t", "t_audit", updated=NOTHING), "Table t: updated=None is neither a number nor rows"),
        (
            lambda: DataFix(name="f", reason="r", change=Delete("t"), rows=Rows(key="id", expect=AtMost(3)), audit="a"),
            "expect is a number (AtMost(3)) and names no rows, so where is required",
        ),
        (
            lambda: DataFix(
                name="f", reason="r", change=Insert("t", [{"id": 1}]), rows=Rows(key="id", expect=AtMost(1)), audit="a"
            ),
            "expect is the number of inserted rows, 1",
        ),
    ],
)  # fmt: skip
def test_a_bound_goes_with_nothing_that_it_contradicts(declare: Any, words: str) -> None:
    with pytest.raises(DatafixError) as refused:
        declare()
    assert words in refused.value.message


def test_a_bound_is_not_the_same_fix_as_its_number() -> None:
    assert len({close(expect).fingerprint for expect in (3, AtMost(3), AtMost(4))}) == 3
    tables = [Table("t", "a", **{kind: expect}) for kind in KINDS for expect in (3, AtMost(3))]  # type: ignore[arg-type]
    assert len({RecordedFix(name="f", reason="r", tables=[one]).fingerprint for one in tables}) == 6
