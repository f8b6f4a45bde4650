"""The connection is cut in the middle: one clear line, nothing or all of it, and the next deploy applies it once."""

from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from datafixes.running.blockers import BlockerPoller
from tests.faults.deploys import (
    again,
    alone,
    applied_once,
    asleep,
    deploying,
    ended,
    gone,
    hurry,
    images,
    nothing_is_there,
    one_clear_line,
    rows,
    slow_project,
    until,
)
from tests.faults.wire import wire
from tests.projects import project_with_fix
from tests.servers import Database

LOST = "the connection to the database was lost"
COMMIT = b"COMMIT\x00"  # the whole message: the block itself says ON COMMIT DROP
UNKNOWN = "Check the ledger (datafixes history), then run the migration again"


@pytest.mark.parametrize(
    ("moment", "driver"), [("changing", "psycopg2"), ("changed", "psycopg"), ("committing", "psycopg2")]
)
def test_a_backend_that_is_told_to_end_leaves_nothing(
    moment: str, driver: str, tmp_path: Path, database: Database
) -> None:
    project = slow_project(tmp_path, database, moment).on(database, driver)
    with deploying(project) as process:
        database.execute(f"SELECT pg_terminate_backend({asleep(database)})")
        ran = ended(process)
    one_clear_line(ran, LOST, UNKNOWN)
    nothing_is_there(project)
    hurry(database)
    again(project)
    applied_once(project)


@pytest.mark.parametrize(
    ("word", "delivered", "driver"),
    [
        pytest.param(b"CALL pg_temp.datafix_run", True, "psycopg2", id="while the block runs"),
        pytest.param(COMMIT, False, "psycopg", id="before the commit"),
        pytest.param(COMMIT, True, "psycopg2", id="before the answer to the commit"),
        pytest.param(COMMIT, True, "psycopg", id="before the answer to the commit, psycopg 3"),
    ],
)
def test_a_wire_that_is_cut_leaves_nothing_or_all(
    word: bytes, delivered: bool, driver: str, tmp_path: Path, database: Database
) -> None:
    project = project_with_fix(tmp_path, database)
    with (
        wire(database, word, delivered=delivered) as cut,
        deploying(project, "-x", f"url={cut.url(driver)}", "upgrade", "head") as process,
    ):
        ran = ended(process)
        assert cut.cuts == 1
    one_clear_line(ran, LOST, UNKNOWN)
    if (word, delivered) == (COMMIT, True):
        # What nobody answered is done: the line must not say that nothing was changed.
        assert "Nothing was changed" not in ran.out
        alone(database)
        applied_once(project)
    else:
        nothing_is_there(project)
    again(project)
    applied_once(project)


def test_a_revert_whose_wire_is_cut_gives_all_back_or_nothing(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    again(project)
    for word, delivered in ((b"CALL pg_temp.datafix_run", True), (COMMIT, False)):
        with (
            wire(database, word, delivered=delivered) as cut,
            deploying(project, "-x", f"url={cut.url('psycopg2')}", "downgrade", "a") as process,
        ):
            one_clear_line(ended(process), LOST, UNKNOWN)
            assert cut.cuts == 1
        applied_once(project)
    with deploying(project, "downgrade", "a") as process:
        assert ended(process).code == 0
    assert rows(database) == [(1, "open", 10), (2, "open", 20), (3, "open", 30)]
    assert images(database) == 8


def test_the_second_connection_that_is_cut_while_nobody_looks_says_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As when the server goes: the watcher finds its connection dead when it closes it, and not while it asks.
    monkeypatch.setattr("datafixes.running.blockers._INTERVAL", 60)
    raised: list[object] = []
    monkeypatch.setattr("threading.excepthook", raised.append)
    watchers = "SELECT pid FROM pg_stat_activity WHERE query = 'ROLLBACK' AND state = 'idle' AND datname = current_database()"
    engine = create_engine(database.url, poolclass=NullPool, isolation_level="READ COMMITTED")  # as ours is
    with engine.connect() as connection:
        with BlockerPoller(connection, "datafix close_items") as watch, watch.watching():
            until(lambda: database.rows(watchers), "nobody watches")
            [(watcher,)] = database.rows(watchers)
            database.execute(f"SELECT pg_terminate_backend({watcher})")
            gone(database, watcher)
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1
    assert raised == []
