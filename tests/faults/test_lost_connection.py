"""A connection that the server ends behind a fix: the line names the fix and the limit, and the ledger has the failure."""

from pathlib import Path

import pytest

from tests.faults.deploys import (
    again,
    applied_once,
    asleep,
    deploying,
    ended,
    hurry,
    nothing_is_there,
    one_clear_line,
    slow_project,
)
from tests.faults.wire import wire
from tests.projects import ENV, STOCK_ENV, project_with_fix
from tests.servers import Database

LOST = "datafix close_items: the connection to the database was lost"


@pytest.mark.parametrize(
    ("moment", "driver", "env"),
    [
        ("changed", "psycopg2", ENV),
        ("changed", "psycopg2", STOCK_ENV),
        ("committing", "psycopg", ENV),
        ("committing", "psycopg2", STOCK_ENV),
    ],
    ids=["changed", "changed, stock", "committing", "committing, stock"],
)
def test_a_session_that_ends_behind_a_fix_leaves_a_failed_line(
    moment: str, driver: str, env: str, tmp_path: Path, database: Database
) -> None:
    project = slow_project(tmp_path, database, moment, env=env).on(database, driver)
    with deploying(project) as process:
        database.execute(f"SELECT pg_terminate_backend({asleep(database)})")
        ran = ended(process)
    # libpq tells psycopg2 that the server closed the connection, and no more
    why = "server closed the connection" if driver == "psycopg2" else "due to administrator command"
    one_clear_line(ran, LOST, why, "Nothing was changed by it")
    nothing_is_there(project)
    assert database.rows("SELECT fix, direction, outcome, revision, rows_changed FROM datafix_run") == [
        ("close_items", "apply", "failed", "b", 0)
    ]
    assert why in database.value("SELECT error FROM datafix_run")
    hurry(database)
    again(project)
    applied_once(project)


@pytest.mark.parametrize(
    "word", [b"pg_current_xact_id() AS text", b"enable_nestloop = off", b"UPDATE alembic_version"]
)
def test_a_wire_that_is_cut_while_the_fix_is_told_of(word: bytes, tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    with (
        wire(database, word, delivered=False) as cut,
        deploying(project, "-x", f"url={cut.url('psycopg2')}", "upgrade", "head") as process,
    ):
        ran = ended(process)
        assert cut.cuts == 1
    one_clear_line(ran, LOST, "Check the ledger (datafixes history), then run the migration again")
    assert "done" not in ran.err
    nothing_is_there(project)
    again(project)
    applied_once(project)


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_a_commit_whose_answer_is_lost_is_looked_up(driver: str, tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    with (
        wire(database, b"COMMIT\x00", delivered=True, once=True) as cut,
        deploying(project, "-x", f"url={cut.url(driver)}", "upgrade", "head") as process,
    ):
        ran = ended(process)
        assert cut.cuts == 1
    one_clear_line(ran, LOST, "The server had committed it, so the fix is in force")
    assert project.outcomes == ["applied"]
    applied_once(project)
    again(project)


def limited(database: Database, setting: str, value: str) -> None:
    if setting == "transaction_timeout" and database.server_version < 17:
        pytest.skip("transaction_timeout is there from 17 on")
    database.execute(f"ALTER DATABASE {database.name} SET {setting} = '{value}'")


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
@pytest.mark.parametrize("setting", ["transaction_timeout", "idle_in_transaction_session_timeout"])
def test_a_time_limit_of_the_server_is_named_with_its_value(
    setting: str, driver: str, tmp_path: Path, database: Database
) -> None:
    wait = 'import time\ntime.sleep(2)\nop.execute("SELECT 1")'
    project = project_with_fix(tmp_path, database, up=f"op.apply_datafix(fix)\n{wait}").on(database, driver)
    limited(database, setting, "700ms")
    limited(database, "idle_session_timeout", "1d")
    ran = project.process("upgrade", "head")
    how = "ended" if driver == "psycopg" else "may have ended"
    one_clear_line(ran, LOST, f"{setting} = 700ms of the database {how} the session", f"-c {setting}=0")
    assert "idle_session_timeout" not in ran.out  # it is a day
    nothing_is_there(project)
    assert project.outcomes == ["failed"]
    # What it says to do.
    ran = project.process("upgrade", "head", environment={"PGOPTIONS": f"-c {setting}=0"})
    assert ran.code == 0, ran.out + ran.err
    applied_once(project)


def test_a_time_limit_outside_of_a_fix_is_named_too(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database, up='import time\ntime.sleep(2)\nop.execute("SELECT 1")')
    limited(database, "idle_in_transaction_session_timeout", "700ms")
    ran = project.process("upgrade", "head")
    one_clear_line(
        ran, "idle_in_transaction_session_timeout = 700ms of the database may have ended the session"
    )


def test_a_time_limit_while_another_run_is_waited_for_is_named(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    limited(database, "idle_session_timeout", "300ms")
    with database.connect() as other:
        other.cursor().execute("SET idle_session_timeout = 0")
        other.cursor().execute("SELECT pg_advisory_xact_lock(hashtextextended('datafixes run', 0))")
        ran = project.process("upgrade", "head")
    one_clear_line(ran, "idle_session_timeout = 300ms of the database may have ended the session")
    nothing_is_there(project)


def test_a_statement_that_takes_too_long_says_how_to_allow_more(tmp_path: Path, database: Database) -> None:
    project = slow_project(tmp_path, database, "changing", seconds=2)
    ran = project.process("-x", "statement_timeout=300ms", "upgrade", "head")
    assert "It may take 300ms; to allow more: alembic -x statement_timeout=1h" in ran.last_line
    nothing_is_there(project)
    ran = project.process("-x", "statement_timeout=1h", "upgrade", "head")
    assert ran.code == 0, ran.out + ran.err
