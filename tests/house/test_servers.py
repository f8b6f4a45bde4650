"""`TEST_POSTGRES` names servers of this machine only, and tests leave nothing on one that is named."""

import os
import subprocess
import sys

import pytest

from tests.docs.pages import ROOT
from tests.named import NotUsable, read
from tests.servers import PROGRAM_VERSION, Server, binaries

UNUSABLE = {
    "postgresql://postgres@db.example.org/postgres": "names db.example.org: tests use servers of this machine only",
    "postgresql://postgres@10.0.0.1/postgres": "names 10.0.0.1: tests",
    "postgresql://postgres@/postgres": "names no host: tests",
    "postgresql://ops@127.0.0.1/postgres": "names the role ops: tests connect as the superuser postgres",
    "postgresql://postgres:hunter2@127.0.0.1:1/postgres": "connection to server at .* failed",
    "18,18": "names two servers of version 18",
    "newest": "takes versions and URLs of servers, not 'newest'",
}


@pytest.mark.parametrize("told", UNUSABLE)
def test_what_is_no_server_for_tests_is_refused_in_a_line(told: str) -> None:
    with pytest.raises(NotUsable, match=UNUSABLE[told]) as refused:
        read(told)
    assert "\n" not in str(refused.value)
    assert "hunter2" not in str(refused.value)


def pytest_of(told: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    environment = {**os.environ, "TEST_POSTGRES": told}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_pytest_says_that_line() -> None:
    done = pytest_of("postgresql://postgres@10.0.0.1/postgres", "--collect-only")
    assert done.returncode == 4
    [line] = done.stderr.strip().splitlines()
    assert line.startswith("ERROR: TEST_POSTGRES names 10.0.0.1: tests use")


@pytest.fixture
def named(server: Server) -> Server:
    """The server of the tests, as one that somebody names."""
    url = server.address.url("postgres", "postgres", "psycopg2")
    [(version, address)] = read(url).items()
    assert address is not None
    assert (version, address.host) == (server.version, server.address.host)
    return Server(version, address, binaries(PROGRAM_VERSION))


def test_two_processes_on_a_named_server_are_refused(named: Server) -> None:
    done = pytest_of(named.address.url("postgres", "postgres", "psycopg2"), "-n", "2", "--collect-only")
    assert (done.returncode, "only one process may use it: add -n 0" in done.stderr) == (4, True)


def test_databases_and_roles_are_dropped_afterwards(named: Server) -> None:
    everything = "SELECT rolname FROM pg_roles UNION ALL SELECT datname FROM pg_database ORDER BY 1"
    with named.database("outer") as outer:
        before = outer.rows(everything)
        with named.database("things") as database:
            assert database.name == "datafixes_things"
            database.execute(
                "CREATE ROLE house_reader LOGIN", "CREATE TABLE t ()", "GRANT SELECT ON t TO house_reader",
                "CREATE ROLE house_writer", "ALTER ROLE house_writer RENAME TO house_author",
                "CREATE ROLE house_gone", "DROP ROLE house_gone",
            )  # fmt: skip
            assert len(outer.rows(everything)) == len(before) + 3
        assert outer.rows(everything) == before
