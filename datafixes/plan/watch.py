"""Looks at runs while their transaction is open, and writes down what they did."""

import time
from dataclasses import dataclass, field

from sqlalchemy.engine import Connection

from datafixes.audit.digest import digest_of_run
from datafixes.audit.history import run_of
from datafixes.audit.images import PINNED, changes_of_run, tables_of_run
from datafixes.audit.queries import last_run
from datafixes.audit.surroundings import acting_on, locks_held
from datafixes.changes import View
from datafixes.fix import DataFix
from datafixes.plan.planned import PlannedRun, PlannedTable
from datafixes.recorded import Fix


@dataclass
class Watch:
    """Collects what the runs did, while they do it."""

    view: View
    runs: list[PlannedRun] = field(default_factory=list)
    fixes: dict[int, Fix] = field(default_factory=dict)
    locks: set[str] = field(default_factory=set)
    proving: list[int] | None = None

    def ran(self, connection: Connection, fix: Fix, started: float) -> None:
        """A run has ended well."""
        seconds, schema = time.monotonic() - started, fix.schema_of_audit
        last = last_run(connection, schema, fix.name)
        if last is None:
            return
        if self.proving is not None:
            self.proving.append(last.run_id)
            return
        held = locks_held(connection)
        self.fixes[last.run_id] = fix
        self.runs.append(
            PlannedRun(
                run_of(connection, schema, last.run_id),
                self._tables(connection, fix, last.run_id),
                tuple(lock for lock in held if lock not in self.locks),
                seconds,
                digest_of_run(connection, fix, last.run_id),
            )
        )
        self.locks.update(held)

    def _tables(self, connection: Connection, fix: Fix, run: int) -> tuple[PlannedTable, ...]:
        with connection.begin_nested() as savepoint:
            for setting in PINNED:
                connection.exec_driver_sql(setting)
            tables = tables_of_run(connection, fix.schema_of_audit, run)
            planned = tuple(
                PlannedTable(
                    table,
                    _expected(fix, number),
                    changes_of_run(connection, run, table, self.view),
                    acting_on(connection, table, fires=fix.fire_triggers),
                )
                for number, table in enumerate(tables)
            )
            savepoint.rollback()
        return planned


def _expected(fix: Fix, number: int) -> str:
    """What a fix expects of one of its tables."""
    if isinstance(fix, DataFix):
        rows = fix.rows
        named = "" if isinstance(rows.expect, int) else ", named one by one"
        return f"{rows.count} {fix.kind}d".replace("insertd", "inserted") + named + _tolerance(rows.tolerance)
    table = fix.tables[number]
    counts = [
        f"{table.count(kind)} {kind}" for kind in ("inserted", "updated", "deleted") if table.count(kind)
    ]
    return (", ".join(counts) or "nothing") + _tolerance(table.tolerance)


def _tolerance(rows: int) -> str:
    return f" (give or take {rows})" if rows else ""
