"""A PostgreSQL that a test may kill and start again."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datafixes.database.embedded import embedded_server
from tests.faults.deploys import answers, dead
from tests.named import Address
from tests.servers import PROGRAM_VERSION, Database, Server, binaries, own_version

# The machine itself goes on, so fsync shows nothing here; that a commit waits for its WAL does.
PARAMETERS = {"fsync": "off", "wal_writer_delay": "10s", "max_connections": "30", "shared_buffers": "32MB"}


class OwnServer:
    """A server that nobody else uses: a child of this process, so that it is gone once it is killed."""

    def __init__(self, directory: Path, version: int) -> None:
        self.data, self._binaries = directory / "data", binaries(own_version(version))
        with embedded_server(str(self.data), version, PARAMETERS):
            pass  # the directory is made
        self.server = Server(version, Address(str(self.data)), binaries(PROGRAM_VERSION))
        self.start()

    def start(self) -> None:
        """Start the server on its directory, and wait until it takes connections."""
        options = ["-D", str(self.data), "-h", "", "-p", "5432", "-k", str(self.data)]
        with (self.data.parent / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._binaries / "postgres"), *options],
                stdout=log, stderr=log, user="pgserver" if os.geteuid() == 0 else None,
            )  # fmt: skip
        answers(Database("postgres", self.server.version, self.server.address, self._binaries))

    def kill(self, sent: signal.Signals) -> None:
        """End the server, and wait until the last of its processes has gone: before, none could start again."""
        running = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True)
        processes = [line.split() for line in running.stdout.splitlines()]
        self._process.send_signal(sent)
        self._process.wait(20)
        dead(*(int(pid) for pid, parent in processes if int(parent) == self._process.pid))


@contextmanager
def own_server(version: int) -> Iterator[OwnServer]:
    """A server that is gone at the end, with all of its data."""
    # A directory whose sockets have a short enough path.
    directory = Path(tempfile.mkdtemp(prefix="df-")).resolve()
    running = OwnServer(directory, version)
    try:
        yield running
    finally:
        running.kill(signal.SIGINT)
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def as_nobody_special(directory: Path, programs: Path) -> Iterator[int]:
    """Run a server of programs that the system has, with its socket in a directory, and yield its version."""
    user = "pgserver" if os.geteuid() == 0 else None
    if user:
        shutil.chown(directory, user)
    told = [str(programs / "initdb"), "-D", str(directory / "data"), "-U", "postgres", "-A", "trust", "-N"]
    subprocess.run(told, check=True, capture_output=True, user=user, cwd=directory)
    options = ["-D", str(directory / "data"), "-h", "", "-k", str(directory), "-p", "5432", "-F"]
    with (directory / "log").open("ab") as log:
        running = subprocess.Popen(
            [str(programs / "postgres"), *options], stdout=log, stderr=log, user=user, cwd=directory
        )
    version = int((directory / "data/PG_VERSION").read_text().strip())
    try:
        answers(Database("postgres", version, Address(str(directory)), binaries(PROGRAM_VERSION)))
        yield version
    finally:
        running.send_signal(signal.SIGINT)
        running.wait(20)
