"""Two and ten deploys at the same time: the fix applies once, the version moves, and whoever fails says why."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.deploys import (
    FIXED,
    START,
    again,
    applied_once,
    deploying,
    ended,
    images,
    one_clear_line,
    rows,
)
from tests.projects import STOCK_ENV, TABLE, Project, Ran, new_project, project_with_fix
from tests.servers import Database
from tests.small_book import session, somebody_waits


def all_at_once(project: Project, many: int, *arguments: str) -> list[Ran]:
    """What so many runs come to that start at the same time."""
    with ExitStack() as stack:
        processes = [stack.enter_context(deploying(project, *arguments)) for _ in range(many)]
        return [ended(process) for process in processes]


@pytest.mark.parametrize("many", [2, 10])
def test_b19_b20_b21_b22_deploys_at_once_from_an_empty_version_table_all_succeed(
    many: int, tmp_path: Path, database: Database
) -> None:
    database.psql(TABLE, "-v", "ON_ERROR_STOP=1")
    project = new_project(tmp_path, database)
    project.revision("a", None, 'op.create_audit_table("item", name="item_audit")')
    project.revision("b", "a", "op.apply_datafix(fix)")
    ran = all_at_once(project, many)
    assert [one.code for one in ran] == [0] * many, ran
    applied_once(project)
    assert project.outcomes == ["applied"]


def test_b19_b22_of_ten_deploys_at_once_with_the_stock_env_one_applies_and_the_others_say_so(
    tmp_path: Path, database: Database
) -> None:
    # All have read the version and are about to apply: the first waits for the rows, the others for the first.
    project = project_with_fix(tmp_path, database, STOCK_ENV)
    with session(database, "LOCK TABLE item IN EXCLUSIVE MODE") as other, ExitStack() as stack:
        patient = ("-x", "lock_attempts=20", "upgrade", "head")
        processes = [stack.enter_context(deploying(project, *patient)) for _ in range(10)]
        somebody_waits(database, 10)
        other.rollback()
        ran = [ended(process) for process in processes]
    assert sorted(one.code for one in ran) == [0] + [255] * 9, ran
    for one in ran:
        if one.code:
            one_clear_line(one, "datafix close_items: the database is at revision b already")
    applied_once(project)
    assert len(project.outcomes) == 10


def test_b22_two_downgrades_at_once_give_back_once(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    again(project)
    ran = all_at_once(project, 2, "downgrade", "a")
    assert [one.code for one in ran] == [0, 0], ran
    assert (rows(database), project.versions, images(database)) == (START, {"a"}, 8)
    assert project.outcomes == ["applied", "reverted"]


def test_b22_an_upgrade_and_a_downgrade_at_once_leave_one_of_the_two_states(
    tmp_path: Path, database: Database
) -> None:
    project = project_with_fix(tmp_path, database)
    again(project)
    with ExitStack() as stack:
        processes = [
            stack.enter_context(deploying(project, *arguments))
            for arguments in (("downgrade", "a"), ("upgrade", "head"))
        ]
        assert [ended(process).code for process in processes] == [0, 0]
    runs = project.outcomes
    assert runs == ["applied", "reverted", "applied"][: len(runs)]
    assert project.versions == {"b" if len(runs) % 2 else "a"}
    assert (rows(database) == START) == (project.versions == {"a"})
    assert images(database) == 4 * len(runs)


# A deploy that comes in between two migrations of another one, as the lock for runs lets it.
IN_BETWEEN = """
import os
import subprocess
import sys

from alembic import context
from datafixes.database.turns import Turn
from datafixes.environment import run_migrations

begun, begin = [], Turn.begin


def begin_later(turn, connection):
    begun.append(turn)
    if len(begun) == 2 and "THE_OTHER" not in os.environ:
        url = connection.engine.url.render_as_string(hide_password=False)
        command = [sys.executable, "-m", "alembic", "-x", f"url={url}", *os.environ["OTHER"].split()]
        subprocess.run(command, check=True, timeout=60, env={**os.environ, "THE_OTHER": "1"})
    begin(turn, connection)


Turn.begin = begin_later
run_migrations(context)
"""


@pytest.mark.parametrize(
    ("ours", "other", "version"),
    [
        (("upgrade", "head"), "upgrade head", "d"),
        (("upgrade", "head"), "upgrade +1", "d"),
        (("upgrade", "c"), "upgrade head", "d"),
        (("upgrade", "head"), "downgrade a", "d"),
        (("upgrade", "+2"), "upgrade head", ""),
    ],
)
def test_b22_another_run_in_between_two_migrations_does_nothing_twice(
    ours: tuple[str, ...], other: str, version: str, tmp_path: Path, database: Database
) -> None:
    project = project_with_fix(tmp_path, database)
    count = 'op.execute("UPDATE item SET amount = amount + 1 WHERE id = 3")'
    project.revision("c", "b", count, "pass", top="fix = None")
    project.revision("d", "c", count, "pass", top="fix = None")
    project.env(IN_BETWEEN)
    ran = project.process(*ours, environment={"OTHER": other})
    if not version:
        assert (ran.code, project.versions) == (255, {"d"})
        assert "Another run moved the version from b to d" in ran.last_line
        assert "Name the revision instead" in ran.last_line
    else:
        assert (ran.code, project.versions) == (0, {version}), ran
    assert rows(database) == [*FIXED[:2], (3, "open", 32)]
    assert project.outcomes == (["applied", "reverted", "applied"] if "down" in other else ["applied"])
