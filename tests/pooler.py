"""A real PgBouncer in front of a test's database, and what a run leaves on the server connections behind it."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from tests.named import Address
from tests.servers import Database

_SETTINGS = """
[databases]
* = {server}

[pgbouncer]
listen_port = 5432
unix_socket_dir = {directory}
auth_type = any
pool_mode = transaction
default_pool_size = {size}
"""

_SESSION = {
    "settings": "SELECT name, setting FROM pg_settings WHERE name !~ '^plpgsql\\.' ORDER BY 1",
    "functions": "SELECT proname FROM pg_proc WHERE pronamespace = pg_my_temp_schema()",
    "temporary objects": "SELECT relname FROM pg_class WHERE relnamespace = pg_my_temp_schema()",
    "temporary types": "SELECT typname FROM pg_type WHERE typnamespace = pg_my_temp_schema()",
    "cursors": "SELECT name FROM pg_cursors WHERE is_holdable",
    "prepared statements": "SELECT name FROM pg_prepared_statements",
    "locks": "SELECT locktype, mode FROM pg_locks WHERE pid = pg_backend_pid() AND (locktype = 'advisory'"
    " OR mode NOT IN ('AccessShareLock', 'ExclusiveLock'))",
    "channels": "SELECT pg_listening_channels()",
    "roles": "SELECT current_user::text, session_user::text",
    # What was set for one transaction is known by name afterwards, and empty. PostgreSQL cannot forget a name.
    "state": "SELECT n FROM unnest(ARRAY['finished', 'told', 'lock_timeout', 'statement_timeout', 'work_mem']) AS n"
    " WHERE current_setting('datafixes.' || n, true) <> ''",
}


@contextmanager
def pooler(database: Database, size: int) -> Iterator[Database]:
    """The same database through PgBouncer in transaction mode, with so many server connections."""
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    if not Path(program).exists():
        if os.environ.get("TEST_PGBOUNCER") == "required":
            pytest.fail("pgbouncer is not installed, and CI needs it")
        pytest.skip("pgbouncer is not installed")
    # A directory whose sockets have a short enough path, and which the server's user may enter.
    directory = Path(tempfile.mkdtemp(prefix="df-"))
    user = "pgserver" if os.geteuid() == 0 else None
    try:
        if user:
            shutil.chown(directory, user)
        settings = directory / "pgbouncer.ini"
        text = _SETTINGS.format(server=database.address.conninfo(), directory=directory, size=size)
        settings.write_text(text, "ascii")
        settings.chmod(0o644)
        with (directory / "log").open("wb") as log:
            running = subprocess.Popen([program, str(settings)], user=user, stdout=log, stderr=log)
        try:
            pooled = replace(database, address=Address(str(directory)))
            _answers(pooled)
            yield pooled
        finally:
            running.kill()
            running.wait(20)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def sessions(database: Database, pooled: Database) -> dict[int, dict[str, list[tuple[Any, ...]]]]:
    """What the next clients see on each server connection that the pooler has, by its process id."""
    for pause in (1, 2, 4):
        try:
            return _sessions(database, pooled)
        except psycopg2.OperationalError:
            time.sleep(pause)  # PgBouncer is about to close what a killed client left
    return _sessions(database, pooled)


def _sessions(database: Database, pooled: Database) -> dict[int, dict[str, list[tuple[Any, ...]]]]:
    count = database.value(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend'"
    )
    found = {}
    with ExitStack() as stack:
        for _ in range(count):
            # Each keeps its transaction open, so that the next one gets another server connection.
            cursor = stack.enter_context(closing(_next_client(pooled))).cursor()
            [(session,)] = _answer(cursor, "SELECT pg_backend_pid()")
            found[session] = {what: _answer(cursor, query) for what, query in _SESSION.items()}
    assert len(found) == count
    return found


def _next_client(pooled: Database) -> Any:
    # With a name of its own: from clients without one, PgBouncer does not take away the last one's.
    return pooled.address.connect(pooled.name, application_name="next client")


def _answer(cursor: Any, query: str) -> list[tuple[Any, ...]]:
    cursor.execute(query)
    return list(cursor.fetchall())


def _answers(database: Database) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            return database.execute("SELECT 1")
        except psycopg2.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def left_behind(database: Database, pooled: Database, clean: dict[str, list[tuple[Any, ...]]]) -> list[Any]:
    """What stands on the server connections that was not there on a clean one, or the other way round."""
    return [
        (session, what, set(found) ^ set(clean[what]))
        for session, seen in sessions(database, pooled).items()
        for what, found in seen.items()
        if found != clean[what]
    ]
