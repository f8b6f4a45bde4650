"""What a transaction costs: seconds, the CPU of its backend, and WAL."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class


@dataclass(frozen=True)
class Cost:
    """The cost of one transaction: seconds by the clock, seconds of its backend's CPU, and bytes of WAL."""

    wall: float
    cpu: float
    wal: float

    def over(self, before: "Cost", after: "Cost") -> "Cost":
        """The cost as a ratio to the mean of what ran right before and right after it."""
        return Cost(
            2 * self.wall / (before.wall + after.wall),
            2 * self.cpu / (before.cpu + after.cpu),
            2 * self.wal / (before.wal + after.wal),
        )


def connect(url: str) -> Connection:
    """A connection to a database of the server; each statement is committed by itself."""
    connection = psycopg2.connect(url.replace("postgresql+psycopg2", "postgresql"))
    connection.autocommit = True
    return connection


def ask(connection: Connection, question: str) -> float:
    """The one number that a query returns."""
    with connection.cursor() as cursor:
        cursor.execute(question)
        return float(cursor.fetchone()[0])


def run(connection: Connection, *statements: str) -> None:
    """Run statements, each in a transaction of its own."""
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process with one thread has used, to the nanosecond: backends have one."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def measured(connection: Connection, script: str) -> Cost:
    """Run a script in one transaction, commit it, and return what that cost."""

    def now() -> tuple[float, float, float]:
        wal = ask(connection, "SELECT pg_current_wal_insert_lsn() - '0/0'")
        return time.perf_counter(), cpu_of(connection.info.backend_pid), wal

    before = now()
    run(connection, f"BEGIN;\n{script};\nCOMMIT")
    after = now()
    return Cost(*(late - early for late, early in zip(after, before, strict=True)))


def settle(connection: Connection, *tables: str) -> None:
    """The same starting point for every measurement: statistics, no dead rows, no dirty pages."""
    run(connection, *(f"VACUUM ANALYZE {table}" for table in tables), "CHECKPOINT")


Action = Callable[[Connection, str], Cost]
"""What is measured: a function of a connection and the name of a fresh table."""
