"""A lost connection: which time limit of the server ended it, and what became of runs that were to be committed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import event
from sqlalchemy.engine import Connection

from datafixes.database.second_connection import SecondConnection
from datafixes.errors import ConnectionLost, DatafixError
from datafixes.running.execution import ROLLS_BACK, failure
from datafixes.running.journal import Attempt, record_failure
from datafixes.running.operation import DatafixFailed
from datafixes.script.literal import text

if TYPE_CHECKING:
    from datafixes.declaration.recorded import Fix

_Answer = TypeVar("_Answer")

_PATIENCE, _PAUSE, _LONGEST = 1.0, 0.25, 5.0  # in seconds; a server that crashed is back after a moment

# Time limits that end a session. Their values are those of a new session of the same role, on the same URL.
_LIMITS = """
SELECT name, pg_catalog.current_setting(name), CAST(setting AS pg_catalog.int8),
       CASE source WHEN 'database' THEN 'of the database' WHEN 'user' THEN 'of the role'
                   WHEN 'database user' THEN 'of the role in this database' WHEN 'client' THEN 'of the connection'
                   ELSE 'of the server' END
  FROM pg_catalog.pg_settings
 WHERE name IN ('transaction_timeout', 'idle_in_transaction_session_timeout', 'idle_session_timeout') AND setting <> '0'
"""
_HOW = (
    "{what} {ended} the session. For one run without it: PGOPTIONS='-c {setting}=0' alembic ...; behind a pooler, "
    "ALTER ROLE ... SET {setting}."
)
_STARTED = time.monotonic()


@dataclass(frozen=True)
class Ended:
    """A run that has ended while its transaction goes on.

    Attributes:
        fix: its fix.
        attempt: its revision, its direction, and who runs it.
        transaction: its transaction's number.
    """

    fix: Fix
    attempt: Attempt
    transaction: str


_ended: WeakKeyDictionary[Connection, list[Ended]] = WeakKeyDictionary()

working: WeakSet[Connection] = WeakSet()
"""Connections on which an operation is in progress; it tells of the loss itself."""


def has_ended(connection: Connection, fix: Fix, attempt: Attempt) -> None:
    """From here to the end of the transaction, a lost connection is told as a failure of this run."""
    number = connection.exec_driver_sql("SELECT CAST(pg_catalog.pg_current_xact_id() AS text)").scalar_one()
    _ended.setdefault(connection, []).append(Ended(fix, attempt, number))
    for target, name, listener in (
        (connection.engine, "handle_error", _failed),
        (connection, "begin", _begin),
    ):
        if not event.contains(target, name, listener):
            event.listen(target, name, listener)


def explained(error: DatafixError, connection: Connection) -> DatafixError:
    """A lost connection, with the time limit that ended it.

    psycopg2 passes on that the server closed the connection, but not why. Then any limit that is shorter than this
    process has run may be the reason.
    """
    if not isinstance(error, ConnectionLost):
        return error
    known, passed = error.setting, 1000 * (time.monotonic() - _STARTED)
    for name, value, milliseconds, where in (
        _asked(connection, lambda own: own.exec_driver_sql(_LIMITS).all()) or []
    ):
        if name == known or (not known and milliseconds <= passed):
            what, ended = f"{name} = {value} {where}", "ended" if known else "may have ended"
            error.hint = f"{_HOW.format(what=what, ended=ended, setting=name)} {error.hint}"
    return error


def undone(connection: Connection, error: DatafixError) -> None:
    """Write the runs that ended earlier in a lost transaction into the ledger."""
    for run in _ended.pop(connection, []):
        record_failure(connection, run.fix, run.attempt, error, is_free=False)


def _begin(connection: Connection) -> None:
    """The transaction before this one has ended, and was told of."""
    _ended.pop(connection, None)


def _failed(context: Any) -> None:
    """An error on any connection of the engine.

    Raises:
        DatafixFailed: the connection was lost, and with it the transaction of a run that had ended.
    """
    connection = context.connection  # None where connecting failed
    if connection is None or not context.is_disconnect or connection in working or not _ended.get(connection):
        return
    runs = _ended.pop(connection)
    label = ", ".join(f"datafix {run.fix.name}" for run in runs)
    lost = failure(context.sqlalchemy_exception, label)
    status = _status(connection, runs[-1].transaction)
    error = explained(lost, connection)
    if status == "committed":
        error.hint = error.hint.replace(ROLLS_BACK, "The server had committed it, so the fix is in force.")
    elif status == "aborted":
        error.hint = error.hint.replace(ROLLS_BACK, "Nothing was changed by it.")
        for run in runs:
            record_failure(connection, run.fix, run.attempt, error, is_free=False)
    raise DatafixFailed(error)


def _status(connection: Connection, transaction: str) -> str:
    """What became of a transaction: ``committed``, ``aborted``, or empty if that cannot be learnt."""
    statement = f"SELECT pg_catalog.pg_xact_status(CAST({text(transaction)} AS pg_catalog.xid8))"
    deadline = time.monotonic() + _LONGEST
    while True:
        status = _asked(connection, lambda own: own.exec_driver_sql(statement).scalar_one())
        if status in ("committed", "aborted") or time.monotonic() > deadline:
            return status or ""
        time.sleep(_PAUSE)


def _asked(connection: Connection, question: Callable[[Connection], _Answer]) -> _Answer | None:
    """The answer of a second connection, or None."""
    answers: list[_Answer] = []
    second = SecondConnection(connection.engine, lambda own: answers.append(question(own)))
    second.start()
    second.wait(_PATIENCE)
    second.end(0)
    return answers[0] if answers else None
