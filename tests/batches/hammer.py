"""Four writers who hammer a table while its fix comes and goes. What each wrote stands in the same transaction's log."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg2

from tests.batches.soaked import FIRST, LAST
from tests.servers import Database

_REST = 0.004


class Hammer:
    """Four threads with a connection each, which come back when the server does."""

    def __init__(self, database: Database, seed: float) -> None:
        self.writes: Counter[str] = Counter()
        self._database = database
        self._stop = threading.Event()
        works = (self._hit, self._reopen, self._come_and_go, self._lock_two)
        self._threads = [
            threading.Thread(target=self._write, args=(work, random.Random(seed + n)), daemon=True)
            for n, work in enumerate(works)
        ]
        self._new = 0

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), "a writer is stuck"

    def _write(self, work: Callable[[Any, random.Random], str], chance: random.Random) -> None:
        while not self._stop.is_set():
            try:
                with closing(self._database.connect()) as connection:
                    while not self._stop.is_set():
                        try:
                            with connection, connection.cursor() as cursor:
                                done = work(cursor, chance)
                            self.writes[done] += 1
                        except psycopg2.errors.DeadlockDetected:
                            self.writes["deadlocks of writers"] += 1
                        time.sleep(_REST)
            except psycopg2.Error:  # the server recovers
                time.sleep(0.05)

    def _hit(self, cursor: Any, chance: random.Random) -> str:
        row = chance.randint(FIRST, LAST)
        cursor.execute(
            "WITH u AS (UPDATE soaked SET hits = hits + 1 WHERE id = %s RETURNING id)"
            " INSERT INTO wrote SELECT id, 'hit' FROM u",
            (row,),
        )
        return "updates"

    def _reopen(self, cursor: Any, chance: random.Random) -> str:
        cursor.execute(
            "WITH u AS (UPDATE soaked SET done = false, reopened = reopened + 1 WHERE id >= %s AND id < %s AND done"
            " RETURNING id) INSERT INTO wrote SELECT id, 'reopen' FROM u",
            ((row := chance.randint(FIRST, LAST)), row + 3),
        )
        return "reopened"

    def _come_and_go(self, cursor: Any, chance: random.Random) -> str:
        if chance.random() < 0.5:
            row = chance.randint(FIRST, LAST)
            cursor.execute(
                "WITH d AS (DELETE FROM soaked WHERE id = %s AND born <> 'writer' RETURNING id)"
                " INSERT INTO wrote SELECT id, 'delete' FROM d",
                (row,),
            )
            return "deletes"
        self._new += 1
        # at both ends, and between the others
        row = chance.choice([-self._new, LAST + self._new, chance.randint(FIRST, LAST) * 3 + 1])
        cursor.execute(
            "WITH i AS (INSERT INTO soaked (id, v, born) VALUES (%s, %s, 'writer') ON CONFLICT DO NOTHING RETURNING id)"
            " INSERT INTO wrote SELECT id, 'insert' FROM i",
            (row, row * 7 + 1),
        )
        return "inserts"

    def _lock_two(self, cursor: Any, chance: random.Random) -> str:
        """Two rows against the order of the batches, with a rest between them."""
        row = chance.randint(FIRST, LAST)
        for one in (row + 30, row):
            cursor.execute("SELECT FROM soaked WHERE id BETWEEN %s AND %s FOR UPDATE", (one, one + 2))
            time.sleep(0.01)
        return "locks of two rows"
