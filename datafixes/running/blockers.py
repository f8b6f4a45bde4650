"""Sees who holds a lock, while somebody waits for it: afterwards nobody can tell."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from sqlalchemy.engine import Connection

from datafixes.database.second_connection import SecondConnection

_logger = logging.getLogger("alembic.datafixes")

# In seconds. A fix of a few rows is done before anybody looks. It holds its locks while the observer takes its leave.
_PATIENCE, _INTERVAL, _LEAVE = 0.1, 0.1, 0.25

# The text of the other session's statement is left out: it may hold what must not stand in a log.
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
    """Asks, over a connection of its own, who blocks the watched connection.

    The second connection is opened only once a statement takes its time. Where it cannot be had, nothing is
    seen, and nothing else changes.

    Attributes:
        seen: one line for each session that was last seen in the way.
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
        found = tuple(observer.exec_driver_sql(_HOLDERS.replace("%", "%%").format(pid=self._pid)).scalars())
        observer.rollback()  # the next look sees what is new, and a pooler's connection is free meanwhile
        if found and found != self.seen:
            _logger.info("%s: waiting for a lock; in the way: %s", self._label, "; ".join(found))
        if found:
            self.seen = found
