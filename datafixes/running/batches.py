"""Repeats the statement that makes batches until nothing is left, on Alembic's connection and further ones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError, InvalidRequestError

from datafixes.audit.progress import Progress
from datafixes.audit.running import progress_of
from datafixes.errors import BatchesRefused, DatafixError, UnsafeTransaction
from datafixes.running.execution import Attempts, execute, failure
from datafixes.running.operation import DatafixFailed, Operation
from datafixes.running.planned import check_plan_of_batches
from datafixes.running.sending import failed
from datafixes.running.telling import Teller
from datafixes.script.frame import Script
from datafixes.script.parameters import verbatim

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


class _Stopped(BatchesRefused):
    """Somebody wanted it to stop: no failure."""


_WAIT = 0.5  # for ranges that others work on, in seconds
_KEEP = "SELECT pg_catalog.set_config('datafixes.keeps_engine', 'on', false)"
# What a statement leaves in the session that keeps the engine, or that was cancelled.
_LEFT_BEHIND = """
DO $left$
BEGIN
    SET LOCAL client_min_messages = warning;
    DROP TABLE IF EXISTS pg_temp.datafixes_engine CASCADE;
    DROP PROCEDURE IF EXISTS pg_temp.datafix_batch(pg_catalog.jsonb);
    PERFORM pg_catalog.set_config('datafixes.keeps_engine', '', false);
END
$left$
"""


@dataclass(frozen=True)
class Batched:
    """What is repeated.

    Attributes:
        opening: opens the run, or goes on with it, in a transaction of its own.
        work: makes batches for a few seconds.
        workers: how many connections work side by side.
        is_ended_by_a_batch: whether the last batch ends the run: until then, something is left.
    """

    opening: Script
    work: str
    workers: int = 1
    is_ended_by_a_batch: bool = False


def make_batches(operation: Operation, batched: Batched) -> None:
    """Make all batches, each in a transaction of its own, and begin a new transaction of Alembic's.

    Raises:
        DatafixFailed: a batch was refused, or somebody wants it to stop. What was done stays.
    """
    _check_transaction(operation)
    stopped: list[DatafixError] = []
    try:
        with operation.alembic.autocommit_block():
            try:
                _Repeated(operation, batched).run()
            except DatafixError as error:
                stopped.append(error)
    except InvalidRequestError:
        # The block cannot give back a connection that was lost, and says so instead of why.
        if not stopped:
            raise
    except DBAPIError as error:
        if not stopped:
            raise DatafixFailed(failure(error, operation.label)) from error
    if stopped and isinstance(stopped[0], _Stopped):
        raise DatafixFailed(stopped[0])
    if stopped:
        raise failed(operation, batched.opening.direction, stopped[0]) from stopped[0]


def _check_transaction(operation: Operation) -> None:
    if getattr(operation.alembic, "_in_external_transaction", False):
        told = f"{operation.label}: batches commit, but this transaction is the caller's."
        hint = "Let env.py run no statement before context.configure(), and begin no transaction of its own."
        raise DatafixFailed(UnsafeTransaction(told, hint=hint))


class _Worker:
    """A thread that makes batches on a connection.

    Attributes:
        ended: set when it has ended.
    """

    def __init__(self, connection: Connection, number: int) -> None:
        self.connection, self.number = connection, number
        self.ended = threading.Event()

    def start(self, work: Callable[[Connection], None]) -> None:
        def run() -> None:
            try:
                work(self.connection)
            finally:
                self.ended.set()

        threading.Thread(target=run, name=f"datafixes worker {self.number}", daemon=True).start()

    def cancel(self) -> None:
        """Cancel what its connection is running, and wait until it has ended."""
        driver = self.connection.connection.dbapi_connection
        for _ in range(10):
            if self.ended.is_set():
                return
            with suppress(Exception):
                driver.cancel()  # type: ignore[union-attr]
            # time to remove what the statement had made
            self.ended.wait(0.5)


@dataclass
class _Repeated:
    """One run of the batches in this process."""

    operation: Operation
    batched: Batched
    errors: list[BaseException] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        connection = self.operation.connection
        self._open(connection)
        progress = self._progress(connection)
        if progress is None:
            return
        with Teller(connection, self._progress) as self.teller, ExitStack() as stack:
            self.teller.tell(progress, always=True)
            connections = [connection]
            if not connection.dialect.is_async:
                connections += [
                    stack.enter_context(_another(connection)) for _ in range(self.batched.workers - 1)
                ]
            self._work_side_by_side(connections)
            for error in self.errors:
                raise error
            self.teller.tell(self._progress(connection), always=True)

    def _open(self, connection: Connection) -> None:
        try:
            connection.exec_driver_sql("BEGIN")
            attempts = Attempts.of(self.operation.settings)
            execute(connection, self.batched.opening, self.operation.label, attempts)
            self._check_plan(connection)
            connection.exec_driver_sql("COMMIT")
        except (DBAPIError, DatafixError) as error:
            with suppress(DBAPIError, InvalidRequestError):
                if savepoint := connection.get_nested_transaction():
                    savepoint.rollback()
                connection.exec_driver_sql("ROLLBACK")
            raise failure(error, self.operation.label) if isinstance(error, DBAPIError) else error from error

    def _check_plan(self, connection: Connection) -> None:
        operation = self.operation
        if operation.fix is not None:
            check_plan_of_batches(operation.alembic, connection, operation.fix, operation.settings.plan)

    def _work_side_by_side(self, connections: list[Connection]) -> None:
        if connections[0].dialect.is_async:  # its connection belongs to this thread's loop
            self._work(connections[0])
            return
        workers = [_Worker(one, name) for name, one in enumerate(connections, 1)]
        for worker in workers:
            worker.start(self._work)
        try:
            for worker in workers:
                # Not Thread.join(): a Ctrl-C in it makes Python 3.11 take a thread that runs for ended.
                while not worker.ended.wait(0.1):
                    pass
        except BaseException:
            self.over.set()
            for worker in workers:
                worker.cancel()
            raise

    def _work(self, connection: Connection) -> None:
        try:
            if _is_direct(connection):
                connection.exec_driver_sql(_KEEP)
            self._repeat(connection)
        except DBAPIError as error:
            if not self.over.is_set():
                self.errors.append(failure(error, self.operation.label, hint="What is done stays."))
        except BaseException as error:
            self.errors.append(error)
        finally:
            if self.errors:
                self.over.set()
            _clean(connection)

    def _repeat(self, connection: Connection) -> None:
        before = None
        while not self.over.is_set():
            connection.exec_driver_sql(verbatim(connection, self.batched.work))
            progress = self._progress(connection)
            if progress is None or not (progress.ranges_left or self.batched.is_ended_by_a_batch):
                return
            self.teller.tell(progress, always=bool(progress.waits))
            if progress.wish == "stop":
                raise _Stopped(
                    f"{self.operation.label}: stopped, as somebody wished: {progress.done} (run {progress.run_id}).",
                    hint="What is done stays. The same command goes on with it.",
                )
            done = (progress.batches, progress.rows_done, progress.ranges_left)
            if done == before:  # others work on the ranges that are left
                self.over.wait(_WAIT)
            before = done

    def _progress(self, connection: Connection) -> Progress | None:
        fix = self.operation.fix
        if fix is None:
            raise ValueError("an operation on a fix")
        direction = self.batched.opening.direction
        return progress_of(connection, fix.schema_of_audit, fix.name, direction)


def _clean(connection: Connection) -> None:
    """Remove what is left in the session, also if a Ctrl-C that was meant for the batches cancels that."""
    for _ in range(12):
        try:
            connection.exec_driver_sql(_LEFT_BEHIND)
        except InvalidRequestError:  # the connection is lost
            return
        except DBAPIError as error:
            if error.connection_invalidated:
                return
        else:
            return


def _is_direct(connection: Connection) -> bool:
    """Whether the driver is connected to the server itself: PgBouncer tells it the number of no server process."""
    driver: Any = connection.connection.driver_connection
    told = (
        driver.get_server_pid()
        if hasattr(driver, "get_server_pid")
        else getattr(getattr(driver, "info", None), "backend_pid", None)
    )
    return bool(told == connection.exec_driver_sql("SELECT pg_catalog.pg_backend_pid()").scalar())


@contextmanager
def _another(connection: Connection) -> Iterator[Connection]:
    """A further connection to the same database, for one more worker."""
    with connection.engine.connect() as other:
        yield other.execution_options(isolation_level="AUTOCOMMIT")
