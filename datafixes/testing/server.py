"""The server for tests of fixes: a private one, or a given one; a remote one only if allowed explicitly."""

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
"""The environment variable for ``--datafix-url``."""


@contextmanager
def running_server(named: str, origin: str, *, version: int, remote: bool) -> Iterator[URL]:
    """The server for the tests.

    Args:
        named: its URL, or empty: then a private one is started, and ends with the tests.
        origin: the origin of the URL.
        version: the PostgreSQL version of the private one.
        remote: whether it may be on another machine.

    Raises:
        DatafixError: it is on another machine without permission; or it does not start.
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
            hint="They only create and drop their own databases there. To allow that: --datafix-remote",
        )
    yield location.url


def hosts_elsewhere(url: URL, environment: Mapping[str, str]) -> list[str]:
    """The hosts of a URL other than this machine, in libpq's interpretation."""
    service = url.query.get("service") or environment.get("PGSERVICE")
    if service:
        return [f"the hosts of the service {service}"]
    # hostaddr takes precedence over host.
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
