"""Seals runs after their commit; a run never fails because it cannot be sealed, nor waits for it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from datafixes.audit.chain.entries import Entry, has_chain
from datafixes.audit.chain.sealing import seal_runs
from datafixes.audit.history import ledger_schemas
from datafixes.database.second_connection import SecondConnection
from datafixes.errors import ConnectionLost
from datafixes.running.execution import Attempts, execute, failure, limits_of
from datafixes.running.in_doubt import tell_in_doubt
from datafixes.running.operation import DatafixFailed
from datafixes.script.tables import chain_script

if TYPE_CHECKING:
    from datafixes.database.turns import Turn
    from datafixes.settings import Settings

_logger = logging.getLogger("alembic.datafixes")

_TOLD = 3
"""So many runs are told one by one."""
_PATIENCE = 2.0  # for a second connection that seals what earlier commands left, in seconds

_ran: WeakKeyDictionary[Connection, set[str]] = WeakKeyDictionary()
"""The schemas of the ledgers to which runs on a connection wrote."""

_sealed_at_the_end: WeakSet[Connection] = WeakSet()
"""The connections of :func:`sealed_afterwards`."""


def seal(connection: Connection, schema: str, settings: Settings) -> Iterator[Entry]:
    """Seal every finished run of a ledger that has no entry yet; the chain is created where there is none.

    Args:
        connection: with no transaction begun.
        schema: the ledger's.
        settings: the time-outs.

    Raises:
        DatafixError: the role may not create the chain.
        DBAPIError: the role may not seal, or the database is read-only.
    """
    limits = limits_of(settings)
    with connection.begin():
        if schema not in ledger_schemas(connection):
            return
        if not has_chain(connection, schema):
            execute(connection, chain_script(schema, limits), "the chain of seals", Attempts.of(settings))
    yield from seal_runs(connection, schema, limits)


def note_run(connection: Connection, schema: str) -> None:
    """Note that a run wrote to a ledger: it is to be sealed at the end of the command."""
    if schema:
        _ran.setdefault(connection, set()).add(schema)


@contextmanager
def sealed_afterwards(connection: Connection, turn: Turn, settings: Settings) -> Iterator[None]:
    """Seal what ran inside, when it has ended: others may run from then on. Without a run, nothing is sent."""
    _sealed_at_the_end.add(connection)
    try:
        yield
    except DatafixFailed as failed:
        if _ran.get(connection) and not isinstance(failed.error, ConnectionLost):
            turn.end()
            # After a refusal this connection takes no statement; a pooler may have one only.
            connection.close()
            try:
                with connection.engine.connect() as own:
                    _seal_and_tell(own, _ran[connection], settings)
            except Exception as error:
                _tell_unsealed(error)
        raise
    if _ran.get(connection):
        turn.end()
        tell_in_doubt(connection)
        _seal_and_tell(connection, _ran[connection], settings)


def seal_earlier(connection: Connection, schema: str, settings: Settings) -> None:
    """Before the first run of an env.py that does not call run_migrations: seal what earlier commands left.

    That is done on a second connection, because Alembic's own is in a transaction.
    """
    if connection not in _sealed_at_the_end and schema and schema not in _ran.get(connection, ()):
        seal_now(connection, schema, settings)


def seal_now(connection: Connection, schema: str, settings: Settings) -> None:
    """Seal, on a second connection, what has been committed: this one is in a transaction."""

    def work(own: Connection) -> None:
        own.rollback()
        if schema in ledger_schemas(own):
            own.rollback()
            _seal_and_tell(own, {schema}, settings)

    second = SecondConnection(connection.engine, work)
    second.start()
    if not second.wait(_PATIENCE):
        second.end(0)
        _tell_unsealed(second.error or TimeoutError(f"it took longer than {_PATIENCE:g} s"))


def _seal_and_tell(connection: Connection, schemas: set[str], settings: Settings) -> None:
    try:
        for schema in sorted(schemas):
            sealed = 0
            for entry in seal(connection, schema, settings):
                sealed += 1
                if sealed <= _TOLD:
                    _tell_sealed(f"run {entry.run_id}", schema, entry)
            if sealed > _TOLD:  # a fix in batches has thousands
                _tell_sealed(f"{sealed} runs", schema, entry)
    except Exception as error:
        _tell_unsealed(error)


def _tell_sealed(what: str, schema: str, entry: Entry) -> None:
    _logger.info("Sealed %s of ledger %s: position %d, head %s", what, schema, entry.position, entry.head)


def _tell_unsealed(error: Exception) -> None:
    told = failure(error, "the seal", hint="").one_line() if isinstance(error, DBAPIError) else str(error)
    _logger.warning(
        "Runs are not sealed yet: %s. The next run does it, or: datafixes seal",
        " ".join(told.split()).rstrip("."),
    )
