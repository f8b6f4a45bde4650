"""A revision with a fix in batches holds nothing else: it is refused before anything is changed."""

from pathlib import Path

import pytest

from tests.batches.many import FIX, many_project
from tests.cli.commands import answer
from tests.projects import Project
from tests.servers import Database

WORDS = "upgrade() holds something besides the fix in batches: op.execute('CREATE TABLE x (n integer)')"


@pytest.fixture
def project(tmp_path: Path, database: Database) -> Project:
    made = many_project(tmp_path, database)
    up = "op.execute('CREATE TABLE x (n integer)')\nop.apply_datafix(fix)"
    made.revision("n", "m", up, "op.revert_datafix(fix)", top=FIX.format(batches="rows=100"))
    return made


def test_it_is_refused_when_it_runs_with_the_words_of_check(project: Project) -> None:
    before = project.database.dump("public.datafix_run")

    ran = project.alembic("upgrade", "head")

    assert (ran.code, project.versions) == (255, {"m"})
    assert WORDS in ran.last_line
    assert project.database.dump("public.datafix_run") == before
    printed = project.alembic("upgrade", "m:n", "--sql")
    assert printed.code != 0
    assert WORDS in printed.last_line
    assert WORDS in answer(project, "plan", code=3)["refusal"]["message"]
    [found] = [one for one in answer(project, "check", code=3)["findings"] if one["code"] == "FIX309"]
    assert WORDS in found["message"]
