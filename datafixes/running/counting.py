"""Counts how far a run in batches is, on the connection that makes them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError

from datafixes.running.operation import Operation
from datafixes.script.literal import qualified, text
from datafixes.script.parameters import verbatim
from datafixes.script.tables import LEDGER, RANGES

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from datafixes.declaration.fix import DataFix

_logger = logging.getLogger("alembic.datafixes")

_COUNT = """
SELECT r.run_id, r.wish, r.rows_found, greatest({least}, count(*) FILTER (WHERE NOT g.done)),
       coalesce(sum(g.batches), 0), coalesce(sum(g.rows_changed), 0),
       (SELECT pg_catalog.format('replica %s is %s behind', lag.name, pg_catalog.pg_size_pretty(lag.behind))
          FROM (SELECT application_name, pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(),
                                                                    coalesce(replay_lsn, flush_lsn))
                  FROM pg_catalog.pg_stat_replication) AS lag (name, behind)
         WHERE lag.behind > pg_catalog.pg_size_bytes(r.declaration -> 'batches' ->> 'max_lag')
         ORDER BY lag.behind DESC LIMIT 1)
  FROM {ledger} AS r LEFT JOIN {ranges} AS g ON g.run_id = r.run_id
 WHERE r.fix = {fix} AND r.outcome = 'running' AND r.direction = {direction}
 GROUP BY r.run_id
"""
_TOLD = """
SELECT r.declaration -> 'batches' ->> 'told' FROM {ledger} AS r
 WHERE r.fix = {fix} AND r.outcome = 'applied' AND r.part_of IS NULL ORDER BY r.run_id DESC LIMIT 1
"""


@dataclass(frozen=True)
class Counted:
    """How far a run in batches is.

    Attributes:
        run: its number.
        wish: what an operator wants of it: pause, stop or None.
        rows: how many rows there are to do.
        left: how many ranges are not done.
        batches: how many batches are.
        done: how many rows are.
        waits: which replica it waits for.
    """

    run: int
    wish: str | None
    rows: int
    left: int
    batches: int
    done: int
    waits: str | None = None


def counted_by(
    operation: Operation, direction: str, *, is_ended_by_a_batch: bool = False
) -> Callable[[Connection], Counted | None]:
    """How to ask how far a run of a fix in batches is.

    Args:
        operation: on the fix.
        direction: ``apply`` or ``revert``.
        is_ended_by_a_batch: whether one of its batches ends the run: until then, something is left.
    """
    fix = operation.fix
    if fix is None:
        raise ValueError("an operation on a fix")
    schema = fix.schema_of_audit
    query = _COUNT.format(
        ledger=qualified(schema, LEDGER), ranges=qualified(schema, RANGES), fix=text(fix.name),
        direction=text(direction), least=int(is_ended_by_a_batch),
    )  # fmt: skip

    def ask(connection: Connection) -> Counted | None:
        row = connection.exec_driver_sql(verbatim(connection, query)).first()
        return None if row is None else Counted(*row)

    return ask


def tell_late(operation: Operation, fix: DataFix) -> None:
    """Tell of the rows that began to meet the condition behind the batches, or were set back by others."""
    query = _TOLD.format(ledger=qualified(fix.schema_of_audit, LEDGER), fix=text(fix.name))
    # Without the right to read there is nothing to tell.
    with suppress(DBAPIError), operation.connection.begin_nested():
        told = operation.connection.exec_driver_sql(verbatim(operation.connection, query)).scalar()
        if told:
            _logger.warning("%s: %s", operation.label, told.removeprefix(", "))
