"""What batches do to others while they run, beside a writer and autovacuum: ``make bench-large``.

A writer changes one row at a time, any row, 200 times a second: alone, beside a fix in batches, and beside the same fix in
one transaction. Its slowest writes are those that wait for the locks of the fix.
"""

import argparse
import random
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from psycopg2.extensions import connection as Connection  # noqa: N812 - a class

from datafixes.database.embedded import embedded_server
from datafixes.script.apply import apply_script
from datafixes.script.context import Context
from datafixes.script.frame import Limits
from tests.benchmarks.bench import SERVER, build
from tests.benchmarks.large import batches, fix_of
from tests.benchmarks.measuring import ask, connect, run
from tests.benchmarks.scripts import script
from tests.benchmarks.shapes import SHAPES

_SHAPE = SHAPES["indexes"]
_EVERY = 0.005
_SERVER = {**SERVER, "autovacuum": "on", "autovacuum_naptime": "5s"}
_LONGEST = (
    "SELECT max(extract(epoch FROM finished_at - started_at)) FROM datafix_run WHERE part_of IS NOT NULL"
)
_VACUUMED = "SELECT autovacuum_count FROM pg_stat_user_tables WHERE relname = '{}'"


@dataclass(frozen=True)
class Seen:
    """What was seen while something ran: seconds, the seconds of each write, bytes of WAL, and bytes of memory."""

    seconds: float
    waits: list[float]
    wal: float
    grown: int

    @property
    def line(self) -> str:
        """The figures as a line of the table."""
        half, most = (
            statistics.median(self.waits),
            statistics.quantiles(self.waits, n=100, method="inclusive")[98],
        )
        waits = f"{half * 1e3:8.2f} {most * 1e3:8.1f} {max(self.waits) * 1e3:8.0f}"
        return f"{waits} {self.seconds:8.1f} {self.wal / 2**20:8.0f} {self.grown / 2**20:8.0f}"


class Writer(threading.Thread):
    """Writes to a table until it is told to stop; ``waits`` has the seconds of each write."""

    def __init__(self, connection: Connection, table: str, rows: int) -> None:
        super().__init__()
        self.waits: list[float] = []
        self._connection, self._table, self._rows = connection, table, rows
        self._ends = threading.Event()

    def run(self) -> None:
        """Write."""
        chosen = random.Random(4)
        statement = f"UPDATE {self._table} SET priority = priority + 1 WHERE id = %s"
        with self._connection.cursor() as cursor:
            while not self._ends.wait(_EVERY):
                began = time.perf_counter()
                cursor.execute(statement, [chosen.randint(1, self._rows)])
                self.waits.append(time.perf_counter() - began)

    def stop(self) -> None:
        """Stop, and wait for the last write."""
        self._ends.set()
        self.join()


def private_memory(connection: Connection) -> int:
    """Bytes of a backend that it shares with nobody."""
    status = Path(f"/proc/{connection.info.backend_pid}/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024


def seen(own: Connection, other: Connection, table: str, rows: int, work: Callable[[], object]) -> Seen:
    """Work, beside a writer."""
    writer = Writer(other, table, rows)
    wal, memory, began = (
        ask(own, "SELECT pg_current_wal_insert_lsn() - '0/0'"),
        private_memory(own),
        time.perf_counter(),
    )
    writer.start()
    try:
        work()
    finally:
        writer.stop()
    taken = time.perf_counter() - began
    after = ask(own, "SELECT pg_current_wal_insert_lsn() - '0/0'")
    return Seen(taken, writer.waits, after - wal, private_memory(own) - memory)


def at_once(own: Connection, table: str, rows: int) -> None:
    """The same fix in one transaction."""
    run(own, script("audit", table, rows, dict(_SHAPE.set)))
    fix = replace(fix_of(table, rows, rows), batches=None)
    run(own, f"BEGIN;\n{apply_script(fix, Context(), Limits('5s', '0')).text}COMMIT")


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--batch", type=int, default=10_000)
    parser.add_argument("--postgresql", type=int, choices=(16, 18), default=18)
    options = parser.parse_args()
    rows = options.rows
    print(f"PostgreSQL {options.postgresql}, {rows:,} rows in batches of {options.batch:,}, one worker\n")
    print(
        f"{'a writer beside':20} {'median':>8} {'p99':>8} {'longest':>8} {'seconds':>8} {'WAL':>8} {'memory':>8}"
    )
    print(f"{'':20} {'ms':>8} {'ms':>8} {'ms':>8} {'':>8} {'MiB':>8} {'+ MiB':>8}", flush=True)
    with embedded_server(None, options.postgresql, _SERVER) as url:
        other = connect(url)
        actions: dict[str, Callable[[Connection, str], object]] = {
            "nothing": lambda _own, _table: time.sleep(30),
            "batches": lambda own, table: batches([own], table, rows, options.batch),
            "one transaction": lambda own, table: at_once(own, table, rows),
        }
        for place, (name, action) in enumerate(actions.items()):
            own, table = connect(url), f"book_{place}"
            build(own, _SHAPE, table, rows)
            found = seen(own, other, table, rows, lambda: action(own, table))  # noqa: B023 - called here
            print(f"{name:20} {found.line}", flush=True)
            if name == "batches":
                longest, vacuumed = ask(own, _LONGEST), ask(own, _VACUUMED.format(table))
            run(own, f"DROP TABLE {table} CASCADE", f"DROP TABLE IF EXISTS {table}_audit CASCADE")
            own.close()
        other.close()
    print(
        f"\nThe longest batch held its locks for {longest:.2f} s; autovacuum ran {vacuumed:.0f} times on its table."
    )


if __name__ == "__main__":
    main()
