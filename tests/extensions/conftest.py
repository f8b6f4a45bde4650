"""A server with the extensions of Debian's packages, and with ICU: what the wheel's servers lack."""

from collections.abc import Iterator

import pytest

from tests.servers import INSTALLED, Server, server_of

VERSION = 15


@pytest.fixture(scope="session", params=[VERSION], ids=lambda version: f"pg{version}")
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Debian's PostgreSQL, instead of the servers that the other tests run on."""
    if not (INSTALLED / str(request.param) / "bin/initdb").exists():
        pytest.skip(
            f"PostgreSQL {request.param} of Debian is not installed here: apt-get install postgresql-{request.param}"
        )
    with server_of(INSTALLED / str(request.param) / "bin") as running:
        yield running
