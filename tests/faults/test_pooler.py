"""Through a real PgBouncer in transaction mode: nothing outlives a command, and a run needs one connection.

Every command and every operation of migrations, with pools of 1, 2 and 10 server connections, on success, refusal and
error, on Ctrl-C and SIGKILL. What is looked at afterwards, as the next client sees it: settings, functions, temporary
objects and types, cursors, prepared statements, locks, channels and roles (`tests/pooler.py`).
"""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import datafixes
from tests.faults.deploys import (
    FIXED,
    asleep,
    deploying,
    ended,
    gone,
    hurry,
    images,
    kill,
    rows,
    slow_project,
)
from tests.pooler import left_behind, pooler, sessions
from tests.projects import ENV, FIX, STOCK_ENV, TABLE, Project, Ran, new_project, project_with_fix
from tests.servers import Database

SIZES = (1, 2, 10)
DRIVERS = ("psycopg2", "psycopg")

RECORDED = """
from datafixes import RecordedFix, Table

item = Table("item", "item_audit", key="id", updated={3})
fix = RecordedFix(name="note_third", reason="A test.", tables=[item])
"""


@dataclass(frozen=True)
class Pool:
    """A pool in front of a database, and what was on a server connection of it at first."""

    database: Database
    pooled: Database
    clean: dict[str, list[tuple[Any, ...]]]

    @property
    def is_clean(self) -> bool:
        """Whether the next clients find every server connection as it was."""
        left = left_behind(self.database, self.pooled, self.clean)
        assert left == []
        return True


@contextmanager
def pool(database: Database, size: int) -> Iterator[Pool]:
    with pooler(database, size) as pooled:
        [clean] = sessions(database, pooled).values()
        yield Pool(database, pooled, clean)


@contextmanager
def running(project: Project, command: str) -> Iterator["subprocess.Popen[str]"]:
    """`alembic upgrade head` or `datafixes plan` in a process of its own."""
    if command == "upgrade":
        with deploying(project) as process:
            yield process
        return
    ini = str(project.directory / "alembic.ini")
    words = [sys.executable, "-m", "datafixes", "-c", ini, "-x", f"url={project.url}", command]
    process = subprocess.Popen(
        words, cwd=project.directory, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def did(ran: Ran, code: int = 0) -> Ran:
    assert ran.code == code, ran.out + ran.err
    return ran


def long_project(directory: Path, pooled: Database, driver: str) -> Project:
    """Revisions with every operation that there is."""
    pooled.psql(TABLE, "-v", "ON_ERROR_STOP=1")
    project = new_project(directory, pooled).on(pooled, driver)
    project.write_ini()
    project.revision(
        "a",
        None,
        'op.create_audit_table("item", name="item_audit")',
        'op.drop_audit_table("item_audit", discard=True)',
    )
    project.revision("b", "a", "op.apply_datafix(fix)", "op.revert_datafix(fix)")
    record = (
        "with op.record_datafix(fix) as body:\n    body.execute(\"UPDATE item SET note = 'n' WHERE id = 3\")"
    )
    project.revision("c", "b", record, "op.revert_datafix(fix)", top=RECORDED)
    widen = 'op.execute("ALTER TABLE item ADD extra text")\nop.update_audit_table("item", name="item_audit")'
    project.revision("d", "c", widen, 'op.execute("ALTER TABLE item DROP extra")', top="fix = None")
    project.revision(
        "e", "d", 'op.revert_datafix("close_items")', 'op.revert_datafix("close_items")', top="fix = None"
    )
    return project


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("size", SIZES)
def test_every_operation_of_migrations_leaves_nothing(
    size: int, driver: str, tmp_path: Path, database: Database
) -> None:
    with pool(database, size) as pooled:
        project = long_project(tmp_path, pooled.pooled, driver)
        for step in ("a", "b", "c", "d", "e"):
            did(project.alembic("upgrade", step))
            assert pooled.is_clean, step
        for step in ("d", "c", "b", "a", "base"):
            did(project.alembic("downgrade", step))
            assert pooled.is_clean, step
        did(project.alembic("upgrade", "head"))
        did(project.alembic("current"))
        did(project.alembic("stamp", "head"))
        assert pooled.is_clean
        assert project.outcomes == ["applied", "applied", "reverted"]


@pytest.mark.parametrize("size", SIZES)
def test_scripts_through_psql_leave_nothing(size: int, tmp_path: Path, database: Database) -> None:
    with pool(database, size) as pooled:
        project = long_project(tmp_path, pooled.pooled, "psycopg2")
        did(project.alembic("upgrade", "a"))
        for step in ("a:e", "e:a", "a:c"):
            pooled.pooled.psql(project.script(step), "-v", "ON_ERROR_STOP=1")
            assert pooled.is_clean, step
        assert (
            project.outcomes
            == ["applied", "applied", "reverted", "reverted", "reverted", "reverted"] + ["applied"] * 2
        )
        # A script that is refused: psql goes on, and nothing is kept.
        pooled.pooled.psql(project.script("a:b"), check=False)
        assert pooled.is_clean


COMMANDS: list[tuple[str, ...]] = [
    ("plan", "head"),
    ("plan", "--downgrade", "a"),
    ("new", "another_fix", "--table", "item", "--where", "id = 3", "--set", "status=held"),
    ("revert", "close_items"),
    ("doctor",),
    ("where",),
    ("history",),
    ("show", "1"),
    ("open",),
    ("row", "item", "1"),
    ("report", "1"),
    ("check",),
]


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("size", SIZES)
def test_every_command_leaves_nothing(size: int, driver: str, tmp_path: Path, database: Database) -> None:
    with pool(database, size) as pooled:
        project = project_with_fix(tmp_path, pooled.pooled).on(pooled.pooled, driver)
        project.write_ini()
        did(project.alembic("upgrade", "b"))
        second = FIX.strip().replace("close_items", "second").replace("'open'", "'closed'")
        project.revision("c", "b", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=f"fix = {second}")
        before = database.dump()
        for command in COMMANDS:
            ran = datafixes(project, *command)
            assert ran.code in (0, 3), (command, ran.out + ran.err)
            assert pooled.is_clean, command
            # Nobody else's transaction is hindered meanwhile or afterwards.
            pooled.pooled.execute("UPDATE item SET note = note")
        assert database.dump() == before


REFUSED = "UPDATE item SET symbol = 'ZZ' WHERE id = 1"
CALLER_COMMITS = STOCK_ENV.replace("connectable.connect() as", "connectable.begin() as")


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    ("size", "env"),
    [(1, ENV), (1, STOCK_ENV), (1, CALLER_COMMITS), (2, ENV), (2, CALLER_COMMITS), (10, ENV)],
    ids=["1, ours", "1, stock", "1, the caller commits", "2, ours", "2, the caller commits", "10, ours"],
)
def test_a_refusal_leaves_nothing_and_waits_for_nobody(
    size: int, env: str, driver: str, tmp_path: Path, database: Database
) -> None:
    with pool(database, size) as pooled:
        project = project_with_fix(tmp_path, pooled.pooled, env).on(pooled.pooled, driver)
        project.write_ini()
        database.execute(REFUSED)
        started = time.monotonic()
        ran = did(project.alembic("upgrade", "b"), 255)
        assert "1 symbol is ZZ, not QCOM" in ran.last_line
        assert time.monotonic() - started < 30
        assert pooled.is_clean
        # Where the transaction is not ours to end, the line in the ledger needs a second connection.
        assert project.outcomes == ([] if size == 1 and env == CALLER_COMMITS else ["failed"])
        assert datafixes(project, "plan").code == 3
        assert pooled.is_clean


@pytest.mark.parametrize(
    ("up", "planned"),  # an autocommit block commits, so it cannot be planned
    [
        ("op.apply_datafix(fix)\nop.execute('SELECT 1 / 0')", 3),
        ("op.apply_datafix(fix)\nraise KeyError('theirs')", 3),
        ("op.apply_datafix(fix)\nop.get_bind().commit()", 3),
        ("op.apply_datafix(fix)\nraise SystemExit(3)", 3),
        ("with op.get_context().autocommit_block():\n    op.execute('SELECT 1 / 0')", 4),
    ],
    ids=["an error of SQL", "an error of Python", "a commit", "an exit", "an error in an autocommit block"],
)
def test_an_error_leaves_nothing(up: str, planned: int, tmp_path: Path, database: Database) -> None:
    with pool(database, 1) as pooled:
        project = project_with_fix(tmp_path, pooled.pooled, up=up)
        assert project.alembic("upgrade", "b").code != 0
        assert pooled.is_clean
        assert project.versions == {"a"}
        assert datafixes(project, "plan").code == planned
        assert pooled.is_clean


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "SIGKILL"])
@pytest.mark.parametrize(
    ("size", "command", "moment"),
    [
        (1, "upgrade", "changing"),
        (1, "upgrade", "changed"),
        (1, "plan", "changing"),
        (2, "plan", "changed"),
        (10, "upgrade", "changing"),
    ],
)
def test_what_is_interrupted_leaves_nothing(
    size: int, sent: signal.Signals, command: str, moment: str, tmp_path: Path, database: Database
) -> None:
    with pool(database, size) as pooled:
        project = slow_project(tmp_path, pooled.pooled, moment)
        with running(project, command) as process:
            session = asleep(database)
            kill(process.pid, sent)
            time.sleep(0.2)
            hurry(database)
            assert ended(process).code != 0
        if (
            sent == signal.SIGKILL
        ):  # PgBouncer closes a server connection whose client has gone in a transaction
            gone(database, session)
        assert pooled.is_clean
        assert project.versions == {"a"}
        did(project.alembic("upgrade", "head"))
        assert rows(database) == FIXED
        assert images(database) == 4
        assert pooled.is_clean


# --- a run needs one connection


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("env", [ENV, STOCK_ENV], ids=["ours", "stock"])
def test_a_fix_does_not_wait_for_a_second_connection(
    env: str, size: int, driver: str, tmp_path: Path, database: Database
) -> None:
    """Whoever looks who blocks gets no connection: all others are taken, by transactions of the application."""
    with pool(database, size) as pooled, ExitStack() as stack:
        project = slow_project(tmp_path, pooled.pooled, "changing", seconds=0.7, env=env)
        project = project.on(pooled.pooled, driver)
        project.write_ini()
        for _ in range(size - 1):
            cursor = stack.enter_context(closing(pooled.pooled.connect())).cursor()
            cursor.execute("SELECT 1")
        started = time.monotonic()
        did(project.alembic("upgrade", "head"))
        assert time.monotonic() - started < 10
        assert rows(database) == FIXED
        did(project.alembic("downgrade", "a"))
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("datafixes")] == []


def test_who_blocks_is_seen_where_a_second_connection_is_to_be_had(
    tmp_path: Path, database: Database
) -> None:
    with pool(database, 3) as pooled:
        project = project_with_fix(tmp_path, pooled.pooled)
        with closing(database.connect()) as holder:
            holder.cursor().execute("SELECT FROM item WHERE id = 2 FOR UPDATE")
            ran = did(project.alembic("-x", "lock_timeout=1s", "-x", "lock_attempts=1", "upgrade", "b"), 255)
            assert f"blocked by: pid {holder.info.backend_pid}, role postgres" in ran.last_line
        assert pooled.is_clean


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("size", SIZES)
def test_b20_b22_deploys_at_once_apply_once_whatever_the_pool(
    size: int, driver: str, tmp_path: Path, database: Database
) -> None:
    with pool(database, size) as pooled:
        project = long_project(tmp_path, pooled.pooled, driver)
        with ExitStack() as stack:
            processes = [stack.enter_context(deploying(project)) for _ in range(3)]
            ran = [ended(process) for process in processes]
        assert [one.code for one in ran] == [0, 0, 0], ran
        assert (project.outcomes, project.versions) == (["applied", "applied", "reverted"], {"e"})
        assert pooled.is_clean


def test_b20_a_migration_that_commits_by_itself_runs_once_if_a_second_connection_is_to_be_had(
    tmp_path: Path, database: Database
) -> None:
    slowly = """
        with op.get_context().autocommit_block():
            op.execute("UPDATE item SET amount = amount + 1")
            op.execute("SELECT pg_sleep(0.7)")
    """
    with pool(database, 10) as pooled:
        project = project_with_fix(tmp_path, pooled.pooled)
        project.revision("c", "b", slowly, top="fix = None")
        with ExitStack() as stack:
            processes = [stack.enter_context(deploying(project)) for _ in range(3)]
            ran = [ended(process) for process in processes]
        assert [one.code for one in ran] == [0, 0, 0], ran
        assert database.rows("SELECT amount::int FROM item ORDER BY id") == [(111,), (121,), (31,)]
        assert pooled.is_clean


def test_b20_where_no_second_connection_is_to_be_had_that_is_said_once(
    tmp_path: Path, database: Database
) -> None:
    by_itself = (
        "with op.get_context().autocommit_block():\n    op.execute('UPDATE item SET amount = amount + 1')\n"
    )
    with pool(database, 1) as pooled:
        project = project_with_fix(tmp_path, pooled.pooled)
        project.revision("c", "b", by_itself * 3, top="fix = None")
        ran = did(project.alembic("upgrade", "c"))
        assert ran.err.count("another run may start it too") == 1
        assert database.rows("SELECT amount::int FROM item ORDER BY id") == [(113,), (123,), (33,)]
        assert pooled.is_clean
