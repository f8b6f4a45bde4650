"""Tells how far a run in batches is while it runs: a bar on a terminal, a line every 30 s in a pipeline's log."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from datafixes.audit.progress import Progress
from datafixes.database.second_connection import SecondConnection

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_logger = logging.getLogger("alembic.datafixes")

_LOG, _TERMINAL = 30.0, 1.0  # seconds between two lines
_LEAVE = 0.25  # for the second connection to end, in seconds
_COLUMNS = 80


class Teller:
    """Tells how far a run in batches is.

    A second connection asks, as soon as a line is due. Where none is available, it is told between two statements that
    make batches, by :meth:`tell`.
    """

    def __init__(self, connection: Connection, ask: Callable[[Connection], Progress | None]) -> None:
        self._ask = ask
        self._is_terminal = sys.stderr.isatty()
        self._every = _TERMINAL if self._is_terminal else _LOG
        self._told = time.monotonic()
        self._lock = threading.Lock()
        self._second = SecondConnection(connection.engine, self._watch, self._every)

    def __enter__(self) -> Teller:
        self._second.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._second.end(_LEAVE)
        if self._is_terminal:
            sys.stderr.write("\n")

    def tell(self, progress: Progress | None, *, always: bool = False) -> None:
        """Tell how far it is, if a line is due."""
        with self._lock:
            now = time.monotonic()
            if progress is None or (now - self._told < self._every and not always):
                return
            self._told = now
            if self._is_terminal:
                # The line is drawn again and again; what it was before is erased.
                sys.stderr.write(f"\r\x1b[K{progress.line(_columns() - 1)}")
                sys.stderr.flush()
            else:
                _logger.info("datafix %s", progress.line())

    def _watch(self, observer: Connection) -> None:
        while not self._second.over.is_set():
            progress = self._ask(observer)
            observer.rollback()  # an open transaction would keep VACUUM from its work, and a pooler's connection
            if not self._second.over.is_set():
                self.tell(progress)
            self._second.over.wait(self._every)


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _COLUMNS
    except OSError:
        return _COLUMNS
