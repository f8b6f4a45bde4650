"""The server is killed in the middle of a fix or right behind it: what was committed is there, and nothing else."""

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from datafixes.database.embedded import binaries, embedded_server
from tests.faults.deploys import (
    again,
    answers,
    applied_once,
    asleep,
    dead,
    deploying,
    ended,
    hurry,
    images,
    kill,
    nothing_is_there,
    one_clear_line,
    rows,
    slow_project,
)
from tests.projects import project_with_fix
from tests.servers import PROGRAM_VERSION, Database, Server

_numbers = itertools.count(1)

LOST = "the connection to the database was lost"
# The machine itself goes on, so fsync shows nothing here; that a commit waits for its WAL does.
PARAMETERS = {"fsync": "off", "wal_writer_delay": "10s", "max_connections": "30", "shared_buffers": "32MB"}


class OwnServer:
    """A server that nobody else uses: a child of this process, so that it is gone once it is killed."""

    def __init__(self, directory: Path, version: int) -> None:
        self.data, self._binaries = directory / "data", binaries(version)
        with embedded_server(str(self.data), version, PARAMETERS):
            pass  # the directory is made
        self.server = Server(version, str(self.data), binaries(PROGRAM_VERSION))
        self.start()

    def start(self) -> None:
        """Start the server on its directory, and wait until it takes connections."""
        options = ["-D", str(self.data), "-h", "", "-p", "5432", "-k", str(self.data)]
        with (self.data.parent / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._binaries / "postgres"), *options],
                stdout=log, stderr=log, user="pgserver" if os.geteuid() == 0 else None,
            )  # fmt: skip
        answers(Database("postgres", self.server.version, str(self.data), self._binaries))

    def kill(self, sent: signal.Signals) -> None:
        """End the server, and wait until the last of its processes has gone: before, none could start again."""
        running = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True)
        processes = [line.split() for line in running.stdout.splitlines()]
        self._process.send_signal(sent)
        self._process.wait(20)
        dead(*(int(pid) for pid, parent in processes if int(parent) == self._process.pid))


@pytest.fixture(scope="module")
def own(server: Server) -> Iterator[OwnServer]:
    # A directory whose sockets have a short enough path.
    directory = Path(tempfile.mkdtemp(prefix="df-")).resolve()
    running = OwnServer(directory, server.version)
    try:
        yield running
    finally:
        running.kill(signal.SIGINT)
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def database(own: OwnServer) -> Iterator[Database]:
    """A database on the test's own server."""
    with own.server.database(f"own_{next(_numbers)}") as fresh:
        yield fresh
        answers(fresh)


@pytest.mark.parametrize(
    ("moment", "driver", "recorded"),
    [
        ("changing", "psycopg2", False),
        ("changing", "psycopg", True),
        ("committing", "psycopg2", False),
    ],
)
def test_c36_a_backend_killed_in_the_middle_leaves_nothing_and_the_next_run_applies_once(
    moment: str, driver: str, recorded: bool, tmp_path: Path, database: Database
) -> None:
    # The server ends every session then, and starts over by itself.
    project = slow_project(tmp_path, database, moment, recorded=recorded).on(database, driver)
    with deploying(project) as process:
        kill(asleep(database))
        ran = ended(process)
    answers(database)
    one_clear_line(ran, LOST, "run the migration again")
    nothing_is_there(project)
    hurry(database)
    again(project)
    applied_once(project)


def commit_loosely(database: Database) -> None:
    """For its own writes, somebody finds it good enough if they are on disk ten seconds later."""
    database.execute(f"ALTER DATABASE {database.name} SET synchronous_commit = off")


@pytest.mark.parametrize("sent", [signal.SIGQUIT, signal.SIGKILL], ids=["immediate stop", "killed"])
def test_c36_a_server_stopped_hard_behind_a_fix_has_all_of_it(
    sent: signal.Signals, tmp_path: Path, own: OwnServer, database: Database
) -> None:
    project = project_with_fix(tmp_path, database)
    commit_loosely(database)
    with deploying(project) as process:
        assert ended(process).code == 0
    own.kill(sent)
    own.start()
    applied_once(project)
    with deploying(project, "downgrade", "a") as process:
        assert ended(process).code == 0
    own.kill(sent)
    own.start()
    assert rows(database) == [(1, "open", 10), (2, "open", 20), (3, "open", 30)]
    assert (project.versions, project.outcomes, images(database)) == ({"a"}, ["applied", "reverted"], 8)


@pytest.mark.parametrize(("moment", "sent"), [("changing", signal.SIGKILL), ("committing", signal.SIGQUIT)])
def test_c36_a_server_stopped_hard_in_the_middle_of_a_fix_has_nothing_of_it(
    moment: str, sent: signal.Signals, tmp_path: Path, own: OwnServer, database: Database
) -> None:
    project = slow_project(tmp_path, database, moment)
    with deploying(project) as process:
        asleep(database)
        own.kill(sent)
        ran = ended(process)
    own.start()
    one_clear_line(ran, LOST, "run the migration again")
    nothing_is_there(project)
    hurry(database)
    again(project)
    applied_once(project)
