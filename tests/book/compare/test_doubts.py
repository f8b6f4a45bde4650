"""What looks like a difference and may be none, and what looks certain and may be another account's."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import pytest

from datafixes.book.compare.doubts import in_doubt, without_doubt
from datafixes.book.positions.position import Answer, BookPosition, BrokerPosition, Known, Unknown
from datafixes.book.positions.symbols import Stock
from datafixes.book.rows.book import Book, OtherRow
from datafixes.book.rows.row import UnreadableRow
from tests.book.compare.both import compare

NOW = dt.datetime(2026, 2, 4, tzinfo=dt.UTC)


def opened_row(id_: int, account: str, ticker: str, quantity: int = 1) -> BookPosition:
    opened_at = NOW - dt.timedelta(days=1)
    return BookPosition(id_, account, Stock(ticker), Decimal(quantity), opened_at, written=ticker)


def doubted(book: Book, answers: dict[str, Answer]) -> tuple[list[tuple[str, str, str]], list[str]]:
    found = compare(book.rows, answers, now=NOW, grace=dt.timedelta(minutes=5))
    found = without_doubt(found, book, answers)
    return (
        [(one.kind, one.account, str(one.symbol)) for one in found.differences],
        [f"{one.account} {one.symbol}: {one.why}" for one in found.unsettled],
    )


QCOM, SPY = Stock("QCOM"), Stock("SPY")


@pytest.mark.parametrize(
    ("unreadable", "differences", "unsettled"),
    [
        pytest.param(
            UnreadableRow(7, "large", QCOM, "zero"), {"spy", "now"}, ["QCOM"], id="the symbol in the account"
        ),
        pytest.param(
            UnreadableRow(7, None, QCOM, "no account"), {"spy", "now"}, ["QCOM"], id="the symbol somewhere"
        ),
        pytest.param(
            UnreadableRow(7, "large", None, "no symbol"),
            {"now"},
            ["QCOM", "SPY"],
            id="anything in the account",
        ),
        pytest.param(UnreadableRow(7, None, None, "nothing"), {"now"}, ["QCOM", "SPY"], id="anything"),
        pytest.param(UnreadableRow(7, "tiny", QCOM, "zero"), {"qcom", "spy", "now"}, [], id="elsewhere"),
    ],
)
def test_nothing_is_a_difference_that_an_unreadable_row_may_explain(
    unreadable: UnreadableRow, differences: set[str], unsettled: list[str]
) -> None:
    rows = (opened_row(1, "large", "SPY"), opened_row(2, "large", "NOW"))
    held = Known([BrokerPosition(QCOM, Decimal(5)), BrokerPosition(SPY, Decimal(2))])
    told = {
        "qcom": ("missing", "large", "QCOM"), "spy": ("quantity", "large", "SPY"), "now": ("phantom", "large", "NOW")
    }  # fmt: skip
    found = doubted(Book(rows, (unreadable,), NOW, ""), {"large": held, "tiny": Known([])})
    assert found == (
        [told[name] for name in ("now", "qcom", "spy") if name in differences],
        [f"large {symbol}: row 7 of the book cannot be compared" for symbol in unsettled],
    )


def test_a_row_of_an_account_that_nobody_knows_may_explain_a_missing_position() -> None:
    rows = (opened_row(3, "Large", "QCOM", 5),)
    answers: dict[str, Answer] = {"large": Known([BrokerPosition(QCOM, Decimal(5))])}
    assert doubted(Book(rows, (), NOW, ""), answers) == (
        [],
        ["large QCOM: row 3 of the book cannot be compared"],
    )


def held(identity: str = "", *, proven: bool = False, **quantities: int) -> Known:
    positions = [BrokerPosition(Stock(name), Decimal(many)) for name, many in quantities.items()]
    return Known(positions, identity=identity, proven=proven)


ROWS = (
    opened_row(1, "large", "SPY", 10),
    opened_row(2, "tiny", "SPY", 1),
    opened_row(3, "large", "QCOM", 5),
    opened_row(4, "large", "NOW", 7),
)


def doubts_of(
    large: Answer, tiny: Answer, *, trusted: bool = False, rows: Sequence[BookPosition] = ROWS
) -> dict[tuple[str, str, str], str]:
    answers = {"large": large, "tiny": tiny}
    found = compare(rows, answers, now=NOW, grace=dt.timedelta(0))
    return {
        (one.kind, one.account, str(one.symbol)): in_doubt(one, found, answers, trusted=trusted)
        for one in found.differences
    }


def test_nothing_is_proposed_with_keys_that_nothing_proves() -> None:
    """Keys of another account look like a book that is all wrong, and no heuristic can tell."""
    told = 'nothing proves that its keys open this account: add "account_number" to the secret, or use --trust-keys'
    exchanged = doubts_of(held("A", SPY=10), held("B", SPY=2))
    assert exchanged == dict.fromkeys(
        [("quantity", "tiny", "SPY"), ("phantom", "large", "QCOM"), ("phantom", "large", "NOW")], told
    )
    # Proven keys are believed, a broker that has none, and whoever says that they are right.
    assert set(doubts_of(held("A", proven=True, SPY=10), held("B", proven=True, SPY=2)).values()) == {""}
    assert set(doubts_of(held(SPY=10), held(SPY=2)).values()) == {""}
    assert set(doubts_of(held("A", SPY=10), held("B", SPY=2), trusted=True).values()) == {""}


def test_what_one_account_lacks_may_stand_in_another() -> None:
    # One that did not answer.
    told = "it may be in tiny, which is unknown"
    silent = Unknown("it answers 500")
    assert doubts_of(held(SPY=10, NOW=7, IBM=1), silent) == {
        ("phantom", "large", "QCOM"): told, ("missing", "large", "IBM"): told
    }  # fmt: skip
    assert doubts_of(held(SPY=9, NOW=7, QCOM=5), silent) == {("quantity", "large", "SPY"): ""}
    # One that has too much of it, at the broker for a phantom, in the book for what is missing.
    told = "tiny differs in it too, or is unsettled: it may be the same position"
    found = doubts_of(held(SPY=10, NOW=7), held(SPY=1, QCOM=8))
    assert found["phantom", "large", "QCOM"] == told
    assert found["missing", "tiny", "QCOM"] == told.replace("tiny", "large")
    # One that is not settled.
    unsettled = replace(held(SPY=1, QCOM=5), in_flight=frozenset([Stock("QCOM")]))
    assert doubts_of(held(SPY=10, NOW=7), unsettled) == {("phantom", "large", "QCOM"): told}
    # A row under the wrong account: neither is the other one's too many.
    assert set(doubts_of(held(SPY=9, QCOM=5, NOW=7), held(SPY=2)).values()) == {
        told, told.replace("tiny", "large")
    }  # fmt: skip
    # Two phantoms of one symbol explain nothing to each other, nor does one that has too little.
    rows = (*ROWS, opened_row(5, "tiny", "QCOM", 2))
    assert set(doubts_of(held(SPY=10, NOW=7), held(SPY=1), rows=rows).values()) == {""}
    assert set(doubts_of(held(SPY=10, NOW=7), held(SPY=1, QCOM=1), rows=rows).values()) == {""}


@pytest.mark.parametrize(
    ("account", "status", "minutes", "why"),
    [
        ("large", "closed", 2, "row 9 of the book was closed within the grace period"),
        (None, "closed", 2, "row 9 of the book was closed within the grace period"),
        ("large", "closed", None, "row 9 of the book was closed"),
        ("large", "pending", None, "row 9 of the book has the status pending"),
        ("large", None, None, "row 9 of the book has the status NULL"),
        ("tiny", "closed", 2, None),
    ],
)
def test_a_row_that_is_not_open_may_explain_what_the_broker_has(
    account: str | None, status: str | None, minutes: int | None, why: str | None
) -> None:
    closed_at = None if minutes is None else NOW - dt.timedelta(minutes=minutes)
    other = OtherRow(9, account, Stock("IBM"), status, closed_at)
    answers: dict[str, Answer] = {"large": held(IBM=3), "tiny": held()}
    found = compare([], answers, now=NOW, grace=dt.timedelta(minutes=5))
    found = without_doubt(found, Book((), (), NOW, ""), answers, [other])
    assert [one.why for one in found.unsettled] == ([why] if why else [])
    assert [one.kind for one in found.differences] == ([] if why else ["missing"])
