"""A book of three positions, the fix that closes them, and other sessions that get in its way."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

from datafixes import DataFix, Rows, Update, sql
from tests import fixes
from tests.servers import Database

SYMBOLS = {1: "QCOM", 2: "SPY", 3: "NOW"}
AUDIT = "positions_audit"

_TABLE = """
CREATE TABLE positions (
    id     integer       PRIMARY KEY,
    symbol varchar(20)   NOT NULL,
    status varchar(20)   NOT NULL DEFAULT 'open',
    price  numeric(12,4),
    note   text
)
"""
ROWS = (
    "INSERT INTO positions (id, symbol, price)"
    " VALUES (1, 'QCOM', 148), (2, 'SPY', 690.2), (3, 'NOW', 101.5), (4, 'ORCL', 157)"
)


def lay(database: Database, *more: str) -> None:
    """Make the book and its audit table; `more` is run in between."""
    database.execute(_TABLE, ROWS, *more)
    fixes.create_audit_table(database, "positions", AUDIT)


def close(
    name: str = "close",
    *,
    set: Mapping[str, Any] | None = None,
    where: str = "status = 'open'",
    table: str = "positions",
    schema: str = "public",
    **rows: Any,
) -> DataFix:
    """The fix that closes positions 1 to 3; what a test is about, it says itself."""
    given = {"key": "id", "identity": {"symbol": "symbol"}, "expect": SYMBOLS} | rows
    if isinstance(given["expect"], int | list):
        given["identity"] = {}
    return DataFix(
        name=name,
        reason="Closed by hand at the broker.",
        change=Update(
            table, set=set or {"status": "closed", "price": sql("price / 2")}, where=where, schema=schema
        ),
        rows=Rows(**given),
        audit=AUDIT,
    )


def statuses(database: Database) -> dict[int, str]:
    """Position → status."""
    return dict(database.rows("SELECT id, status FROM positions ORDER BY id"))


@contextmanager
def session(database: Database, *statements: str, role: str = "postgres") -> Iterator[Any]:
    """Somebody else's open transaction, after these statements; rolled back at the end if nobody ends it."""
    with closing(database.connect(role)) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        yield connection


@contextmanager
def meanwhile(action: Callable[[], object]) -> Iterator[None]:
    """Run `action` in a thread during the context; what it raises comes out at the end."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            action()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    thread.join(60)
    assert not thread.is_alive(), "it hangs"
    if failed:
        raise failed[0]


def somebody_waits(database: Database, sessions: int = 1) -> list[int]:
    """Wait until so many sessions of this database wait for a lock; their process ids."""
    question = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        " AND cardinality(pg_blocking_pids(pid)) > 0"
    )
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if len(waiting := [pid for (pid,) in database.rows(question)]) >= sessions:
            return waiting
        time.sleep(0.02)
    raise AssertionError("nobody waits for a lock")
