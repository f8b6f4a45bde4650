"""Databases for tests: created, copied and dropped on one server, each with a recognizable name."""

from __future__ import annotations

import itertools
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from datafixes.errors import DatafixError, diagnosis_of, sqlstate
from datafixes.script.literal import name as quoted
from datafixes.script.literal import text
from datafixes.script.parameters import verbatim
from datafixes.script.psql import parts_of

PREFIX = "datafix_test_"
"""The prefix of every database that is created here; no other one is ever dropped."""

_IN_USE, _DENIED = "55006", "42501"
_PATIENCE = 1.0
_CLOSE = (
    "Close the connections of the test, and of the code that it calls, before fix.apply() and at its end."
)


@dataclass(frozen=True)
class Database:
    """A database that a test may change freely."""

    url: URL

    @property
    def name(self) -> str:
        """Its name."""
        return self.url.database or ""

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection in a transaction, which is committed at the end."""
        engine = create_engine(self.url, poolclass=NullPool)
        with engine.begin() as connection:
            yield connection

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query, which is sent verbatim."""
        with self.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(verbatim(connection, query)).all()]

    def run(self, sql: str) -> None:
        """Send SQL verbatim as one message: atomic, unless it commits by itself."""
        with _autocommit(self.url) as connection:
            connection.exec_driver_sql(verbatim(connection, sql))

    def run_as_psql(self, script: str) -> None:
        """Run a printed script as psql does: of a fix in batches, a part of it is a query whose results are run."""
        for part, is_query in parts_of(script):
            if not is_query:
                self.run(part)
            while is_query and (found := self.rows(part)):
                for statement in (one for row in found for one in row if one):
                    self.run(statement)


class Databases:
    """The databases of one run of tests.

    Args:
        server: the server; its own database is not changed.
    """

    def __init__(self, server: URL) -> None:
        self._server = server
        worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
        self._prefix = f"{PREFIX}{worker}_{secrets.token_hex(4)}_"
        self._numbers = itertools.count(1)

    def create(self, template: Database | None = None) -> Database:
        """Create an empty database, or a copy of another.

        Raises:
            DatafixError: the server does not answer, the role may not create databases, or the other one is in use.
        """
        name = f"{self._prefix}{next(self._numbers)}"
        copied = f" TEMPLATE {quoted(template.name)}" if template is not None else ""
        try:
            with _autocommit(self._server) as connection:
                if template is not None:
                    _wait_until_alone(connection, template)
                connection.exec_driver_sql(f"CREATE DATABASE {quoted(name)}{copied}")
        except DBAPIError as error:
            raise _refused(error) from error
        return Database(self._server.set(database=name))

    def drop(self, database: Database) -> None:
        """Drop a database, even with open connections."""
        if not database.name.startswith(self._prefix):
            raise DatafixError(f"{database.name} was not created by these tests, and is not dropped.")
        with _autocommit(self._server) as connection:
            connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {quoted(database.name)} WITH (FORCE)")


@contextmanager
def _autocommit(url: URL) -> Iterator[Connection]:
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection


def _wait_until_alone(connection: Connection, database: Database) -> None:
    """Wait for closed sessions to end; one that stays open prevents a copy of the database."""
    deadline = time.monotonic() + _PATIENCE
    query = (
        "SELECT pid, application_name, state, left(query, 60) FROM pg_catalog.pg_stat_activity"
        f" WHERE datname = {text(database.name)} AND backend_type = 'client backend' ORDER BY pid"
    )
    while sessions := connection.exec_driver_sql(verbatim(connection, query)).all():
        if time.monotonic() > deadline:
            pid, application, state, last = sessions[0]
            raise DatafixError(
                f"The database of a test cannot be copied while a session is open: pid {pid}, application"
                f" {application or '(unnamed)'}, {state}, last statement: {' '.join(last.split()) or '(none)'}",
                hint=_CLOSE,
            )
        time.sleep(0.005)


def _refused(error: DBAPIError) -> DatafixError:
    words = words_of(error)
    if sqlstate(error) == _IN_USE:
        return DatafixError(f"The database of a test cannot be copied: {words}", hint=_CLOSE)
    if sqlstate(error) == _DENIED:
        return DatafixError(
            f"The role may not create databases for tests: {words}",
            hint="ALTER ROLE ... CREATEDB, or omit the URL to use the private PostgreSQL.",
        )
    return DatafixError(f"No database for tests can be created: {words}")


def words_of(error: DBAPIError) -> str:
    """The server's message, on one line, without the statement."""
    said = diagnosis_of(error)
    return " ".join(f"{said.message}{f' ({said.detail})' if said.detail else ''}".split())
