"""Finds the sessions that hold a lock while a statement waits for it: afterwards they cannot be found."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from sqlalchemy.engine import Connection

from datafixes.database.second_connection import SecondConnection
from datafixes.script.parameters import verbatim

_logger = logging.getLogger("alembic.datafixes")

# In seconds. A short fix ends before the first look. A fix holds its locks until the observer has ended.
_PATIENCE, _INTERVAL, _LEAVE = 0.1, 0.1, 0.25

# The other session's statement is left out: it may contain values that must not be logged.
_HOLDERS = """
SELECT DISTINCT format('pid %s, role %s, application %s%s', a.pid, a.usename,
                       coalesce(nullif(a.application_name, ''), '(unnamed)'),
                       -- not every role may see the state of others' sessions
                       ', ' || a.state || ' since '
                       || to_char(coalesce(a.xact_start, a.backend_start), 'YYYY-MM-DD HH24:MI:SS TZ'))
  FROM unnest(pg_catalog.pg_blocking_pids({pid})) AS blocker (pid)
  JOIN pg_catalog.pg_stat_activity AS a ON a.pid = blocker.pid
"""


class BlockerPoller:
    """Finds, over a second connection, the sessions that block the watched connection.

    The second connection is opened only when a statement takes long. If none is available, no session is found, and
    nothing else changes.

    Attributes:
        seen: one line for each session that was blocking at the last look.
    """

    def __init__(self, connection: Connection, label: str) -> None:
        self.seen: tuple[str, ...] = ()
        self._label = label
        self._pid = 0
        self._connection = connection
        self._watching = threading.Event()
        self._second = SecondConnection(connection.engine, self._watch, _PATIENCE)

    def __enter__(self) -> "BlockerPoller":
        return self

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while one statement runs."""
        if not self._pid:
            self._pid = self._connection.exec_driver_sql("SELECT pg_catalog.pg_backend_pid()").scalar_one()
            self._second.start()
        self._watching.set()
        try:
            yield
        finally:
            self._watching.clear()

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._pid:
            self._second.over.set()
            self._watching.set()
            self._second.end(_LEAVE)

    def _watch(self, observer: Connection) -> None:
        while not self._second.over.is_set():
            self._watching.wait()
            self._look(observer)
            self._second.over.wait(_INTERVAL)

    def _look(self, observer: Connection) -> None:
        holders = verbatim(observer, _HOLDERS.format(pid=self._pid))
        found = tuple(observer.exec_driver_sql(holders).scalars())
        observer.rollback()  # the next look takes a new snapshot, and a pooler's connection is free meanwhile
        if found and found != self.seen:
            _logger.info("%s: waiting for a lock; blocked by: %s", self._label, "; ".join(found))
        if found:
            self.seen = found
