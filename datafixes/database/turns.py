"""The lock that allows one run at a time on a database: in the run's own transactions, on its own connection.

It is a transaction-level lock, because a session-level lock would stay on a pooler's connection, and there may be no
second connection. So it ends with each commit, and another run may intervene between two migrations: then the version
has changed, and the run starts again with what is left.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Connection

from datafixes.database.second_connection import SecondConnection
from datafixes.errors import DatafixError, VersionMoved
from datafixes.settings import Settings

_logger = logging.getLogger("alembic.datafixes")

_RUN = "pg_catalog.hashtextextended('datafixes run', 0)"
_BRIDGE = "pg_catalog.hashtextextended('datafixes run between two transactions', 0)"

# An advisory lock on a bigint shows its halves as classid and objid, and objsubid 1.
_HELD = """
SELECT l.pid, a.usename, a.application_name
  FROM pg_catalog.pg_locks AS l LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
 WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.pid <> pg_catalog.pg_backend_pid()
   AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = current_database())
   AND (l.classid::bigint << 32 | l.objid::bigint) IN ({keys})
"""
_OTHERS = _HELD.format(keys=f"{_RUN}, {_BRIDGE}")
_TRY_AGAIN = f"SELECT pg_catalog.pg_try_advisory_xact_lock({_RUN})"
_TRY = (
    f"SELECT CASE WHEN pg_catalog.pg_try_advisory_xact_lock({_RUN})"
    f" THEN NOT EXISTS ({_HELD.format(keys=_BRIDGE)}) ELSE false END"
)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 2.0
_PATIENCE = 1.0  # for a second connection, in seconds: the first one's transaction is still open


@dataclass
class Turn:
    """The turn of a run: each of its transactions begins with the lock.

    Attributes:
        connection: the run's own.
        settings: how long to wait for others.
        version: reads the version in the current transaction; None until Alembic can.
        in_a_migration: whether a migration is in progress.
        is_over: whether other runs may start.
        expected: the version that the last transaction of this run left.
    """

    connection: Connection
    settings: Settings
    version: Callable[[], frozenset[str]] | None = None
    in_a_migration: Callable[[], bool] = lambda: False
    is_over: bool = False
    expected: frozenset[str] | None = None
    _bridge: "_Bridge | None" = None

    def reached(self, heads: Any) -> None:
        """Note the version that the database will have when the migration's transaction is committed."""
        self.expected = frozenset(heads)

    def begins_again(self) -> None:
        """Forget the expected version, and begin the transaction in which Alembic reads the version again."""
        self.expected = None
        # Begun explicitly: after an error in its event, SQLAlchemy's autobegin does not work.
        self.connection.begin()

    def begin(self, connection: Connection) -> None:
        """A transaction has begun: wait for the lock, and check that the version has not changed.

        Raises:
            VersionMoved: another run changed it between two migrations.
            DatafixError: another run did not end in time, or changed the version during a migration of this run.
        """
        if self.is_over or _commits_by_itself(connection):
            return
        try:
            self._wait()
            self._look()
        except BaseException:
            # For SQLAlchemy, the transaction has not begun yet.
            connection.connection.rollback()
            raise
        if not self.in_a_migration():  # one bridge serves all commits of a migration
            self._end_bridge()

    def commit(self, connection: Connection) -> None:
        """A transaction ends: during a migration, a second connection then holds the lock."""
        if self.is_over or self._bridge or self._is_a_plan or _commits_by_itself(connection):
            return
        if not self.in_a_migration():
            return
        self._bridge = _Bridge(connection)
        if not self._bridge.available:
            _logger.warning(
                "This migration commits by itself, and no second connection is available at once: until it has "
                "ended, another run may start it too."
            )

    def end(self) -> None:
        """Let other runs start."""
        self.is_over = True
        self._end_bridge()

    @property
    def _is_a_plan(self) -> bool:
        return bool(self.connection.get_execution_options().get("postgresql_readonly"))

    def _end_bridge(self) -> None:
        bridge, self._bridge = self._bridge, None
        if bridge is not None:
            bridge.end()

    def _wait(self) -> None:
        deadline = time.monotonic() + self.settings.run_wait.seconds
        pause, reported = _FIRST_PAUSE, False
        while not self._has_lock():
            holder, pid = self._holder()
            # Hold no lock, no transaction and no connection of a pooler while waiting.
            self.connection.connection.rollback()
            left = deadline - time.monotonic()
            if left <= 0:
                raise DatafixError(
                    f"Another run on this database did not end within {self.settings.run_wait}: {holder}.",
                    hint=f"Inspect it: SELECT * FROM pg_stat_activity WHERE pid = {pid}; or wait longer: "
                    "alembic -x run_wait=30min.",
                )
            if not reported:
                _logger.info(
                    "Waiting up to %s for another run on this database: %s", self.settings.run_wait, holder
                )
                reported = True
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _has_lock(self) -> bool:
        if self._is_a_plan:
            # All other transactions of the connection are read-only; this must be the first statement.
            self.connection.exec_driver_sql("SET TRANSACTION READ WRITE")
        lock = _TRY_AGAIN if self._bridge is not None and self._bridge.available else _TRY
        return bool(self.connection.exec_driver_sql(lock).scalar_one())

    def _holder(self) -> tuple[str, str]:
        """The holder of the lock, in words, and its process id."""
        row = self.connection.exec_driver_sql(_OTHERS).first()
        if row is None:
            return "it has just ended", "NULL"
        return f"pid {row[0]}, role {row[1] or 'unknown'}, application {row[2] or 'unnamed'}", str(row[0])

    def _look(self) -> None:
        if self.version is None:
            return
        found, expected = self.version(), self.expected
        self.expected = found
        if expected is None or found == expected:
            return
        moved = f"Another run moved the version from {_named(expected)} to {_named(found)}"
        if self.in_a_migration():
            raise DatafixError(
                f"{moved} during a migration of this run that commits by itself.",
                hint="Its committed changes remain. Check that each of them happened once; then run this again.",
            )
        raise VersionMoved(f"{moved} between two migrations of this run.")


class _Bridge:
    """Keeps other runs out while a migration commits by itself: a lock held by a second connection.

    Attributes:
        available: whether it was available at once.
    """

    def __init__(self, connection: Connection) -> None:
        self.available = False
        self._tried = threading.Event()
        self._second = SecondConnection(connection.engine, self._hold)
        self._second.start()
        self._tried.wait(_PATIENCE)
        if not self.available:
            self._second.end(0)

    def end(self) -> None:
        """Release it."""
        self._second.end()

    def _hold(self, connection: Connection) -> None:
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        if (connection.dialect.server_version_info or ()) >= (17,):
            connection.exec_driver_sql("SET LOCAL transaction_timeout = 0")
        locked = connection.exec_driver_sql(f"SELECT pg_catalog.pg_try_advisory_xact_lock({_BRIDGE})")
        self.available = bool(locked.scalar_one())
        self._tried.set()
        if self.available:
            self._second.over.wait()
        connection.rollback()


@contextmanager
def one_run_at_a_time(connection: Connection, settings: Settings) -> Iterator[Turn]:
    """Begin every transaction on a connection with this database's lock for runs, waiting up to `settings.run_wait`.

    No statement is sent before a transaction begins, as Alembic requires.
    """
    turn = Turn(connection, settings)
    event.listen(connection, "begin", turn.begin)
    event.listen(connection, "commit", turn.commit)
    try:
        yield turn
    finally:
        turn.end()
        event.remove(connection, "begin", turn.begin)
        event.remove(connection, "commit", turn.commit)


def _commits_by_itself(connection: Connection) -> bool:
    return bool(getattr(connection.connection.dbapi_connection, "autocommit", False))


def _named(version: frozenset[str]) -> str:
    return ", ".join(sorted(version)) or "(base)"
