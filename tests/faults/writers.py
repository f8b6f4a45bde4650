"""Four writers who hammer a table while a fix comes and goes, and keep a list of all that the database accepted."""

import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg2.errors

from tests.servers import Database

FIXED, ALL = 60, 120
"""The first rows are those of the fix; the others are their neighbours."""
DOOMED = range(10_001, 12_001)
"""Rows that one writer removes, one after the other."""
ADDED = 100_000
"""What the fix adds to `amount`; nobody else adds more than one at a time."""

TABLE = f"""
CREATE TABLE item (id integer PRIMARY KEY, symbol text NOT NULL, status text NOT NULL, amount integer NOT NULL, hits integer NOT NULL);
INSERT INTO item SELECT n, 'S' || n, 'open', 0, 0 FROM generate_series(1, {ALL}) AS n;
INSERT INTO item SELECT n, 'D', 'open', 0, 0 FROM generate_series({DOOMED.start}, {DOOMED.stop - 1}) AS n;
ALTER DATABASE {{}} SET deadlock_timeout = '50ms';
"""

# Slow on purpose: it takes its time between the first look at the rows and their locks, and between locks and change.
FIX = f"""
DataFix(
    name="close_items",
    reason="Closed by hand.",
    change=Update("item", set={{"status": "closed", "amount": sql("amount + {ADDED} + (SELECT 0 * id FROM pg_sleep(0.003))")}},
                  where="status = 'open' AND (SELECT id FROM pg_sleep(0.003)) = id"),
    rows=Rows(key="id", identity={{"symbol": "symbol || (SELECT left('', id) FROM pg_sleep(0.003))"}}, expect={{n: f"S{{n}}" for n in range(1, {FIXED} + 1)}}),
    audit="item_audit",
)
"""


@dataclass
class Written:
    """What the writers wrote and the database committed.

    Attributes:
        hits: row → the values of `hits` that were written, in order: each is one more than what stood there.
        amounts: the same for `amount`.
        inserted: the rows that were added.
        deleted: the rows that were removed.
        deadlocks: how often a writer had to give way.
    """

    hits: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    amounts: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    inserted: set[int] = field(default_factory=set)
    deleted: set[int] = field(default_factory=set)
    deadlocks: int = 0


class Writers:
    """Four threads with a connection each. They rest between two writes, so that others get a turn."""

    def __init__(self, database: Database, fixed_columns_of: Sequence[int]) -> None:
        self.written = Written()
        self.rounds = [0, 0, 0, 0]
        self._database, self._fixed_columns_of = database, fixed_columns_of
        self._stop = threading.Event()
        self._failed: list[BaseException] = []
        works = (self._other_columns, self._fixed_columns, self._inserts, self._deletes)
        self._threads = [
            threading.Thread(target=self._write, args=(n, work), daemon=True) for n, work in enumerate(works)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def go_on(self, rounds: int = 25) -> None:
        """Wait until each of them has written so often again."""
        wanted = [done + rounds for done in self.rounds]
        deadline = time.monotonic() + 40
        while any(done < enough for done, enough in zip(self.rounds, wanted, strict=True)):
            assert not self._failed, self._failed
            assert time.monotonic() < deadline, "the writers are stuck"
            time.sleep(0.02)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)
        assert not self._failed, self._failed

    def _write(self, number: int, work: Callable[[Any, random.Random], None]) -> None:
        chance = random.Random(number)
        try:
            with closing(self._database.connect()) as connection:
                while not self._stop.is_set() and self.rounds[number] < len(DOOMED):
                    try:
                        with connection, connection.cursor() as cursor:
                            work(cursor, chance)
                    except psycopg2.errors.DeadlockDetected:
                        self.written.deadlocks += 1
                        continue
                    self.rounds[number] += 1
                    time.sleep(0.002)
        except BaseException as error:
            self._failed.append(error)

    def _other_columns(self, cursor: Any, chance: random.Random) -> None:
        """Two rows in one transaction, in any order: now and then across the fix, which takes them in order."""
        ids = chance.sample(range(1, FIXED + 1), 2)
        values = [_add_one(cursor, "hits", row) for row in ids]
        cursor.connection.commit()
        for row, value in zip(ids, values, strict=True):
            self.written.hits[row].append(value)

    def _fixed_columns(self, cursor: Any, chance: random.Random) -> None:
        row = chance.choice(self._fixed_columns_of)
        value = _add_one(cursor, "amount", row)
        cursor.connection.commit()
        self.written.amounts[row].append(value)

    def _inserts(self, cursor: Any, _: random.Random) -> None:
        row = ALL + 1 + self.rounds[2]
        cursor.execute("INSERT INTO item VALUES (%s, 'NEW', 'open', 0, 0)", (row,))
        cursor.connection.commit()
        self.written.inserted.add(row)

    def _deletes(self, cursor: Any, _: random.Random) -> None:
        row = DOOMED[self.rounds[3]]
        cursor.execute("DELETE FROM item WHERE id = %s", (row,))
        assert cursor.rowcount == 1
        cursor.connection.commit()
        self.written.deleted.add(row)


def _add_one(cursor: Any, column: str, row: int) -> int:
    cursor.execute(f"UPDATE item SET {column} = {column} + 1 WHERE id = %s RETURNING {column}", (row,))
    [(value,)] = cursor.fetchall()
    return int(value)


@contextmanager
def writing(database: Database, fixed_columns_of: Sequence[int]) -> Iterator[Writers]:
    """Four writers at work, until the end of the context.

    Args:
        fixed_columns_of: of these rows, one of them writes a column that the fix writes too.
    """
    writers = Writers(database, fixed_columns_of)
    writers.start()
    try:
        writers.go_on()
        yield writers
        writers.go_on()
    finally:
        writers.stop()
