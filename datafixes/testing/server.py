"""On which server fixes are tested: a private one, or one that was named; never somebody else's machine by accident."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from sqlalchemy.engine import URL, make_url

from datafixes.database.embedded import embedded_server
from datafixes.database.location import locate
from datafixes.errors import DatafixError
from datafixes.settings import Settings

VARIABLE = "DATAFIXES_TEST_URL"
"""The environment's word for ``--datafix-url``."""


@contextmanager
def running_server(named: str, origin: str, *, version: int, remote: bool) -> Iterator[URL]:
    """The server to test on.

    Args:
        named: its URL, or nothing: then a private one is started, and ends with the tests.
        origin: where the URL was named.
        version: the PostgreSQL of the private one.
        remote: whether it may be on another machine.

    Raises:
        DatafixError: it is on another machine and that was not allowed; or it does not start.
    """
    if not named:
        with embedded_server(version=version) as url:
            yield make_url(url)
        return
    settings = Settings.resolve({"url": named}, {}, {})
    location = locate(replace(settings, origins={**settings.origins, "url": origin}))
    if location.is_embedded:
        with embedded_server(location.url.database, version) as url:
            yield make_url(url)
        return
    if not remote and (elsewhere := hosts_elsewhere(location.url, os.environ)):
        raise DatafixError(
            f"The tests of fixes would run on another machine: {', '.join(elsewhere)} ({origin}).",
            hint="They only make and drop databases of their own there. If that is meant: --datafix-remote",
        )
    yield location.url


def hosts_elsewhere(url: URL, environment: Mapping[str, str]) -> list[str]:
    """The hosts that a URL leads to and that are not this machine, as libpq would find them."""
    service = url.query.get("service") or environment.get("PGSERVICE")
    if service:
        return [f"whatever the service {service} is"]
    # An address wins over a name.
    for said, variable in (
        (url.query.get("hostaddr"), "PGHOSTADDR"),
        (url.host or url.query.get("host"), "PGHOST"),
    ):
        given = said or environment.get(variable, "")
        if given:
            parts = given.split(",") if isinstance(given, str) else list(given)
            return [part for part in parts if not _is_here(part)]
    return []


def _is_here(host: str) -> bool:
    if not host or host.startswith(("/", "@")) or host.lower() in ("localhost", "localhost."):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
