"""Each check by itself, on what the database, the broker and AWS may say."""

import datetime as dt
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, ProfileNotFound, ReadTimeoutError
from botocore.parsers import ResponseParserError

from datafixes.audit.history import OpenFix, Run
from datafixes.book.positions.position import BookPosition, Comparison, Difference, Unsettled
from datafixes.book.positions.symbols import parse_symbol
from datafixes.book.report.verify import document_of_checklist
from datafixes.book.rows.book import Book
from datafixes.book.rows.row import UnreadableRow
from datafixes.book.verify.aws import accounts_of, check_identity, look_at_identity
from datafixes.book.verify.book import check_book, rows_of
from datafixes.book.verify.checklist import Checklist
from datafixes.book.verify.ledger import Entry, Expected, check_entry
from datafixes.database.aws_client import BROKEN, Aws, NotAsked, _not_asked
from datafixes.report.document import Fact, State
from tests.book.settings import book_settings

AT = dt.datetime(2026, 2, 3, 16, 8, tzinfo=dt.UTC)
SETTINGS = book_settings()


# The ledger.

RUN = Run(
    1, "close", "015", "apply", "applied", 7, 7, 7, 0, None, None, None, None, None, ("t",), "ops", None, "r", AT, AT,
    None, None, None, None,
)  # fmt: skip
OPEN = OpenFix("close", 1, "015", ("t",), 7, None, AT, "ops", None, "r")
NOT_HERE = replace(RUN, run_id=2, outcome="not_applicable", rows_changed=0)
GIVEN_BACK = replace(
    RUN, run_id=5, direction="revert", outcome="reverted", rows_changed=2, reverts_run=1, rows_chosen="16, 17"
)
PARTLY = Entry([replace(OPEN, rows_reverted="16, 17")], [GIVEN_BACK, RUN])
# One of the two is in force again.
TAKEN_BACK = replace(GIVEN_BACK, run_id=6, rows_changed=1, reverts_run=5, rows_chosen="16")
FAILED = replace(RUN, run_id=3, direction="revert", outcome="failed", error="1 of 7 rows\ncannot be restored")


@pytest.mark.parametrize(
    ("entry", "wanted", "colour", "words"),
    [
        (Entry([OPEN], [RUN]), Expected(), "good", "close: applied, 7 rows changed, 7 expected (run 1, 2026-02-03 16:08:00 UTC)"),
        (Entry([OPEN], [RUN]), Expected(rows=7), "good", "7 rows changed"),
        (Entry([OPEN], [RUN]), Expected(rows=8), "bad", "7 rows changed, 7 expected (run 1, 2026-02-03 16:08:00 UTC); 8 were expected"),
        (Entry([OPEN], [FAILED, RUN]), Expected(), "good", "7 rows changed"),
        (PARTLY, Expected(), "good", "7 rows changed, 7 expected, 2 reverted since (16, 17), so 5 left (run 1"),
        (PARTLY, Expected(rows=7), "bad", "so 5 left (run 1, 2026-02-03 16:08:00 UTC); 7 were expected"),
        (PARTLY, Expected(rows=5), "good", "so 5 left"),
        (replace(PARTLY, in_force=[replace(OPEN, rows_changed=2)]), Expected(), "bad", "so 0 left (run 1, 2026-02-03 16:08:00 UTC): none of its changes"),
        (replace(PARTLY, runs=[TAKEN_BACK, GIVEN_BACK, RUN]), Expected(rows=7), "bad", "6 left"),
        (Entry([OPEN], [replace(GIVEN_BACK, reverted_by_run=6), RUN]), Expected(rows=7), "good", "7 expected (run"),
        (Entry([], [replace(RUN, run_id=4, direction="revert", outcome="reverted"), RUN]), Expected("close"), "bad", "reverted by run 4"),
        (Entry([], [NOT_HERE]), Expected("close"), "bad", "not applicable (run 2): this database has none of its rows"),
        (Entry([], [NOT_HERE]), Expected("close", 0), "good", "not applicable"),
        (Entry([], [], ["close"]), Expected("clsoe"), "bad", "it has no run of a fix clsoe. Did you mean close?"),
        (Entry([]), Expected(), "bad", "no fix is in force"),
        (Entry([OPEN], [RUN], newest=replace(RUN, run_id=2)), Expected(), "good", "7 rows changed"),
        (Entry([OPEN], [RUN], newest=replace(FAILED, fix="next")), Expected(), "bad", "the newest run, 3, is next: failed, not finished: 1 of 7 rows cannot"),
        (Entry([OPEN], [RUN], newest=replace(RUN, run_id=4, fix="next", outcome="started")), Expected(), "bad", "next: started, not finished"),
        (Entry([OPEN], [RUN], newest=replace(NOT_HERE, fix="next")), Expected(), "bad", "the newest run, 2, is next: not_applicable; close, which is in force, is older"),
        (Entry([OPEN], [RUN], newest=replace(GIVEN_BACK, fix="next", rows_chosen=None)), Expected(), "bad", "the newest run, 5, is next: reverted; close"),
        (Entry([OPEN], [RUN], newest=replace(RUN, run_id=6, fix="next", outcome="already")), Expected(), "bad", "is next: already"),
        (Entry([], newest=NOT_HERE), Expected(), "bad", "the newest run, 2, is close: not_applicable; no fix is in force"),
        (Entry([OPEN], [GIVEN_BACK, RUN], newest=GIVEN_BACK), Expected(), "good", "7 rows changed"),
        (Entry([], [replace(NOT_HERE, outcome="already")]), Expected("close", 0), "good", "close: all its rows were as wanted already (run 2)"),
        (None, Expected(), "bad", "this database has no ledger"),
    ],
)  # fmt: skip
def test_ledger(entry: Entry | None, wanted: Expected, colour: State, words: str) -> None:
    line = check_entry(entry, wanted)
    assert (line.state, words in line.text) == (colour, True), line.text


# The book.


def row(number: int, account: str, symbol: str) -> BookPosition:
    return BookPosition(number, account, parse_symbol(symbol), Decimal(1), written=symbol)


BOOK = Book((row(28, "large", "NOW"), row(30, "large", "SPY")), (), AT, "x", {"large": 2})
PHANTOM = Difference("phantom", "large", parse_symbol("QCOM"), (16,), Decimal("5.00"), Decimal(0))


def test_book_has_a_line_for_each_account() -> None:
    lines = check_book(BOOK, Comparison((), equal=2), ["large", "tiny"])
    assert [(line.name, line.state, line.text) for line in lines] == [
        ("Positions of large", "good", "2 rows open in the book, the broker holds the same"),
        ("Positions of tiny", "good", "0 rows open in the book, the broker holds nothing either"),
    ]


def test_a_difference_is_red_where_it_is() -> None:
    large, tiny = check_book(BOOK, Comparison((PHANTOM,)), ["large", "tiny"])
    assert (large.state, tiny.state) == ("bad", "good")
    assert "1 different: QCOM phantom row 16 (book 5, broker 0)" in large.text
    assert large.remedy == "More: datafixes reconcile"
    moved = replace(PHANTOM, kind="account", broker=Decimal(5), elsewhere="tiny")
    assert [line.state for line in check_book(BOOK, Comparison((moved,)), ["large", "tiny"])] == [
        "bad",
        "bad",
    ]


def test_a_thousand_differences_are_one_line() -> None:
    [line] = check_book(BOOK, Comparison((PHANTOM,) * 1000))
    assert "1000 different" in line.text
    assert "and 995 more" in line.text


def test_what_is_not_known_is_not_green() -> None:
    found = Comparison((), unknown={"tiny": "it answers 500", "other": "the settings do not know it"})
    lines = {line.name: line for line in check_book(BOOK, found, ["large", "tiny"])}
    assert {name: line.state for name, line in lines.items()} == {
        "Positions of large": "good", "Positions of other": "unknown", "Positions of tiny": "unknown",
    }  # fmt: skip
    assert "it answers 500" in lines["Positions of tiny"].text


def test_a_row_that_cannot_be_compared_counts_and_is_not_green() -> None:
    book = replace(
        BOOK,
        unreadable=(
            UnreadableRow(40, "tiny", None, "no symbol"),
            UnreadableRow(41, None, None, "no account"),
        ),
        counts={"large": 2, "tiny": 1, "": 1},
    )
    assert rows_of(book) == {"large": 2, "tiny": 1, "(no account)": 1}
    nobody, large, tiny = check_book(book, Comparison(()), ["large", "tiny"])
    assert [nobody.state, large.state, tiny.state] == ["unknown", "good", "unknown"]
    assert "row 40 cannot be compared: no symbol" in tiny.text


def test_what_is_not_settled_is_told_and_neither_red_nor_green() -> None:
    found = Comparison((), (Unsettled("large", parse_symbol("SPY"), (30,), "an order is in flight"),))
    [line] = check_book(BOOK, found)
    assert (line.state, line.text.endswith("not settled yet: SPY (an order is in flight)")) == (
        "unknown",
        True,
    )


# Identity, and all together.


def test_another_account_is_red_and_waiting_does_not_change_it() -> None:
    line = check_identity("111111111111", "arn:x", "us-west-2", {"ecs_cluster": "222222222222"})
    assert (line.state, line.lasting) == ("bad", True)
    assert (
        line.text
        == "another account: arn:x of account 111111111111, region us-west-2; ecs_cluster names account 222222222222"
    )
    assert check_identity("1", "arn:x", "r", {"--aws-account": "1"}).state == "good"
    given = book_settings(ecs_cluster="arn:aws:ecs:us-west-2:222222222222:cluster/c")
    assert accounts_of(given, None) == {"ecs_cluster": "222222222222"}
    assert accounts_of(SETTINGS, "3") == {"--aws-account": "3"}


class Asked(Aws):
    """An AWS that gives no credentials, or does not say whose they are."""

    def __init__(self, code: str, reads: bool) -> None:
        super().__init__("us-west-2")
        self.code, self.reads = code, reads

    def has_credentials(self) -> bool:
        if not self.reads:
            raise NotAsked("why", self.code)
        return True

    def ask(self, service: str, operation: str, /, **arguments: object) -> None:
        raise NotAsked("why", self.code)


@pytest.mark.parametrize(
    ("code", "reads", "lasting"),
    [
        ("ProfileNotFound", False, True),
        ("MetadataRetrievalError", False, False),
        ("UnauthorizedSSOTokenError", True, True),
        ("ExpiredToken", True, True),
        ("EndpointConnectionError", True, False),
    ],
)
def test_only_credentials_that_stay_bad_end_the_wait(code: str, reads: bool, lasting: bool) -> None:
    line = look_at_identity(Asked(code, reads), {})
    assert (line.state, line.lasting) == ("unknown", lasting)


def test_the_name_of_a_failure_is_known() -> None:
    error = ProfileNotFound(profile="nobody")
    assert _not_asked(error).code == "ProfileNotFound"
    assert str(_not_asked(error)) == "The config profile (nobody) could not be found"


@pytest.mark.parametrize("kind", [ReadTimeoutError, ConnectionClosedError])
def test_an_answer_that_does_not_come_is_no_answer(kind: Any) -> None:
    error = kind(endpoint_url="https://logs", error="late")
    assert error.response is None
    found = _not_asked(error)
    assert (found.code, found.is_uncertain, "https://logs" in str(found)) == (kind.__name__, True, True)


@pytest.mark.parametrize(("status", "is_uncertain"), [(400, False), (503, True)])
def test_what_aws_refuses_it_did_not_do(status: int, is_uncertain: bool) -> None:
    answer = {"Error": {"Code": "C", "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    found = _not_asked(ClientError(answer, "UpdateService"))
    assert (str(found), found.is_uncertain) == ("C: m", is_uncertain)


def test_an_answer_that_cannot_be_read_is_no_broken_configuration() -> None:
    garbled, broken = _not_asked(ResponseParserError("what")), _not_asked(ValueError("what"))
    assert (garbled.code, garbled.is_uncertain) == ("ResponseParserError", True)
    assert (broken.code, broken.is_uncertain) == (BROKEN, False)


def test_a_sentence_ends_once() -> None:
    line = Fact("Ledger", "Is it accepting connections?", "unknown", "Look there")
    [section] = document_of_checklist(Checklist((line,))).sections
    assert section.facts[0].text == "unknown: Is it accepting connections? Look there"


def test_a_checklist_is_as_good_as_its_worst_line() -> None:
    def all_of(*colours: State) -> Checklist:
        return Checklist(tuple(Fact("x", "", colour) for colour in colours))

    assert all_of("good", "").is_green
    assert not all_of("good", "unknown").is_green
    assert not all_of("good", "unknown").is_red
    assert all_of("bad", "unknown").is_red
    assert all_of("good", "bad", "good").counts() == "2 green, 1 red"
    assert not all_of("bad").is_final
    assert Checklist((Fact("x", "", "bad", lasting=True),)).is_final
