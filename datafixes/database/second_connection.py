"""A second connection, beside that of a run: of use where it is to be had at once, and never waited for.

A pooler whose server connections are all taken lets a client log in, and keeps its first statement waiting for minutes.
No setting ends that: the statement has not reached a server. So whatever needs a second connection runs in a thread,
whose socket is shut down when it is needed no more.
"""

import contextlib
import logging
import socket
import threading
from collections.abc import Callable

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import StaticPool

from datafixes.errors import DatafixError

_logger = logging.getLogger("alembic.datafixes")

_A_MOMENT = 1.0  # for closing what was shut down


class SecondConnection:
    """Work on a connection of its own, in a thread.

    Attributes:
        over: set when nobody needs the work any more.
        error: what went wrong with it, if anything did.
    """

    def __init__(self, engine: Engine, work: Callable[[Connection], None], patience: float = 0) -> None:
        """Prepare the work, which begins to connect so many seconds after :meth:`start`."""
        self.over = threading.Event()
        self.error: Exception | None = None
        self._engine, self._work, self._patience = engine, work, patience
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._is_cut = False
        self._thread = threading.Thread(target=self._run, name="datafixes second connection", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait for the end of the work; whether it ended well."""
        self._thread.join(seconds)
        return not self._thread.is_alive() and self.error is None

    def end(self, seconds: float = _A_MOMENT) -> None:
        """The work is over; if it does not see that in time, its connection is cut."""
        self.over.set()
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._cut()
            self._thread.join(_A_MOMENT)

    def _cut(self) -> None:
        with self._lock:
            self._is_cut = True
            if self._descriptor is not None:
                wire = socket.socket(fileno=self._descriptor)
                with contextlib.suppress(OSError):
                    wire.shutdown(socket.SHUT_RDWR)
                wire.detach()

    def _run(self) -> None:
        if self._patience and self.over.wait(self._patience):
            return
        try:
            if isinstance(self._engine.pool, StaticPool):
                raise DatafixError("the engine's pool has one connection, and gives it to everybody")
            with self._engine.connect() as connection:
                try:
                    if self._may_begin(connection):
                        self._work(connection)
                finally:
                    with self._lock:
                        self._descriptor = None
                    if self._is_cut:
                        connection.invalidate()  # nothing is sent any more, and nobody reads how that failed
        except Exception as error:
            # Whatever goes wrong beside a run, also while it is closed, is no matter of the run.
            self.error = error
            _logger.debug("A second connection is of no use: %s", " ".join(str(error).split()))

    def _may_begin(self, connection: Connection) -> bool:
        driver = connection.connection.dbapi_connection
        with self._lock:
            self._descriptor = driver.fileno() if driver is not None else None
            return not self._is_cut
