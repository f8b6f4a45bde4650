"""A Citus cluster of one's own: ``DATAFIXES_TEST_CITUS_URL`` names an empty database on its coordinator.

The extension is created there, and at least one worker is added. Without the variable these tests are skipped, and counted.
"""

import os
from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy.engine import make_url

from tests.named import Address
from tests.servers import PROGRAM_VERSION, Database, binaries

VARIABLE = "DATAFIXES_TEST_CITUS_URL"
TOLD = os.environ.get(VARIABLE, "")

_LEFT = """
SELECT format('DROP %s IF EXISTS %I.%I CASCADE', CASE c.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, n.nspname, c.relname)
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p', 'v') AND NOT EXISTS (
       SELECT FROM pg_depend AS d WHERE d.objid = c.oid AND d.deptype = 'e') ORDER BY c.relkind DESC
"""


@pytest.fixture(scope="session")
def _coordinator() -> Database:
    if not TOLD:
        pytest.skip(f"{VARIABLE} names no Citus cluster")
    url = make_url(TOLD)
    host = url.host or url.query["host"]
    assert isinstance(host, str)
    assert host.startswith("/") or host in ("localhost", "127.0.0.1", "::1"), f"{VARIABLE}: this machine only"
    address = Address(host, url.port or 5432, url.password)
    database = Database(url.database or "", 0, address, binaries(PROGRAM_VERSION))
    with closing(database.connect()) as connection:
        version = connection.server_version // 10000
    left = database.rows(_LEFT)
    assert not left, f"{VARIABLE} names a database that is not empty"
    return Database(database.name, version, address, binaries(PROGRAM_VERSION))


@pytest.fixture
def cluster(_coordinator: Database) -> Iterator[Database]:
    """The coordinator's database; what a test made there is dropped after it."""
    yield _coordinator
    for (drop,) in _coordinator.rows(_LEFT):
        _coordinator.execute(drop)
    _coordinator.execute("DROP FUNCTION IF EXISTS datafix_append_only(), along() CASCADE")


@pytest.fixture
def worker(cluster: Database) -> Database:
    """The same database on a worker."""
    [(host, port)] = cluster.rows(
        "SELECT nodename, nodeport FROM pg_dist_node WHERE groupid > 0 AND isactive ORDER BY nodeid LIMIT 1"
    )
    return Database(
        cluster.name, cluster.server_version, Address(host, port, cluster.address.password), cluster.binaries
    )
