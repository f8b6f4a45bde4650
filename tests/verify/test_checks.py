"""Each check by itself, on what the database, the broker and AWS may say."""

import datetime as dt
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from datafixes.audit.history import OpenFix, RunOfHistory
from datafixes.reconcile.book import Book, BookRow, UnreadableRow
from datafixes.reconcile.positions import BookPosition, Comparison, Difference, Unsettled
from datafixes.reconcile.symbols import parse_symbol
from datafixes.settings import Settings
from datafixes.verify.book import check_book, rows_of
from datafixes.verify.checklist import Checklist, Colour, Line
from datafixes.verify.identity import accounts_of, check_identity
from datafixes.verify.ledger import Entry, Wanted, check_entry
from datafixes.verify.service import check_service
from datafixes.verify.service_log import Log, check_log

AT = dt.datetime(2026, 2, 3, 16, 8, tzinfo=dt.UTC)
SETTINGS = Settings.resolve({}, {}, {})


# The ledger.

RUN = RunOfHistory(
    1, "close", "015", "apply", "applied", 7, 7, 7, 0, None, None, None, None, None, ("t",), "ops", None, "r", AT, AT,
    None, None, None, None,
)  # fmt: skip
OPEN = OpenFix("close", 1, "015", ("t",), 7, None, AT, "ops", None, "r")
NOT_HERE = replace(RUN, run_id=2, outcome="not_applicable", rows_changed=0)
FAILED = replace(
    RUN, run_id=3, direction="revert", outcome="failed", error="1 of 7 rows\ncannot be given back"
)


@pytest.mark.parametrize(
    ("entry", "wanted", "colour", "words"),
    [
        (Entry([OPEN], [RUN]), Wanted(), "green", "close: applied, 7 rows changed, 7 expected (run 1, 2026-02-03 16:08:00 UTC)"),
        (Entry([OPEN], [RUN]), Wanted(rows=7), "green", "7 rows changed"),
        (Entry([OPEN], [RUN]), Wanted(rows=8), "red", "7 rows changed, 7 expected (run 1, 2026-02-03 16:08:00 UTC); 8 were expected"),
        (Entry([OPEN], [FAILED, RUN]), Wanted(), "green", "7 rows changed"),
        (Entry([replace(OPEN, rows_reverted="16")], [RUN]), Wanted(), "green", "given back since: 16"),
        (Entry([], [replace(RUN, run_id=4, direction="revert", outcome="reverted"), RUN]), Wanted("close"), "red", "reverted by run 4"),
        (Entry([], [NOT_HERE]), Wanted("close"), "red", "not applicable (run 2): none of its rows"),
        (Entry([], [NOT_HERE]), Wanted("close", 0), "green", "not applicable"),
        (Entry([], [], ["close"]), Wanted("clsoe"), "red", "it knows no fix clsoe. Did you mean close?"),
        (Entry([]), Wanted(), "red", "no fix is in force"),
        (None, Wanted(), "red", "there is no ledger"),
    ],
)  # fmt: skip
def test_ledger(entry: Entry | None, wanted: Wanted, colour: Colour, words: str) -> None:
    line = check_entry(entry, wanted)
    assert (line.colour, words in line.evidence) == (colour, True), line.evidence


# The book.


def row(number: int, account: str, symbol: str) -> BookRow:
    return BookRow(BookPosition(number, account, parse_symbol(symbol), Decimal(1)), symbol)


BOOK = Book((row(28, "large", "NOW"), row(30, "large", "SPY")), (), AT, "x")
PHANTOM = Difference("phantom", "large", parse_symbol("QCOM"), (16,), Decimal("5.00"), Decimal(0))


def test_book_has_a_line_for_each_account() -> None:
    lines = check_book(BOOK, Comparison((), equal=2), ["large", "tiny"])
    assert [(line.name, line.colour, line.evidence) for line in lines] == [
        ("Positions of large", "green", "2 rows open in the book, the broker holds the same"),
        ("Positions of tiny", "green", "0 rows open in the book, the broker holds nothing either"),
    ]


def test_a_difference_is_red_where_it_is() -> None:
    large, tiny = check_book(BOOK, Comparison((PHANTOM,)), ["large", "tiny"])
    assert (large.colour, tiny.colour) == ("red", "green")
    assert "1 different: QCOM phantom row 16 (book 5, broker 0)" in large.evidence
    assert large.hint == "datafixes reconcile"
    moved = replace(PHANTOM, kind="account", broker=Decimal(5), elsewhere="tiny")
    assert [line.colour for line in check_book(BOOK, Comparison((moved,)), ["large", "tiny"])] == [
        "red",
        "red",
    ]


def test_a_thousand_differences_are_one_line() -> None:
    [line] = check_book(BOOK, Comparison((PHANTOM,) * 1000))
    assert "1000 different" in line.evidence
    assert "and 995 more" in line.evidence


def test_what_is_not_known_is_not_green() -> None:
    found = Comparison((), unknown={"tiny": "it answers 500", "other": "the settings do not know it"})
    lines = {line.name: line for line in check_book(BOOK, found, ["large", "tiny"])}
    assert {name: line.colour for name, line in lines.items()} == {
        "Positions of large": "green", "Positions of other": "unknown", "Positions of tiny": "unknown",
    }  # fmt: skip
    assert "it answers 500" in lines["Positions of tiny"].evidence


def test_a_row_that_cannot_be_compared_counts_and_is_not_green() -> None:
    book = replace(
        BOOK,
        unreadable=(
            UnreadableRow(40, "tiny", None, "no symbol"),
            UnreadableRow(41, None, None, "no account"),
        ),
    )
    assert rows_of(book) == {"large": 2, "tiny": 1, "(no account)": 1}
    nobody, large, tiny = check_book(book, Comparison(()), ["large", "tiny"])
    assert [nobody.colour, large.colour, tiny.colour] == ["unknown", "green", "unknown"]
    assert "row 40 cannot be compared: no symbol" in tiny.evidence


def test_what_is_not_settled_is_told_and_neither_red_nor_green() -> None:
    found = Comparison((), (Unsettled("large", parse_symbol("SPY"), (30,), "an order is in flight"),))
    [line] = check_book(BOOK, found)
    assert (line.colour, line.evidence.endswith("not settled yet: SPY (an order is in flight)")) == (
        "unknown",
        True,
    )


# The log.


def log(*messages: str) -> Log:
    seen = Log()
    for second, message in enumerate(messages):
        seen.take({"timestamp": AT.timestamp() * 1000 + second * 1000, "message": message})
    return seen


def colours(
    seen: Log, book: dict[str, int] | None = None, fixed_at: dt.datetime | None = None
) -> tuple[Line, Line]:
    errors, count = check_log(seen, SETTINGS, {"large": 3} if book is None else book, fixed_at)
    return errors, count


def test_log_is_green() -> None:
    errors, count = colours(log("Checking 10 open positions...", "INFO Checking 3 open positions", "done"))
    assert (errors.colour, count.colour) == ("green", "green")
    assert (
        "none of the 3 known errors in 3 events in the last 10min of /ecs/ops-pipeline/position-manager-service"
        in errors.evidence
    )
    assert count.evidence == '"Checking 3 open positions" at 16:08:01 UTC, as many as the book has (large 3)'


@pytest.mark.parametrize(
    "message",
    [
        "alpaca: position does not exist",
        '{"message":"Position Does Not Exist: QCOM"}',
        "WARN No position found for symbol NOW",
        "ERROR CLOSING POSITION 16: HTTP 404",
    ],
)
def test_log_with_a_known_error_is_red(message: str) -> None:
    errors, count = colours(log("Checking 3 open positions", message, "Checking 3 open positions"))
    assert (errors.colour, count.colour) == ("red", "green")
    assert message in errors.evidence
    assert "once in" in errors.evidence


def test_no_event_proves_nothing() -> None:
    errors, count = colours(Log(), {})
    assert (errors.colour, count.colour) == ("red", "red")
    assert "silence proves nothing" in errors.evidence


def test_the_newest_number_counts_in_whatever_order_it_comes() -> None:
    seen = log("Checking 3 open positions")
    seen.take({"timestamp": (AT.timestamp() - 60) * 1000, "message": "Checking 10 open positions"})
    assert colours(seen)[1].colour == "green"
    line = colours(log("Checking 3 open positions", "checking 10 open positions"), {"large": 2, "tiny": 1})[1]
    assert (line.colour, line.evidence) == (
        "red", '"Checking 10 open positions" at 16:08:01 UTC; the book has 3 (large 2, tiny 1)',
    )  # fmt: skip
    assert colours(log("started"))[1].evidence.startswith('no "Checking N open positions" among 1 event ')


def test_a_book_that_is_not_known_makes_the_number_unknown() -> None:
    assert [line.colour for line in check_log(log("Checking 3 open positions"), SETTINGS, None, None)] == [
        "green",
        "unknown",
    ]


def test_a_log_that_was_not_read_to_its_end_is_not_green() -> None:
    seen = log("Checking 3 open positions")
    seen.whole = False
    assert [line.colour for line in colours(seen)] == ["unknown", "unknown"]
    seen.take({"timestamp": 1, "message": "error closing position"})
    assert [line.colour for line in colours(seen)] == ["red", "unknown"]


def test_errors_from_before_the_fix_go_by() -> None:
    seen = log("error closing position 16")
    assert "older than the fix" in colours(seen, fixed_at=AT + dt.timedelta(minutes=1))[0].hint
    assert colours(seen, fixed_at=AT - dt.timedelta(minutes=1))[0].hint == ""


def test_no_secret_of_the_log_is_repeated() -> None:
    errors, _ = colours(log("error closing position, postgresql://ops:HIDDEN@db/book\n" + "x" * 1000))
    assert "HIDDEN" not in errors.evidence
    assert len(errors.evidence) < 500


# The service.

SERVICE = {
    "status": "ACTIVE", "taskDefinition": "arn:aws:ecs:us-west-2:123456789012:task-definition/pm:8", "desiredCount": 1,
    "runningCount": 1, "deployments": [{"id": "d1", "status": "PRIMARY", "rolloutState": "COMPLETED"}],
}  # fmt: skip
PRIMARY = SERVICE["deployments"][0]  # type: ignore[index]


@pytest.mark.parametrize(
    ("change", "colour", "words"),
    [
        ({}, "green", "pm:8, 1 of 1 running, the deployment is complete"),
        ({"taskDefinition": "a/pm:10"}, "green", "pm:10"),
        ({"taskDefinition": "a/pm:7"}, "red", "revision 8 or newer is wanted"),
        ({"taskDefinition": ""}, "red", "revision 8 or newer is wanted"),
        ({"runningCount": 0}, "red", "0 of 1 running: 1 are to run"),
        ({"runningCount": 2}, "red", "2 of 1 running"),
        ({"runningCount": 0, "desiredCount": 0}, "red", "nothing is to run"),
        ({"deployments": [PRIMARY, {"id": "d0", "status": "ACTIVE"}]}, "red", "1 older deployments still run"),
        ({"deployments": []}, "red", "0 primary deployments"),
        ({"deployments": [{**PRIMARY, "rolloutState": "FAILED", "rolloutStateReason": "no task starts."}]}, "red", "the deployment is FAILED (no task starts)"),
        ({"deployments": [{"id": "d1", "status": "PRIMARY"}]}, "green", "complete"),
    ],
)  # fmt: skip
def test_service(change: dict[str, Any], colour: Colour, words: str) -> None:
    line = check_service({**SERVICE, **change}, 8)
    assert (line.colour, words in line.evidence) == (colour, True), line.evidence


def test_the_deployment_that_was_begun_is_the_one_that_counts() -> None:
    assert check_service(SERVICE, 8, "d1").colour == "green"
    assert "the new deployment has not begun" in check_service(SERVICE, 8, "d2").evidence


# Identity, and all together.


def test_another_account_is_red_and_waiting_does_not_change_it() -> None:
    line = check_identity("111111111111", "arn:x", "us-west-2", {"ecs_cluster": "222222222222"})
    assert (line.colour, line.lasting) == ("red", True)
    assert (
        line.evidence
        == "another account: arn:x of account 111111111111, region us-west-2; ecs_cluster is of account 222222222222"
    )
    assert check_identity("1", "arn:x", "r", {"--aws-account": "1"}).colour == "green"
    given = Settings.resolve({"ecs_cluster": "arn:aws:ecs:us-west-2:222222222222:cluster/c"}, {}, {})
    assert accounts_of(given, None) == {"ecs_cluster": "222222222222"}
    assert accounts_of(SETTINGS, "3") == {"--aws-account": "3"}


def test_a_checklist_is_as_good_as_its_worst_line() -> None:
    def all_of(*colours: Colour) -> Checklist:
        return Checklist(tuple(Line("x", colour, "") for colour in colours))

    assert all_of("green", "skipped").is_green
    assert not all_of("green", "unknown").is_green
    assert not all_of("green", "unknown").is_red
    assert all_of("red", "unknown").is_red
    assert all_of("green", "red", "green").counts() == "2 green, 1 red"
    assert not all_of("red").is_final
    assert Checklist((Line("x", "red", "", lasting=True),)).is_final
