"""Connections with time limits and keepalives, for deploys."""

import math
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
from datafixes.settings.values import masked

# Error messages of client libraries if a firewall drops or rejects packets.
_HERE = {"localhost", "127.0.0.1", "::1"}
_FILTERED = ("timeout expired", "timed out", "refused", "no route to host", "unreachable")


@contextmanager
def open_connection(location: Location, settings: Settings) -> Iterator[Connection]:
    """Connect to the database in READ COMMITTED, whatever the role's default, with no transaction begun.

    An embedded server is started first and stopped afterwards.

    Raises:
        DatabaseUnreachable: no connection; the message names host, port, database and the origin.
        DatafixError: the embedded server does not start, or the driver is not installed.
    """
    with ExitStack() as stack:
        if location.is_embedded:
            url = stack.enter_context(embedded_server(location.url.database, settings.embedded_version))
            location = Location(make_url(url), location.origin)
        yield stack.enter_context(_connect(_engine(location.url, settings), location.origin))


def _engine(url: URL, settings: Settings) -> Engine:
    wishes: dict[str, str | int] = {
        "fallback_application_name": "datafixes",
        # Shorter than the idle time-outs of firewalls and load balancers.
        "keepalives_idle": 60,
        "connect_timeout": math.ceil(settings.connect_timeout.seconds),
    }
    options: dict[str, str | int | None] = {n: wish for n, wish in wishes.items() if n not in url.query}
    if url.get_driver_name() == "psycopg":
        # Prepared statements fail behind a pooler in transaction mode.
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
        # The chain would repeat the same message three times.
        raise _unreachable(engine.url, origin, error) from None
    with connection:
        yield connection


def _unreachable(url: URL, origin: str, error: DBAPIError) -> DatabaseUnreachable:
    host, port = _host_and_port(url)
    words = _words(error, url)
    hint = ""
    if any(sign in words.lower() for sign in _FILTERED) and not host.startswith(("/", "(")):
        hint = f"A security group or a firewall may not allow this address to reach port {port} of {host}."
        if set(host.split(",")) <= _HERE:
            hint = f"Start PostgreSQL, or the tunnel to it; to look: pg_isready -h {host} -p {port}"
    return DatabaseUnreachable(
        f"The database does not answer: host {host}, port {port}, database {url.database or '(default)'} "
        f"({origin}): {words}",
        hint=hint,
    )


def _host_and_port(url: URL) -> tuple[str, str]:
    """Host and port of the URL; libpq also takes both from the query, several separated by commas."""
    said = {"host": url.host, "port": str(url.port) if url.port else None}
    for name, value in said.items():
        asked = url.query.get(name, ())
        said[name] = value or ",".join([asked] if isinstance(asked, str) else asked)
    return said["host"] or "(local socket)", said["port"] or "5432"


def _words(error: DBAPIError, url: URL) -> str:
    """The message of the server or the driver, on one line and without the password."""
    words = " ".join(str(error.orig).split())
    if isinstance(url.password, str) and url.password:
        words = words.replace(url.password, "***")
    return masked(words)
