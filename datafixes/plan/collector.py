"""Collects the runs of a plan while their transaction is open."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy.engine import Connection

from datafixes.audit.changes import View
from datafixes.audit.digest import digest_of_run
from datafixes.audit.history import last_run, run_of
from datafixes.audit.images import changes_of_run, read_images, tables_of_run
from datafixes.audit.naming import names_of_rows
from datafixes.audit.retention import GivenUp
from datafixes.audit.sequences import behind_of_run
from datafixes.audit.surroundings import acting_on, locks_held
from datafixes.declaration.fix import DataFix
from datafixes.declaration.recorded import Fix
from datafixes.declaration.table import KINDS
from datafixes.plan.batched import TriedBatch, try_batch
from datafixes.plan.planned import PlannedRun, PlannedTable
from datafixes.running.migration import BatchTrial


@dataclass
class Collector:
    """Collects each run as it ends."""

    view: View
    runs: list[PlannedRun] = field(default_factory=list)
    fixes: dict[int, Fix] = field(default_factory=dict)
    locks: set[str] = field(default_factory=set)
    proving: list[int] | None = None
    given_up: tuple[GivenUp, ...] | None = None
    erased: tuple[GivenUp, ...] | None = None
    in_batches: str = ""
    """The fix in batches of which only one batch was made, so that nothing behind it can be planned."""

    def ran(self, connection: Connection, fix: Fix, started: float) -> None:
        """A run has succeeded."""
        seconds, schema = time.monotonic() - started, fix.schema_of_audit
        last = last_run(connection, schema, fix.name)
        if last is None:
            return
        if self.proving is not None:
            self.proving.append(last.run_id)
            return
        self.fixes[last.run_id] = fix
        with read_images(connection):
            run = run_of(connection, schema, last.run_id)
            tables = self._tables(connection, fix, last.run_id, run.direction)
        self.runs.append(
            PlannedRun(
                run, tables, self.new_locks(connection), seconds, digest_of_run(connection, fix, run.run_id)
            )
        )

    def gave_up(self, went: Sequence[GivenUp]) -> None:
        """Copies were given up."""
        self.given_up = (*(self.given_up or ()), *went)

    def redacted(self, went: Sequence[GivenUp]) -> None:
        """Values in images were redacted."""
        self.erased = (*(self.erased or ()), *went)

    def try_batch(self, connection: Connection, fix: DataFix, trial: BatchTrial) -> bool:
        """Make one batch and roll it back; False: all rows are changed in one transaction."""

        def seen(tried: TriedBatch) -> None:
            self.in_batches = fix.name
            with read_images(connection):
                run = run_of(connection, fix.schema_of_audit, tried.run)
                tables = self._tables(connection, fix, tried.part, "apply")
            whole = tuple(_whole(table, tried.batches.left) for table in tables)
            digest = digest_of_run(connection, fix, tried.run)
            locks, took = self.new_locks(connection), tried.batches.took
            self.runs.append(
                PlannedRun(run, whole, locks, took, digest, tried.reversal, batches=tried.batches)
            )

        return try_batch(connection, fix, trial, seen)

    def new_locks(self, connection: Connection) -> tuple[str, ...]:
        """The locks that are new since the last run."""
        with read_images(connection):
            held = tuple(lock for lock in locks_held(connection) if lock not in self.locks)
        self.locks.update(held)
        return held

    def _tables(self, connection: Connection, fix: Fix, run: int, direction: str) -> tuple[PlannedTable, ...]:
        return tuple(
            PlannedTable(
                table,
                _expected(fix, number) if direction == "apply" else "",
                changes_of_run(connection, table, self.view),
                acting_on(connection, table, fires=fix.fire_triggers),
                names_of_rows(fix, fix.tables[number], self.view),
                behind_of_run(connection, fix, run, table, self.view),
            )
            for number, table in enumerate(tables_of_run(connection, fix.schema_of_audit, run))
        )


def _whole(table: PlannedTable, rows: int) -> PlannedTable:
    """The table of one batch, with the number of rows of all batches."""
    deleted = table.of_run.deleted > 0
    of_run = replace(table.of_run, updated=0 if deleted else rows, deleted=rows if deleted else 0)
    return replace(table, of_run=of_run, changes=replace(table.changes, total=rows))


def _expected(fix: Fix, number: int) -> str:
    """The rows that a fix expects in one of its tables, in words."""
    if isinstance(fix, DataFix):
        rows = fix.rows
        kind = f"{fix.kind}d".replace("insertd", "inserted")
        named = ", named one by one" if rows.names_rows else ""
        return _number(rows.count, kind, fix.is_bounded) + named + _tolerance(rows.tolerance)
    table = fix.tables[number]
    told = (_number(table.count(kind), kind, kind in table.bounded) for kind in KINDS if table.count(kind))
    return (", ".join(told) or "nothing") + _tolerance(table.tolerance)


def _number(rows: int, kind: str, bounded: bool) -> str:
    return f"{'at most ' if bounded else ''}{rows} {kind}"


def _tolerance(rows: int) -> str:
    return f" (give or take {rows})" if rows else ""
