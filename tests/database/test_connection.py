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
from pathlib import Path

import pytest
from sqlalchemy.engine import Connection, make_url

from datafixes.database import locate, one_run_at_a_time, open_connection
from datafixes.database.embedded import binaries, embedded_server
from datafixes.errors import DatabaseUnreachable, DatafixError
from datafixes.settings import Settings
from tests.servers import Database

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
    url = database.url_for(driver=driver).replace(f"/{database.name}?", "/nowhere?")
    with (
        pytest.raises(DatabaseUnreachable, match='database "nowhere" does not exist') as caught,
        connected(url),
    ):
        pass
    message = caught.value.message
    assert f"host {database.socket_directory}, port 5432, database nowhere (-x url)" in message
    assert caught.value.hint == ""
    assert "\n" not in message


def test_password_in_the_words_of_the_server_is_masked(database: Database) -> None:
    url = database.url.replace("postgres@", "HIDDEN:HIDDEN@")
    with pytest.raises(DatabaseUnreachable, match=r'role "\*\*\*" does not exist') as caught, connected(url):
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
    assert f"reach port {port} of 127.0.0.1" in caught.value.hint
    assert "HIDDEN" not in caught.value.one_line()


@pytest.mark.parametrize("driver", DRIVERS)
def test_one_run_at_a_time(database: Database, driver: str, caplog: pytest.LogCaptureFixture) -> None:
    """The second run waits, says for whom, and goes on as soon as the first has ended."""
    url = database.url_for(driver=driver)
    events: list[str] = []

    def second_run() -> None:
        with connected(url) as connection, one_run_at_a_time(connection, settings(url)):
            events.append("second begins")

    caplog.set_level(logging.INFO, "alembic.datafixes")
    with connected(f"{url}&application_name=first") as connection:
        other = threading.Thread(target=second_run)
        with one_run_at_a_time(connection, settings(url)):
            assert not connection.in_transaction()
            other.start()
            time.sleep(2)
            events.append("first ends")
        other.join(20)
    assert events == ["first ends", "second begins"]
    [record] = caplog.records
    assert record.levelno == logging.INFO
    assert "role postgres, application first" in record.getMessage()


def test_waiting_ends_and_names_the_holder(database: Database) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(connected(f"{database.url}&application_name=pipeline 7"))
        stack.enter_context(one_run_at_a_time(first, settings(database.url)))
        holder = database.value("SELECT pid FROM pg_locks WHERE locktype = 'advisory'")
        second = stack.enter_context(connected(database.url))
        refused = pytest.raises(
            DatafixError, match=f"within 1s: pid {holder}, role postgres, application pipe"
        )
        with refused as caught, one_run_at_a_time(second, settings(database.url, run_wait="1s")):
            pytest.fail("two runs at a time")
        assert f"WHERE pid = {holder}" in caught.value.hint
        with pytest.raises(DatafixError), one_run_at_a_time(second, settings(database.url, run_wait="0")):
            pytest.fail("two runs at a time")


def test_runs_on_two_databases_do_not_meet(database: Database) -> None:
    database.execute(f"CREATE DATABASE {database.name}_other")
    other_url = database.url.replace(f"/{database.name}?", f"/{database.name}_other?")
    try:
        with (
            connected(f"{database.url}&application_name=on {database.name}") as first,
            connected(f"{other_url}&application_name=on {database.name}_other") as second,
            one_run_at_a_time(first, settings(database.url)),
            one_run_at_a_time(second, settings(other_url, run_wait="0")),
        ):
            for url in (database.url, other_url):
                name = make_url(url).database
                refused = pytest.raises(DatafixError, match=rf"application on {name}\.")
                with connected(url) as third, refused, one_run_at_a_time(third, settings(url, run_wait="0")):
                    pytest.fail("two runs at a time")
    finally:
        database.execute(f"DROP DATABASE {database.name}_other WITH (FORCE)")


def test_lock_outlasts_the_timeouts_of_the_server(database: Database) -> None:
    database.execute(f"ALTER DATABASE {database.name} SET idle_in_transaction_session_timeout = '300ms'")
    if database.server_version >= 17:
        database.execute(f"ALTER DATABASE {database.name} SET transaction_timeout = '300ms'")
    with connected(database.url) as connection, one_run_at_a_time(connection, settings(database.url)):
        time.sleep(1)
        assert database.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 1
    assert database.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0


def test_lost_lock_is_told_and_the_run_counts(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    with connected(database.url) as connection, one_run_at_a_time(connection, settings(database.url)):
        database.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        time.sleep(0.2)
        assert value(connection, "SELECT 1") == 1
        connection.commit()
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "This run's lock was lost before its end: server closed the connection" in record.getMessage()


def test_error_of_the_run_comes_through_and_frees_the_lock(database: Database) -> None:
    with connected(database.url) as connection:
        with pytest.raises(KeyError), one_run_at_a_time(connection, settings(database.url)):
            raise KeyError
        with one_run_at_a_time(connection, settings(database.url, run_wait="0")):
            pass


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
        with one_run_at_a_time(connection, settings("embedded:", run_wait="0")):
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
