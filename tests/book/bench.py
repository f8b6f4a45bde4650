"""What comparing the book with the broker costs beside the broker's answer: ``make bench``."""

import argparse
import datetime as dt
import statistics
import time
import tracemalloc
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import create_engine

from datafixes.book.compare.reconciling import reconcile
from datafixes.book.positions.position import Answer, BrokerPosition, Fill, Known
from datafixes.book.positions.symbols import Symbol, parse_symbol
from datafixes.book.report.reconcile import document_of_reconciliation
from datafixes.book.settings import BookSettings
from datafixes.database.embedded import embedded_server
from datafixes.project import Project
from datafixes.report.terminal import to_terminal

TABLE = """
CREATE TABLE active_positions (
    id serial PRIMARY KEY, account_name varchar(50), ticker varchar(10), option_symbol text, instrument_type varchar(20),
    strategy_type varchar(20),
    side varchar(10), status varchar(20), quantity numeric(12,4), entry_price numeric(12,4), entry_time timestamp,
    closed_at timestamp, updated_at timestamp);
INSERT INTO active_positions (account_name, ticker, option_symbol, instrument_type, side, status, quantity, entry_price, entry_time)
SELECT 'a' || a, 'ABC', 'ABC300215P' || lpad(n::text, 8, '0'), 'PUT', 'long', 'open', 1, 1, '2026-01-01'
  FROM generate_series(1, {accounts}) AS a, generate_series(1, {rows}) AS n;
CREATE INDEX ON active_positions (status, account_name);
ANALYZE active_positions;
"""


@dataclass(frozen=True)
class Holds:
    """A broker that answers at once: what it says for one account is made anew each time."""

    rows: int

    def positions(self, account: str, *, since: dt.datetime) -> Answer:
        """All but one of the book's, so that there is something to tell."""
        symbols = (parse_symbol(f"ABC300215P{n:08d}") for n in range(2, self.rows + 1))
        return Known([BrokerPosition(symbol, Decimal(1)) for symbol in symbols])

    def fills(self, account: str, symbols: Collection[Symbol], *, after: dt.datetime) -> Sequence[Fill]:
        """None."""
        return []


def project_of(url: str, accounts: int) -> Project:
    names = ",".join(f"a{number}=env:NONE" for number in range(1, accounts + 1))
    return Project.read(
        flags=(f"url={url}", f"broker_accounts={names}", "book_table=public.active_positions")
    )


def seconds(rows: int, project: Project) -> tuple[float, float]:
    """Of CPU, for the broker's answers alone, and for a reconciliation with its report."""
    broker, now = Holds(rows), dt.datetime.now(dt.UTC)
    began = time.process_time()
    for account in BookSettings.of(project.settings).broker_accounts:
        broker.positions(account, since=now)
    answered = time.process_time()
    to_terminal(document_of_reconciliation(reconcile(project, broker)), None)
    return answered - began, time.process_time() - answered


def peak(rows: int, project: Project) -> float:
    """MiB at the most while it runs."""
    tracemalloc.start()
    reconcile(project, Holds(rows))
    most = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    rows = parser.parse_args().rows
    with embedded_server(None, 18) as url:
        engine = create_engine(url)
        for accounts in (2, 8):
            with engine.begin() as connection:
                connection.exec_driver_sql("DROP TABLE IF EXISTS active_positions")
                connection.exec_driver_sql(TABLE.format(accounts=accounts, rows=rows))
            project = project_of(url, accounts)
            rounds = [seconds(rows, project) for _ in range(3)]
            beside = statistics.median(whole - answer for answer, whole in rounds)
            goal = ", goal <= 0.3" if accounts == 2 else ""
            print(
                f"{f'reconcile of {accounts} x {rows:,}, CPU':34} {beside:6.2f}   s beside the broker's answer{goal}"
            )
            print(f"{'memory of it':34} {peak(rows, project):6.1f}   MiB, goal: the same for more accounts")
        engine.dispose()


if __name__ == "__main__":
    main()
