"""The client is killed in the middle of a fix: it happened whole or not at all, and the next deploy applies it once."""

import signal
from pathlib import Path

import pytest

from tests.faults.deploys import (
    again,
    applied_once,
    asleep,
    deploying,
    ended,
    gone,
    hurry,
    kill,
    nothing_is_there,
    rows,
    slow_project,
    until,
)
from tests.projects import ENV, FIX, STOCK_ENV
from tests.servers import Database
from tests.small_book import somebody_waits


@pytest.mark.parametrize(
    ("sent", "moment", "env", "recorded"),
    [
        (signal.SIGKILL, "changing", ENV, False),
        (signal.SIGKILL, "changing", ENV, True),
        (signal.SIGTERM, "changed", STOCK_ENV, False),
        (signal.SIGKILL, "committing", ENV, False),
    ],
    ids=["changing", "changing, recorded", "changed, SIGTERM, stock env", "committing"],
)
def test_b40_c34_the_next_run_waits_for_the_orphan_of_a_killed_client_and_the_fix_applies_once(
    sent: signal.Signals, moment: str, env: str, recorded: bool, tmp_path: Path, database: Database
) -> None:
    # The server does not notice: it ends its statement, or even the commit, before it looks for its client.
    project = slow_project(tmp_path, database, moment, env=env, recorded=recorded)
    with deploying(project) as process:
        orphan = asleep(database)
        kill(process.pid, sent)
        assert ended(process).code == -sent
    polite = "SELECT FROM pg_stat_activity WHERE application_name = 'datafixes' AND state = 'idle' AND query = 'ROLLBACK'"
    with deploying(project) as process:
        if env == ENV:  # it asks for the lock of runs now and then, which the orphan has
            until(lambda: database.rows(polite), "nobody waits")
        else:
            somebody_waits(database)
        nothing_is_there(project)
        hurry(database)
        ran = ended(process)
    gone(database, orphan)
    assert ran.code == 0, ran.out + ran.err
    applied_once(project)
    again(project)
    applied_once(project)


@pytest.mark.parametrize(
    ("driver", "moment"),
    [
        ("psycopg2", "changing"),
        ("psycopg2", "changed"),
        ("psycopg", "changing"),
    ],
)
def test_b40_ctrl_c_in_the_middle_leaves_nothing(
    driver: str, moment: str, tmp_path: Path, database: Database
) -> None:
    project = slow_project(tmp_path, database, moment, seconds=0.6).on(database, driver)
    with deploying(project) as process:
        asleep(database)
        kill(process.pid, signal.SIGINT)
        ran = ended(process)
    assert ran.code != 0, ran.err
    nothing_is_there(project)
    hurry(database)
    again(project)
    applied_once(project)


def test_c35_a_chain_that_is_killed_goes_on_behind_what_it_committed(
    tmp_path: Path, database: Database
) -> None:
    # The nearest thing to batches: each of the three fixes adds 100, and each is committed by itself.
    project = slow_project(tmp_path, database, "in the third fix")
    database.execute(
        "CREATE TRIGGER slow BEFORE UPDATE ON item FOR EACH ROW WHEN (NEW.amount > 300) EXECUTE FUNCTION slow()"
    )
    for after, name in ("bc", "cd"):
        top = f"fix = {FIX.strip()}".replace("close_items", f"close_{name}").replace("'open'", "'closed'")
        project.revision(name, after, "op.apply_datafix(fix)", top=top)
    with deploying(project) as process:
        orphan = asleep(database)
        kill(process.pid)
        ended(process)
    database.execute(f"SELECT pg_terminate_backend({orphan})")
    gone(database, orphan)
    assert (project.versions, project.outcomes) == ({"c"}, ["applied"] * 2)
    hurry(database)
    again(project)
    assert (project.versions, project.outcomes) == ({"d"}, ["applied"] * 3)
    assert rows(database) == [(1, "closed", 310), (2, "closed", 320), (3, "open", 30)]
