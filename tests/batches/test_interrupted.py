"""Ctrl-C, time-outs of the role and deadlocks: the batches that are done stay, and the same upgrade goes on."""

import signal
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.batches.many import ROWS, is_whole, many_project
from tests.faults.deploys import deploying, ended, kill, until
from tests.pooler import left_behind, pooler, sessions
from tests.projects import Project
from tests.servers import Database

# A batch of 100 takes half a second; a row, 5 ms.
SLOW = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.005); RETURN NEW; END';
CREATE TRIGGER slow BEFORE UPDATE ON many FOR EACH ROW EXECUTE FUNCTION slow();
"""
SLOWER = SLOW.strip().splitlines()[0].replace("CREATE", "CREATE OR REPLACE", 1).replace("0.005", "0.02")
HURRY = "DROP TRIGGER slow ON many"
_DONE = "SELECT count(*) FROM many WHERE done"


def slow_project(
    directory: Path, database: Database, batches: str = "rows=100", driver: str = "psycopg2"
) -> Project:
    project = many_project(directory, database, batches).on(database, driver)
    project.write_ini()
    database.psql(SLOW, "-v", "ON_ERROR_STOP=1")
    return project


def some_are_done(database: Database) -> None:
    until(lambda: 0 < database.value(_DONE) < ROWS, "no batch ends")


def goes_on(project: Project, direct: Database) -> None:
    """What is done stays, and the next upgrade ends the fix."""
    assert 0 < direct.value(_DONE) < ROWS
    assert project.versions == {"m"}
    assert direct.rows("SELECT outcome FROM datafix_history WHERE outcome <> 'failed'") == [("running",)]
    direct.execute(HURRY)
    ran = project.alembic("upgrade", "head")
    assert ran.code == 0, ran.out + ran.err
    assert is_whole(direct)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_ctrl_c_ends_within_a_second_and_the_next_upgrade_goes_on(
    driver: str, workers: int, tmp_path: Path, database: Database
) -> None:
    project = slow_project(tmp_path, database, f"rows=100, workers={workers}", driver)
    with deploying(project) as process:
        some_are_done(database)
        started = time.monotonic()
        kill(process.pid, signal.SIGINT)
        ran = ended(process)
        took = time.monotonic() - started
    assert ran.code == -signal.SIGINT, ran.out + ran.err  # as without datafixes: Python ends by the signal
    assert ran.err.rstrip().endswith("KeyboardInterrupt"), ran.err
    assert took < 10  # a second where nothing else runs; a statement that makes batches takes 20
    goes_on(project, database)


# Also where the workers take all of the pool: PgBouncer has connections besides for what cancels them.
@pytest.mark.parametrize(("size", "workers"), [(1, 1), (2, 1), (3, 2)])
@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_ctrl_c_leaves_nothing_behind_a_pooler(
    driver: str, size: int, workers: int, tmp_path: Path, database: Database
) -> None:
    with pooler(database, size) as pooled:
        [clean] = sessions(database, pooled).values()
        project = slow_project(tmp_path, pooled, f"rows=50, workers={workers}", driver)
        database.execute(SLOWER)
        with deploying(project) as process:
            some_are_done(database)
            started = time.monotonic()
            kill(process.pid, signal.SIGINT)
            ran = ended(process)
            took = time.monotonic() - started
        assert (ran.code, ran.err.rstrip().endswith("KeyboardInterrupt")) == (-signal.SIGINT, True), ran.err
        assert took < 8  # a second or two where nothing else runs; a statement that makes batches takes 20
        assert left_behind(database, pooled, clean) == []
        goes_on(project, database)
        assert left_behind(database, pooled, clean) == []


WAITS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'transactionid'"


def test_a_batch_that_meets_a_deadlock_is_halved_and_tried_again(tmp_path: Path, database: Database) -> None:
    """A writer holds a row in the middle of the first batch, and then wants one that the batch holds."""
    # slow batches stay as large; and the other worker leaves something to do
    project = many_project(tmp_path, database, "rows=60, workers=2, target='1h', pause='100ms'")
    database.execute(f"ALTER DATABASE {database.name} SET deadlock_timeout = '1s'")

    with closing(database.connect()) as connection, connection, connection.cursor() as cursor:
        cursor.execute("SET LOCAL deadlock_timeout = '1min'")
        cursor.execute("UPDATE many SET note = 'mine' WHERE id = 120")
        running = subprocess.Popen(project.command_line("upgrade", "head"), cwd=project.directory)
        while not database.value(WAITS):
            time.sleep(0.02)
        cursor.execute("UPDATE many SET note = 'mine' WHERE id = 3")

    assert running.wait(60) == 0
    assert is_whole(database)
    assert database.rows("SELECT id FROM many WHERE note = 'mine' ORDER BY id") == [(3,), (120,)]
    sizes = {
        size for (size,) in database.rows("SELECT rows_changed FROM datafix_run WHERE part_of IS NOT NULL")
    }
    assert 30 in sizes, sizes
