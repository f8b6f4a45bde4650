"""`TEST_POSTGRES`: the servers that the tests run on, by version or by address."""

import os
import socket
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import psycopg2
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

VARIABLE = "TEST_POSTGRES"
DEFAULT = "16,18"
SUPERUSER = "postgres"

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class NotUsable(Exception):
    """A line about a server on which the tests cannot run."""


@dataclass(frozen=True)
class Address:
    """Where a server listens.

    Attributes:
        host: the directory of its socket, or an address of this machine.
        port: its port.
        password: what it asks of every role, if it asks.
        prefix: how the names of databases begin that tests make there.
    """

    host: str
    port: int = 5432
    password: str | None = field(default=None, repr=False)
    prefix: str = ""

    def url(self, database: str, role: str, driver: str) -> str:
        """The URL of a database there, for SQLAlchemy; with one shape, whatever the host is."""
        who = quote(role, safe="") + (f":{quote(self.password, safe='')}" if self.password else "")
        port = "" if self.port == 5432 else f"&port={self.port}"
        return f"postgresql+{driver}://{who}@/{database}?host={quote(self.host)}{port}"

    def connect(self, database: str, role: str = SUPERUSER, **more: Any) -> Any:
        """A plain psycopg2 connection, not in autocommit; the caller closes it."""
        return psycopg2.connect(
            host=self.host, port=self.port, dbname=database, user=role, password=self.password, **more
        )

    def socket(self) -> socket.socket:
        """A connection without a word said."""
        if not self.host.startswith("/"):
            return socket.create_connection((self.host, self.port))
        there = socket.socket(socket.AF_UNIX)
        there.connect(f"{self.host}/.s.PGSQL.{self.port}")
        return there

    def conninfo(self) -> str:
        """The server as libpq takes it, as the superuser."""
        password = f" password='{self.password}'" if self.password else ""
        return f"host='{self.host}' port={self.port} user={SUPERUSER}{password}"


def read(told: str) -> Mapping[int, Address | None]:
    """The servers, by version: those with an address are named, the others are started from the wheel.

    Raises:
        NotUsable: one of them is no server for tests.
    """
    found: dict[int, Address | None] = {}
    for one in told.split(","):
        if one.strip().isdecimal():
            version, address = int(one), None
        else:
            address = _address(one.strip())
            version = _version(address)
        if version in found:
            raise NotUsable(f"{VARIABLE} names two servers of version {version}")
        found[version] = address
    return found


def _address(told: str) -> Address:
    try:
        url = make_url(told)
    except ArgumentError:
        raise NotUsable(f"{VARIABLE} takes versions and URLs of servers, not {told!r}") from None
    host = url.host or _of_query(url, "host")
    port = url.port or int(_of_query(url, "port") or 5432)
    if not host.startswith("/") and host not in _LOOPBACK:
        raise NotUsable(
            f"{VARIABLE} names {host or 'no host'}: tests use servers of this machine only, on 127.0.0.1 or a socket"
        )
    if url.username != SUPERUSER:
        raise NotUsable(
            f"{VARIABLE} names the role {url.username}: tests connect as the superuser {SUPERUSER}"
        )
    return Address(host, port, url.password, prefix="datafixes_")


def _of_query(url: URL, name: str) -> str:
    value = url.query.get(name, "")
    return value if isinstance(value, str) else value[0]


def _version(address: Address) -> int:
    try:
        with closing(address.connect(SUPERUSER, connect_timeout=10)) as connection:
            return int(connection.server_version) // 10000
    except psycopg2.OperationalError as error:
        raise NotUsable(f"{VARIABLE}: {' '.join(str(error).split())}") from None


def from_environment() -> Mapping[int, Address | None]:
    """What `TEST_POSTGRES` says."""
    return read(os.environ.get(VARIABLE, DEFAULT))
