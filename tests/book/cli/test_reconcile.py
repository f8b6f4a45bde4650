"""``datafixes reconcile``: what it says, in every form, and the exit code."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from tests.book.books import PHANTOMS, REAL, Trader, new_row, trader
from tests.book.rows.lambda_server import NAME, lambdas, on
from tests.cli.commands import datafixes
from tests.servers import Database


@pytest.fixture
def book(tmp_path: Path, database: Database) -> Trader:
    return trader(tmp_path, database)


def kinds(found: Any) -> list[tuple[str, str, str, str, str, list[int]]]:
    names = ("kind", "account", "symbol", "book", "broker", "rows")
    return [tuple(one[name] for name in names) for one in found["differences"]]


def test_the_seven_phantoms_are_found_and_nothing_is_written(book: Trader) -> None:
    before = book.database.dump()
    found = book.found(code=3)
    assert {one["kind"] for one in found["differences"]} == {"phantom"}
    assert sorted(row for one in found["differences"] for row in one["rows"]) == PHANTOMS
    assert (found["equal"], found["unsettled"], found["unreadable"]) == (3, [], [])
    assert found["book"]["source"] == "public.active_positions, PostgreSQL"
    assert [(one["account"], one["known"], one["positions"]) for one in found["accounts"]] == [
        ("large", True, 3), ("tiny", True, 0)
    ]  # fmt: skip
    again = book.found(code=3)
    for one in (found, again):
        del one["read_at"], one["book"]["read_at"]
    assert again == found
    assert book.database.dump() == before


def test_an_equal_book_is_fine_in_every_form(book: Trader) -> None:
    book.database.execute(
        f"UPDATE active_positions SET status = 'closed' WHERE id IN ({str(PHANTOMS)[1:-1]})"
    )
    ran = book.run("reconcile")
    assert (ran.code, ran.out.splitlines()[1], ran.err) == (0, "✓ No difference, 3 positions equal.", "")
    for form in ("markdown", "html", "json"):
        ran = book.run("reconcile", "--format", form)
        assert (ran.code, "Infinity" in ran.out, bool(ran.out)) == (0, False, True)


def test_every_kind_of_difference_names_all_of_its_rows(book: Trader) -> None:
    execute = book.database.execute
    execute("DELETE FROM active_positions")
    execute(
        new_row(id=1, ticker="AAA"),
        *(new_row(id=n, ticker="BBB", quantity=2) for n in (2, 3, 4)),
        new_row(id=5, ticker="CCC", quantity=7),
        new_row(id=6, ticker="DDD", side="short", quantity=3),
        new_row(id=7, ticker="EEE", quantity=5),
        new_row(id=8, ticker="FFF", quantity=2),
        new_row(id=9, ticker="FFF", quantity=3),
    )
    held = {"BBB": "2", "CCC": "9.5", "DDD": "3", "FFF": "5", "GGG": "-4"}
    positions = [{"account": "large", "symbol": symbol, "quantity": n} for symbol, n in held.items()]
    book.hold([*positions, {"account": "tiny", "symbol": "EEE", "quantity": "5"}], empty=())
    found = book.found(code=3)
    assert kinds(found) == [
        ("phantom", "large", "AAA", "1", "0", [1]),
        ("duplicate", "large", "BBB", "6", "2", [2, 3, 4]),
        ("quantity", "large", "CCC", "7", "9.5", [5]),
        ("side", "large", "DDD", "-3", "3", [6]),
        ("account", "large", "EEE", "5", "5", [7]),
        ("missing", "large", "GGG", "0", "-4", []),
    ]
    assert [one["elsewhere"] for one in found["differences"]] == [None, None, None, None, "tiny", None]
    assert found["equal"] == 1
    told = book.run("reconcile").out
    summary = (
        "6 differences (1 phantom, 1 missing, 1 quantity, 1 side, 1 duplicate, 1 account), 1 position equal."
    )
    assert summary in " ".join(told.split())
    assert "duplicate  large            BBB     6     2       2, 3, 4" in told
    assert "large, not tiny" in told
    assert book.run("reconcile").err == (
        "Next: datafixes propose --phantoms --duplicates --missing --quantities\n"
    )
    assert kinds(book.found("--account", "tiny", code=3)) == [("account", "large", "EEE", "5", "5", [7])]


def test_an_unknown_account_and_a_row_that_cannot_be_compared_are_a_failure(book: Trader) -> None:
    book.database.execute(
        new_row(id=40, account_name="mid", ticker="SPY"),
        new_row(id=41, quantity=0, ticker="ABC", account_name="tiny"),
    )
    book.hold([*REAL, {"account": "tiny", "symbol": "ABC", "quantity": "1"}], empty=())
    found = book.found(code=1)
    mid = next(one for one in found["accounts"] if one["account"] == "mid")
    assert (mid["known"], mid["why"]) == (False, "the settings have no such account")
    assert found["unreadable"] == [{"row": 41, "account": "tiny", "why": "its quantity is zero"}]
    assert [(one["symbol"], one["why"]) for one in found["unsettled"]] == [
        ("ABC", "row 41 of the book cannot be compared")
    ]
    assert len(found["differences"]) == 7
    told = book.run("reconcile").out
    for words in (
        "Unknown accounts",
        "Rows of the book that cannot be compared",
        "Unsettled",
        "1 row cannot be",
    ):
        assert words in told
    assert kinds(book.found("--account", "large", code=3)) == [
        one for one in kinds(found) if one[1] == "large"
    ]
    assert book.found("--account", "mid", code=1)["differences"] == []
    ran = book.run("reconcile", "--account", "huge")
    assert (ran.code, ran.err) == (
        1, "FAILED: Neither the book nor the settings have an account huge. Known: large, mid, tiny.\n"
    )  # fmt: skip


def test_what_is_only_unsettled_is_no_difference_and_not_all_well(book: Trader) -> None:
    book.database.execute(
        f"UPDATE active_positions SET status = 'closed', closed_at = '2026-02-04' WHERE id IN ({str(PHANTOMS)[1:-1]})",
        new_row(id=90, ticker="IBM", entry_time=dt.datetime.now(dt.UTC)),
    )
    ran = book.run("reconcile")
    assert (ran.code, ran.out.splitlines()[1]) == (0, "! No difference, 3 positions equal, 1 unsettled.")


def test_a_broker_that_does_not_answer_is_never_an_empty_one(book: Trader) -> None:
    (book.project.directory / "held.json").unlink()
    found = book.found(code=1)
    assert (found["differences"], found["equal"]) == ([], 0)
    assert [one["known"] for one in found["accounts"]] == [False, False]
    assert (
        book.run("reconcile")
        .out.splitlines()[1]
        .startswith("✗ No difference is known, 0 positions equal, 2 accounts unknown")
    )


def test_through_the_lambda_no_database_is_needed(book: Trader, monkeypatch: pytest.MonkeyPatch) -> None:
    directly = book.found(code=3)
    with lambdas(monkeypatch) as account:
        account.functions[NAME] = on(book.database)
        settings = ("-x", f"book=lambda:{NAME}", "-x", "url=postgresql://127.0.0.1:1/none")
        broker = ("-x", f"broker=file:{book.project.directory / 'held.json'}")
        ran = datafixes(None, *settings, *broker, "reconcile", "--format", "json")
        found = json.loads(ran.out)
        assert (ran.code, found["book"]["source"]) == (3, f"public.active_positions, Lambda {NAME}")
        assert found["differences"] == directly["differences"]
        account.functions.clear()
        ran = datafixes(None, *settings, *broker, "reconcile")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"FAILED: The Lambda {NAME} gave no reliable answer: ResourceNotFoundException")
    assert len(ran.err.splitlines()) == 1


def test_help_fits_a_screen() -> None:
    ran = datafixes(None, "reconcile", "--help")
    lines = ran.out.splitlines()
    assert (ran.code, len(lines) <= 24, max(map(len, lines)) <= 80) == (0, True, True), ran.out
    assert "Example: datafixes" in ran.out
