"""A project made by `alembic init -t async`, on asyncpg."""

import subprocess
import sys
import threading
import time
import warnings
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import create_async_engine

import alembic
from datafixes.database.second_connection import SecondConnection
from tests.cli.commands import answer, datafixes
from tests.projects import STOCK_ENV, Project, project_with_fix
from tests.servers import Database

ENV = "import datafixes.operations\n" + (
    Path(alembic.__file__).parent.joinpath("templates/async/env.py").read_text(encoding="utf-8")
).replace("fileConfig(config.config_file_name)", "pass  # the logging of the tests is left alone")
BODY = '''
with op.record_datafix(fix) as body:
    body.execute("""
UPDATE item SET note = 'a;b' WHERE id = 1; -- two; in one
UPDATE item SET note = 'c' WHERE id = 2;
""")
'''
RECORDED = """
from datafixes import RecordedFix, Table
fix = RecordedFix(name="note", reason="They were forgotten.", tables=[Table("item", "item_audit", updated=2)])
"""


@pytest.fixture
def project(tmp_path: Path, database: Database) -> Project:
    laid = project_with_fix(tmp_path, database, STOCK_ENV).on(database, "asyncpg")
    laid.env(ENV)
    laid.write_ini()
    return laid


def at(project: Project) -> list[str]:
    return [status for (status,) in project.database.rows("SELECT status FROM item ORDER BY id")]


def test_a_fix_is_planned_applied_asked_about_and_reverted(project: Project) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # coroutine was never awaited
        plan = answer(project, "plan")
        assert [step["runs"][0]["reversal"]["proven"] for step in plan["steps"]] == [True]
        assert project.alembic("upgrade", "head").code == 0
    assert at(project) == ["closed", "closed", "open"]
    assert [run["fix"] for run in answer(project, "history")["runs"]] == ["close_items"]
    assert datafixes(project, "doctor").code == 0
    undone = datafixes(project, "revert", "close_items")
    assert undone.code == 0, undone.err
    assert project.alembic("upgrade", "head").code == 0
    assert at(project) == ["open", "open", "open"]


def test_a_refused_downgrade_shows_its_conflicts_and_what_to_do(project: Project) -> None:
    assert project.alembic("upgrade", "head").code == 0
    project.database.execute("UPDATE item SET status = 'other' WHERE id = 1")
    refused = project.alembic("downgrade", "a")
    assert refused.code != 0
    assert "changed since  status" in refused.err
    assert "alembic -x on_conflict=close_items:skip downgrade" in refused.out
    assert at(project) == ["other", "closed", "open"]
    assert project.outcomes == ["applied", "failed"]
    # The same words as from a driver that waits.
    again = project.on(project.database)
    again.env(STOCK_ENV)
    words = again.alembic("downgrade", "a").err
    assert "\n".join(refused.err.splitlines()[-3:]) == "\n".join(words.splitlines()[-3:])


def test_who_holds_a_lock_is_named_over_a_second_connection(project: Project) -> None:
    with closing(project.database.connect()) as holder:
        holder.cursor().execute("SET application_name = 'a report'; SELECT FROM item WHERE id = 1 FOR UPDATE")
        ran = project.alembic("-x", "lock_timeout=1s", "-x", "lock_attempts=1", "upgrade", "head")
    assert ran.code != 0
    assert "application a report" in ran.last_line
    assert not [one for one in threading.enumerate() if one.name.startswith("datafixes")]


def test_a_second_connection_that_does_not_answer_is_cut(project: Project) -> None:
    def sleep(own: Connection) -> None:
        own.exec_driver_sql("SELECT pg_sleep(60)")

    second = SecondConnection(create_async_engine(project.url).sync_engine, sleep)
    second.start()
    assert not second.wait(1)
    began = time.monotonic()
    second.end(0)
    assert time.monotonic() - began < 2
    assert str(second.error) == "it was cut"


def test_several_statements_in_one_text_are_sent(tmp_path: Path, database: Database) -> None:
    """asyncpg itself takes one at a time."""
    laid = project_with_fix(tmp_path, database, STOCK_ENV, up=BODY, top=RECORDED).on(database, "asyncpg")
    laid.env(ENV)
    ran = laid.alembic("upgrade", "head")
    assert ran.code == 0, ran.err
    assert database.rows("SELECT note FROM item ORDER BY id") == [("a;b",), ("c",), (None,)]


FORBIDDING = """
import sys

class Hook:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {forbidden!r}:
            raise RuntimeError("imported: " + name)

sys.meta_path.insert(0, Hook())
from alembic.config import main
from datafixes.cli.main import run
main(["-c", "alembic.ini", "upgrade", "head"])
for command in (["history"], ["plan", "--downgrade", "a"], ["doctor"]):
    assert run(["-c", "alembic.ini", *command]) == 0, command
print("done")
"""


@pytest.mark.parametrize(
    ("driver", "forbidden"),
    [
        ("asyncpg", ("psycopg2", "boto3", "botocore")),
        ("psycopg", ("psycopg2", "asyncpg", "boto3", "botocore")),
    ],
)
def test_no_other_driver_is_imported_and_nothing_of_aws(
    tmp_path: Path, database: Database, driver: str, forbidden: tuple[str, ...]
) -> None:
    laid = project_with_fix(tmp_path, database, STOCK_ENV).on(database, driver)
    laid.env(ENV if driver == "asyncpg" else STOCK_ENV)
    laid.write_ini()
    done = subprocess.run(
        [sys.executable, "-c", FORBIDDING.format(forbidden=forbidden)],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["done"]), done.stderr
