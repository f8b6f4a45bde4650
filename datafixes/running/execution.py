"""Runs a script on a connection: bounded waiting, a few attempts, and one-line errors."""

import logging
import re
import time
from dataclasses import dataclass

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from datafixes.errors import (
    BY_SQLSTATE,
    ConnectionLost,
    DatafixError,
    LockNotAvailable,
    Refused,
    UnsafeTransaction,
    diagnosis_of,
    sqlstate,
)
from datafixes.running.blockers import BlockerPoller
from datafixes.script.engine import SENT
from datafixes.script.frame import Limits, Script
from datafixes.script.parameters import verbatim
from datafixes.settings import Settings

_logger = logging.getLogger("alembic.datafixes")

# lock_not_available, deadlock_detected, serialization_failure: another attempt may succeed.
_TRY_AGAIN = frozenset({"55P03", "40P01", "40001"})
_QUERY_CANCELED = "57014"  # statement_timeout, or somebody
_ENDING = {
    "25P03": "idle_in_transaction_session_timeout",
    "25P04": "transaction_timeout",
    "57P05": "idle_session_timeout",
}
_DUPLICATE = "23505"
_TOO_LATE = "25001"  # the first statement of a fix, which sets the isolation level
ROLLS_BACK = "The server rolls back."
"""What is said of the transaction of a lost connection, until more is known."""

_BEHIND = (
    "Its sequence is behind its table, as after a switchover by logical replication or a restore of data alone. "
    "The table's owner can run: datafixes doctor"
)


@dataclass(frozen=True)
class Attempts:
    """The number of attempts to get a lock, and the pause between them, in seconds."""

    count: int
    pause: float

    @classmethod
    def of(cls, settings: Settings) -> "Attempts":
        """From the settings."""
        return cls(settings.lock_attempts, settings.lock_pause.seconds)


def limits_of(settings: Settings) -> Limits:
    """The time-outs of a script, from the settings."""
    return Limits(str(settings.lock_timeout), str(settings.statement_timeout))


def execute(connection: Connection, script: Script, label: str, attempts: Attempts) -> None:
    """Run a script in the connection's transaction.

    Args:
        connection: the connection; the caller commits its transaction.
        script: the script.
        label: the subject of messages, ``"datafix NAME"``.
        attempts: how many, if a lock is not available.

    Raises:
        Refused: the database refused the script. It has no effect, and its fuse prevents the transaction from being
            committed.
    """
    with BlockerPoller(connection, label) as poller:
        try:
            for statement in script.before:  # a query would fix the isolation level
                _send(connection, statement)
            sent = set(connection.exec_driver_sql(SENT).scalars())
            for statement in script.preparation(sent):
                _send(connection, statement)
            _try(connection, script.run, label, attempts, poller)
            for statement in script.after:
                _send(connection, statement)
        except DBAPIError as error:
            if sqlstate(error) == _TOO_LATE and "ISOLATION LEVEL" in _primary(error):
                raise _not_read_committed(label) from error
            raise failure(error, label, poller.seen, hint=hint_of(error, script.limits)) from error


def _try(connection: Connection, run: str, label: str, attempts: Attempts, poller: BlockerPoller) -> None:
    for number in range(1, attempts.count + 1):
        # Engine and fuse are outside of the savepoint: only the line that runs the fix is tried again.
        savepoint = connection.begin_nested()
        try:
            with poller.watching():
                _send(connection, run)
        except DBAPIError as error:
            if sqlstate(error) not in _TRY_AGAIN or number == attempts.count:
                raise
            savepoint.rollback()
            _logger.info(
                "%s (attempt %d of %d)%s; again in %gs", _labelled(label, error), number, attempts.count,
                _held_by(poller.seen), attempts.pause,
            )  # fmt: skip
            time.sleep(attempts.pause)
        else:
            savepoint.commit()
            return


def _send(connection: Connection, statement: str) -> None:
    connection.exec_driver_sql(verbatim(connection, statement))


def failure(
    error: DBAPIError,
    label: str,
    holders: tuple[str, ...] = (),
    *,
    hint: str = "Nothing was changed.",
    masked: bool = False,
) -> DatafixError:
    """A driver's error in one line, without the text of the script.

    Args:
        error: the driver's error.
        label: the subject of the message.
        holders: the sessions that held the lock.
        hint: what to do, if PostgreSQL has no hint.
        masked: columns are masked, and the engine may not have removed values from the statement's errors.
    """
    code = sqlstate(error)
    if error.connection_invalidated or not code or code in _ENDING:
        return _lost(error, label)
    diagnosis = diagnosis_of(error)
    detail, hint = diagnosis.detail, diagnosis.hint or hint
    if code in BY_SQLSTATE:
        return BY_SQLSTATE[code](_primary(error), detail=detail.strip("\n"), hint=hint)
    message = _labelled(label, error)
    if code in _TRY_AGAIN:
        if message != _primary(error):  # otherwise the engine has named the sessions itself
            message, hint = f"{message}{_held_by(holders)}", _look(holders)
        return LockNotAvailable(message, hint=hint, holders=holders)
    if masked and "datafix_fail(" not in diagnosis.context:
        words = f"{_kind(error)}; the message of PostgreSQL is left out: it may hold values of masked columns"
        return Refused(f"{label}: {words} [SQLSTATE {code}]", sqlstate=code)
    evidence = f" ({' '.join(detail.split())})" if detail else ""
    evidence += _held_by(holders) if code == _QUERY_CANCELED else ""
    if code == _DUPLICATE and re.match(r"Key \((run|audit)_id\)=", detail):
        hint = f"Nothing was changed. {_BEHIND}"
    return Refused(f"{message}{evidence} [SQLSTATE {code}]", hint=hint, sqlstate=code)


def _lost(error: DBAPIError, label: str) -> ConnectionLost:
    return ConnectionLost(
        f"{label}: the connection to the database was lost: {_primary(error)}",
        hint=f"{ROLLS_BACK} Check the ledger (datafixes history), then run the migration again.",
        setting=_ENDING.get(sqlstate(error), ""),
    )


def _not_read_committed(label: str) -> UnsafeTransaction:
    return UnsafeTransaction(
        f"{label}: the transaction has read already and is not READ COMMITTED: it would not see what others commit "
        "while it waits for a lock",
        hint="Nothing was changed. Let env.py call run_migrations of datafixes.environment, or create its engine "
        'with isolation_level="READ COMMITTED".',
    )


def hint_of(error: DBAPIError, limits: Limits) -> str:
    """What to do about an error for which PostgreSQL has no hint."""
    is_limit = sqlstate(error) == _QUERY_CANCELED and "statement timeout" in _primary(error)
    more = (
        f" It may take {limits.statement_timeout}; to allow more: alembic -x statement_timeout=1h"
        if is_limit
        else ""
    )
    return f"Nothing was changed.{more}"


def _labelled(label: str, error: DBAPIError) -> str:
    words = _primary(error)
    return words if words.startswith(f"{label}: ") else f"{label}: {words}"


def _primary(error: DBAPIError) -> str:
    return diagnosis_of(error).message


def _kind(error: DBAPIError) -> str:
    """``UniqueViolation of item_pkey on item``: names, and no values."""
    return " of ".join([type(error.orig).__name__, *diagnosis_of(error).names])


def _held_by(holders: tuple[str, ...]) -> str:
    return f"; blocked by: {'; '.join(holders)}" if holders else ""


def _look(holders: tuple[str, ...]) -> str:
    if not holders:
        return "Nothing was changed. Try again later."
    pids = ", ".join(holder.split()[1].rstrip(",") for holder in holders)
    return f"Nothing was changed. Look: SELECT * FROM pg_stat_activity WHERE pid IN ({pids});"
