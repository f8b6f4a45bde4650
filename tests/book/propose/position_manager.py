"""A stand-in for the Position Manager: it runs its queries, by id and without a guard, and counts what was accepted."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tests.servers import Database

_OPEN = (
    "SELECT id, entry_price, current_price FROM active_positions"
    " WHERE account_name = %s AND status IN ('open', 'closing') ORDER BY entry_time"
)
_CHECKED = "UPDATE active_positions SET last_checked_at = now(), check_count = coalesce(check_count, 0) + 1, updated_at = now() WHERE id = %s"
_PRICED = (
    "UPDATE active_positions SET current_price = %s, current_pnl_dollars = (%s - entry_price) * quantity,"
    " current_pnl_percent = round((%s - entry_price) / entry_price * 100, 4), last_checked_at = now(),"
    " check_count = coalesce(check_count, 0) + 1, updated_at = now() WHERE id = %s"
)
_TRAILED = (
    "UPDATE active_positions SET peak_price = greatest(coalesce(peak_price, entry_price), %s),"
    " trailing_stop_price = greatest(coalesce(peak_price, entry_price), %s)"
    " - 0.25 * (greatest(coalesce(peak_price, entry_price), %s) - entry_price) WHERE id = %s"
)
_OPENED = (
    "INSERT INTO active_positions (account_name, ticker, instrument_type, strategy_type, side, quantity, entry_price, entry_time)"
    " VALUES ('large', 'TMP', 'STOCK', 'day_trade', 'long', 1, 10, now()) RETURNING id"
)
_CLOSED = (
    "UPDATE active_positions SET status = 'closed', close_reason = 'trailing_stop', closed_at = now(), exit_price = %s,"
    " current_pnl_dollars = (%s - entry_price) * quantity, updated_at = now() WHERE id = %s"
)
HELD = (28, 29, 30)
"""What the broker has: for the others it finds no price, and says that the position does not exist."""


@dataclass
class PositionManager:
    """What it did.

    Attributes:
        checked: by row, how many of its updates of the counter the database accepted.
        prices: by row, the last price that it wrote.
        closed: by row that it opened itself, the price at which it closed it.
        errors: what went wrong, if anything did.
        rounds: how many rounds it did.
    """

    database: Database
    trails: bool
    checked: Counter[int] = field(default_factory=Counter)
    prices: dict[int, Decimal] = field(default_factory=dict)
    peaks: dict[int, Decimal] = field(default_factory=dict)
    closed: dict[int, Decimal] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    rounds: int = 0
    ends: threading.Event = field(default_factory=threading.Event)

    def work(self) -> None:
        """Round after round, until it is told to end."""
        try:
            with closing(self.database.connect()) as connection:
                connection.autocommit = True
                while not self.ends.is_set():
                    with connection.cursor() as cursor:
                        for account in ("large", "tiny"):
                            self._account(cursor, account)
                        self._open_and_close(cursor)
                    self.rounds += 1
                    self.ends.wait(0.01)
        except Exception as error:
            self.errors.append(f"{type(error).__name__}: {error}")

    def _account(self, cursor: Any, account: str) -> None:
        cursor.execute(_OPEN, (account,))
        for row, entry, _ in cursor.fetchall():
            if row not in HELD:
                cursor.execute(_CHECKED, (row,))
            else:
                price = entry + Decimal(self.rounds % 7) / 10
                cursor.execute(_PRICED, (price, price, price, row))
                self.prices[row] = price
                if self.trails:
                    cursor.execute(_TRAILED, (price, price, price, row))
                    self.peaks[row] = max(self.peaks.get(row, entry), price)
            self.checked[row] += cursor.rowcount

    def _open_and_close(self, cursor: Any) -> None:
        cursor.execute(_OPENED)
        [row] = cursor.fetchone()
        price = Decimal(self.rounds % 7) + 5
        cursor.execute(_CLOSED, (price, price, row))
        if cursor.rowcount != 1:
            self.errors.append(f"row {row} could not be closed")
        self.closed[row] = price

    def wait_for(self, rounds: int) -> None:
        """Until it did so many rounds more."""
        goal = self.rounds + rounds
        while self.rounds < goal and not self.errors:
            self.ends.wait(0.01)


@contextmanager
def working(database: Database, *, trails: bool) -> Iterator[PositionManager]:
    """It works while the context lasts."""
    manager = PositionManager(database, trails)
    thread = threading.Thread(target=manager.work, daemon=True)
    thread.start()
    try:
        manager.wait_for(3)
        yield manager
        manager.wait_for(3)
    finally:
        manager.ends.set()
        thread.join()
