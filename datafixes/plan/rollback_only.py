"""A transaction in which anything can be tried, and which cannot be committed.

A cursor WITH HOLD is declared first. PostgreSQL must run its query when the transaction commits, and the query fails:
however a COMMIT is sent, the server answers with an error and rolls back. On the client, statements that end a
transaction or would close the cursor are refused before they are sent, and the driver begins every later transaction as
read-only. Nothing is set in the session: behind a pooler, it serves another client next.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from datafixes.errors import DatafixError, UnsafeTransaction
from datafixes.running.recording import check_statement
from datafixes.script.frame import Limits
from datafixes.script.literal import text
from datafixes.script.parameters import verbatim

NEVER_COMMITTED = "this transaction is rolled back, and cannot be committed"
"""What the server answers to a COMMIT."""

# The text is built when the query runs: PostgreSQL would evaluate a constant at once.
FUSE = f"""
DECLARE "datafixes rollback only" NO SCROLL CURSOR WITH HOLD FOR
SELECT CAST(pg_catalog.concat('{NEVER_COMMITTED}',
                              pg_catalog.left(pg_catalog.current_setting('datafixes.finished', true), 0)) AS integer)
"""

# Sequences are not rolled back, unless they were restarted in the same transaction. A number missing in the ledger
# means a run that was rolled back, so a trial must not use any up.
_KEEP_NUMBERS = """
DO $keep$
DECLARE
    ledger   pg_catalog.regclass;
    sequence pg_catalog.text;
    next     pg_catalog.int8;
BEGIN
    FOR ledger IN SELECT c.oid FROM pg_catalog.pg_class AS c
                    JOIN pg_catalog.pg_attribute AS a ON a.attrelid OPERATOR(pg_catalog.=) c.oid
                   WHERE c.relname OPERATOR(pg_catalog.=) 'datafix_run' AND c.relkind OPERATOR(pg_catalog.=) 'r'
                     AND a.attname OPERATOR(pg_catalog.=) 'run_id' AND a.attidentity OPERATOR(pg_catalog.<>) '' LOOP
        sequence := pg_catalog.pg_get_serial_sequence(CAST(ledger AS pg_catalog.text), 'run_id');
        EXECUTE pg_catalog.format('SELECT last_value OPERATOR(pg_catalog.+) CAST(is_called AS pg_catalog.int4) FROM %s',
                                  sequence) INTO next;
        EXECUTE pg_catalog.format('ALTER SEQUENCE %s RESTART WITH %s', sequence, next);
    END LOOP;
EXCEPTION WHEN insufficient_privilege THEN
    NULL;       -- then the numbers that are used up are missing in the ledger
END
$keep$
"""

_TELLS_WORKERS = "SELECT pg_catalog.current_setting('citus.propagate_set_commands', true) IS NOT NULL"


class WouldCommit(UnsafeTransaction):
    """A statement that would begin or end the transaction was not sent."""


@contextmanager
def rollback_only(connection: Connection, limits: Limits) -> Iterator[None]:
    """Begin a transaction that cannot be committed, and roll it back at the end.

    Args:
        connection: a connection; a transaction that it has already begun is rolled back too.
        limits: how long a statement may wait for a lock, and how long it may take; they override the role's settings.
    """
    try:
        _begin(connection)
        for statement in (FUSE, *_timeouts(connection, limits), _KEEP_NUMBERS):
            connection.exec_driver_sql(verbatim(connection, statement))
    except DBAPIError as error:
        words = " ".join(str(error.orig).split())
        raise DatafixError(
            f"Nothing can be tried on this connection: {words}",
            hint="A plan needs a writable database, not a replica, although it is rolled back.",
        ) from None
    event.listen(connection, "before_cursor_execute", _refuse_end)
    event.listen(connection, "commit", _refuse_commit)
    try:
        yield
    finally:
        event.remove(connection, "commit", _refuse_commit)
        event.remove(connection, "before_cursor_execute", _refuse_end)
        connection.rollback()


def _begin(connection: Connection) -> None:
    """Begin; every later transaction on the connection is read-only."""
    if getattr(connection.connection.dbapi_connection, "autocommit", False):
        raise DatafixError(
            "The connection is in autocommit mode, so nothing can be tried on it.",
            hint="Remove isolation_level='AUTOCOMMIT' from env.py.",
        )
    if not connection.in_transaction():
        is_citus = connection.exec_driver_sql(_TELLS_WORKERS).scalar()
        connection.rollback()
        connection.execution_options(postgresql_readonly=True)
        connection.begin()
        if is_citus:  # its workers begin as this transaction did, and are told what follows
            connection.exec_driver_sql("SET LOCAL citus.propagate_set_commands = 'local'")
        connection.exec_driver_sql("SET TRANSACTION READ WRITE")


def _timeouts(connection: Connection, limits: Limits) -> Iterator[str]:
    """Settings of a plan, which is one transaction with pauses: no time-out that an upgrade survives may end it."""
    yield f"SET LOCAL lock_timeout = {text(limits.lock_timeout)}"
    yield f"SET LOCAL statement_timeout = {text(limits.statement_timeout)}"
    yield "SET LOCAL idle_in_transaction_session_timeout = 0"
    if (connection.dialect.server_version_info or ()) >= (17,):
        yield "SET LOCAL transaction_timeout = 0"


def _refuse_end(_: Any, __: Any, statement: str, *___: Any) -> None:
    try:
        check_statement(statement, "This plan")
    except UnsafeTransaction as error:
        raise WouldCommit(error.message, hint=error.hint) from None


def _refuse_commit(_: Any) -> NoReturn:
    raise UnsafeTransaction(
        "It calls commit() on Alembic's connection: what follows in it, and the new version, would be lost.",
        hint="Remove the commit(): Alembic commits.",
    )
