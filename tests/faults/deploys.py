"""A deploy that is caught in the act: the moments of a fix at which something can break, and who is where then."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from tests.projects import ENV, Project, Ran, project_with_fix
from tests.servers import Database
from tests.tampering import TRIGGERS

_Answer = TypeVar("_Answer")

START = [(1, "open", 10), (2, "open", 20), (3, "open", 30)]
FIXED = [(1, "closed", 110), (2, "closed", 120), (3, "open", 30)]

# In each of them the server is busy for as long as the table `slowness` has a row: first with the rows, or with the
# commit, which no client can take back any more.
_SLOW = """
CREATE TABLE slowness (seconds float8);
CREATE FUNCTION dawdle() RETURNS void LANGUAGE plpgsql AS $$
DECLARE enough timestamptz := clock_timestamp() + (SELECT seconds * interval '1 second' FROM public.slowness);
BEGIN
    WHILE clock_timestamp() < enough AND EXISTS (SELECT FROM public.slowness) LOOP PERFORM pg_sleep(0.05); END LOOP;
END $$;
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM public.dawdle(); RETURN NEW; END';
"""
_TRIGGERS = {
    "changing": "CREATE TRIGGER slow BEFORE UPDATE ON item FOR EACH ROW EXECUTE FUNCTION slow()",
    "committing": "CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON alembic_version DEFERRABLE INITIALLY DEFERRED"
    " FOR EACH ROW EXECUTE FUNCTION slow()",
}


# The same as the fix of tests/projects.py, as statements that are recorded.
_RECORDED = """
from datafixes import RecordedFix, Table

item = Table("item", "item_audit", key="id", identity={"symbol": "symbol"}, updated={1: "QCOM", 2: "NOW"})
fix = RecordedFix(name="close_items", reason="Closed by hand.", tables=[item])
"""
_STATEMENTS = """
with op.record_datafix(fix) as body:
    body.execute("UPDATE item SET status = 'closed', amount = amount + 100 WHERE id < 3")
"""


def slow_project(
    directory: Path,
    database: Database,
    moment: str,
    seconds: float = 30,
    env: str = ENV,
    *,
    recorded: bool = False,
) -> Project:
    """A project with a fix that takes `seconds` at one moment, until :func:`hurry`.

    Args:
        moment: `changing`, while the fix changes its rows; `changed`, when it is done and the transaction goes on;
            `committing`, while that is committed.
        recorded: the fix is not declared, but statements that are recorded.
    """
    after = 'op.execute("SELECT dawdle()")' if moment == "changed" else ""
    up, top = (_STATEMENTS, _RECORDED) if recorded else ("op.apply_datafix(fix)", "")
    project = project_with_fix(directory, database, env, up=f"{up}\n{after}", top=top)
    database.psql(f"{_SLOW}\n{_TRIGGERS.get(moment, '')};\nINSERT INTO slowness VALUES ({seconds});")
    return project


def hurry(database: Database) -> None:
    """From now on nothing is slow."""
    database.execute("DELETE FROM slowness")


def rows(database: Database) -> list[tuple[object, ...]]:
    return database.rows("SELECT id, status, amount::int FROM item ORDER BY id")


def images(database: Database) -> int:
    found: int = database.value("SELECT count(*) FROM item_audit")
    return found


def nothing_is_there(project: Project) -> None:
    """The rows, the version, the copies and the ledger say that the fix did not happen."""
    assert rows(project.database) == START
    assert project.versions == {"a"}
    assert images(project.database) == 0
    assert set(project.outcomes) <= {"failed"}
    no_trigger_is_left(project.database)


def applied_once(project: Project) -> None:
    """The rows, the version, the copies and the ledger say that the fix happened, and once."""
    assert rows(project.database) == FIXED
    assert project.versions == {"b"}
    assert images(project.database) == 4
    assert [outcome for outcome in project.outcomes if outcome != "failed"] == ["applied"]
    no_trigger_is_left(project.database)
    assert project.database.rows(
        "SELECT id, audit_image, status, amount::int FROM item_audit ORDER BY id, audit_id"
    ) == [(1, "before", "open", 10), (1, "after", "closed", 110), (2, "before", "open", 20), (2, "after", "closed", 120)]  # fmt: skip


def no_trigger_is_left(database: Database) -> None:
    assert (
        database.rows(f"SELECT tgname FROM pg_trigger WHERE tgname ~ '^datafix' AND tgname NOT IN {TRIGGERS}")
        == []
    )


@contextmanager
def deploying(project: Project, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """`alembic upgrade head` in a process, which does not outlive the test."""
    process = subprocess.Popen(
        project.command_line(*(arguments or ("upgrade", "head"))),
        cwd=project.directory, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        # tests that were started in the background are deaf to Ctrl-C, and so would be whom they start
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ended(process: "subprocess.Popen[str]") -> Ran:
    """What a deploy came to; it has a minute, which is plenty even where others are at work too."""
    out, err = process.communicate(timeout=60)
    return Ran(process.returncode, out, err)


def again(project: Project) -> None:
    """The next deploy succeeds; where it is not the one that is looked at, it needs no process of its own."""
    ran = project.alembic("upgrade", "head")
    assert ran.code == 0, ran.out + ran.err


def one_clear_line(ran: Ran, *words: str) -> None:
    """It failed, and says why in its last line, without a traceback or the text of the script."""
    assert ran.code not in (0, None), ran.out + ran.err
    assert ran.out.startswith("FAILED: "), ran.out + ran.err
    assert len(ran.out.splitlines()) == 1, ran.out
    for word in words:
        assert word in ran.out, ran.out
    for noise in ("Traceback", "DO $", "PendingRollback", "sqlalche.me"):
        assert noise not in ran.out + ran.err, ran.out + ran.err


def asleep(database: Database) -> int:
    """Wait until a session of this database is at the slow place; its process id."""
    sleeping = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
    )
    return int(until(lambda: database.rows(sleeping), "nobody sleeps")[0][0])


def gone(database: Database, pid: int) -> None:
    """Wait until a session has ended."""
    until(lambda: not database.rows(f"SELECT FROM pg_stat_activity WHERE pid = {pid}"), "the session stays")


def alone(database: Database) -> None:
    """Wait until no session of this database is left."""
    others = (
        "SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend'"
    )
    until(lambda: not database.rows(others), "a session stays")


def dead(*pids: int) -> None:
    """Wait until processes have ended."""
    until(lambda: not any(_runs(pid) for pid in pids), "a process stays")


def answers(database: Database) -> None:
    """Wait until the server takes connections again."""

    def asked() -> bool:
        try:
            return bool(database.value("SELECT true"))
        except Exception:
            return False

    until(asked, "the server does not come back")


def kill(pid: int, sent: signal.Signals = signal.SIGKILL) -> None:
    os.kill(pid, sent)


def _runs(pid: int) -> bool:
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return bool(done.stdout.strip()) and not done.stdout.strip().startswith("Z")


def until(question: Callable[[], _Answer], otherwise: str) -> _Answer:
    """Ask again and again, for 40 seconds, until the answer is yes."""
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        if answer := question():
            return answer
        time.sleep(0.02)
    pytest.fail(otherwise)
