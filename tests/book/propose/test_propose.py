"""``datafixes propose``: one revision that passes every check, closes the gap, and can be taken back."""

import datetime as dt
import json
import os
import re
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from datafixes.book.broker.file_broker import FileBroker
from datafixes.book.positions.position import BookPosition, Difference, Fill, Unknown
from datafixes.book.positions.symbols import Stock, parse_symbol
from datafixes.book.propose.closing import closing_of, exit_of
from datafixes.book.propose.conditions import Target, ended_since
from datafixes.book.rows.book import OtherRow
from tests.book.books import PHANTOMS, REAL, Trader, new_row, trader
from tests.book.rows.lambda_server import NAME, lambdas, on
from tests.cli.commands import datafixes
from tests.named import Address
from tests.projects import Project
from tests.servers import Database, Server

BOOK = "public.active_positions"


@pytest.fixture
def book(tmp_path: Path, database: Database) -> Trader:
    return trader(tmp_path, database)


def proposed(book: Trader, *options: str) -> Path:
    """The one revision that is written, which passes ruff and `datafixes check`."""
    ran = book.run("propose", *options)
    assert ran.code == 0, ran.err
    [path] = (Path(line) for line in ran.out.splitlines())
    rules = ("--select", "E,F,UP,B,Q,W", "--ignore", "E501", "--isolated")
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", *rules, str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ran = datafixes(book.project, "check")
    assert (ran.code, "0 errors" in ran.out) == (0, True), ran.out
    return path


def upgraded(book: Trader) -> None:
    ran = book.project.alembic("upgrade", "head")
    assert ran.code == 0, ran.err


def test_the_loop_closes_and_opens_again(book: Trader) -> None:
    before = book.database.dump()[BOOK]
    path = proposed(book, "--phantoms")
    assert path.name == "016_reconcile_phantoms.py"
    text = path.read_text("utf-8")
    named = '16:("QCOM","large","long",5,dt.datetime(2026,2,2,16,20),'
    assert named in "".join(text.split())
    assert (
        "# 16 large QCOM: 5 since 2026-02-02 16:20:00 UTC at 148.0000; a neutral exit: no closing fill is known"
        in " ".join(text.replace("\n#       ", " ").split())
    )
    assert "The broker, account tiny: file " in " ".join(text.split())
    assert datafixes(book.project, "plan").code == 0
    assert book.database.dump()[BOOK] == before
    upgraded(book)
    assert book.found(code=0)["equal"] == 3
    assert book.rows("id", "close_reason = 'manual_reconciliation' AND exit_price = entry_price") == [
        (n,) for n in PHANTOMS
    ]
    assert book.project.alembic("downgrade", "015").code == 0
    assert book.database.dump()[BOOK] == before
    upgraded(book)
    ran = book.run("propose", "--phantoms", "--missing", "--duplicates", "--quantities")
    assert (ran.code, ran.out, ran.err.splitlines()[-1]) == (
        0,
        "",
        "Nothing to propose, so nothing was written.",
    )


def test_proposing_twice_gives_the_same_file(book: Trader) -> None:
    path = proposed(book, "--phantoms")
    text = path.read_bytes()
    ran = book.run("propose", "--phantoms")
    assert (ran.code, ran.out) == (0, f"{path}\n")
    assert "Pending revision 016 already covers 7 of these. Run it" in ran.err
    assert (book.written(), path.read_bytes()) == ([path.name], text)
    # What is new goes into a revision of its own, and both run.
    book.database.execute(new_row(id=60))
    book.hold([*REAL, {"account": "tiny", "symbol": "IBM", "quantity": "3", "entry_price": "1"}], empty=())
    ran = book.run("propose", "--phantoms", "--missing")
    assert ran.out.splitlines()[0] == str(path)
    ran_again = book.run("propose", "--phantoms", "--missing")
    assert sorted(ran_again.out.splitlines()) == sorted(ran.out.splitlines())
    assert book.written() == [path.name, "017_reconcile_missing_phantoms.py"]
    upgraded(book)
    found = book.found(code=0)
    assert (found["equal"], len(found["unsettled"])) == (4, 0)


def test_what_was_never_asked_for_is_not_proposed(book: Trader) -> None:
    for options in ((), ("--missing", "--quantities"), ("--phantoms", "--account", "nobody")):
        ran = book.run("propose", *options)
        assert (ran.code, ran.out) == (1 if "nobody" in options else 0, "")
    ran = book.run("propose")
    assert "Not requested: 7 of kind phantom (propose them with --phantoms)" in ran.err
    assert book.written() == []
    text = proposed(book, "--phantoms", "--account", "tiny").read_text("utf-8")
    assert ("close 3 phantoms" in text, '"large"' in text) == (True, False)


FILLED = "2026-02-03T15:00:00+00:00"


def fill(
    symbol: str, quantity: str, price: str, order: str, account: str = "large", at: str = FILLED
) -> dict[str, str]:
    return {
        "account": account, "symbol": symbol, "quantity": quantity, "price": price, "order_id": order, "filled_at": at
    }  # fmt: skip


def test_a_closing_fill_gives_the_true_price_and_any_doubt_the_neutral_one(book: Trader) -> None:
    book.hold(
        fills=[
            fill("QCOM", "-2", "147.00", "o-1"),
            fill("QCOM", "-3", "150", "o-2"),
            fill("CRM260227P00200000", "-1", "9.05", "o-3"),
            fill("NOW", "-3", "104", "o-4"),  # of 4
            fill("NOW", "-4", "99", "o-5", "tiny"),  # of the other account
            fill("ORCL260213C00155000", "1", "6", "o-6"),  # the wrong way
        ]
    )
    text = proposed(book, "--phantoms").read_text("utf-8")
    assert "closed by order o-1: -2 at 147, 2026-02-03 15:00:00 UTC, order o-2: -3 at 150" in " ".join(
        text.replace("\n#", " ").split()
    )
    assert "these do not add up to it: order o-4" in " ".join(text.replace("\n#", " ").split())
    assert "o-5" not in text
    upgraded(book)
    prices = book.rows("id, exit_price, current_pnl_dollars, current_pnl_percent", "id IN (13, 16, 21, 24)")
    assert prices == [
        (13, Decimal("105.1000"), 0, 0),
        (16, Decimal("148.8000"), Decimal("4.0000"), Decimal("0.5405")),
        (21, Decimal("7.3500"), 0, 0),
        (24, Decimal("9.0500"), Decimal("85.0000"), Decimal("10.3659")),
    ]
    assert book.project.alembic("downgrade", "015").code == 0


def test_a_fill_that_may_have_closed_another_row_gives_no_price(book: Trader) -> None:
    fills = [
        fill("QCOM", "-5", "150", "o-1"),
        fill("NOW", "-4", "104", "o-2"),
        fill("CRM260227P00200000", "-1", "9", "o-3"),
    ]
    book.hold(fills=fills)
    closed = {"status": "closed", "entry_time": "2026-02-02 15:00"}
    book.database.execute(
        new_row(id=70, ticker="QCOM", quantity=5, closed_at="2026-02-03 15:00:02", **closed),
        new_row(
            id=71, ticker="NOW", quantity=4, closed_at="2026-02-02 15:30", **closed
        ),  # before it was opened
        new_row(
            id=72,
            ticker="CRM",
            option_symbol="CRM260227P00200000",
            instrument_type="PUT",
            account_name="tiny",
            closed_at="2026-02-03 15:00",
            **closed,
        ),
    )
    text = " ".join(proposed(book, "--phantoms").read_text("utf-8").replace("\n#", " ").split())
    assert (
        "a neutral exit: these may have closed row 70 of the book, which is no longer open: order o-1" in text
    )
    assert ("closed by order o-2" in text, "closed by order o-3" in text) == (True, True)


def test_missing_positions_go_into_the_database_of_this_book_and_no_other(
    book: Trader, server: Server
) -> None:
    book.hold([*REAL, {"account": "large", "symbol": "IBM", "quantity": "3", "entry_price": "1"}])
    path = proposed(book, "--missing")
    text = " ".join(path.read_text("utf-8").split())
    assert "EXISTS (SELECT FROM public.active_positions WHERE id = 33 AND account_name = 'tiny'" in text
    with server.database("elsewhere") as fresh:
        ran = replace(book.project, database=fresh).alembic("upgrade", "head")
        assert (ran.code, "insert_missing_016: not applicable in this database" in ran.err) == (0, True), (
            ran.err
        )
        assert fresh.value("SELECT count(*) FROM active_positions") == 0
    book.database.execute("UPDATE active_positions SET status = 'closed' WHERE id = 33")
    upgraded(book)
    assert book.rows("ticker, quantity", "strategy_type = 'reconciled'") == [("IBM", 3)]


IBM = {"account": "large", "symbol": "IBM", "quantity": "3", "entry_price": "1"}


@pytest.mark.parametrize(
    "meanwhile",
    [
        new_row(id=90, ticker="IBM", quantity=3, status="closed", closed_at="2030-01-01"),
        new_row(id=90, ticker="IBM", quantity=3, status="closed", updated_at="2030-01-01"),
        new_row(id=90, ticker="ibm", quantity=1),
        new_row(id=90, ticker="IBM", quantity=3, status="stopped"),
        new_row(id=90, ticker="IBM", option_symbol="", quantity=3, status="closed", closed_at="2030-01-01"),
    ],
)
def test_a_position_that_the_book_learned_of_meanwhile_is_not_inserted(book: Trader, meanwhile: str) -> None:
    book.hold([*REAL, IBM])
    proposed(book, "--missing")
    book.database.execute(meanwhile)
    ran = book.project.alembic("upgrade", "head")
    assert (ran.code != 0, "do not meet the post-condition" in ran.out) == (True, True), ran.err
    assert book.rows("id", "upper(ticker) = 'IBM'") == [(90,)]


def test_what_the_broker_held_is_no_reason_to_insert_it_days_later(book: Trader) -> None:
    book.hold([*REAL, IBM])
    path = proposed(book, "--missing")
    text = path.read_text("utf-8")
    [until] = re.findall(r"now\(\) < timestamptz '([^']+)'", text)
    left = dt.datetime.fromisoformat(until) - dt.datetime.now(dt.UTC)
    assert dt.timedelta(hours=23) < left < dt.timedelta(hours=24)
    path.write_text(text.replace(until, "2026-02-04 15:00:00+00:00"), "utf-8")
    ran = book.project.alembic("upgrade", "head")
    assert (ran.code, "insert_missing_016: not applicable in this database" in ran.err) == (0, True), ran.err
    # It is missing still, and can be proposed anew.
    assert [one["kind"] for one in book.found(code=3)["differences"]].count("missing") == 1
    assert proposed(book, "--missing") != path


def test_a_second_row_of_a_position_stops_the_correction_of_the_first(book: Trader) -> None:
    book.database.execute(new_row(id=90, ticker="QTY", quantity=7))
    book.hold([*REAL, {"account": "large", "symbol": "QTY", "quantity": "9", "entry_price": "10"}])
    proposed(book, "--quantities")
    book.database.execute(new_row(id=91, ticker="QTY", quantity=2))
    ran = book.project.alembic("upgrade", "head")
    assert (ran.code != 0, "do not meet the post-condition" in ran.out) == (True, True), ran.err
    assert book.rows("quantity", "ticker = 'QTY'") == [(7,), (2,)]


def test_what_may_be_something_else_is_left_alone(book: Trader) -> None:
    book.database.execute(
        new_row(id=90, ticker="SPLIT", quantity=10, entry_price=100),
        new_row(id=91, ticker="LOTS", quantity=5, entry_price=100),
        new_row(id=92, ticker="LOTS", quantity=5, entry_price=120),
        new_row(id=93, ticker="PART", quantity=5),
        new_row(id=94, ticker="PART", quantity=3),
    )
    held = {"SPLIT": ("20", "50"), "LOTS": ("5", "120"), "PART": ("5", "10")}
    book.hold(
        [
            *REAL,
            *(
                {"account": "large", "symbol": s, "quantity": n, "entry_price": p}
                for s, (n, p) in held.items()
            ),
        ]
    )
    ran = book.run("propose", "--quantities", "--duplicates")
    assert (ran.code, ran.out, book.written()) == (0, "", [])
    for line in (
        "quantity large SPLIT (row 90): the broker's entry price is 50: a split, or another purchase",
        "duplicate large LOTS (rows 91, 92): row 92 differs in size, price or strategy from those that would stay",
        "duplicate large PART (rows 93, 94): row 94 differs in size, price or strategy from those that would stay",
    ):
        assert line in ran.err
    # What the book did since a file was written, it does not take back.
    book.hold([*REAL, {"account": "large", "symbol": "SPLIT", "quantity": "20", "entry_price": "100"}])
    written = time.time() - 20 * 3600
    os.utime(book.project.directory / "held.json", (written, written))
    ran = book.run("propose", "--quantities")
    assert (ran.out, "the broker's data is older than grace" in ran.err) == ("", True), ran.err


def test_a_position_under_another_name_is_neither_closed_nor_inserted(book: Trader) -> None:
    option = {"instrument_type": "CALL", "ticker": "AAPL", "option_symbol": "AAPL270219C00100000"}
    book.database.execute(
        new_row(id=90, **option, quantity=2, entry_price=5),
        new_row(id=91, ticker="BRKB"),
        new_row(id=92, ticker="FB", quantity=3, entry_price=200),
        new_row(id=93, ticker="GE", quantity=3, entry_price=100),
    )
    held = {"AAPL1270219C00100000": ("2", "5"), "BRK.B": ("1", "9"), "META": ("3", "200.5"), "F": ("3", "12")}
    positions = [
        {"account": "large", "symbol": s, "quantity": n, "entry_price": p} for s, (n, p) in held.items()
    ]
    book.hold([*REAL, *positions])
    ran = book.run("propose", "--phantoms", "--missing")
    assert ran.code == 0, ran.err
    for row, symbol, other in (
        (90, option["option_symbol"], "AAPL1270219C00100000"), (91, "BRKB", "BRK.B"), (92, "FB", "META")
    ):  # fmt: skip
        may_be = "it may be {} of the same account, under another name"
        assert f"phantom large {symbol} (row {row}): {may_be.format(other)}" in ran.err
        assert f"missing large {other}: {may_be.format(symbol)}" in ran.err
    text = Path(ran.out.strip()).read_text("utf-8")
    assert ("close 8 phantoms" in text, "insert 1 missing" in text) == (True, True)


def test_without_a_price_no_quantity_is_corrected_and_without_its_time_nothing_is(book: Trader) -> None:
    book.database.execute(new_row(id=90, ticker="QTY", quantity=7), new_row(id=91, ticker="QTY", quantity=1))
    book.database.execute(
        "UPDATE active_positions SET status = 'closed', closed_at = '2026-02-04' WHERE id = 91"
    )
    book.hold([*REAL, {"account": "large", "symbol": "QTY", "quantity": "9"}])
    ran = book.run("propose", "--quantities")
    assert (ran.out, "its entry price is unknown" in ran.err) == ("", True), ran.err
    written = time.time() - 3600
    os.utime(book.project.directory / "held.json", (written, written))
    ran = book.run("propose", "--phantoms", "--quantities")
    assert (ran.out, ran.err.count("the broker's data is older than grace")) == ("", 8), ran.err
    # Whoever knows that nothing happened in that hour may say so.
    assert book.run("-x", "grace=2h", "propose", "--phantoms").out


def test_rows_of_another_strategy_are_no_duplicates(book: Trader) -> None:
    book.database.execute(
        new_row(id=90, ticker="LOTS", quantity=5),
        new_row(id=91, ticker="LOTS", quantity=5, strategy_type="swing_trade"),
    )
    book.hold([*REAL, {"account": "large", "symbol": "LOTS", "quantity": "5", "entry_price": "10"}])
    ran = book.run("propose", "--duplicates")
    assert (ran.out, "row 91 differs in size, price or strategy" in ran.err) == ("", True), ran.err


def test_nothing_is_inserted_into_a_book_without_a_row(book: Trader) -> None:
    book.database.execute("DELETE FROM active_positions")
    ran = book.run("propose", "--missing")
    assert (ran.code, book.written()) == (0, [])
    assert "the book has no row that identifies its database" in ran.err


def test_a_broker_that_is_silent_about_fills_is_told_and_its_exits_are_neutral(
    book: Trader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object, **__: object) -> Unknown:
        return Unknown("it answers 500")

    monkeypatch.setattr(FileBroker, "fills", silent)
    ran = book.run("propose", "--phantoms")
    told = "It is unknown how the phantoms of large were closed, so their exits are neutral: it answers 500"
    assert (ran.code, told in ran.err) == (0, True), ran.err
    text = " ".join(Path(ran.out.strip()).read_text("utf-8").replace("\n#", " ").split())
    assert "a neutral exit: the broker did not say how it was closed (it answers 500)" in text


def test_all_kinds_at_once_go_up_and_come_back(book: Trader) -> None:
    execute = book.database.execute
    execute(
        *(
            new_row(id=n, ticker="DUP", quantity=2, entry_time=f"2026-02-03 12:0{60 - n}")
            for n in (51, 52, 53)
        ),
        *(new_row(id=n, ticker="CUT", quantity=1) for n in (54, 55, 56)),
        new_row(id=57, ticker="QTY", quantity=7),
        new_row(id=58, ticker="QTS", quantity=7, side="short"),
    )
    held = {"DUP": "2", "CUT": "2", "QTY": "9", "QTS": "-6", "BRK.B": "4", "AAPL1260220C00012500": "-3"}
    positions = [
        {
            "account": "large",
            "symbol": symbol,
            "quantity": n,
            "entry_price": "10" if "Q" in symbol else "1.123456",
        }
        for symbol, n in held.items()
    ]
    book.hold([*REAL, *positions])
    before = book.database.dump()[BOOK]
    path = proposed(book, "--phantoms", "--missing", "--duplicates", "--quantities")
    assert path.name == "016_reconcile_the_book.py"
    text = path.read_text("utf-8")
    names = ["insert_missing", "close_phantoms", "close_duplicates", "correct_quantities"]
    assert [line.strip() for line in text.splitlines() if "op.apply" in line] == [
        f"op.apply_datafix({n})" for n in names
    ]
    plan = datafixes(book.project, "plan")
    assert (plan.code, "All of it can be reverted" in " ".join(plan.out.split())) == (0, True), plan.out
    upgraded(book)
    found = datafixes(book.project, *book.broker, "-x", "grace=0", "reconcile", "--format", "json")
    assert (found.code, json.loads(found.out)["equal"]) == (0, 9)
    # Of the duplicates, the oldest stays, whatever its number; or as many of them as there are at the broker.
    assert book.rows("id", "id IN (51, 52, 53, 54, 55, 56) AND status = 'open'") == [(53,), (54,), (55,)]
    assert book.rows("quantity, side", "id IN (57, 58)") == [(9, "long"), (6, "short")]
    columns = "ticker, instrument_type, option_symbol, strike_price, expiration_date, side, quantity, entry_price, account_name"
    price = Decimal("1.1235")
    assert book.rows(columns, "strategy_type = 'reconciled' AND status = 'open'") == [
        (
            "AAPL1",
            "CALL",
            "AAPL1260220C00012500",
            Decimal("12.5"),
            dt.date(2026, 2, 20),
            "short",
            3,
            price,
            "large",
        ),
        ("BRK.B", "STOCK", None, None, None, "long", 4, price, "large"),
    ]
    # Prices that the Position Manager writes into the new rows do not stand in the way of a downgrade.
    execute(
        "UPDATE active_positions SET current_price = 2, check_count = 5 WHERE strategy_type = 'reconciled'"
    )
    ran = book.project.alembic("downgrade", "015")
    assert ran.code == 0, ran.err
    assert book.database.dump()[BOOK] == before


@pytest.mark.parametrize(
    ("meanwhile", "told"),
    [
        ("UPDATE active_positions SET quantity = 6 WHERE id = 16", "16 quantity is 6.0000, not 5"),
        ("UPDATE active_positions SET ticker = 'QCO' WHERE id = 16", "16 symbol is QCO, not QCOM"),
        ("UPDATE active_positions SET account_name = 'tiny' WHERE id = 16", "16 account is tiny, not large"),
        (
            "UPDATE active_positions SET entry_time = '2026-02-04' WHERE id = 16",
            "16 opened is 2026-02-04 00:00:00, not",
        ),
        ("UPDATE active_positions SET status = 'closed' WHERE id = 16", "already as wanted (16)"),
        ("UPDATE active_positions SET status = 'closed' WHERE id = 70", "do not meet the post-condition"),
        ("UPDATE active_positions SET quantity = 8 WHERE id = 72", "72 quantity is 8.0000, not 7"),
        (new_row(ticker="NEW", quantity=4), "do not meet the post-condition"),
    ],
)
def test_rows_that_are_no_longer_as_they_were_seen_stop_the_whole_revision(
    book: Trader, meanwhile: str, told: str
) -> None:
    book.database.execute(
        new_row(id=70, ticker="DUP", entry_time="2026-02-01"),
        new_row(id=71, ticker="DUP"),
        new_row(id=72, ticker="QTY", quantity=7),
    )
    more = {"DUP": "1", "QTY": "9", "NEW": "4"}
    positions = [
        {"account": "large", "symbol": symbol, "quantity": n, "entry_price": "10"}
        for symbol, n in more.items()
    ]
    book.hold([*REAL, *positions])
    proposed(book, "--phantoms", "--missing", "--duplicates", "--quantities")
    book.database.execute(meanwhile)
    before = book.database.dump()[BOOK]
    ran = book.project.alembic("upgrade", "head")
    assert ran.code != 0
    assert told in ran.out
    assert book.database.dump()[BOOK] == before
    assert book.project.versions == {"015"}


def test_nothing_is_proposed_from_doubt(book: Trader) -> None:
    book.database.execute(
        new_row(id=61, ticker="TWO", quantity=3), new_row(id=62, ticker="TWO", quantity=4),
        new_row(id=63, ticker="HALF", quantity=1), new_row(id=64, ticker="SIDE", quantity=3),
        new_row(id=65, account_name="tiny", ticker="BAD", quantity=0), new_row(id=66, account_name="other"),
    )  # fmt: skip
    held = {
        "TWO": ("9", "1"),
        "HALF": ("1.5", "1"),
        "SIDE": ("-3", "1"),
        "FREE": ("2", None),
        "PART": ("0.25", "1"),
    }
    positions = [
        {"account": "large", "symbol": symbol, "quantity": n, "entry_price": price}
        for symbol, (n, price) in held.items()
    ]
    book.hold(
        [*positions, {"account": "tiny", "symbol": "BAD", "quantity": "1", "entry_price": "1"}], empty=()
    )
    ran = book.run("propose", "--missing", "--quantities")
    assert (ran.code, ran.out, book.written()) == (1, "", [])
    for line in (
        "Left alone: quantity large TWO (rows 61, 62): several rows form this position, and it is unknown which",
        "Left alone: quantity large HALF (row 63): the broker has a fraction (1.5), which the book does not store",
        "Left alone: missing large FREE: the broker gives no entry price",
        "Left alone: missing large PART: the broker has a fraction (0.25)",
        "Not requested: 1 of kind side (to be decided by a person)",
        "Account other is unknown, so nothing is proposed for it: the settings have no such account",
        "Row 65 of the book cannot be compared: its quantity is zero",
    ):
        assert line in ran.err
    # Nor is a phantom, while any account is unknown: the position may stand there.
    ran = book.run("propose", "--phantoms")
    assert (ran.code, ran.out, book.written()) == (1, "", [])
    assert "Left alone: phantom large QCOM (row 16): it may be in other, which is unknown" in ran.err


def test_an_unknown_account_has_nothing_proposed_for_it(book: Trader) -> None:
    book.hold(empty=())
    ran = book.run("propose", "--phantoms")
    assert ran.code == 1
    assert "Account tiny is unknown, so nothing is proposed for it: " in ran.err
    assert "Left alone: phantom large QCOM (row 16): it may be in tiny, which is unknown" in ran.err
    for account in ("tiny", "large"):
        # What is asked for one account is judged by all of them.
        ran = book.run("propose", "--phantoms", "--account", account)
        assert (ran.code, ran.out) == (1, ""), ran.err
    assert book.written() == []
    # A position that stands in the account that did not answer is not closed in the other.
    book.hold([{"account": "large", "symbol": "SPY", "quantity": "2", "entry_price": "689.00"}], empty=())
    assert book.run("propose", "--phantoms").code == 1
    assert book.written() == []


def test_what_015_will_do_is_not_proposed_before_it_ran(book: Trader) -> None:
    assert book.project.alembic("downgrade", "014").code == 0
    book.database.execute(new_row(id=80))
    ran = book.run("propose", "--phantoms")
    assert ran.code == 0, ran.err
    assert "Pending revision 015 already covers 7 of these. Run it" in ran.err
    fix = Path(ran.out.splitlines()[-1]).read_text("utf-8")
    assert re.search(r"expect=\{\s*80: \(", fix)
    upgraded(book)
    assert book.found(code=0)["equal"] == 3


MOVED_ON = "UPDATE active_positions SET id = 47 WHERE id = 33"


@pytest.mark.parametrize(
    ("meanwhile", "told"),
    [
        (MOVED_ON, "as expected: 33 is missing"),
        (
            "UPDATE active_positions SET ticker = 'IBM', instrument_type = 'STOCK', option_symbol = NULL WHERE id = 33",
            "33 symbol is IBM, not QCOM",
        ),
        ("ALTER TABLE active_positions RENAME close_reason TO reason", "close_reason"),
    ],
    ids=["moved on", "another row", "another table"],
)
@pytest.mark.parametrize("new_phantom", [True, False], ids=["something new", "nothing new"])
def test_nothing_is_built_on_a_fix_that_cannot_run_any_more(
    book: Trader, meanwhile: str, told: str, new_phantom: bool
) -> None:
    assert book.project.alembic("downgrade", "014").code == 0
    book.database.execute(meanwhile, *([new_row(id=80)] if new_phantom else []))
    before = book.database.dump()
    ran = book.run("propose", "--phantoms")
    assert (ran.code, ran.out, book.written()) == (1, "", []), ran.err
    path = book.versions / "015_close_phantom_positions.py"
    assert ran.last_line.startswith(
        "FAILED: Nothing was written: pending fix close_phantom_positions (revision 015) cannot run in this database: "
    )
    assert told in ran.last_line
    assert ran.last_line.endswith(
        f"If no database has applied it, correct or delete {path}; or decline it for this database: alembic -x"
        " decline='close_phantom_positions: WHY' upgrade head. Then propose again."
    )
    assert "already covers" not in ran.err
    assert book.database.dump() == before
    assert book.project.versions == {"014"}
    if "RENAME" in meanwhile:
        return
    # What it says helps: without the file, the proposal has all of them.
    path.unlink()
    ran = book.run("propose", "--phantoms")
    assert ran.code == 0, ran.err
    upgraded(book)
    assert book.found(code=0)["equal"] == 3


def test_a_revert_that_cannot_run_any_more_is_nothing_to_build_on_either(book: Trader) -> None:
    path = proposed(book, "--phantoms")
    upgraded(book)
    fix = "close_phantoms_016"
    ran = datafixes(book.project, "revert", fix)
    assert ran.code == 0, ran.err
    book.database.execute("UPDATE active_positions SET exit_price = 1 WHERE id = 16", new_row(id=80))
    ran = book.run("propose", "--phantoms")
    assert (ran.code, ran.out) == (1, ""), ran.err
    assert "FAILED: Nothing was written: pending revision 017 could not be tried: " in ran.err
    assert "16 changed since" in ran.err
    assert [path.name, "017_revert_close_phantoms_016.py"] == book.written()


def test_who_is_in_the_way_of_a_trial_is_no_reason_to_decline_the_fix(book: Trader) -> None:
    assert book.project.alembic("downgrade", "014").code == 0
    book.database.execute(new_row(id=80))
    with closing(book.database.connect()) as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLE active_positions IN SHARE MODE")
        ran = book.run("-x", "lock_timeout=100ms", "-x", "lock_attempts=1", "propose", "--phantoms")
    assert (ran.code, ran.out, book.written()) == (1, "", []), ran.err
    assert "FAILED: Nothing was written: pending revision 015 could not be tried:" in ran.err
    assert ("lock timeout" in ran.err, "decline" in ran.err) == (True, False), ran.err


def test_a_pending_revision_that_commits_by_itself_is_to_be_run_first(book: Trader) -> None:
    block = "with op.get_context().autocommit_block():\n        op.execute('VACUUM active_positions')\n    op.revert_datafix('close_phantom_positions')"
    pending = book.project.directory / book.project.migrations / "versions/016_vacuum.py"
    pending.write_text(
        f"from alembic import op\n\nrevision = '016'\ndown_revision = '015'\n\n\ndef upgrade():\n    {block}\n"
    )
    book.database.execute(new_row(id=80))
    ran = book.run("propose", "--phantoms")
    assert (ran.code, ran.out) == (1, ""), ran.err
    assert (
        "FAILED: Nothing was written: pending revision 016 cannot be tried: revision 016 commits by itself"
        in ran.err
    )
    assert "Upgrade to 016: alembic upgrade 016. Then propose again." in ran.err
    # What it says helps.
    assert book.project.alembic("upgrade", "016").code == 0
    ran = book.run("propose", "--phantoms")
    assert ran.code == 0, ran.err


def test_through_the_lambda_nothing_is_built_on_what_cannot_be_tried(
    book: Trader, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert book.project.alembic("downgrade", "014").code == 0
    with lambdas(monkeypatch) as account:
        account.functions[NAME] = on(book.database)
        settings = ("-x", f"book=lambda:{NAME}", "-x", f"broker=file:{book.project.directory / 'held.json'}")
        ran = datafixes(book.project, *settings, "propose", "--phantoms")
    assert (ran.code, ran.out, book.written()) == (1, "", [])
    assert "pending revision 015 cannot be tried through the Lambda" in ran.err


def test_through_the_lambda_a_revision_is_written_and_the_database_is_asked_for(
    book: Trader, monkeypatch: pytest.MonkeyPatch
) -> None:
    directly = proposed(book, "--phantoms")
    fix = directly.read_text("utf-8").partition("rows=Rows")[2]
    directly.unlink()
    with lambdas(monkeypatch) as account:
        account.functions[NAME] = on(book.database)
        nowhere = Project(
            book.project.directory, Database("none", 18, Address("/nowhere"), Path()), migrations="alembic"
        )
        settings = ("-x", f"book=lambda:{NAME}", "-x", f"broker=file:{book.project.directory / 'held.json'}")
        ran = datafixes(nowhere, *settings, "propose", "--phantoms")
    assert ran.code == 0, ran.err
    assert (
        f"through the Lambda {NAME}, which only answers SELECT: alembic upgrade needs the database itself."
        in ran.err
    )
    assert Path(ran.out.strip()).read_text("utf-8").partition("rows=Rows")[2] == fix
    upgraded(book)


def test_without_an_audit_table_nothing_is_written(book: Trader) -> None:
    book.database.execute("CREATE SCHEMA other; CREATE TABLE other.book AS SELECT * FROM active_positions")
    ran = book.run("-x", "book_table=other.book", "propose", "--phantoms")
    assert (ran.code, ran.out, book.written()) == (1, "", [])
    assert "FAILED: other.book has no audit table, and no revision creates one." in ran.err


def test_where_revisions_have_no_numbers_the_id_comes_from_what_was_found(book: Trader) -> None:
    (book.versions / "016.py").write_text(
        'revision = "abc"\ndown_revision = "015"\n\n\ndef upgrade():\n    pass\n\n\ndef downgrade():\n    pass\n',
        "utf-8",
    )
    upgraded(book)
    path = proposed(book, "--phantoms")
    path.unlink()
    assert proposed(book, "--phantoms") == path
    assert path.name.partition("_")[0] != "017"


def test_help_fits_a_screen() -> None:
    ran = datafixes(None, "propose", "--help")
    lines = ran.out.splitlines()
    assert (ran.code, len(lines) <= 24, max(map(len, lines)) <= 80) == (0, True, True), ran.out


OPENED = dt.datetime(2026, 2, 2, tzinfo=dt.UTC)


def closed(quantity: int, *fills: tuple[int, str, int]) -> Decimal | None:
    """The exit price of a row, for fills of (quantity, price, days after it was opened)."""
    row = BookPosition(1, "large", Stock("QCOM"), Decimal(quantity), OPENED, Decimal(100))
    one = Difference("phantom", "large", Stock("QCOM"), (1,), row.quantity, Decimal(0))
    given = [
        Fill(Stock("QCOM"), Decimal(n), Decimal(price), OPENED + dt.timedelta(days=days), f"o{number}")
        for number, (n, price, days) in enumerate(fills)
    ]
    return closing_of(one, [row], given, ()).price


def test_several_rows_have_a_price_only_where_all_of_it_was_sold_after_the_last_was_opened() -> None:
    rows = [
        BookPosition(n, "large", Stock("QCOM"), Decimal(2), OPENED + dt.timedelta(days=n), Decimal(100))
        for n in (0, 3)
    ]
    one = Difference("phantom", "large", Stock("QCOM"), (0, 3), Decimal(4), Decimal(0))
    for days, price in ((4, Decimal(110)), (2, None)):
        sales = [
            Fill(Stock("QCOM"), Decimal(-2), Decimal(110), OPENED + dt.timedelta(days=d), "o")
            for d in (days, 5)
        ]
        assert closing_of(one, rows, sales, ()).price == price
    # An order of which the rest was canceled: when its part was filled, nobody says.
    part = Fill(Stock("QCOM"), Decimal(-4), Decimal(110), OPENED + dt.timedelta(days=9), "o", is_whole=False)
    assert closing_of(one, rows, [part], ()).price is None
    for other, price in (
        (OtherRow(8, "large", Stock("QCOM"), "closed", None), None),
        (OtherRow(8, "large", Stock("QCOM"), "closed", OPENED - dt.timedelta(days=1)), Decimal(110)),
    ):
        assert closing_of(one, rows, [replace(part, is_whole=True)], [other]).price == price


@pytest.mark.parametrize(
    ("quantity", "fills", "price"),
    [
        (5, [(-5, "101.123456", 1)], "101.1235"),
        (-5, [(2, "99", 1), (3, "98", 1)], "98.4"),
        (5, [(-5, "101", -1)], None),  # before it was opened
        (5, [(-4, "101", 1)], None),
        (5, [(-6, "101", 1)], None),
        (5, [(5, "101", 1)], None),
        (5, [(-5, "101", 1), (5, "90", 2), (-5, "91", 3)], None),  # which of the two, nobody says
        (5, [(-5, "12", 1), (5, "30", 2)], None),  # the incident: a short, and by hand back
        (5, [(5, "100", 0), (-5, "101", 1)], "101"),  # its own purchase
        (5, [], None),
    ],
)
def test_fills_are_an_exit_only_where_they_close_exactly_what_the_book_has(
    quantity: int, fills: list[tuple[int, str, int]], price: str | None
) -> None:
    assert closed(quantity, *fills) == (None if price is None else Decimal(price))


def test_gain_and_loss_are_those_of_the_side_and_of_a_hundred_shares_for_an_option() -> None:
    option = BookPosition(
        1, "large", parse_symbol("QCOM260220P00145000"), Decimal(-2), OPENED, Decimal("4.10")
    )
    found = exit_of(option, Decimal("3.05"))
    assert found is not None
    assert (found.dollars, found.percent) == (Decimal(210), Decimal("25.6098"))
    for price in (None, Decimal(0)):
        assert exit_of(BookPosition(1, "large", Stock("A"), Decimal(1), OPENED, price), Decimal(5)) is None
    adjusted = BookPosition(1, "large", parse_symbol("AAPL1260220C00012500"), Decimal(1), OPENED, Decimal(2))
    assert exit_of(adjusted, Decimal(5)) is None
    cheap = BookPosition(1, "large", Stock("A"), Decimal(1), OPENED, Decimal("0.0001"))
    assert exit_of(cheap, Decimal(5)) is None


@pytest.mark.parametrize(
    ("table", "closed", "updated", "alias", "time"),
    [
        ("other", "", "", "another", "timestamp '2026-02-02 00:00:00'"),
        ("book", " with time zone", " with time zone", "other", "timestamptz '2026-02-02 00:00:00+00:00'"),
        ("book", " with time zone", " without time zone", "other", "1769990400"),
    ],
)
def test_conditions_of_a_book_of_another_name_and_with_times_of_other_kinds(
    table: str, closed: str, updated: str, alias: str, time: str
) -> None:
    columns = {"closed_at": f"timestamp{closed}", "updated_at": f"timestamp{updated}"}
    condition = ended_since(Target("public", table, columns, "a", "public"), OPENED)
    assert (f"FROM public.{table} AS {alias} WHERE" in condition, f"< {time}" in condition) == (True, True), (
        condition
    )
