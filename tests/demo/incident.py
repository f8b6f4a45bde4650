"""The incident end to end, for a human at a terminal: close seven phantom positions, and give every value back."""

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import psycopg2
from sqlalchemy.engine import make_url

from datafixes.database.embedded import embedded_server
from datafixes.errors import DatafixError
from tests.demo.loop import keep_the_book_true
from tests.demo.many_rows import kill_and_go_on
from tests.demo.terminal import ROWS, NotAsSaid, check, command, heading, say, statement, table, typed

PROJECT = Path(__file__).resolve().parents[2]
BOOK = PROJECT / "tests" / "fixtures" / "book.sql"

PHANTOMS = (13, 16, 19, 21, 24, 32, 33)
REAL = (28, 29, 30)
LONG_CLOSED = (1, 2, 3, 4, 5, 6, 7)

# Settings of the reader that would lead Alembic to another database, or into another ledger.
_FOREIGN = ("AWS_", "DATAFIXES_", "PG", "DATABASE_URL")

_POSITIONS = """
SELECT id, account_name AS account, coalesce(option_symbol, ticker) AS symbol, status, close_reason,
       entry_price, exit_price, current_pnl_dollars AS pnl
  FROM active_positions
 WHERE id >= 13
 ORDER BY id;
"""

_IMAGES = """
SELECT audit_run_id AS run, id, audit_image AS image, status, close_reason, exit_price,
       current_pnl_dollars AS pnl, closed_at::timestamp(0)
  FROM position_reconciliation_audit
 ORDER BY audit_run_id, id, audit_id;
"""

_HISTORY = """
SELECT run_id AS run, column_name, before, after
  FROM datafix_row
 WHERE target_table = 'public.active_positions' AND key = '16'
 ORDER BY run_id, column_name;
"""

_LEDGER = """
SELECT run_id AS run, fix, direction, outcome, rows_changed AS rows, applied_by, application,
       finished_at::time(0) AS finished
  FROM datafix_run
 ORDER BY run_id;
"""


@dataclass(frozen=True)
class Book:
    """The database of the demo, as the demo looks at it."""

    connection: Any
    environment: Mapping[str, str]

    def alembic(self, *words: str) -> int:
        """Run the real command, and show it."""
        return command(("alembic", *words), PROJECT, self.environment, left_out=ROWS)

    def datafixes(self, *words: str) -> int:
        """Run the real command, and show it."""
        return command(("datafixes", *words), PROJECT, self.environment)

    def run(self, sql: str) -> None:
        """Show a statement, and run it."""
        statement(sql)
        self.quietly(sql)

    def show(self, sql: str) -> list[tuple[Any, ...]]:
        """Show a query, and its rows."""
        statement(sql)
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            rows: list[tuple[Any, ...]] = cursor.fetchall()
            table([column.name for column in cursor.description], rows)
        return rows

    def quietly(self, sql: str) -> None:
        """Run statements without a word."""
        with self.connection.cursor() as cursor:
            cursor.execute(sql)

    def value(self, sql: str) -> Any:
        """The one value of a query."""
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            [(value,)] = cursor.fetchall()
        return value

    def count(self, condition: str) -> int:
        """How many positions meet a condition."""
        return int(self.value(f"SELECT count(*) FROM active_positions WHERE {condition}"))

    def unchanged(self, ids: tuple[int, ...]) -> bool:
        """Whether these rows, and no fewer, are byte for byte as they were before the fix."""
        same = self.value(
            f"SELECT count(*) FROM active_positions t JOIN pg_temp.book_before b USING (id)"
            f" WHERE id IN {ids} AND t *= b"
        )
        return bool(same == len(ids))

    def fingerprint(self) -> str:
        """One number for the whole table."""
        return str(self.value("SELECT md5(string_agg(t::text, E'\\n' ORDER BY id)) FROM active_positions t"))


def open_the_book(book: Book) -> None:
    """Revisions 012 and 013, and the rows of the incident."""
    heading("1. The book")
    say("The revisions 012 and 013 make active_positions, the book of an options-trading pipeline.")
    typed(f"export DATABASE_URL='{book.environment['DATABASE_URL']}'")
    check("exit code 0", book.alembic("upgrade", "013") == 0)
    say("Then the rows of the incident are loaded.")
    typed('psql "$DATABASE_URL" -f tests/fixtures/book.sql')
    book.quietly(BOOK.read_text(encoding="utf-8"))
    book.quietly("CREATE TEMP TABLE book_before AS TABLE active_positions")
    book.show(_POSITIONS)
    check("the book has 17 rows: these, and 1 to 7, closed long ago", book.count("true") == 17)
    check("ten are open or closing", book.count("status IN ('open', 'closing')") == 10)
    say(
        f"Seven of these ten are phantoms: {_list(PHANTOMS)}. The broker does not hold them any more, and the "
        f"book was never told. Three are real: {_list(REAL)}. A symbol alone does not tell them apart (28 and 33, "
        "29 and 32), and neither does an id alone: the book keeps making new ones."
    )


def close_the_phantoms(book: Book) -> None:
    """Revisions 014 and 015, by the real command."""
    heading("2. The fix")
    say(
        "Revision 014 makes the audit table and the ledger; 015 declares the fix. The plan runs both, reverts the fix again "
        "as a proof, and keeps nothing."
    )
    before = book.fingerprint()
    check("exit code 0", book.datafixes("plan", "--rows", "2") == 0)
    there = book.value("SELECT version_num FROM alembic_version")
    check("nothing was kept", (book.fingerprint(), there) == (before, "013"))
    say("That is what the reviewer wanted to see. Now for good:")
    check("exit code 0", book.alembic("upgrade", "head") == 0)
    book.show(_POSITIONS)
    closed = book.count(
        f"id IN {PHANTOMS} AND status = 'closed' AND close_reason = 'manual_reconciliation' AND closed_at IS NOT NULL"
        " AND exit_price = entry_price AND current_pnl_dollars = 0 AND current_pnl_percent = 0"
    )
    check("the seven phantoms are closed, each at the price at which it was entered", closed == 7)
    check("the three real positions are open, every byte as it was", book.unchanged(REAL))
    check("the seven that were closed long ago: every byte as it was", book.unchanged(LONG_CLOSED))


def ask_the_audit(book: Book) -> None:
    """What an auditor asks months later."""
    heading("3. The audit")
    say("Each changed row was copied before and after, with the table's own columns and types.")
    images = book.show(_IMAGES)
    check(
        "seven rows before, seven rows after",
        [image for _, _, image, *_ in images] == ["before", "after"] * 7,
    )
    say("What happened to position 16?")
    check("six columns changed", len(book.show(_HISTORY)) == 6)
    say("Who did it, and when? (The column reason says why.)")
    runs = book.show(_LEDGER)
    check("one run: applied, seven rows", [(run[3], run[4]) for run in runs] == [("applied", 7)])


def stand_in_the_way(book: Book) -> None:
    """A later change by somebody else: the downgrade must not lose it."""
    heading("4. Somebody changes one of these rows")
    say("Days later an operator finds the true exit price of QCOM, and writes it into the book.")
    book.run("UPDATE active_positions SET exit_price = 147.10 WHERE id = 16;")
    say("Now the fix is to be undone. That would lose the operator's price.")
    before = book.fingerprint()
    code = book.alembic("downgrade", "-1")
    check(f"refused: exit code {code}", code != 0)
    check("nothing was changed: the table is as before the attempt", book.fingerprint() == before)
    check(
        "the database is still at revision 015",
        book.value("SELECT version_num FROM alembic_version") == "015",
    )
    newest = book.value("SELECT outcome FROM datafix_run ORDER BY run_id DESC LIMIT 1")
    check("the ledger knows of the attempt: failed", newest == "failed")


def give_it_back(book: Book, before: str) -> None:
    """The way is clear again, and the downgrade restores every value."""
    heading("5. Every value comes back")
    say("The operator takes the change back, and the same command works.")
    book.run("UPDATE active_positions SET exit_price = entry_price WHERE id = 16;")
    check("exit code 0", book.alembic("downgrade", "-1") == 0)
    book.show(_POSITIONS)
    after = book.fingerprint()
    check(f"md5 of all rows, before the fix and now: {before}", after == before)
    check("all 17 rows are as they were, byte for byte", book.unchanged(LONG_CLOSED + PHANTOMS + REAL))
    say("The audit forgets nothing: a revert adds its own images, and a line in the ledger.")
    runs = book.show(_LEDGER)
    check(
        "three runs: applied, failed, reverted", [run[3] for run in runs] == ["applied", "failed", "reverted"]
    )
    say(
        "Run 2 is missing because a run takes its number when it begins: of one that fails nothing is kept, and its "
        "failure is written down afterwards, as run 3."
    )


def walk_through() -> None:
    """All of it, on a private server, of which nothing stays."""
    print("Seven phantom positions: closed, audited, and given back.")
    with embedded_server() as url, _connected(url) as book:
        directory = Path(book.value("SHOW data_directory"))
        server = int((directory / "postmaster.pid").read_text(encoding="utf-8").split()[0])
        say(f"A private PostgreSQL {book.value('SHOW server_version')} runs until the end, in {directory}.")
        open_the_book(book)
        before = book.fingerprint()
        close_the_phantoms(book)
        ask_the_audit(book)
        stand_in_the_way(book)
        give_it_back(book, before)
        keep_the_book_true(book.environment)
        kill_and_go_on(book.environment)
    heading("8. Nothing is left behind")
    check(f"the server (process {server}) has ended", _has_ended(server))
    check(f"its directory {directory} is gone", not directory.parent.exists())


@contextmanager
def _connected(url: str) -> Iterator[Book]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    # As psql and everybody else writes it; without a driver's name it means psycopg2.
    url = url.replace("postgresql+psycopg2:", "postgresql:")
    environment |= {"DATABASE_URL": url, "DATAFIXES_APPLICATION": "make demo", "PYTHONIOENCODING": "utf-8"}
    address = make_url(url)
    with closing(
        psycopg2.connect(
            host=address.query["host"],
            port=address.query["port"],
            user=address.username,
            dbname=address.database,
        )
    ) as connection:
        connection.autocommit = True
        yield Book(connection, environment)


def _has_ended(process: int) -> bool:
    deadline = time.monotonic() + 5
    while _runs(process):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    # In a container nobody may ask for the exit code of an ended process: it stays listed, as a zombie.
    state = Path(f"/proc/{process}/stat")
    return not (state.exists() and state.read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z")


def _list(ids: tuple[int, ...]) -> str:
    return f"{', '.join(map(str, ids[:-1]))} and {ids[-1]}"


def _end(number: int, _frame: FrameType | None) -> None:
    # As an exception, so that the server is stopped on the way out.
    sys.exit(128 + number)


def main() -> int:
    """Run the demo; the exit code is 0 only if every step showed what it says."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show an arrow must not end the demo.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    began = time.monotonic()
    try:
        walk_through()
    except (NotAsSaid, DatafixError, psycopg2.Error) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; the server is stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read this has read enough. Python would complain once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    say(
        f"Done in {time.monotonic() - began:.0f} seconds. The fix: alembic/versions/015_close_phantom_positions.py"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
