"""A real server that is stopped and started, a broker that fails and heals: the service stays, and says each once."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.book.broker import alpaca_server
from tests.book.broker.alpaca_server import Alpaca
from tests.book.watch.service import Service, serving
from tests.faults.own_server import OwnServer, own_server
from tests.projects import our_project
from tests.servers import Server

BOOK = Path(__file__).parents[2] / "fixtures/book.sql"


@pytest.fixture
def own(server: Server) -> Iterator[OwnServer]:
    with own_server(server.version) as running:
        yield running


@pytest.fixture
def alpaca() -> Iterator[Alpaca]:
    with alpaca_server.running(Alpaca(**alpaca_server.accounts())) as running:
        running.accounts["large"].hold(QCOM260220P00145000="1", NOW260220P00110000="1", SPY="2")
        yield running


def test_the_service_outlives_its_database_and_its_broker(
    own: OwnServer, alpaca: Alpaca, tmp_path: Path
) -> None:
    with own.server.database("watched") as database:
        project = our_project(database)
        assert project.alembic("upgrade", "014").code == 0
        database.psql(BOOK.read_text("utf-8"), "-v", "ON_ERROR_STOP=1")
        given = {
            "url": project.url, "broker_url": alpaca.url, "watch_every": "1s", "unknown_limit": "2s", "broker_timeout": "1s",
            "connect_timeout": "2s", "broker_accounts": "large=env:KEYS_LARGE,tiny=env:KEYS_TINY",
        }  # fmt: skip
        settings = [part for name, value in given.items() for part in ("-x", f"{name}={value}")]
        keys = {f"KEYS_{name.upper()}": alpaca.secret(name) for name in alpaca.accounts}
        state = tmp_path / "watch.json"
        with serving(
            project.directory, *settings, "watch", "--state", str(state),
            environment={**keys, "NO_PROXY": "127.0.0.1"},
        ) as service:  # fmt: skip
            assert service.next()["title"] == "7 differences between book and broker appeared"
            _the_database_goes_and_comes(own, service)
            _the_broker_goes_and_comes(alpaca, service)
            service.process.send_signal(signal.SIGTERM)
            assert service.ended() == (0, [])
        _nothing_secret(service, state)


def _the_database_goes_and_comes(own: OwnServer, service: Service) -> None:
    own.kill(signal.SIGQUIT)
    failed = service.next()
    assert failed["event"] == "failed"
    assert "The database does not answer" in failed["lines"][0]
    service.rounds(2, "Failed: ")
    own.start()
    assert service.next()["event"] == "recovered"
    service.rounds(2, "7 different")


def _the_broker_goes_and_comes(alpaca: Alpaca, service: Service) -> None:
    alpaca.fail("/positions", alpaca_server.status(400))  # an answer after which nobody tries again
    unknown = service.next()
    assert (unknown["event"], unknown["title"]) == ("unknown", "2 accounts are unknown")
    service.rounds(2, "large unknown")
    alpaca.heal()
    assert service.next()["event"] == "known"
    service.rounds(2, "7 different")


def _nothing_secret(service: Service, state: Path) -> None:
    reported = json.dumps(service.alerts) + "".join(service.said) + state.read_text("utf-8")
    assert [alert["event"] for alert in service.alerts] == [
        "appeared", "failed", "recovered", "unknown", "known",
    ]  # fmt: skip
    assert "HIDDEN" not in reported
    assert "PKLARGE" not in reported
    assert "Traceback" not in reported
