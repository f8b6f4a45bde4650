"""Pause, resume, stop and follow: somebody else, elsewhere, while an upgrade makes batches."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.batches.many import ROWS, is_whole, many_project
from tests.batches.test_operator import half_applied
from tests.cli.commands import answer, datafixes, schema
from tests.projects import Project
from tests.servers import Database

SLOW = "rows=50, pause='300ms'"
BATCHES = "SELECT coalesce(sum(batches), 0) FROM datafix_range"
FLAG = "SELECT wish FROM datafix_run WHERE part_of IS NULL AND outcome <> 'failed'"


@contextmanager
def upgrade(project: Project) -> Iterator[subprocess.Popen[bytes]]:
    """An upgrade in a process of its own, which has made its first batch."""
    began = subprocess.Popen(
        project.command_line("upgrade", "head"),
        cwd=project.directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        until(lambda: project.database.value("SELECT to_regclass('datafix_range')") is not None)
        until(lambda: project.database.value(BATCHES) > 0)
        yield began
    finally:
        began.kill()
        began.communicate()


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def test_a_paused_fix_waits_and_goes_on(tmp_path: Path, database: Database) -> None:
    project = many_project(tmp_path, database, SLOW)
    with upgrade(project) as began:
        paused = datafixes(project, "pause", "double_many")
        until(lambda: "paused" in datafixes(project, "follow", "--once").out)
        count = database.value(BATCHES)
        database.execute("UPDATE datafix_range SET beat = beat - interval '41 min'")
        time.sleep(1)
        waiting = answer(project, "follow", "--once")
        assert (waiting["state"], waiting["alive"], waiting["waiting"]) == ("paused", True, 1)
        assert "double_many: paused, " in datafixes(project, "follow", "--once").out
        assert "1 worker, last progress 41 min ago" in datafixes(project, "follow", "--once").out

        assert (paused.code, database.value(BATCHES)) == (0, count), paused.err
        assert 0 < count * 50 < ROWS
        assert began.poll() is None

        resumed = datafixes(project, "resume", "double_many")
        assert resumed.code == 0
        out, _ = began.communicate(timeout=60)
        assert (began.returncode, project.versions) == (0, {"n"}), out
    assert is_whole(database)
    assert database.rows(FLAG) == [(None,)]


def test_a_paused_fix_whose_upgrade_died_does_not_look_as_if_it_waits(
    tmp_path: Path, database: Database
) -> None:
    project = many_project(tmp_path, database, SLOW)
    with upgrade(project):
        assert datafixes(project, "pause", "double_many").code == 0
    others = "FROM pg_stat_activity WHERE datname = current_database() AND application_name ~ 'datafixes double_many'"
    database.execute(
        f"SELECT pg_terminate_backend(pid) {others}"
    )  # which goes on for some seconds without its client
    until(lambda: not database.rows(f"SELECT {others}"))
    database.execute("UPDATE datafix_range SET beat = beat - interval '41 min'")

    ran = datafixes(project, "follow", "--once")

    assert (ran.code, "double_many: half applied, no worker since 41 min, " in ran.out) == (3, True), ran.out


def test_a_stopped_fix_ends_and_a_later_upgrade_goes_on(tmp_path: Path, database: Database) -> None:
    project = many_project(tmp_path, database, SLOW)
    with upgrade(project) as began:
        stopped = datafixes(project, "stop", "double_many")
        out, _ = began.communicate(timeout=30)

    assert stopped.code == 0
    assert (began.returncode != 0, project.versions) == (True, {"m"})
    assert b"stopped" in out.splitlines()[-1]
    assert 0 < database.value("SELECT count(*) FROM many WHERE done") < ROWS
    assert "double_many: stopped, " in datafixes(project, "follow", "--once").out
    assert project.alembic("upgrade", "head").code == 0
    assert is_whole(database)


@pytest.mark.parametrize(("command", "flag"), [("pause", "pause"), ("stop", "stop"), ("resume", None)])
def test_a_wish_writes_its_flag_and_nothing_else(
    tmp_path: Path, database: Database, command: str, flag: str | None
) -> None:
    project = half_applied(tmp_path, database)
    database.execute("UPDATE datafix_run SET wish = 'stop' WHERE outcome = 'running'")
    before = database.dump()
    lines = "SELECT run_id, to_jsonb(r) - 'wish' FROM datafix_run AS r ORDER BY 1"
    ledger = database.rows(lines)

    ran = datafixes(project, command, "double_many")

    assert ran.code == 0, ran.err
    assert ran.out.startswith("double_many, run 1: ")
    assert database.rows(FLAG) == [(flag,)]
    after = database.dump()
    assert after.pop("public.datafix_run") != before.pop("public.datafix_run") or command == "stop"
    assert (after, database.rows(lines)) == (before, ledger)


def test_what_does_not_run_cannot_be_steered(tmp_path: Path, database: Database) -> None:
    project = half_applied(tmp_path, database)
    for command in (("pause", "double"), ("follow", "double")):
        ran = datafixes(project, *command)
        assert (ran.code, ran.out) == (1, "")
        assert ran.err == "FAILED: No fix double is running in batches. Running: double_many.\n"

    assert project.alembic("upgrade", "head").code == 0
    for later in (["stop", "double_many"], ["follow"]):
        ran = datafixes(project, *later)
        assert (ran.code, "is running in batches. List what has ended: datafixes history" in ran.err) == (
            1,
            True,
        )


def test_a_role_needs_the_right_to_write_the_flag_and_no_other(tmp_path: Path, database: Database) -> None:
    project = half_applied(tmp_path, database)
    database.execute(
        "CREATE ROLE oncall LOGIN", "GRANT SELECT ON datafix_run, datafix_run_table, datafix_range TO oncall"
    )
    url = ("-x", f"url={database.url_for(role='oncall')}")

    refused = datafixes(project, *url, "stop", "double_many")
    assert refused.code == 1
    assert refused.err == (
        "FAILED: This role may not write the wish to the ledger public.datafix_run. Its owner can allow just that: "
        "GRANT UPDATE (wish) ON public.datafix_run TO ...;\n"
    )
    database.execute("GRANT UPDATE (wish) ON datafix_run TO oncall")
    assert datafixes(project, *url, "stop", "double_many").code == 0
    assert database.rows(FLAG) == [("stop",)]


def test_a_fix_is_followed_to_its_end(tmp_path: Path, database: Database) -> None:
    project = many_project(tmp_path, database, SLOW)
    with upgrade(project) as began:
        followed = datafixes(project, "follow", "--every", "200ms", "--format", "json")
        assert began.wait(30) == 0

    lines = [json.loads(line) for line in followed.out.splitlines()]
    for line in lines:
        jsonschema.validate(line, schema())
    *running, ended = lines
    assert followed.code == 0
    assert (ended["kind"], ended["run"]["outcome"], ended["run"]["rows_changed"]) == (
        "ended",
        "applied",
        ROWS,
    )
    done = [line["rows_done"] for line in running]
    assert (done, len(set(done)) > 2) == (sorted(done), True)
    assert all(line["alive"] and line["rows_total"] == ROWS for line in running)
    assert any(line["workers"] for line in running)
    assert {line["state"] for line in running} == {"running"}
    assert any(line["seconds_left"] for line in running)


def test_the_line_of_a_log(tmp_path: Path, database: Database) -> None:
    project = many_project(tmp_path, database, SLOW)
    with upgrade(project):
        line = datafixes(project, "follow", "double_many", "--once")

    assert line.code == 0
    for part in (
        "double_many: running, ",
        " batches, ",
        " of 1,000 rows, ",
        " rows/s, about ",
        "last progress ",
    ):
        assert part in line.out
    assert line.out.count("\n") == 1


def test_a_run_that_died_does_not_look_alive(tmp_path: Path, database: Database) -> None:
    project = half_applied(tmp_path, database)
    database.execute("UPDATE datafix_range SET beat = beat - interval '41 min'")

    ran = datafixes(project, "follow", "--once")
    assert (ran.code, "double_many: half applied, no worker since 41 min, " in ran.out) == (3, True), ran.out
    assert datafixes(project, "follow").code == 3
    assert (
        "no worker since 41 min. The next upgrade goes on with it"
        in datafixes(project, "pause", "double_many").out
    )


def test_a_worker_that_waits_for_a_lock_is_alive(tmp_path: Path, database: Database) -> None:
    project = many_project(tmp_path, database, "rows=50")
    blocker: Any = database.connect()
    blocker.cursor().execute("SELECT FROM many WHERE id = 1500 FOR UPDATE")
    try:
        with upgrade(project):
            database.execute("UPDATE datafix_range SET beat = beat - interval '41 min' WHERE done")
            until(lambda: "1 worker, " in datafixes(project, "follow", "--once").out)
    finally:
        blocker.close()
