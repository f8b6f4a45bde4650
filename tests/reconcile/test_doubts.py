"""What looks like a difference and may be none, and what looks certain and may be another account's."""

import datetime as dt
from decimal import Decimal

import pytest

from datafixes.reconcile.book import Book
from datafixes.reconcile.book_row import BookRow, UnreadableRow
from datafixes.reconcile.comparing import compare
from datafixes.reconcile.doubts import in_doubt, without_doubt
from datafixes.reconcile.positions import Answer, BookPosition, BrokerPosition, Comparison, Known, Unknown
from datafixes.reconcile.symbols import Stock

NOW = dt.datetime(2026, 2, 4, tzinfo=dt.UTC)


def opened_row(id_: int, account: str, ticker: str, quantity: int = 1) -> BookRow:
    return BookRow(
        BookPosition(id_, account, Stock(ticker), Decimal(quantity), NOW - dt.timedelta(days=1)), ticker
    )


def doubted(book: Book, answers: dict[str, Answer]) -> tuple[list[tuple[str, str, str]], list[str]]:
    found = compare(book.positions, answers, now=NOW, grace=dt.timedelta(minutes=5))
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


def doubts_of(large: Answer, tiny: Answer) -> dict[tuple[str, str, str], str]:
    answers = {"large": large, "tiny": tiny}
    found: Comparison = compare([row.position for row in ROWS], answers, now=NOW, grace=dt.timedelta(0))
    return {
        (one.kind, one.account, str(one.symbol)): in_doubt(one, found, answers) for one in found.differences
    }


def test_keys_that_changed_places_are_noticed_and_nothing_is_proposed() -> None:
    """Quantities alone would say that both accounts are wrong."""
    found = doubts_of(held("A", SPY=1), held("B", SPY=10))
    assert set(found) == {
        ("quantity", "large", "SPY"), ("quantity", "tiny", "SPY"), ("phantom", "large", "QCOM"), ("phantom", "large", "NOW")
    }  # fmt: skip
    swapped = 'the keys of large and tiny may have changed places: put "account_number" beside them'
    assert found["quantity", "large", "SPY"] == found["phantom", "large", "QCOM"] == swapped
    # Proven keys, or a broker that has none, are believed.
    assert set(doubts_of(held("A", proven=True, SPY=1), held("B", proven=True, SPY=10)).values()) == {""}
    assert set(doubts_of(held(SPY=1), held(SPY=10)).values()) == {""}
    # One position in the other account is what it looks like.
    one_way = doubts_of(held("A", SPY=10, NOW=8), held("B", SPY=1, QCOM=5))
    assert one_way == {("account", "large", "QCOM"): "", ("quantity", "large", "NOW"): ""}


def test_keys_that_nothing_proves_are_not_believed_while_another_account_is_silent() -> None:
    silent = Unknown("it answers 500")
    told = 'nothing proves its keys, and they may be those of tiny: put "account_number" beside them'
    assert doubts_of(held("A", SPY=9, NOW=7, QCOM=5), silent) == {("quantity", "large", "SPY"): told}
    assert doubts_of(held("A", proven=True, SPY=9, NOW=7, QCOM=5), silent) == {
        ("quantity", "large", "SPY"): ""
    }
    phantom = "the broker may hold it in tiny, of which nothing is known"
    assert doubts_of(held("A", proven=True, SPY=10, NOW=7), silent) == {("phantom", "large", "QCOM"): phantom}
