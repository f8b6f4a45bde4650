"""A revision on top that undoes an earlier fix, as git revert does: all of it or some rows, and undone in its turn."""

from pathlib import Path

from tests.projects import Project, project_with_fix
from tests.servers import LEDGER, Database

UNDO = 'op.revert_datafix("close_items", revision="b"{})'
BACK = 'op.revert_datafix("close_items")'


def rows(project: Project) -> list[tuple[object, ...]]:
    return project.database.rows("SELECT id, status, amount::int FROM item ORDER BY id")


OPEN = [(1, "open", 10), (2, "open", 20), (3, "open", 30)]
CLOSED = [(1, "closed", 110), (2, "closed", 120), (3, "open", 30)]


def with_undo(directory: Path, database: Database, more: str = "") -> Project:
    project = project_with_fix(directory, database)
    project.revision("c", "b", UNDO.format(more), BACK, top="# The fix of revision b.")
    return project


def ran(project: Project, *arguments: str) -> None:
    done = project.alembic(*arguments)
    assert done.code == 0, done.err


def test_a_fix_is_undone_by_a_revision_on_top_and_by_its_downgrade_done_again(
    tmp_path: Path, database: Database
) -> None:
    project = with_undo(tmp_path, database)
    for _ in range(2):
        ran(project, "upgrade", "b")
        assert rows(project) == CLOSED
        ran(project, "upgrade", "c")
        assert rows(project) == OPEN
        ran(project, "downgrade", "b")
        assert rows(project) == CLOSED
        ran(project, "upgrade", "c")
        assert rows(project) == OPEN
        ran(project, "downgrade", "a")
        assert rows(project) == OPEN
    assert project.outcomes == ["applied", "reverted", "reverted", "reverted", "reverted", "reverted"] * 2


def test_some_rows_are_undone_and_the_downgrades_give_back_all(tmp_path: Path, database: Database) -> None:
    project = with_undo(tmp_path, database, ", rows=[2]")
    ran(project, "upgrade", "c")
    assert rows(project) == [(1, "closed", 110), (2, "open", 20), (3, "open", 30)]
    assert database.value("SELECT rows_chosen FROM datafix_run ORDER BY run_id DESC LIMIT 1") == "2"
    ran(project, "downgrade", "b")
    assert rows(project) == CLOSED
    ran(project, "downgrade", "a")
    assert rows(project) == OPEN


def test_what_is_left_can_be_undone_later(tmp_path: Path, database: Database) -> None:
    project = with_undo(tmp_path, database, ", rows=[2]")
    project.revision("d", "c", UNDO.format(", rows=[1]"), BACK, top="# The fix of revision b.")
    ran(project, "upgrade", "d")
    assert rows(project) == OPEN
    ran(project, "downgrade", "a")
    assert rows(project) == OPEN


def test_a_revert_is_reverted_by_naming_its_revision(tmp_path: Path, database: Database) -> None:
    project = with_undo(tmp_path, database)
    project.revision(
        "d", "c", 'op.revert_datafix("close_items", revision="c")', BACK, top="# The fix of revision b."
    )
    ran(project, "upgrade", "d")
    assert rows(project) == CLOSED
    # In force again, so it is not applied a second time whatever the version table says.
    ran(project, "stamp", "a")
    again = project.alembic("upgrade", "b")
    assert again.code == 255
    assert "applied already, by run 1" in again.last_line
    ran(project, "stamp", "d")
    for step, expected in (("c", OPEN), ("b", CLOSED), ("a", OPEN)):
        ran(project, "downgrade", step)
        assert rows(project) == expected


def test_an_undo_that_was_stamped_back_is_not_undone_twice(tmp_path: Path, database: Database) -> None:
    project = with_undo(tmp_path, database)
    ran(project, "upgrade", "c")
    ran(project, "downgrade", "b")
    ran(project, "stamp", "c")
    again = project.alembic("downgrade", "b")
    assert again.code == 255
    assert "run 3 reverted run 2 already" in again.last_line
    assert rows(project) == CLOSED


def test_a_row_that_the_fix_did_not_change_is_refused(tmp_path: Path, database: Database) -> None:
    project = with_undo(tmp_path, database, ", rows=[2, 3, 99]")
    refused = project.alembic("upgrade", "head")
    assert refused.code == 255
    assert "run 1 did not change these rows of public.item: 3, 99" in refused.last_line
    assert rows(project) == CLOSED


def test_the_downgrade_of_an_undo_that_never_ran_takes_back_nothing(
    tmp_path: Path, database: Database
) -> None:
    """Somebody stamped past it: what the fix's own revision did is not its own to take back."""
    project = project_with_fix(tmp_path, database)
    assert project.alembic("upgrade", "b").code == 0
    was = database.rows("TABLE item ORDER BY id")
    undo = 'op.revert_datafix("close_items", revision="b")'
    project.revision("c", "b", undo, 'op.revert_datafix("close_items")', top="# The fix of revision b.")
    project.alembic("stamp", "c")
    refused = project.alembic("downgrade", "b")
    assert refused.code == 255
    assert "there is nothing to revert: the ledger has no run of it" in refused.last_line
    assert database.rows("TABLE item ORDER BY id") == was


def test_two_parts_that_one_revision_took_back_come_back(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    assert project.alembic("upgrade", "b").code == 0
    was = database.rows("TABLE item ORDER BY id")
    undo = "\n".join(f'op.revert_datafix("close_items", revision="b", rows=[{row}])' for row in (1, 2))
    redo = 'op.revert_datafix("close_items")\nop.revert_datafix("close_items")'
    project.revision("c", "b", undo, redo, top="# The fix of revision b.")
    ran = project.alembic("upgrade", "c")
    assert ran.code == 0, ran.err
    assert [status for _, _, status, *_ in database.rows("TABLE item ORDER BY id")] == [
        "open",
        "open",
        "open",
    ]
    ran = project.alembic("downgrade", "b")
    assert ran.code == 0, ran.err
    assert database.rows("TABLE item ORDER BY id") == was


def test_the_undo_of_an_unknown_fix_names_the_nearest(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    project.revision(
        "c", "b", 'op.revert_datafix("close_item", revision="b")', "pass", top="# The fix of revision b."
    )
    refused = project.alembic("upgrade", "head")
    assert refused.code == 255
    assert "a fix close_item, and no ledger knows it. Did you mean close_items?" in refused.last_line


def test_the_script_of_an_undo_does_the_same(tmp_path: Path, database: Database) -> None:
    project = with_undo(tmp_path, database, ", rows=[2]")
    ran(project, "upgrade", "b")
    before = database.dump(*LEDGER, "public.item_audit")
    database.psql(project.script("b:c"), "-v", "ON_ERROR_STOP=1")
    assert rows(project) == [(1, "closed", 110), (2, "open", 20), (3, "open", 30)]
    database.psql(project.script("c:b"), "-v", "ON_ERROR_STOP=1")
    assert database.dump(*LEDGER, "public.item_audit") == before
