"""Readers of a recorded fix's tables: they read while it works, and it waits for them politely at its end."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from datafixes.errors import LockNotAvailable, Refused
from datafixes.running.execution import Attempts, execute
from datafixes.script.frame import Limits
from tests import fixes
from tests.servers import Database
from tests.shop import contents, fix, lay, table
from tests.small_book import meanwhile, session, somebody_waits
from tests.tampering import TRIGGERS

READ = "SELECT count(*) FROM invoice"
WRITE = "UPDATE invoice SET total = 1 WHERE id = 10"
SOME = fix(table("invoice", updated=1))


@contextmanager
def opened(database: Database, limits: Limits, attempts: Attempts = fixes.ONCE) -> Iterator[tuple[Any, Any]]:
    """The connection of a fix that is being recorded and has done its work, and the script that ends it."""
    scripts = fixes.recording(SOME, fixes.Context(), limits)
    with create_engine(database.url, poolclass=NullPool).connect() as connection:
        execute(connection, scripts.opening, "datafix repair", attempts)
        connection.exec_driver_sql(WRITE)
        yield connection, scripts.closing


def triggers(database: Database) -> list[str]:
    """The triggers of the recording that are left."""
    ours = f"SELECT tgname FROM pg_trigger WHERE tgname ~ '^datafix_' AND tgname NOT IN {TRIGGERS}"
    return [name for (name,) in database.rows(ours)]


class Reading:
    """Somebody who reads the table over and over while a context lasts, and how long each read took."""

    def __init__(self, database: Database) -> None:
        self.took: list[float] = []
        self._database, self._over = database, threading.Event()

    def _read(self) -> None:
        with closing(self._database.connect()) as connection, connection.cursor() as cursor:
            while not self._over.is_set():
                start = time.monotonic()
                cursor.execute(READ)
                connection.rollback()
                self.took.append(time.monotonic() - start)
                time.sleep(0.01)

    @contextmanager
    def on(self) -> Iterator["Reading"]:
        with meanwhile(self._read):
            try:
                yield self
            finally:
                self._over.set()


def test_a_reader_at_the_end_is_waited_for_and_others_read_beside_it(database: Database) -> None:
    before = lay(database)
    with (
        opened(database, Limits("5s")) as (connection, closing_script),
        session(database, READ) as reader,
        Reading(database).on() as others,
    ):

        def leave_after_a_while() -> None:
            somebody_waits(database)
            time.sleep(4)
            reader.rollback()

        others.took.clear()
        with meanwhile(leave_after_a_while):
            execute(connection, closing_script, "datafix repair", fixes.ONCE)
            connection.commit()
        took = list(others.took)
    # four seconds of the reader: who came to read was held up for a fifth of a second, and most were not at all
    assert max(took) < 1.5, took
    assert sum(1 for one in took if one < 0.15) > 40
    assert triggers(database) == []
    assert database.rows("SELECT audit_image FROM invoice_audit ORDER BY 1") == [("after",), ("before",)]
    fixes.revert(database, SOME)
    assert contents(database) == before


def test_a_reader_who_stays_is_named_and_nothing_is_left(database: Database) -> None:
    before = lay(database)
    with (
        session(database, "SET application_name = 'nightly report'") as reader,
        opened(database, Limits("150ms")) as (connection, closing_script),
    ):
        reader.cursor().execute(READ)
        start = time.monotonic()
        with pytest.raises(LockNotAvailable) as refused:
            execute(connection, closing_script, "datafix repair", fixes.ONCE)
        took = time.monotonic() - start
        connection.rollback()
        told = refused.value.one_line()
        assert told.startswith("datafix repair: its statements ran, but somebody reads its tables")
        assert (
            f"pid {reader.info.backend_pid}, role postgres, application nightly report, idle in trans" in told
        )
        assert "LOCK TABLE public.invoice" in told
        assert 1.5 < took < 20
    assert contents(database) == before
    assert triggers(database) == []
    assert not database.rows("SELECT FROM datafix_run")


def test_a_reader_who_waits_to_write_is_told_apart(database: Database) -> None:
    """It waits for the fix, and the fix for it: neither sees that as a deadlock, because the fix only asks for moments."""
    lay(database)
    with (
        session(database, "SET lock_timeout = '20s'") as reader,
        opened(database, Limits("150ms")) as (connection, closing_script),
    ):
        reader.cursor().execute(READ)
        with meanwhile(lambda: reader.cursor().execute(WRITE)):
            somebody_waits(database)
            with pytest.raises(LockNotAvailable, match="which waits for this fix itself, to write"):
                execute(connection, closing_script, "datafix repair", fixes.ONCE)
            connection.rollback()


def test_an_old_reader_is_found_before_the_work(database: Database) -> None:
    before = lay(database)
    with session(database, "SET application_name = 'pg_dump'", READ) as reader:
        time.sleep(0.3)
        with pytest.raises(
            LockNotAvailable, match="application pg_dump, idle in transaction since"
        ) as refused:
            opened(database, Limits("200ms")).__enter__()
        assert f"pid {reader.info.backend_pid}, role postgres" in refused.value.message
    assert refused.value.message.startswith(
        "datafix repair: a transaction that has been open for longer than"
    )
    assert contents(database) == before
    # a young one does not matter
    with session(database, READ), opened(database, Limits("5s")):
        pass


def test_an_old_reader_who_leaves_is_waited_for(database: Database) -> None:
    lay(database)
    with session(database, READ) as reader:
        time.sleep(0.3)

        def leave() -> None:
            time.sleep(1)
            reader.rollback()

        with (
            meanwhile(leave),
            opened(database, Limits("200ms"), Attempts(100, 0.1)) as (connection, closing_script),
        ):
            execute(connection, closing_script, "datafix repair", fixes.ONCE)
            connection.commit()
    assert database.value("SELECT total FROM invoice WHERE id = 10") == 1


def test_a_prepared_transaction_that_has_read_is_named(database: Database) -> None:
    lay(database)
    with session(database, READ, "PREPARE TRANSACTION 'left behind'"):
        pass
    time.sleep(0.3)
    try:
        with pytest.raises(LockNotAvailable, match="prepared transaction 'left behind'"):
            opened(database, Limits("200ms")).__enter__()
    finally:
        database.execute("ROLLBACK PREPARED 'left behind'")


def test_who_locks_the_tables_first_is_sure_of_the_end(database: Database) -> None:
    lay(database)
    script = fixes.recorded_script(SOME, (WRITE,), fixes.Context(), Limits("150ms"))
    with create_engine(database.url, poolclass=NullPool).connect() as connection:
        connection.exec_driver_sql("LOCK TABLE invoice")
        with Reading(database).on() as others:
            somebody_waits(database)
            execute(connection, script, "datafix repair", fixes.ONCE)
            connection.commit()
            time.sleep(0.2)
        assert others.took
    assert database.value("SELECT total FROM invoice WHERE id = 10") == 1


def test_a_check_that_writes_is_refused(database: Database) -> None:
    """The triggers stand until the end, and nothing that they see goes uncopied."""
    before = lay(
        database,
        "CREATE FUNCTION touch() RETURNS boolean LANGUAGE sql AS 'UPDATE invoice SET total = 7; SELECT true'",
    )
    with pytest.raises(Refused, match=r"one of its own checks changes rows of (public\.)?invoice"):
        fixes.record(database, fix(table("invoice", updated=1), ensure="touch()"), WRITE)
    assert contents(database) == before
