"""What else the audit costs: the revert of a delete, a client's memory, and imports: ``make bench``."""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, Engine, create_engine, text

from datafixes import DataFix, RecordedFix, Rows, Table, Update, sql
from datafixes.audit.chain.forms import SETTINGS
from datafixes.audit.chain.verdicts import Verdict
from datafixes.audit.chain.verifying import Ledger
from datafixes.database.embedded import embedded_server
from datafixes.running.sealing import seal
from datafixes.script.parameters import verbatim
from datafixes.settings import Settings
from tests.benchmarks.measuring import cpu_of
from tests.benchmarks.shapes import SHAPES
from tests.tampering import PROTECTED, UNPROTECTED

SHAPE = SHAPES["indexes"]


def fix_of(table: str, rows: int) -> DataFix:
    """The same change as the bare UPDATE, as a fix."""
    return DataFix(
        name=f"close_{table}",
        reason="benchmark",
        change=Update(
            table,
            set={
                name: sql(value["sql"]) if isinstance(value, dict) else value
                for name, value in SHAPE.set.items()
            },
            where="status = 'open'",
        ),
        rows=Rows(key="id", expect=rows),
        audit=f"{table}_audit",
    )


def recorded_fix_of(table: str, rows: int) -> RecordedFix:
    """The same, recorded."""
    return RecordedFix(
        name=f"record_{table}", reason="benchmark", tables=[Table(table, f"{table}_audit", updated=rows)]
    )


def record(fix: RecordedFix, *statements: str) -> Callable[[Operations], None]:
    """The operation that records these statements."""

    def recorded(op: Operations) -> None:
        with op.record_datafix(fix) as body:  # type: ignore[attr-defined]
            for statement in statements:
                body.execute(statement)

    return recorded


def operate(engine: Engine, action: Callable[[Operations], None]) -> float:
    """Run an operation in a transaction of its own; seconds, the commit included."""
    with engine.connect() as connection:
        seal_all(connection)  # so that the run does not: here, no env.py calls run_migrations
        operations = Operations(MigrationContext.configure(connection))
        began = time.perf_counter()
        action(operations)
        connection.commit()
        return time.perf_counter() - began


def seal_all(connection: Connection) -> None:
    """Seal the runs that are not sealed yet."""
    for _ in seal(connection, "public", Settings.resolve({}, {}, {})):
        pass


def seals(engine: Engine, rows: int) -> tuple[float, float]:
    """CPU of the backend to seal a run, in us for each image; CPU to verify it, as a ratio to a CSV COPY of the images.

    Both of the latter with the client's CPU, which reads all that the server sends.
    """
    build(engine, "memory", rows)
    operate(engine, lambda op: op.create_audit_table("memory", name="memory_audit"))  # type: ignore[attr-defined]
    operate(engine, lambda op: op.apply_datafix(fix_of("memory", rows)))  # type: ignore[attr-defined]
    settle(engine, "memory_audit")
    copy = "COPY (SELECT * FROM public.memory_audit) TO STDOUT (FORMAT csv)"
    with engine.connect() as connection:
        driver: Any = connection.connection
        backend = driver.get_backend_pid()
        connection.rollback()

        def cpu(action: Callable[[], object], *, client: bool) -> float:
            def now() -> float:
                return cpu_of(backend) + (time.process_time() if client else 0.0)

            before = now()
            action()
            return now() - before

        sealed = cpu(lambda: seal_all(connection), client=False)
        for setting in SETTINGS:
            connection.exec_driver_sql(setting)
        found: list[Verdict] = []
        ratios = []
        with Path(os.devnull).open("wb") as nowhere:
            for _ in range(5):
                plain = cpu(lambda: driver.cursor().copy_expert(copy, nowhere), client=True)
                proven = cpu(lambda: found.extend(Ledger(connection, "public").verdicts()), client=True)
                ratios.append(proven / plain)
        if {one.state for one in found} != {"proven"}:
            raise SystemExit(f"not proven: {found}")
    return sealed / (2 * rows) * 1e6, statistics.median(ratios)


def statement(engine: Engine, command: str) -> float:
    """Run one statement and commit it; seconds."""
    with engine.begin() as connection:
        began = time.perf_counter()
        connection.execute(text(command))
    return time.perf_counter() - began


def settle(engine: Engine, table: str) -> None:
    """The same starting point for every measurement: no dead rows, no dirty pages."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"VACUUM ANALYZE {table}")
        connection.exec_driver_sql("CHECKPOINT")


def build(engine: Engine, table: str, rows: int) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {table}, {table}_audit CASCADE")
        connection.exec_driver_sql(SHAPE.table.format(name=table, rows=rows).replace("%", "%%"))
        for column in SHAPE.indexes:
            connection.exec_driver_sql(f"CREATE INDEX ON {table} ({column})")
    settle(engine, table)


FAMILY = """
DROP TABLE IF EXISTS parent, child, toy, parent_kept, child_kept, toy_kept CASCADE;
CREATE TABLE parent (id integer PRIMARY KEY, name text, at timestamptz DEFAULT '2026-02-03 16:00+00', score numeric);
CREATE TABLE child (id integer PRIMARY KEY, parent integer NOT NULL REFERENCES parent ON DELETE CASCADE, words text);
CREATE TABLE toy (id integer PRIMARY KEY, child integer NOT NULL REFERENCES child ON DELETE CASCADE, price numeric);
INSERT INTO parent SELECT g, 'name ' || g, '2026-02-03 16:00+00', g * 1.5 FROM generate_series(1, {rows}) AS g;
INSERT INTO child SELECT g, (g + 1) / 2, 'words ' || g FROM generate_series(1, 2 * {rows}) AS g;
INSERT INTO toy SELECT g, g, g * 0.5 FROM generate_series(1, 2 * {rows}) AS g;
CREATE INDEX ON child (parent); CREATE INDEX ON toy (child);
"""


def family(engine: Engine, rows: int) -> tuple[float, float]:
    """Seconds to insert so many rows with their children again by hand, and to revert their recorded delete."""
    names = ("parent", "child", "toy")
    with engine.begin() as connection:
        connection.exec_driver_sql(FAMILY.format(rows=rows))
        for name in names:
            connection.exec_driver_sql(f"CREATE TABLE {name}_kept AS TABLE {name}")
    for name in names:
        settle(engine, name)
        operate(engine, lambda op, name=name: op.create_audit_table(name, name=f"{name}_audit"))  # type: ignore[misc]
    statement(engine, "DELETE FROM parent")
    bare = statement(engine, ";".join(f"INSERT INTO {name} TABLE {name}_kept" for name in names))
    counts = {"parent": rows, "child": 2 * rows, "toy": 2 * rows}
    tables = [Table(name, f"{name}_audit", deleted=count) for name, count in counts.items()]
    fix = RecordedFix(name="remove_family", reason="benchmark", tables=tables)
    operate(engine, record(fix, "DELETE FROM parent"))
    for name in names:
        settle(engine, f"{name}_audit")
    return bare, operate(engine, lambda op: op.revert_datafix(fix))  # type: ignore[attr-defined]


def client_memory(url: str, rows: int) -> float:
    """MiB that a process of its own needs to apply, to revert and to record a fix of so many rows."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.other_costs", "--client", url, str(rows)],
        check=True,
        capture_output=True,
        text=True,
    )
    return float(run.stdout)


def client(url: str, rows: int) -> None:
    engine = create_engine(url)
    fix = fix_of("memory", rows)
    operate(engine, lambda op: op.create_audit_table("memory", name=fix.audit))  # type: ignore[attr-defined]
    operate(engine, lambda op: op.apply_datafix(fix))  # type: ignore[attr-defined]
    operate(engine, lambda op: op.revert_datafix(fix))  # type: ignore[attr-defined]
    operate(
        engine,
        record(
            recorded_fix_of("memory", rows), f"UPDATE memory SET {SHAPE.assignments} WHERE status = 'open'"
        ),
    )
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def import_cost() -> tuple[float, list[str]]:
    """Milliseconds that datafixes adds to ``import alembic``, and its five dearest modules.

    Alembic loads the plugin by itself, so "alembic alone" is run without entry points; what counts is the time spent in
    the modules that come on top.
    """
    alone = "import importlib.metadata as m; m.entry_points = lambda **_: (); import alembic"
    both = "import alembic, datafixes, datafixes.operations"

    def modules(program: str) -> dict[str, float]:
        run = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", program], check=True, capture_output=True, text=True
        )
        lines = (
            line.split("|") for line in run.stderr.splitlines() if line.count("|") == 2 and "self" not in line
        )
        return {name.strip(): int(own.removeprefix("import time:")) / 1000 for own, _, name in lines}

    known = modules(alone)
    runs = [modules(both) for _ in range(7)]
    added = sorted({name for run in runs for name in run} - known.keys())
    cost = {name: statistics.median(run.get(name, 0.0) for run in runs) for name in added}
    dearest = sorted(cost, key=lambda name: -cost[name])[:5]
    return sum(cost.values()), [f"{name} {cost[name]:.1f}" for name in dearest]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--postgresql", type=int, choices=(16, 18), default=18)
    parser.add_argument("--client", nargs=2, metavar=("URL", "ROWS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        client(options.client[0], int(options.client[1]))
        return
    # Every commit is on disk, as in production; memory and WAL sized so that the disk does not drown the ratios.
    durable = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
    durable |= {"shared_buffers": "512MB", "max_wal_size": "8GB", "checkpoint_timeout": "30min"}
    with embedded_server(None, options.postgresql, durable) as url:
        engine = create_engine(url)
        rows = options.rows // 3
        bare, reverted = family(engine, rows)
        print(
            f"{f'revert of a delete, {rows:,} + 2 tables':34} {reverted / bare:6.2f}   of inserting them by hand"
            f" ({reverted:.2f} s / {bare:.2f} s)"
        )
        for rows in (options.rows // 10, options.rows):
            build(engine, "memory", rows)
            with engine.begin() as connection:
                ours = "SELECT run_id FROM datafix_run WHERE fix IN ('close_memory', 'record_memory')"
                connection.exec_driver_sql(verbatim(connection, UNPROTECTED))
                connection.exec_driver_sql(f"DELETE FROM datafix_run_table WHERE run_id IN ({ours})")
                connection.exec_driver_sql(f"DELETE FROM datafix_run WHERE run_id IN ({ours})")
                connection.exec_driver_sql(verbatim(connection, PROTECTED))
            print(
                f"{f'client memory at {rows:,} rows':34} {client_memory(url, rows):6.1f}   MiB, goal: constant"
            )
        each, ratio = seals(engine, options.rows)
        print(f"{'sealing, CPU of the backend':34} {each:6.1f}   us an image, goal <= 7")
        print(
            f"{'verify-audit, CPU of both sides':34} {ratio:6.2f}   of a CSV COPY of the same images, goal <= 2"
        )
        engine.dispose()
    cost, dearest = import_cost()
    print(f"{'import datafixes after alembic':34} {cost:6.1f}   ms, goal <= 30   ({', '.join(dearest)})")


if __name__ == "__main__":
    main()
