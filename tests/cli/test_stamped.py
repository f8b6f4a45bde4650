"""Fixes that somebody stamped past: doctor, history and plan name them."""

from pathlib import Path

import pytest

from tests.cli.commands import answer, datafixes
from tests.projects import Project, project_with_fix
from tests.servers import Database


@pytest.fixture
def project(tmp_path: Path, database: Database) -> Project:
    """A fix at b, and a revision c above it."""
    project = project_with_fix(tmp_path, database)
    project.revision("a", None, 'op.create_audit_table("item", name="item_audit")', top="# No fix.")
    project.revision("c", "b", "pass", top="# No fix.")
    return project


def named(project: Project) -> list[list[tuple[str, str]]]:
    """What doctor, history and plan each say, as (fix, why)."""
    [doctor] = [
        one
        for one in answer(project, "doctor", code=doctor_code(project))["findings"]
        if one["check"] == "stamped past"
    ]
    history = answer(project, "history")["stamped_past"]
    plan = answer(project, "plan")["stamped_past"]
    told = [[(one["fix"], one["why"]) for one in places] for places in (history, plan)]
    assert (doctor["state"] == "bad") == bool(told[0])
    assert all(f"{fix} (revision b): {why}" in doctor["evidence"] for fix, why in told[0])
    return told


def doctor_code(project: Project) -> int:
    return datafixes(project, "doctor").code


def test_a_fix_that_was_stamped_past(project: Project) -> None:
    project.alembic("stamp", "c")
    expected = [("close_items", "the ledger has no run of it")]
    assert named(project) == [expected, expected]
    for command in ("doctor", "history", "plan"):
        shown = " ".join(datafixes(project, command).out.split())
        assert (
            "alembic stamp a; then alembic upgrade b, or decline it: alembic -x decline='close_items: WHY'"
            in shown
        )
    # The command that is named mends it.
    project.alembic("stamp", "a")
    assert project.alembic("-x", "decline=close_items: nobody needs it", "upgrade", "c").code == 0
    assert named(project) == [[], []]


def test_a_fix_that_ran_was_declined_or_is_still_to_run(project: Project) -> None:
    assert named(project) == [[], []]
    project.alembic("upgrade", "c")
    assert named(project) == [[], []]


def test_a_fix_that_its_downgrade_took_back_and_a_stamp_made_good(project: Project) -> None:
    project.alembic("upgrade", "c")
    project.alembic("downgrade", "a")
    assert named(project) == [[], []]
    project.alembic("stamp", "c")
    expected = [("close_items", "run 2, its downgrade, reverted it")]
    assert named(project) == [expected, expected]


def test_a_fix_that_a_later_revision_took_back(project: Project) -> None:
    project.revision("d", "c", 'op.revert_datafix("close_items", revision="b")', top="# No fix.")
    project.alembic("upgrade", "d")
    assert named(project) == [[], []]


def test_a_fix_that_failed_and_was_stamped_past(project: Project) -> None:
    project.database.execute("UPDATE item SET symbol = 'X' WHERE id = 1")
    assert project.alembic("upgrade", "c").code == 255
    assert project.outcomes == ["failed"]
    project.alembic("stamp", "c")
    assert named(project)[0] == [("close_items", "run 2 of it failed, and none succeeded")]


def test_without_a_ledger(project: Project) -> None:
    project.alembic("stamp", "c")
    project.database.execute("DROP TABLE datafix_run, datafix_run_table, datafix_range CASCADE")
    for command in ("plan", "history"):
        [one] = answer(project, command)["stamped_past"]
        assert one["fix"] == "close_items"
        assert "parent of the revision that creates the audit table item_audit" in one["remedy"]
    # What it says is a way on.
    project.alembic("stamp", "--purge", "base")
    project.database.execute("DROP TABLE item_audit CASCADE")
    assert project.alembic("upgrade", "b").code == 0
    assert answer(project, "plan")["stamped_past"] == []


def test_a_role_that_may_not_read_the_ledger_plans_all_the_same(project: Project) -> None:
    database = project.database
    database.execute(
        "CREATE ROLE planner_of_none LOGIN", "GRANT SELECT, UPDATE ON alembic_version TO planner_of_none"
    )
    try:
        project.alembic("stamp", "b")
        done = datafixes(project, "-x", f"url={database.url_for('planner_of_none')}", "plan")
        assert done.code == 0, done.err
    finally:
        database.execute("DROP OWNED BY planner_of_none", "DROP ROLE planner_of_none")
