"""A second connection beside that of a run, used only if it is available at once.

A pooler whose server connections are all taken lets a client log in, and keeps its first statement waiting for minutes.
No setting limits that, because the statement has not reached a server. So the work on a second connection runs in a
thread, whose socket is shut down when the result is no longer needed. After a time limit alone, the connection would
still occupy the pooler, which has none to spare.
"""

import contextlib
import logging
import socket
import threading
from collections.abc import Callable
from copy import copy

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import StaticPool
from sqlalchemy.util.concurrency import greenlet_spawn

from datafixes.errors import DatafixError

_logger = logging.getLogger("alembic.datafixes")

_A_MOMENT = 1.0  # for closing a connection that was shut down


class SecondConnection:
    """Work on a connection of its own, in a thread.

    Attributes:
        over: set when the result is no longer needed.
        error: the exception that ended it, if any.
    """

    def __init__(self, engine: Engine, work: Callable[[Connection], None], patience: float = 0) -> None:
        """Prepare the work, which connects a number of seconds after :meth:`start`."""
        self.over = threading.Event()
        self.error: Exception | None = None
        self._engine, self._work, self._patience = engine, work, patience
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._cancel: Callable[[], object] | None = None
        self._is_cut = False
        self._thread = threading.Thread(target=self._run, name="datafixes second connection", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait for the end of the work; return whether it succeeded."""
        self._thread.join(seconds)
        return not self._thread.is_alive() and self.error is None

    def end(self, seconds: float = _A_MOMENT) -> None:
        """End the work; if it does not end in time, cut its connection."""
        self.over.set()
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._cut()
            self._thread.join(_A_MOMENT)

    def _cut(self) -> None:
        with self._lock:
            self._is_cut = True
            if self._cancel is not None:
                self._cancel()
            elif self._descriptor is not None:
                wire = socket.socket(fileno=self._descriptor)
                with contextlib.suppress(OSError):
                    wire.shutdown(socket.SHUT_RDWR)
                wire.detach()

    def _run(self) -> None:
        if self._patience and self.over.wait(self._patience):
            return
        try:
            if isinstance(self._engine.pool, StaticPool):
                raise DatafixError("the engine's pool shares a single connection")
            if self._engine.dialect.is_async:
                self._run_in_a_loop(copy(self._engine))
            else:
                self._connect_and_work(self._engine)
        except Exception as error:
            # An error of the second connection, even on closing, must not affect the run.
            self.error = error
            _logger.debug("The second connection failed: %s", " ".join(str(error).split()))

    def _run_in_a_loop(self, engine: Engine) -> None:
        """Connect with an asynchronous driver, whose connections belong to the event loop that made them."""
        import asyncio  # slow to import, and loaded where the driver is asynchronous

        engine.pool = engine.pool.recreate()

        async def work() -> None:
            loop, task = asyncio.get_running_loop(), asyncio.current_task()
            with self._lock:
                self._cancel = lambda: loop.call_soon_threadsafe(task.cancel) if task is not None else None
            try:
                await greenlet_spawn(self._connect_and_work, engine)
                await greenlet_spawn(engine.dispose)
            except asyncio.CancelledError:
                raise DatafixError("it was cut") from None
            finally:
                with self._lock:
                    self._cancel = None

        asyncio.run(work())

    def _connect_and_work(self, engine: Engine) -> None:
        with engine.connect() as connection:
            try:
                if self._may_begin(connection):
                    self._work(connection)
            finally:
                with self._lock:
                    self._descriptor = None
                if self._is_cut:
                    connection.invalidate()  # close without sending anything

    def _may_begin(self, connection: Connection) -> bool:
        driver = connection.connection.dbapi_connection
        with self._lock:
            is_wire = driver is not None and self._cancel is None
            self._descriptor = driver.fileno() if is_wire else None  # type: ignore[union-attr]
            return not self._is_cut
