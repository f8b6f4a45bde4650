"""Connections that a deploy can rely on, and the lock that lets one run at a time at a database."""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from sqlalchemy import create_engine
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from datafixes.database.embedded import embedded_server
from datafixes.database.location import Location
from datafixes.errors import DatabaseUnreachable, DatafixError
from datafixes.settings import Settings
from datafixes.values import masked

_logger = logging.getLogger("alembic.datafixes")

_LOCK_KEY = "pg_catalog.hashtextextended('datafixes run', 0)"
_TRY_LOCK = f"SELECT pg_catalog.pg_try_advisory_xact_lock({_LOCK_KEY})"
# An advisory lock on a bigint shows its halves as classid and objid, and objsubid 1.
_HOLDER = f"""
SELECT l.pid, a.usename, a.application_name
FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())
  AND (l.classid::bigint << 32 | l.objid::bigint) = {_LOCK_KEY}
"""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 2.0

# What client libraries say when packets are dropped or sent back on the way.
_FILTERED = ("timeout expired", "timed out", "refused", "no route to host", "unreachable")


@contextmanager
def open_connection(location: Location, settings: Settings) -> Iterator[Connection]:
    """Connect to the database, READ COMMITTED whatever the role prefers, with no transaction begun.

    An embedded server is started before and stopped afterwards.

    Raises:
        DatabaseUnreachable: no connection; the message names host, port, database and the origin.
        DatafixError: the embedded server does not start, or the driver is not installed.
    """
    with ExitStack() as stack:
        if location.is_embedded:
            url = stack.enter_context(embedded_server(location.url.database, settings.embedded_version))
            location = Location(make_url(url), location.origin)
        yield stack.enter_context(_connect(_engine(location.url, settings), location.origin))


@contextmanager
def one_run_at_a_time(connection: Connection, settings: Settings) -> Iterator[None]:
    """Hold this database's lock for runs while the context lasts; wait for it up to `settings.run_wait`.

    The lock lives in a transaction of a second connection: it ends with this process, it also holds through a
    pooler that gives each transaction another session, and the first connection stays as Alembic needs it.

    Raises:
        DatafixError: another run did not end in time; the message names its process, role and application.
        DatabaseUnreachable: there is no second connection to be had.
    """
    with _connect(connection.engine, settings.origins["url"]) as guard:
        _keep_open(guard)
        _wait_for_lock(guard, settings)
        try:
            yield
        finally:
            _let_go(guard)


def _engine(url: URL, settings: Settings) -> Engine:
    wishes: dict[str, str | int] = {
        "fallback_application_name": "datafixes",
        # Shorter than the idle times after which firewalls and load balancers forget a connection.
        "keepalives_idle": 60,
        "connect_timeout": math.ceil(settings.connect_timeout.seconds),
    }
    options: dict[str, str | int | None] = {n: wish for n, wish in wishes.items() if n not in url.query}
    if url.get_driver_name() == "psycopg":
        # A pooler that gives each transaction another session does not know prepared statements.
        options["prepare_threshold"] = None
    try:
        return create_engine(url, poolclass=NullPool, isolation_level="READ COMMITTED", connect_args=options)
    except ModuleNotFoundError as error:
        raise DatafixError(
            f"The driver {url.get_driver_name()} is not installed.", hint=f"pip install {error.name}"
        ) from None


@contextmanager
def _connect(engine: Engine, origin: str) -> Iterator[Connection]:
    try:
        connection = engine.connect()
    except DBAPIError as error:
        # The chain would repeat the same words in three wrappings.
        raise _unreachable(engine.url, origin, error) from None
    with connection:
        yield connection


def _unreachable(url: URL, origin: str, error: DBAPIError) -> DatabaseUnreachable:
    host, port = _host_and_port(url)
    words = _words(error, url)
    hint = ""
    if not host.startswith("/") and any(sign in words.lower() for sign in _FILTERED):
        hint = f"A security group or a firewall may not allow this address to reach port {port} of {host}."
    return DatabaseUnreachable(
        f"The database does not answer: host {host}, port {port}, database {url.database or '(default)'} "
        f"({origin}): {words}",
        hint=hint,
    )


def _host_and_port(url: URL) -> tuple[str, str]:
    """What the URL says; libpq also takes both from the query, several of them with commas between."""
    said = {"host": url.host, "port": str(url.port) if url.port else None}
    for name, value in said.items():
        asked = url.query.get(name, ())
        said[name] = value or ",".join([asked] if isinstance(asked, str) else asked)
    return said["host"] or "(local socket)", said["port"] or "5432"


def _words(error: DBAPIError, url: URL) -> str:
    """What the server or the driver said, on one line and without the password."""
    words = " ".join(str(error.orig).split())
    if isinstance(url.password, str) and url.password:
        words = words.replace(url.password, "***")
    return masked(words)


def _keep_open(guard: Connection) -> None:
    """This transaction does nothing for as long as the run lasts; servers are told to end such ones."""
    guard.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
    if (guard.dialect.server_version_info or ()) >= (17,):
        guard.exec_driver_sql("SET LOCAL transaction_timeout = 0")


def _wait_for_lock(guard: Connection, settings: Settings) -> None:
    deadline = time.monotonic() + settings.run_wait.seconds
    pause, told = _FIRST_PAUSE, False
    while not guard.exec_driver_sql(_TRY_LOCK).scalar_one():
        holder, pid = _holder(guard)
        left = deadline - time.monotonic()
        if left <= 0:
            raise DatafixError(
                f"Another run works on this database, and did not end within {settings.run_wait}: {holder}.",
                hint=f"Look at it with SELECT * FROM pg_stat_activity WHERE pid = {pid}, or wait longer with "
                "alembic -x run_wait=30min.",
            )
        if not told:
            _logger.info("Waiting up to %s for another run on this database: %s", settings.run_wait, holder)
            told = True
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def _holder(guard: Connection) -> tuple[str, str]:
    """Who holds the lock, in words, and the process id."""
    row = guard.exec_driver_sql(_HOLDER).first()
    if row is None:
        return "it has just ended", "NULL"
    return f"pid {row[0]}, role {row[1] or 'unknown'}, application {row[2] or 'unnamed'}", str(row[0])


def _let_go(guard: Connection) -> None:
    try:
        guard.rollback()
    except DBAPIError as error:
        # Nothing is undone by saying so: each fix takes its own lock and looks at the ledger again.
        _logger.warning("This run's lock was lost before its end: %s", _words(error, guard.engine.url))
