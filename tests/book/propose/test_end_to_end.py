"""The bug and its repair, end to end: a real client, a real database, and the Position Manager at work meanwhile."""

import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.aws import Cloud, enter, running_cloud
from tests.book.books import PHANTOMS, ROOT
from tests.book.broker.alpaca_server import Alpaca, accounts, running
from tests.book.propose.position_manager import HELD, working
from tests.cli.commands import answer, datafixes
from tests.projects import Project, our_project
from tests.servers import Database

BOOK = (ROOT / "tests/fixtures/book.sql").read_text("ascii")
COUNTS = "SELECT id, check_count FROM active_positions WHERE ticker <> 'TMP' ORDER BY id"


def copied(directory: Path, database: Database) -> Project:
    """The pipeline's project without 015, which nobody has written yet."""
    shutil.copy(ROOT / "alembic.ini", directory)
    shutil.copytree(
        ROOT / "alembic", directory / "alembic", ignore=shutil.ignore_patterns("015_*", "__pycache__")
    )
    return Project(directory, database, migrations="alembic")


def at(project: Project, revision: str) -> None:
    ran = project.alembic("upgrade", revision)
    assert ran.code == 0, ran.err


def test_the_position_manager_works_on_while_the_fix_comes_and_goes(database: Database) -> None:
    project = our_project(database)
    at(project, "013")
    database.psql(BOOK, "-v", "ON_ERROR_STOP=1")
    before = dict(database.rows(COUNTS))
    untouched = "SELECT id, status, close_reason, closed_at, exit_price FROM active_positions WHERE ticker <> 'TMP' ORDER BY id"
    states = database.rows(untouched)
    with working(database, trails=True) as manager:
        at(project, "head")
        assert database.value(
            "SELECT count(*) FROM active_positions WHERE status IN ('open', 'closing') AND ticker <> 'TMP'"
        ) == len(HELD)
        manager.wait_for(5)
        ran = project.alembic("downgrade", "014")
        assert ran.code == 0, ran.err
        assert database.rows(untouched) == states
        manager.wait_for(5)
        at(project, "head")
    assert manager.errors == []
    # Not one of its writes was lost: not its counters, which no fix writes, nor its prices and stops.
    assert dict(database.rows(COUNTS)) == {row: count + manager.checked[row] for row, count in before.items()}
    for row, price, peak, stop, entry in database.rows(
        "SELECT id, current_price, peak_price, trailing_stop_price, entry_price FROM active_positions"
        f" WHERE id IN {HELD}"
    ):
        assert (price, peak) == (manager.prices[row], manager.peaks[row])
        assert stop == peak - (peak - entry) / 4
    assert closed_by(database) == manager.closed


def test_an_old_position_manager_does_not_notice_the_new_columns(database: Database) -> None:
    project = our_project(database)
    at(project, "012")
    database.psql(BOOK, "-v", "ON_ERROR_STOP=1")
    before = dict(database.rows(COUNTS))
    with working(database, trails=False) as manager:
        at(project, "head")
        for revision in ("014", "013", "012"):
            ran = project.alembic("downgrade", revision)
            assert ran.code == 0 or revision == "013", ran.err
            if ran.code:
                # The copies are not thrown away unless somebody says so.
                told = project.alembic("-x", "discard=position_reconciliation_audit", "downgrade", revision)
                assert told.code == 0, told.err
    assert manager.errors == []
    assert dict(database.rows(COUNTS)) == {row: count + manager.checked[row] for row, count in before.items()}
    assert closed_by(database) == manager.closed


def test_a_proposal_of_every_kind_does_not_get_in_the_managers_way(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It writes rows of the book all the time; an insert that comes last would wait for it, and it for us."""
    project = copied(tmp_path, database)
    at(project, "014")
    database.psql(BOOK, "-v", "ON_ERROR_STOP=1")
    held = tmp_path / "held.csv"
    held.write_text(
        "account,symbol,quantity,entry_price\nlarge,QCOM260220P00145000,1,5.20\nlarge,NOW260220P00110000,1,4.80\n"
        "large,SPY,3,689\nlarge,IBM,1,9\ntiny,,,\n"
    )
    monkeypatch.setenv("DATAFIXES_BROKER", f"file:{held}")
    with working(database, trails=True) as manager:
        done = datafixes(project, "propose", "--phantoms", "--quantities", "--missing")
        assert done.code == 0, done.err
        for _ in range(2):
            assert datafixes(project, "plan").code == 0
        at(project, "head")
        manager.wait_for(3)
    assert manager.errors == []


def closed_by(database: Database) -> dict[int, Any]:
    """What the Position Manager opened and closed, with the price: all of it, and each as it closed it."""
    return dict(
        database.rows(
            "SELECT id, CASE WHEN status = 'closed' AND close_reason = 'trailing_stop' THEN exit_price END"
            " FROM active_positions WHERE ticker = 'TMP' ORDER BY id"
        )
    )


def test_phantoms_and_duplicates_are_found_proposed_planned_closed_and_stay_closed(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong-symbol close, shorts closed by hand, and a book that makes its rows anew every five minutes."""
    project = copied(tmp_path, database)
    at(project, "014")
    database.psql(BOOK, "-v", "ON_ERROR_STOP=1")
    with running(Alpaca(**accounts())) as broker, running_cloud() as aws:
        cloud = enter(aws, monkeypatch)
        broker.accounts["large"].hold(QCOM260220P00145000="1", NOW260220P00110000="1", SPY="2")
        monkeypatch.setenv("DATAFIXES_BROKER_URL", broker.url)
        monkeypatch.setenv("DATAFIXES_BROKER_ACCOUNTS", "large=env:KEYS_LARGE,tiny=env:KEYS_TINY")
        monkeypatch.setenv("KEYS_LARGE", broker.secret("large"))
        monkeypatch.setenv("KEYS_TINY", broker.secret("tiny"))
        # The bug sold the stock where the option was meant: a short that nobody wanted, and the book knows nothing of it.
        broker.accounts["large"].hold(QCOM260220P00145000="1", NOW260220P00110000="1", SPY="2", QCOM="-5")
        kinds = {d["symbol"]: d["kind"] for d in _differences(project)}
        assert kinds["QCOM"] == "side"
        # Somebody bought it back by hand; the book goes on to hold five of it.
        broker.accounts["large"].hold(QCOM260220P00145000="1", NOW260220P00110000="1", SPY="2")
        assert sorted(row for d in _differences(project) for row in d["rows"]) == PHANTOMS
        # Every five minutes it makes a real row once more.
        database.execute(*[DUPLICATE] * 2)
        found = {(d["kind"], tuple(d["rows"])) for d in _differences(project)}
        assert ("duplicate", (28, 34, 35)) in found
        before = database.dump()
        done = datafixes(project, "propose", "--phantoms", "--duplicates")
        assert done.code == 0, done.err
        assert datafixes(project, "check").code == 0
        plan = answer(project, "plan")
        assert sum(len(run["changes"][0]["rows"]) for step in plan["steps"] for run in step["runs"]) == 9
        assert database.dump() == before
        ran = project.alembic("-x", f"plan={plan['digest']}", "upgrade", "head")
        assert ran.code == 0, ran.err
        assert _differences(project, code=0) == []
        log(cloud, "Checking 3 open positions")
        green = answer(
            project, "verify", "--skip", "service", "--fix", "close_phantoms_015", "--expect-rows", "7"
        )
        assert [line["colour"] for line in green["lines"]] == ["green"] * 6 + ["skipped"], green
        assert project.alembic("downgrade", "014").code == 0
        assert len(_differences(project)) == 8


DUPLICATE = """
INSERT INTO active_positions (account_name, ticker, instrument_type, strategy_type, side, quantity, entry_price, entry_time,
                              strike_price, expiration_date, option_symbol, status)
SELECT account_name, ticker, instrument_type, strategy_type, side, quantity, entry_price, entry_time, strike_price,
       expiration_date, option_symbol, status FROM active_positions WHERE id = 28
"""


def _differences(project: Project, code: int = 3) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = answer(project, "reconcile", code=code)["differences"]
    return found


def log(cloud: Cloud, *messages: str) -> None:
    """What the Position Manager says."""
    logs, group = cloud.client("logs"), "/ecs/ops-pipeline/position-manager-service"
    logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName="task")
    events = [{"timestamp": int(time.time() * 1000), "message": message} for message in messages]
    logs.put_log_events(logGroupName=group, logStreamName="task", logEvents=events)
