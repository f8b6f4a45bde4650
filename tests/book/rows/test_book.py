"""The book as it is read: every row exactly, or what is wrong with it; quick also where it is large."""

import datetime as dt
import tracemalloc
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from datafixes.book.compare.reconciling import Reconciliation, reconcile
from datafixes.book.positions.position import (
    Answer,
    BookPosition,
    BrokerPosition,
    Difference,
    Fill,
    Known,
    Unknown,
)
from datafixes.book.positions.symbols import Stock, Symbol, parse_symbol
from datafixes.book.propose.conditions import Target, witness_of
from datafixes.book.report.reconcile import summary
from datafixes.book.rows.book import Book, read_book
from datafixes.errors import DatafixError, SettingError
from datafixes.project import Project
from tests.book.books import BOOK, new_row
from tests.book.compare.both import compare
from tests.book.rows.lambda_server import NAME, lambdas, on
from tests.projects import our_project
from tests.servers import Database

NOW = dt.datetime(2026, 2, 4, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Holds:
    """A broker that says what a test says."""

    answers: dict[str, Answer]

    def positions(self, account: str, *, since: dt.datetime) -> Answer:
        return self.answers[account]

    def fills(self, account: str, symbols: Collection[Symbol], *, after: dt.datetime) -> Sequence[Fill]:
        return []


def project_of(database: Database, *flags: str) -> Project:
    return Project.read(flags=(f"url={database.url}", *flags))


@pytest.fixture
def book(database: Database) -> Database:
    ran = our_project(database).alembic("upgrade", "013")
    assert ran.code == 0, ran.err
    database.psql(BOOK, "-v", "ON_ERROR_STOP=1")
    return database


def test_open_and_closing_rows_are_read_whatever_the_session_prefers(book: Database) -> None:
    book.execute(
        f"ALTER DATABASE {book.name} SET timezone = 'Asia/Tokyo'",
        f"ALTER DATABASE {book.name} SET datestyle = 'German'",
    )
    book.execute(
        new_row(side="sell", quantity="2.0000", entry_price="0.1", entry_time="2026-02-03 12:00:00.000001")
    )
    read = read_book(project_of(book))
    assert [row.id for row in read.rows] == [13, 16, 19, 21, 24, 28, 29, 30, 32, 33, 34]
    assert read.unreadable == ()
    assert read.source == "public.active_positions, PostgreSQL"
    first, last = read.rows[0], read.rows[-1]
    opened = dt.datetime(2026, 2, 2, 16, 1, tzinfo=dt.UTC)
    expected = BookPosition(
        13, "large", Stock("NOW"), Decimal(4), opened, Decimal("105.1"), "NOW", "swing_trade"
    )
    assert first == expected
    assert (last.quantity, last.entry_price) == (Decimal(-2), Decimal("0.1"))
    assert last.opened_at == dt.datetime(2026, 2, 3, 12, 0, 0, 1, tzinfo=dt.UTC)
    assert {row.written for row in read.rows} >= {"QCOM", "QCOM260220P00145000"}


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no account": ({"account_name": None}, "it has no account"),
    "no symbol": ({"ticker": "N/A?"}, "'N/A?' is neither a ticker nor an OCC option symbol such as CRM260227P00200000"),
    "zero": ({"quantity": 0}, "its quantity is zero"),
    "negative": ({"quantity": "-5.5"}, "its quantity is negative (-5.5): the direction belongs in side"),
    "fraction": ({"quantity": "0.5"}, "its quantity is a fraction (0.5)"),
    "nan": ({"quantity": "NaN"}, "its quantity is 'NaN'"),
    "side": ({"side": "flat"}, "its side is 'flat': neither long (buy) nor short (sell)"),
    "time": ({"entry_time": "infinity"}, "its entry_time is 'Infinity' seconds from 1970"),
    "price": ({"entry_price": "NaN"}, "its entry_price is 'NaN'"),
    # Before option_symbol came, an option had nothing but its root: that is no position in the stock.
    "option": ({"instrument_type": "PUT"}, "its instrument_type is PUT, and QCOM is a STOCK"),
    "right": ({"instrument_type": "PUT", "option_symbol": "QCOM260220C00145000"},
              "its instrument_type is PUT, and QCOM260220C00145000 is a CALL"),
}  # fmt: skip


def test_a_row_that_cannot_be_compared_says_why_and_is_no_position(book: Database) -> None:
    book.execute(
        "DELETE FROM active_positions",
        *(new_row(id=n, **values) for n, (values, _) in enumerate(BAD.values())),
    )
    book.execute(new_row(id=99, side="flat", quantity=0))
    read = read_book(project_of(book))
    assert read.rows == ()
    told = {row.id: row.why for row in read.unreadable}
    assert told.pop(99) == "its side is 'flat': neither long (buy) nor short (sell); its quantity is zero"
    assert told == {n: why for n, (_, why) in enumerate(BAD.values())}
    accounts = [row.account for row in read.unreadable]
    assert accounts == [None, *["large"] * len(BAD)]


@pytest.mark.parametrize(
    ("flag", "kind", "told"),
    [
        (
            "book_table=public.no_book",
            DatafixError,
            'The book public.no_book cannot be read: relation "public.no_book"',
        ),
        ("book_table=nowhere.t", DatafixError, "The book nowhere.t cannot be read"),
        ("book_table=alembic_version", DatafixError, 'The book alembic_version cannot be read: column "id"'),
        ("book_table=.t", SettingError, "book_table is '.t' (-x book_table): write SCHEMA.TABLE"),
        ("book=postgre", SettingError, "book is 'postgre' (-x book): write postgres, or lambda:NAME"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    book: Database, flag: str, kind: type[DatafixError], told: str
) -> None:
    with pytest.raises(kind) as caught:
        read_book(project_of(book, flag))
    assert caught.value.message.startswith(told)


def test_two_accounts_of_ten_thousand_positions(book: Database) -> None:
    book.execute(
        "INSERT INTO active_positions (account_name, ticker, option_symbol, instrument_type, strategy_type, side, quantity,"
        " entry_price, entry_time) SELECT a, 'ABC', 'ABC260220P' || lpad(n::text, 8, '0'), 'PUT', 'x', 'long', 1, 1,"
        " '2026-01-01' FROM unnest(ARRAY['large', 'tiny']) AS a, generate_series(1, 10000) AS n"
    )
    positions = [BrokerPosition(parse_symbol(f"ABC260220P{n:08d}"), Decimal(1)) for n in range(2, 10002)]
    broker = Holds({"large": Known(positions), "tiny": Known(positions)})
    project = project_of(book)
    found = reconcile(project, broker)
    assert found.comparison.equal == 2 * 9_999
    assert len(found.comparison.differences) == 10 + 2 + 2


QCOM, SPY = Stock("QCOM"), Stock("SPY")


def opened_row(id_: int, account: str, ticker: str, quantity: int = 1) -> BookPosition:
    opened_at = NOW - dt.timedelta(days=1)
    return BookPosition(id_, account, Stock(ticker), Decimal(quantity), opened_at, written=ticker)


def test_an_account_that_did_not_answer_is_unknown_and_casts_no_doubt_on_others(book: Database) -> None:
    held = [BrokerPosition(SPY, Decimal(2))]
    broker = Holds({"large": Known(held), "tiny": Unknown("it says 401")})
    found = reconcile(project_of(book), broker, now=NOW)
    assert found.comparison.unknown == {"tiny": "it says 401"}
    assert {one.account for one in found.comparison.differences} == {"large"}
    assert not found.is_certain
    assert summary(found) == "6 differences (6 phantom), 1 position equal, 1 account unknown."
    alone = found.only("large")
    assert (alone.is_certain, alone.comparison.equal, len(alone.book.rows)) == (True, 1, 6)
    assert not found.only("tiny").comparison.differences
    with pytest.raises(DatafixError, match=r"have an account larg\. Known: large, tiny"):
        found.only("larg")


def test_only_one_account_still_says_that_the_position_is_in_the_other() -> None:
    moved = Difference("account", "large", QCOM, (3,), Decimal(5), Decimal(5), "tiny")
    rows = (opened_row(3, "large", "QCOM", 5),)
    answers: dict[str, Answer] = {"large": Known([]), "tiny": Known([BrokerPosition(QCOM, Decimal(5))])}
    found = compare(rows, answers, now=NOW, grace=dt.timedelta(0))
    whole = Reconciliation(found, Book(rows, (), NOW, ""), answers, "file:x", NOW, dt.timedelta(0))
    for account in ("large", "tiny"):
        assert whole.only(account).comparison.differences == (moved,)


def test_what_was_opened_since_the_broker_was_read_is_unsettled() -> None:
    """A file of positions is as old as it is."""
    row = BookPosition(1, "large", QCOM, Decimal(5), NOW - dt.timedelta(hours=1))
    old = {"large": Known([], read_at=NOW - dt.timedelta(hours=2))}
    found = compare([row], old, now=NOW, grace=dt.timedelta(minutes=5))
    assert (found.differences, found.unsettled[0].why) == ((), "opened within the grace period")


@pytest.mark.parametrize("kept", ["open", "closed"])
def test_what_the_book_closed_within_the_grace_period_is_not_missing_yet(book: Database, kept: str) -> None:
    """Somebody told the book first, or the broker was read before: either way, look again."""
    now = dt.datetime.now(dt.UTC)
    times = {"closed_at": now - dt.timedelta(minutes=2), "status": kept}
    book.execute(
        new_row(id=90, ticker="BRK/B", quantity=3, **times),
        new_row(id=91, ticker="IBM", status="closed", closed_at=now - dt.timedelta(minutes=9)),
    )
    held = [BrokerPosition(Stock("BRK.B"), Decimal(4)), BrokerPosition(Stock("IBM"), Decimal(1))]
    found = reconcile(project_of(book), Holds({"large": Known(held), "tiny": Known([])})).comparison
    told = {str(one.symbol): one.kind for one in found.differences if one.kind != "phantom"}
    excused = {str(one.symbol): one.why for one in found.unsettled}
    if kept == "closed":
        assert (told, excused) == (
            {"IBM": "missing"},
            {"BRK.B": "row 90 of the book was closed within the grace period"},
        )
    else:
        assert (told, excused) == ({"BRK.B": "quantity", "IBM": "missing"}, {})


def test_two_names_for_one_account_are_both_unknown(book: Database) -> None:
    one = Known([BrokerPosition(SPY, Decimal(2))], identity="PA1")
    found = reconcile(project_of(book), Holds({"large": one, "tiny": one}))
    assert found.comparison.unknown == {
        "large": "its keys and those of tiny open the same account",
        "tiny": "its keys and those of large open the same account",
    }
    assert (found.comparison.differences, found.comparison.equal, found.book.rows) == ((), 0, ())
    other = Known([BrokerPosition(SPY, Decimal(2))], identity="PA2")
    assert reconcile(project_of(book), Holds({"large": one, "tiny": other})).comparison.unknown == {}


def test_a_row_that_is_opened_in_the_future_cannot_be_compared(book: Database) -> None:
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1)
    book.execute(
        new_row(id=92, entry_time=soon.replace(tzinfo=None)),  # clocks differ
        new_row(id=93, entry_time=soon.replace(tzinfo=None) + dt.timedelta(hours=5)),
    )
    [row] = read_book(project_of(book)).unreadable
    assert (row.id, row.why.startswith("its entry_time is in the future (20")) == (93, True)


def test_ids_that_are_no_numbers_are_one_line(book: Database) -> None:
    book.execute(
        "CREATE TABLE noted AS SELECT * FROM active_positions",
        "ALTER TABLE noted ALTER id TYPE text USING 'a' || id",
    )
    with pytest.raises(DatafixError) as caught:
        read_book(project_of(book, "book_table=noted"))
    assert caught.value.message == "The book public.noted has the id 'a13': its ids must be whole numbers."


@dataclass(frozen=True)
class HoldsTheSame:
    """A broker that makes every answer anew, as one that is asked over the network does."""

    count: int

    def positions(self, account: str, *, since: dt.datetime) -> Answer:
        return Known(
            [BrokerPosition(parse_symbol(f"ABC260220P{n:08d}"), Decimal(1)) for n in range(1, self.count + 1)]
        )

    def fills(self, account: str, symbols: Collection[Symbol], *, after: dt.datetime) -> Sequence[Fill]:
        return []


def test_more_accounts_need_no_more_memory(book: Database) -> None:
    accounts = [f"a{number}" for number in range(8)]
    book.execute(
        "DELETE FROM active_positions",
        "INSERT INTO active_positions (account_name, ticker, option_symbol, instrument_type, strategy_type, side, quantity,"
        " entry_price, entry_time) SELECT 'a' || a, 'ABC', 'ABC260220P' || lpad(n::text, 8, '0'), 'PUT', 'x', 'long', 1, 1,"
        " '2026-01-01' FROM generate_series(0, 7) AS a, generate_series(1, 1500) AS n",
    )

    def peak(names: Sequence[str]) -> int:
        settings = ",".join(f"{name}=env:NONE" for name in names)
        book.execute(
            f"UPDATE active_positions SET status = CASE WHEN account_name IN ({str(list(names))[1:-1]}) THEN 'open' ELSE 'closed' END"
        )
        project = project_of(book, f"broker_accounts={settings}")
        tracemalloc.start()
        try:
            found = reconcile(project, HoldsTheSame(1500))
            assert (found.comparison.equal, found.comparison.differences) == (1500 * len(names), ())
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(accounts[:1])  # what is loaded once
    assert peak(accounts) < 1.3 * peak(accounts[:1])


def test_rows_that_row_security_hides_are_no_proof_that_there_are_none(
    book: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = f"clerk_{book.name}"
    book.execute(
        f"CREATE ROLE {role} LOGIN",
        f"GRANT SELECT ON active_positions TO {role}",
        "ALTER TABLE active_positions ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY tiny ON active_positions USING (account_name = 'tiny')",
    )
    directly = Project.read(flags=(f"url={book.url_for(role)}",))
    with pytest.raises(DatafixError) as caught:
        read_book(directly, account="large")
    assert "row-level security policy" in caught.value.message
    assert "BYPASSRLS" in caught.value.hint
    with lambdas(monkeypatch) as account:
        account.functions[NAME] = on(book, role=role)
        for name in ("large", "tiny"):
            with pytest.raises(DatafixError, match="The book is a view, or row security hides rows of it"):
                read_book(Project.read(flags=(f"book=lambda:{NAME}",)), account=name)


@pytest.mark.parametrize("status", ["OPEN", " open ", "Closing", None])
def test_a_status_that_is_nearly_open_cannot_be_compared(book: Database, status: str | None) -> None:
    book.execute(
        new_row(id=94, ticker="IBM", status=status), new_row(id=95, account_name="mid", status=status)
    )
    book.execute(new_row(id=96, ticker="IBM", status="expired"))
    held = [BrokerPosition(Stock("IBM"), Decimal(1))]
    found = reconcile(project_of(book), Holds({"large": Known(held), "tiny": Known([])}))
    assert [(row.id, row.why.partition(":")[0]) for row in found.book.unreadable] == [
        (94, "its status is " + ("NULL" if status is None else repr(status))),
        (95, "its status is " + ("NULL" if status is None else repr(status))),
    ]
    assert "missing" not in {one.kind for one in found.comparison.differences}
    assert found.comparison.unknown == {"mid": "the settings have no such account"}
    assert found.book.counts == {"large": 8, "tiny": 3, "mid": 1}


@pytest.mark.parametrize("kind", ["OPTION", "", "PUT"])
def test_an_option_without_its_symbol_is_not_taken_for_the_stock(book: Database, kind: str) -> None:
    book.execute(
        new_row(id=94, ticker="IBM", instrument_type=kind, strike_price=5, expiration_date="2026-03-20")
    )
    [row] = read_book(project_of(book)).unreadable
    assert (row.id, row.why.startswith("its instrument_type is ")) == (94, True)


def test_a_book_that_makes_its_phantoms_anew_every_five_minutes_is_told(book: Database) -> None:
    now = dt.datetime.now(dt.UTC)
    book.execute(
        "DELETE FROM active_positions",
        *(new_row(id=n, ticker="IBM", entry_time=now - dt.timedelta(minutes=5 * n)) for n in range(30)),
    )
    found = reconcile(project_of(book), Holds({"large": Known([]), "tiny": Known([])})).comparison
    assert [(one.kind, len(one.rows)) for one in found.differences] == [("phantom", 29)]
    assert [one.rows for one in found.unsettled] == [(0,)]


@pytest.mark.parametrize("time", ["infinity", "294276-12-31", "-infinity"])
def test_times_that_python_does_not_have(book: Database, time: str) -> None:
    book.execute(
        new_row(id=94, ticker="IBM", status="closed", closed_at=time),
        new_row(id=95, ticker="GE", entry_time=time),
    )
    held = [BrokerPosition(Stock("IBM"), Decimal(1))]
    found = reconcile(project_of(book), Holds({"large": Known(held), "tiny": Known([])}))
    assert [row.id for row in found.book.unreadable] == [95]
    assert "IBM" not in {str(one.symbol) for one in found.comparison.differences if time != "-infinity"}
    target = Target("public", "active_positions", {}, "a", "public")
    assert "id = 94" in witness_of(project_of(book), target)
