"""Locks: bounded waiting that can be set, a few attempts, and the one who stands in the way is named."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import AssertionPool, NullPool, QueuePool, SingletonThreadPool, StaticPool

from datafixes.database.second_connection import SecondConnection
from datafixes.errors import LockNotAvailable, Refused
from datafixes.running.execution import Attempts, execute
from datafixes.script.apply import apply_script
from datafixes.script.context import Context
from datafixes.script.frame import Limits
from tests.projects import FIX, Project, Ran, project_with_fix
from tests.servers import Database
from tests.small_book import AUDIT, close, lay, meanwhile, session, somebody_waits, statuses

QUICK = ("-x", "lock_timeout=150ms", "-x", "lock_attempts=3", "-x", "lock_pause=50ms")
ROW = "SELECT FROM item WHERE id = 2 FOR UPDATE"


SEEN = "fix = " + FIX.strip().removesuffix(")") + '    may_differ=["seen"],\n)'
"""The fix, where a trigger writes down what it sees."""


@pytest.fixture
def project(tmp_path: Path, database: Database) -> Project:
    return project_with_fix(tmp_path, database)


def nothing_happened(project: Project) -> bool:
    """Whether the book and the version are as they were; a `failed` line in the ledger is allowed."""
    return (
        project.database.rows("SELECT id, status, amount::int FROM item ORDER BY id")
        == [(1, "open", 10), (2, "open", 20), (3, "open", 30)]
        and project.versions == {"a"}
        and not project.database.rows("SELECT FROM item_audit")
        and set(project.outcomes) <= {"failed"}
    )


@contextmanager
def deploy(project: Project, *arguments: str) -> Iterator[list[Ran]]:
    """Run Alembic in a thread during the context; the result stands in the list afterwards."""
    ran: list[Ran] = []
    with meanwhile(lambda: ran.append(project.alembic(*arguments, "upgrade", "head"))):
        yield ran


# --- settings


def test_c23_a_deploy_waits_five_seconds_for_a_lock_and_ten_minutes_for_a_statement(
    tmp_path: Path, database: Database
) -> None:
    project = project_with_fix(tmp_path, database, top=SEEN)
    inside = "CREATE FUNCTION seen() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO seen SELECT name, setting || coalesce(unit, '''') FROM pg_settings WHERE name LIKE ''%_timeout''; RETURN NULL; END'"
    project.database.execute(
        "CREATE TABLE seen (name text, value text)",
        inside,
        "CREATE TRIGGER seen AFTER UPDATE ON item EXECUTE FUNCTION seen()",
    )
    assert project.alembic("upgrade", "head").code == 0
    seen = dict(project.database.rows("SELECT name, value FROM seen"))
    assert (seen["lock_timeout"], seen["statement_timeout"]) == ("5000ms", "600000ms")
    assert seen["idle_in_transaction_session_timeout"] == "0ms"
    assert seen.get("transaction_timeout", "0ms") == "0ms"


@pytest.mark.parametrize("place", ["flag", "environment", "ini"])
def test_limits_can_be_set(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    project = project_with_fix(tmp_path, database, top=SEEN)
    project.database.execute(
        "CREATE TABLE seen (value text)",
        "CREATE FUNCTION seen() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO seen VALUES (concat_ws('' '', current_setting(''lock_timeout''), current_setting(''statement_timeout''))); RETURN NULL; END'",
        "CREATE TRIGGER seen AFTER UPDATE ON item EXECUTE FUNCTION seen()",
    )
    flags: tuple[str, ...] = ()
    if place == "flag":
        flags = ("-x", "lock_timeout=1500ms", "-x", "statement_timeout=7min")
    elif place == "environment":
        monkeypatch.setenv("DATAFIXES_LOCK_TIMEOUT", "1500ms")
        monkeypatch.setenv("DATAFIXES_STATEMENT_TIMEOUT", "7min")
    else:
        with (project.directory / "alembic.ini").open("a") as ini:
            ini.write("\n[datafixes]\nlock_timeout = 1500ms\nstatement_timeout = 7min\n")
    run = project.process if place == "ini" else project.alembic
    assert run(*flags, "upgrade", "head").code == 0
    assert project.database.rows("SELECT value FROM seen") == [("1500ms 7min",)]


def test_b35_settings_are_as_before_once_the_fix_is_done(tmp_path: Path, database: Database) -> None:
    shown = "op.execute(\"INSERT INTO seen SELECT name, setting FROM pg_settings WHERE name IN ('lock_timeout', 'statement_timeout', 'row_security')\")"
    project = project_with_fix(
        tmp_path, database,
        up=f"op.execute(\"SET LOCAL lock_timeout = '77s'\")\n{shown}\nop.apply_datafix(fix)\n{shown}",
    )  # fmt: skip
    database.execute(
        "CREATE TABLE seen (name text, value text)",
        f"ALTER DATABASE {database.name} SET statement_timeout = '88s'",
    )
    assert project.alembic("upgrade", "head").code == 0
    assert database.rows("SELECT name, value, count(*) FROM seen GROUP BY 1, 2 ORDER BY 1") == [
        ("lock_timeout", "77000", 2), ("row_security", "on", 2), ("statement_timeout", "88000", 2),
    ]  # fmt: skip


def test_a_limit_without_a_unit_is_refused(project: Project) -> None:
    ran = project.alembic("-x", "lock_timeout=5", "upgrade", "head")
    assert ran.code != 0
    assert "lock_timeout is '5' (-x lock_timeout): write a number and a unit" in ran.last_line
    assert nothing_happened(project)


# --- a lock that cannot be had


@pytest.mark.parametrize(
    "theirs",
    [ROW, "LOCK TABLE item IN ACCESS EXCLUSIVE MODE", "LOCK TABLE item_audit IN EXCLUSIVE MODE"],
    ids=["row", "table", "audit table"],
)
def test_a_lock_that_cannot_be_had_is_tried_for_and_then_its_holder_is_named(
    project: Project, theirs: str
) -> None:
    with session(project.database, "SET application_name = 'position-manager'", theirs) as other:
        pid = other.get_backend_pid()
        ran = project.alembic(*QUICK, "upgrade", "head")
    assert ran.code not in (0, None)
    assert "Traceback" not in ran.out + ran.err
    assert f"pid {pid}, role postgres, application position-manager" in ran.last_line
    assert "lock timeout" in ran.last_line
    assert f"pg_stat_activity WHERE pid IN ({pid})" in ran.last_line
    assert ran.err.count("again in 0.05s") == 2
    assert "(attempt 2 of 3)" in ran.err
    assert nothing_happened(project)
    assert project.outcomes == ["failed"]
    assert project.alembic("upgrade", "head").code == 0


def test_the_holder_is_named_to_a_role_that_may_not_see_what_others_do(project: Project) -> None:
    role = f"deployer_{project.database.name}"
    project.database.execute(
        f"CREATE ROLE {role} LOGIN",
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}",
        f"GRANT ALL ON SCHEMA public TO {role}",
    )
    try:
        with session(project.database, "SET application_name = 'position-manager'", ROW) as other:
            ran = project.alembic("-x", f"url={project.database.url_for(role)}", *QUICK, "upgrade", "head")
            assert (
                f"pid {other.get_backend_pid()}, role postgres, application position-manager" in ran.last_line
            )
            assert "since" not in ran.last_line
        assert nothing_happened(project)
    finally:
        project.database.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_what_the_holder_runs_is_not_shown(project: Project) -> None:
    with session(project.database, ROW, "SELECT 'a-secret-in-a-statement'"):
        ran = project.alembic(*QUICK, "upgrade", "head")
    assert "a-secret-in-a-statement" not in ran.out + ran.err


def test_a_lock_that_is_released_between_two_attempts_is_enough(project: Project) -> None:
    quick = ("-x", "lock_timeout=100ms", "-x", "lock_attempts=400", "-x", "lock_pause=50ms")
    with session(project.database, ROW) as other, deploy(project, *quick) as runs:
        somebody_waits(project.database)
        time.sleep(1)
        other.rollback()
    [ran] = runs
    assert ran.code == 0, ran.err
    assert "blocked by: pid" in ran.err
    assert project.versions == {"b"}
    assert project.outcomes == ["applied"]
    assert project.database.value("SELECT count(*) FROM item_audit") == 4


def test_a_lock_that_is_released_while_a_fix_waits_is_enough(project: Project) -> None:
    with session(project.database, ROW) as other, deploy(project) as ran:
        somebody_waits(project.database)
        other.rollback()
    assert [done.code for done in ran] == [0]
    assert project.outcomes == ["applied"]


def test_a_statement_that_takes_too_long_is_ended_and_says_who_was_in_the_way(project: Project) -> None:
    with session(project.database, ROW) as other:
        ran = project.alembic("-x", "lock_timeout=0", "-x", "statement_timeout=500ms", "upgrade", "head")
        assert f"pid {other.get_backend_pid()}" in ran.last_line
    assert ran.code not in (0, None)
    assert "statement timeout" in ran.last_line
    assert nothing_happened(project)


# --- deadlocks


def test_c21_the_victim_of_a_deadlock_tries_again(database: Database) -> None:
    lay(database)
    engine = create_engine(database.url, poolclass=NullPool)

    def apply() -> None:
        with engine.connect() as connection:
            connection.exec_driver_sql("SET deadlock_timeout = '50ms'")
            execute(connection, apply_script(close(), Context(), Limits()), "datafix close", Attempts(5, 0.1))
            connection.commit()

    # The other locks row 3 first and then row 1, which the fix has by then; it looks for deadlocks never.
    theirs = ("SET deadlock_timeout = '100s'", "UPDATE positions SET note = 'theirs' WHERE id = 3")
    with session(database, *theirs) as other, meanwhile(apply):
        somebody_waits(database)
        with other.cursor() as cursor:
            cursor.execute("UPDATE positions SET note = 'theirs' WHERE id = 1")
        other.commit()
    assert statuses(database) == {1: "closed", 2: "closed", 3: "closed", 4: "open"}
    assert database.rows(f"SELECT id, note FROM {AUDIT} WHERE audit_image = 'before' ORDER BY audit_id") == [
        (1, "theirs"), (2, None), (3, "theirs"),
    ]  # fmt: skip


def test_c21_rows_are_locked_in_the_order_of_their_keys_and_none_is_skipped(database: Database) -> None:
    # Two fixes of the same rows, named in opposite order, never wait for each other crosswise.
    lay(database)
    script = apply_script(
        close(expect={3: "NOW", 2: "SPY", 1: "QCOM"}), Context(), Limits(lock_timeout="200ms")
    )
    with (
        session(database, "SELECT FROM positions WHERE id = 1 FOR UPDATE"),
        pytest.raises(LockNotAvailable),
        create_engine(database.url, poolclass=NullPool).connect() as connection,
    ):
        execute(connection, script, "datafix close", Attempts(1, 0))
    assert set(statuses(database).values()) == {"open"}


# --- one fix, one run at a time


def test_b22_one_fix_at_a_time_in_a_database(database: Database) -> None:
    lay(database)
    first, second = (
        apply_script(close(name, expect={number: symbol}), Context(), Limits(lock_timeout="200ms"))
        for name, number, symbol in (("first", 1, "QCOM"), ("second", 2, "SPY"))
    )
    engine = create_engine(database.url, poolclass=NullPool)
    with engine.connect() as one, engine.connect() as two:
        execute(one, first, "datafix first", Attempts(1, 0))
        with pytest.raises(LockNotAvailable, match="blocked by: pid"):  # other rows, and waits all the same
            execute(two, second, "datafix second", Attempts(1, 0))
        one.commit()
        two.rollback()
        execute(two, second, "datafix second", Attempts(1, 0))
        two.commit()
    assert statuses(database) == {1: "closed", 2: "closed", 3: "open", 4: "open"}


def test_b19_two_pipelines_at_the_same_time_both_succeed_and_the_fix_applies_once(project: Project) -> None:
    # Both are processes, as they are in a deploy; the first is held up until the second has come.
    command = project.command_line("upgrade", "head")
    with session(project.database, ROW) as other:
        runs = [
            subprocess.Popen(command, cwd=project.directory, stderr=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        somebody_waits(project.database)
        other.rollback()
        told = [run.communicate(timeout=60)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], told
    assert project.versions == {"b"}
    assert project.outcomes == ["applied"]
    assert project.database.rows("SELECT id, amount::int FROM item ORDER BY id") == [
        (1, 110),
        (2, 120),
        (3, 30),
    ]


def test_a_run_that_waits_too_long_for_another_run_names_it(project: Project) -> None:
    with session(
        project.database,
        "SET application_name = 'deploy-17'",
        "SELECT pg_advisory_xact_lock(hashtextextended('datafixes run', 0))",
    ) as other:
        ran = project.alembic("-x", "run_wait=100ms", "upgrade", "head")
        assert f"pid {other.get_backend_pid()}, role postgres, application deploy-17" in ran.out + ran.err
    assert ran.code not in (0, None)
    assert nothing_happened(project)


def test_a_refusal_is_not_tried_again(database: Database) -> None:
    lay(database)
    with create_engine(database.url, poolclass=NullPool).connect() as connection, pytest.raises(Refused):
        execute(
            connection,
            apply_script(close(expect={9: "X", 1: "QCOM"}), Context(), Limits()),
            "datafix close",
            Attempts(3, 60),
        )


def test_a_pool_that_has_one_connection_for_everybody_is_asked_for_no_second(database: Database) -> None:
    """It would hand out the run's own: who looks who is in the way would roll the run back."""
    lay(database)
    script = apply_script(close(), Context(), Limits(lock_timeout="20s"))
    connection = create_engine(database.url, poolclass=StaticPool).connect()
    with session(database, "SELECT FROM positions WHERE id = 2 FOR UPDATE") as somebody:

        def leave_after_a_while() -> None:
            somebody_waits(database)
            time.sleep(2)  # longer than it takes until somebody looks
            somebody.rollback()

        with meanwhile(leave_after_a_while):
            execute(connection, script, "datafix close", Attempts(1, 0))
            connection.commit()
    connection.close()
    assert statuses(database) == {1: "closed", 2: "closed", 3: "closed", 4: "open"}


@pytest.mark.parametrize(
    ("options", "has_one"),
    [
        pytest.param({"poolclass": NullPool}, True, id="no pool"),
        pytest.param({"poolclass": SingletonThreadPool}, True, id="one for each thread"),
        pytest.param({"poolclass": QueuePool, "pool_size": 2}, True, id="several"),
        pytest.param({"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0, "pool_timeout": 0.3}, False, id="one"),
        pytest.param({"poolclass": AssertionPool}, False, id="one at a time"),
        pytest.param({"poolclass": StaticPool}, False, id="one for everybody"),
    ],
)  # fmt: skip
def test_a_second_connection_is_never_the_runs_own(
    database: Database, options: dict[str, Any], has_one: bool
) -> None:
    """Whatever pool env.py uses; the bridge, the poller of blockers and the failure's line share this."""
    engine = create_engine(database.url, **options)
    seen: list[object] = []
    with engine.connect() as first:
        driver = first.connection.dbapi_connection
        second = SecondConnection(engine, lambda own: seen.append(own.connection.dbapi_connection))
        second.start()
        assert second.wait(5) == has_one
        second.end()
    assert bool(seen) == has_one
    assert all(one is not driver for one in seen)
    engine.dispose()
