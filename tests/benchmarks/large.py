"""What batches cost, as ratios to one bare UPDATE and to a loop written by hand: ``make bench-large``.

The loop by hand changes as many rows at a time, by key, and copies nothing. Every action has a fresh table, vacuumed and
analyzed, after a checkpoint; autovacuum is off, so nobody analyzes the new audit table: see beside.py for the rest.
"""

import argparse
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection  # noqa: N812 - a class

from datafixes import AtMost, Batches, DataFix, Rows, Update, sql
from datafixes.database.embedded import embedded_server
from datafixes.script.apply import apply_script
from datafixes.script.batched import opening_script, work_statement
from datafixes.script.context import Context
from datafixes.script.frame import Limits
from tests.benchmarks.bench import SERVER, build
from tests.benchmarks.measuring import ask, connect, cpu_of, run
from tests.benchmarks.scripts import script
from tests.benchmarks.shapes import SHAPES

_SHAPE = SHAPES["indexes"]
_BY_HAND = """
DO $by_hand$
DECLARE
    cursor bigint := 0;
    up     bigint;
BEGIN
    LOOP
        SELECT max(id) INTO up FROM (SELECT id FROM {table} WHERE id > cursor ORDER BY id LIMIT {batch}) AS next;
        EXIT WHEN up IS NULL;
        UPDATE {table} SET {set} WHERE id > cursor AND id <= up AND status = 'open';
        COMMIT;
        cursor := up;
    END LOOP;
END
$by_hand$
"""


@dataclass(frozen=True)
class Cost:
    """Seconds by the clock, and of the CPU of all backends."""

    wall: float
    cpu: float


def fix_of(table: str, rows: int, batch: int) -> DataFix:
    """The fix that the batches apply."""
    columns = {
        name: sql(value["sql"]) if isinstance(value, dict) else value for name, value in _SHAPE.set.items()
    }
    return DataFix(
        name=f"close_{table}",
        reason="benchmark",
        change=Update(table, set=columns, where="status = 'open'"),
        rows=Rows(key="id", expect=AtMost(rows)),
        audit=f"{table}_audit",
        batches=Batches(rows=batch, workers=8),
    )


def cpu(connections: list[Connection]) -> float:
    """Seconds of CPU that the backends of the connections have used."""
    return sum(cpu_of(one.info.backend_pid) for one in connections)


def cost_of(connections: list[Connection], work: Callable[[Connection], None]) -> Cost:
    """Work on all connections, side by side."""
    before, wall = cpu(connections), time.perf_counter()
    threads = [threading.Thread(target=work, args=(one,)) for one in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Cost(time.perf_counter() - wall, cpu(connections) - before)


def bare(connections: list[Connection], table: str, _rows: int, _batch: int) -> Cost:
    """One UPDATE."""
    statement = f"UPDATE {table} SET {_SHAPE.assignments} WHERE status = 'open'"
    return cost_of(connections[:1], lambda one: run(one, statement))


def by_hand(connections: list[Connection], table: str, _rows: int, batch: int) -> Cost:
    """A loop over the key, without copies."""
    statement = _BY_HAND.format(table=table, batch=batch, set=_SHAPE.assignments.replace("%", "%%"))
    return cost_of(connections[:1], lambda one: run(one, statement))


def batches(connections: list[Connection], table: str, rows: int, batch: int) -> Cost:
    """The fix in batches, a worker for each connection, its opening and its last transaction included."""
    own, fix = connections[0], fix_of(table, rows, batch)
    run(own, script("audit", table, rows, dict(_SHAPE.set)), f"VACUUM ANALYZE {table}", "CHECKPOINT")
    context, limits = Context(), Limits("5s", "0")
    work = work_statement(fix, context, limits)

    def repeat(connection: Connection) -> None:
        while ask(
            connection,
            f"SELECT count(*) FROM datafix_range JOIN datafix_run USING (run_id) WHERE fix = '{fix.name}' AND NOT done",
        ):
            run(connection, work)

    first = cost_of([own], lambda one: run(one, f"BEGIN;\n{opening_script(fix, context, limits).text}COMMIT"))
    middle = cost_of(connections, repeat)
    last = cost_of([own], lambda one: run(one, f"BEGIN;\n{apply_script(fix, context, limits).text}COMMIT"))
    if (done := ask(own, f"SELECT count(*) FROM {table}_audit")) != 2 * rows:
        raise SystemExit(f"{done} images of {rows} rows")
    return Cost(first.wall + middle.wall + last.wall, first.cpu + middle.cpu + last.cpu)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--batch", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--postgresql", type=int, choices=(16, 18), default=18)
    options = parser.parse_args()
    actions = {
        "by hand, 1 worker": (by_hand, 1),
        "batches, 1 worker": (batches, 1),
        "batches, 2 workers": (batches, 2),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in actions}
    bares: list[Cost] = []
    with embedded_server(None, options.postgresql, SERVER) as url:
        connections = [connect(url), connect(url)]
        for number in range(options.rounds):
            costs: dict[str, Cost] = {}
            for place, (name, (action, workers)) in enumerate({"bare": (bare, 1), **actions}.items()):
                table = f"book_{number}_{place}"
                build(connections[0], _SHAPE, table, options.rows)
                costs[name] = action(connections[:workers], table, options.rows, options.batch)
                run(
                    connections[0],
                    f"DROP TABLE {table} CASCADE",
                    f"DROP TABLE IF EXISTS {table}_audit CASCADE",
                )
            bares.append(costs["bare"])
            for name in actions:
                ratio = costs[name].cpu / costs["bare"].cpu, costs[name].wall / costs["bare"].wall
                found[name].append(ratio)
                print(
                    f"  round {number + 1} of {options.rounds}: {name}, CPU {ratio[0]:.2f}, wall {ratio[1]:.2f}",
                    file=sys.stderr,
                    flush=True,
                )
        for one in connections:
            one.close()
    middle = statistics.median(one.wall for one in bares)
    print(
        f"PostgreSQL {options.postgresql}, {options.rows:,} rows in batches of {options.batch:,}, {options.rounds} rounds;"
    )
    print(f"bare UPDATE {middle:.1f} s. Ratios to it, median (lowest-highest):\n\n{'':24} {'CPU':20} wall")
    for name, ratios in found.items():
        columns = (
            f"{statistics.median(figures):5.2f} ({min(figures):.2f}-{max(figures):.2f})"
            for figures in zip(*ratios, strict=True)
        )
        print(f"{name:24} {'  '.join(columns)}")
    hand, own = (statistics.median(c for c, _ in found[name]) for name in list(actions)[:2])
    print(f"\nbatches / by hand, CPU: {own / hand:.2f}")


if __name__ == "__main__":
    main()
