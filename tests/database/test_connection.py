"""Connections and the lock for runs, on real servers."""

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import OperationalError

from datafixes.database import locate, one_run_at_a_time, open_connection
from datafixes.database.connection import _unreachable
from datafixes.database.embedded import embedded_server
from datafixes.database.turns import Turn
from datafixes.errors import DatabaseUnreachable, DatafixError, VersionMoved
from datafixes.settings import Settings
from tests.servers import Database, binaries

DRIVERS = ("psycopg2", "psycopg")


def settings(url: str, **flags: str) -> Settings:
    return Settings.resolve({"url": url, **flags}, {}, {})


@contextmanager
def connected(url: str, **flags: str) -> Iterator[Connection]:
    run = settings(url, **flags)
    with open_connection(locate(run), run) as connection:
        yield connection


def value(connection: Connection, query: str) -> object:
    return connection.exec_driver_sql(query).scalar_one()


@pytest.mark.parametrize("driver", DRIVERS)
def test_connection_is_as_alembic_needs_it(database: Database, driver: str) -> None:
    database.execute(
        "CREATE ROLE careful LOGIN", "ALTER ROLE careful SET default_transaction_isolation = 'serializable'"
    )
    try:
        with connected(database.url_for("careful", driver)) as connection:
            assert connection.engine.driver == driver
            assert not connection.in_transaction()
            assert value(connection, "SHOW transaction_isolation") == "read committed"
            assert value(connection, "SELECT current_setting('application_name')") == "datafixes"
            connection.commit()
            assert value(connection, "SHOW transaction_isolation") == "read committed"
    finally:
        database.execute("DROP ROLE careful")
    here = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    assert database.value(f"SELECT count(*) {here}") == 0


def test_bare_url_uses_psycopg2(database: Database) -> None:
    with connected(database.url.replace("+psycopg2", "")) as connection:
        assert connection.engine.driver == "psycopg2"


def test_application_name_of_the_url_counts(database: Database) -> None:
    with connected(f"{database.url}&application_name=me") as connection:
        assert value(connection, "SELECT current_setting('application_name')") == "me"


@pytest.mark.parametrize("driver", DRIVERS)
def test_unknown_database(database: Database, driver: str) -> None:
    url = replace(database, name="nowhere").url_for(driver=driver)
    with (
        pytest.raises(DatabaseUnreachable, match='database "nowhere" does not exist') as caught,
        connected(url),
    ):
        pass
    message = caught.value.message
    assert f"host {database.address.host}, port {database.address.port}, database nowhere (-x url)" in message
    assert caught.value.hint == ""
    assert "\n" not in message


def test_password_in_the_words_of_the_server_is_masked(database: Database) -> None:
    somebody = make_url(database.url).set(username="HIDDEN", password="HIDDEN")
    url = somebody.render_as_string(hide_password=False)
    # The second is what a server that asks for passwords says.
    words = r'role "\*\*\*" does not exist|authentication failed for user "\*\*\*"'
    with pytest.raises(DatabaseUnreachable, match=words) as caught, connected(url):
        pass
    assert "HIDDEN" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("driver", DRIVERS)
def test_silent_host_is_given_up_after_the_time_that_was_set(driver: str) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        url = f"postgresql+{driver}://ops:HIDDEN@127.0.0.1:{port}/db"
        started = time.monotonic()
        gives_up = pytest.raises(DatabaseUnreachable, match="timeout expired")
        with gives_up as caught, connected(url, connect_timeout="2s"):
            pass
    assert time.monotonic() - started < 8
    assert caught.value.hint.endswith(f"pg_isready -h 127.0.0.1 -p {port}")
    assert "HIDDEN" not in caught.value.one_line()


@pytest.mark.parametrize(
    ("place", "remedy"),
    [
        (
            "db.example.com:5433",
            "A security group or a firewall may not allow this address to reach port 5433 of db.",
        ),
        ("localhost", "to look: pg_isready -h localhost -p 5432"),
        ("[::1]:5433", "to look: pg_isready -h ::1 -p 5433"),
        ("", ""),
    ],
)
def test_the_remedy_depends_on_where_the_database_is(place: str, remedy: str) -> None:
    refused = OperationalError("", {}, Exception("connection refused"))
    hint = _unreachable(make_url(f"postgresql://{place}/shop"), "-x url", refused).hint
    assert (remedy in hint, bool(hint)) == (True, bool(remedy))
    wrong_password = OperationalError("", {}, Exception("password authentication failed"))
    assert _unreachable(make_url(f"postgresql://{place}/shop"), "-x url", wrong_password).hint == ""


@contextmanager
def turn(connection: Connection, run: Settings) -> Iterator[Turn]:
    """A transaction of a run."""
    with one_run_at_a_time(connection, run) as taken, connection.begin():
        yield taken


@pytest.mark.parametrize("driver", DRIVERS)
def test_one_run_at_a_time(database: Database, driver: str, caplog: pytest.LogCaptureFixture) -> None:
    """The second run waits, says for whom, and goes on as soon as the first has ended."""
    url = database.url_for(driver=driver)
    events: list[str] = []

    def second_run() -> None:
        with connected(url) as connection, turn(connection, settings(url)):
            events.append("second begins")

    caplog.set_level(logging.INFO, "alembic.datafixes")
    with connected(f"{url}&application_name=first") as connection:
        other = threading.Thread(target=second_run)
        with turn(connection, settings(url)):
            other.start()
            time.sleep(2)
            events.append("first ends")
        other.join(20)
    assert events == ["first ends", "second begins"]
    [record] = caplog.records
    assert record.levelno == logging.INFO
    assert "role postgres, application first" in record.getMessage()


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_run_has_one_connection_and_sends_nothing_before_its_transaction(
    database: Database, driver: str
) -> None:
    url = database.url_for(driver=driver)
    sessions = "SELECT state, xact_start IS NULL FROM pg_stat_activity WHERE datname = current_database()"
    others = f"{sessions} AND pid <> pg_backend_pid()"
    with connected(url) as connection, one_run_at_a_time(connection, settings(url)):
        assert not connection.in_transaction()
        assert database.rows(others) == [("idle", True)]
        with connection.begin():
            assert database.rows(others) == [("idle in transaction", False)]
        assert database.rows(others) == [("idle", True)]
    assert database.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0


@pytest.mark.parametrize("driver", DRIVERS)
def test_whoever_waits_holds_nothing(database: Database, driver: str) -> None:
    """No transaction, so no row lock, no snapshot, and no connection of a pooler."""
    url = database.url_for(driver=driver)
    with (
        connected(url) as first,
        turn(first, settings(url)),
        connected(f"{url}&application_name=waits") as second,
    ):
        waiting = threading.Thread(target=lambda: refused_turn(second, settings(url, run_wait="2s")))
        waiting.start()
        seen = []
        while waiting.is_alive():
            seen += database.rows("SELECT state FROM pg_stat_activity WHERE application_name = 'waits'")
            time.sleep(0.05)
        waiting.join()
    assert seen.count(("idle",)) > len(seen) * 0.7, seen


def refused_turn(connection: Connection, run: Settings) -> DatafixError:
    with pytest.raises(DatafixError) as caught, turn(connection, run):
        pytest.fail("two runs at a time")
    assert not connection.in_transaction()
    return caught.value


def test_waiting_ends_and_names_the_holder(database: Database) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(connected(f"{database.url}&application_name=pipeline 7"))
        stack.enter_context(turn(first, settings(database.url)))
        holder = database.value("SELECT pid FROM pg_locks WHERE locktype = 'advisory'")
        second = stack.enter_context(connected(database.url))
        error = refused_turn(second, settings(database.url, run_wait="1s"))
        assert f"within 1s: pid {holder}, role postgres, application pipeline 7" in error.message
        assert f"WHERE pid = {holder}" in error.hint
        refused_turn(second, settings(database.url, run_wait="0"))


def test_runs_on_two_databases_do_not_meet(database: Database) -> None:
    database.execute(f"CREATE DATABASE {database.name}_other")
    other_url = database.url.replace(f"/{database.name}?", f"/{database.name}_other?")
    try:
        with (
            connected(f"{database.url}&application_name=on {database.name}") as first,
            connected(f"{other_url}&application_name=on {database.name}_other") as second,
            turn(first, settings(database.url)),
            turn(second, settings(other_url, run_wait="0")),
        ):
            for url in (database.url, other_url):
                with connected(url) as third:
                    error = refused_turn(third, settings(url, run_wait="0"))
                    assert f"application on {make_url(url).database}." in error.message
    finally:
        database.execute(f"DROP DATABASE {database.name}_other WITH (FORCE)")


def test_error_of_the_run_comes_through_and_frees_the_lock(database: Database) -> None:
    with connected(database.url) as connection:
        with pytest.raises(KeyError), turn(connection, settings(database.url)):
            raise KeyError
        with turn(connection, settings(database.url, run_wait="0")):
            pass


@pytest.mark.parametrize("driver", DRIVERS)
def test_b22_a_run_in_between_two_transactions_is_noticed(database: Database, driver: str) -> None:
    url = database.url_for(driver=driver)
    database.execute("CREATE TABLE version (v text)", "INSERT INTO version VALUES ('b')")
    with connected(url) as connection, one_run_at_a_time(connection, settings(url)) as taken:
        taken.version = lambda: frozenset(connection.exec_driver_sql("SELECT v FROM version").scalars())
        with connection.begin():
            connection.exec_driver_sql("UPDATE version SET v = 'c'")
            taken.reached(["c"])
        with connection.begin():
            pass
        database.execute("UPDATE version SET v = 'd'")
        with pytest.raises(VersionMoved, match="from c to d between two migrations"), connection.begin():
            pytest.fail("with a version that it does not know")
        assert database.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
        taken.begins_again()
        assert value(connection, "SELECT v FROM version") == "d"
        assert taken.expected == frozenset({"d"})
        assert database.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 1
        connection.commit()
        database.execute("UPDATE version SET v = 'e'")
        taken.in_a_migration = lambda: True
        with pytest.raises(
            DatafixError, match="during a migration of this run that commits by itself"
        ) as caught:
            connection.begin()
        assert not isinstance(caught.value, VersionMoved)


@pytest.mark.parametrize("driver", DRIVERS)
def test_b20_others_are_kept_out_while_a_migration_commits_by_itself(database: Database, driver: str) -> None:
    url = database.url_for(driver=driver)
    with (
        connected(url) as connection,
        connected(url) as other,
        one_run_at_a_time(connection, settings(url)) as taken,
    ):
        taken.in_a_migration = lambda: True
        connection.begin()
        connection.commit()
        refused_turn(other, settings(url, run_wait="0"))
        connection.execution_options(isolation_level="AUTOCOMMIT")
        with connection.begin():
            refused_turn(other, settings(url, run_wait="1s"))
        connection.execution_options(isolation_level="READ COMMITTED")
        with connection.begin():
            refused_turn(other, settings(url, run_wait="0"))
        refused_turn(other, settings(url, run_wait="0"))
        taken.in_a_migration = lambda: False
        with connection.begin():
            refused_turn(other, settings(url, run_wait="0"))
        with turn(other, settings(url, run_wait="0")):
            pass
    others = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    assert database.value(others) == 0


def servers_in(directory: Path) -> list[str]:
    """Command lines of the PostgreSQL servers that run below a directory."""
    processes = subprocess.run(
        ["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True
    ).stdout
    return [line for line in processes.splitlines() if "-D" in line.split() and f"{directory}/" in line]


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose sockets have a short enough path, which that of tmp_path is not everywhere."""
    directory = Path(tempfile.mkdtemp(prefix="df-"))
    yield directory
    left_over = servers_in(directory)
    for file in directory.glob("**/postmaster.pid"):
        os.kill(int(file.read_text().split()[0]), signal.SIGINT)
    shutil.rmtree(directory, ignore_errors=True)
    assert left_over == []


def test_embedded_temporary_server_leaves_nothing(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(short_path))
    monkeypatch.setenv("PGPORT", "1")
    with connected("embedded:", embedded_version="16") as connection:
        assert str(value(connection, "SHOW server_version")).startswith("16.")
        assert value(connection, "SHOW server_encoding") == "UTF8"
        assert value(connection, "SHOW listen_addresses") == ""
        assert len(servers_in(short_path)) == 1
        connection.rollback()
        with turn(connection, settings("embedded:", run_wait="0")):
            pass
    assert servers_in(short_path) == []
    assert [path.name for path in short_path.iterdir() if path.name.startswith("df-")] == []


def test_embedded_server_stops_after_an_error(short_path: Path) -> None:
    with pytest.raises(KeyError), connected(f"embedded:{short_path}/data"):
        raise KeyError


def test_embedded_path_keeps_data_and_version(short_path: Path) -> None:
    url = f"embedded:{short_path}/new/data"
    with connected(url, embedded_version="16") as connection:
        connection.exec_driver_sql("CREATE TABLE kept AS SELECT 42 AS answer")
        connection.commit()
    assert servers_in(short_path) == []
    with connected(url, embedded_version="18") as connection:
        assert value(connection, "SELECT answer FROM kept") == 42
        assert str(value(connection, "SHOW server_version")).startswith("16.")


def test_embedded_server_of_somebody_else_goes_on(short_path: Path) -> None:
    """One who started the server by hand finds it running; among our own, the last one turns it off."""
    directory = short_path / "data"
    with embedded_server(str(directory)):
        with embedded_server(str(directory)):
            pass
        assert len(servers_in(short_path)) == 1
    user = "pgserver" if os.geteuid() == 0 else None
    control = [str(binaries() / "pg_ctl"), "-w", "-D", str(directory), "-l", str(directory / "log")]
    options = ["-o", f"-h '' -k {directory}"]
    subprocess.run([*control, *options, "start"], check=True, stdout=subprocess.DEVNULL, user=user)
    try:
        with connected(f"embedded:{directory}") as connection:
            assert value(connection, "SELECT 1") == 1
        assert len(servers_in(short_path)) == 1
    finally:
        subprocess.run([*control, "stop"], check=True, stdout=subprocess.DEVNULL, user=user)


def test_embedded_server_of_a_killed_process_is_taken_over(short_path: Path) -> None:
    program = (
        "import os, signal; from datafixes.database.embedded import embedded_server\n"
        f"with embedded_server('{short_path}/data'): os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert len(servers_in(short_path)) == 1
    with connected(f"embedded:{short_path}/data") as connection:
        assert value(connection, "SELECT 1") == 1
    assert servers_in(short_path) == []


def test_embedded_server_that_does_not_start_says_why(short_path: Path) -> None:
    with embedded_server(f"{short_path}/data"):
        pass
    with (short_path / "data" / "postgresql.conf").open("a") as configuration:
        configuration.write("shared_buffers = 'plenty'\n")
    refused = pytest.raises(
        DatafixError, match=r"does not start: .*invalid value for parameter .shared_buffers"
    )
    with refused, embedded_server(f"{short_path}/data"):
        pass


def test_embedded_version_that_the_wheel_lacks() -> None:
    with pytest.raises(DatafixError, match="versions 16 and 18, not 17"), embedded_server(version=17):
        pass


def test_embedded_server_is_quiet(short_path: Path) -> None:
    program = (
        "from datafixes.database.embedded import embedded_server\n"
        f"with embedded_server('{short_path}/data') as url: print(url)"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "LANG": "xx_YY.ISO-8859-1",
        "PGPORT": "1",
    }
    environment.pop("XDG_RUNTIME_DIR", None)
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert make_url(done.stdout.strip()).query["port"] == "5432"
