"""What the log of the service proves, and what it does not."""

import datetime as dt
import time
from typing import Any

import pytest

from datafixes.book.verify.log_lines import check_log, not_read
from datafixes.book.verify.service_log import BAD_SIGNS, Log, Since, read_log
from datafixes.database.aws_client import Aws, NotAsked
from datafixes.report.document import Fact
from tests.book.settings import book_settings

AT = dt.datetime(2026, 2, 3, 16, 8, tzinfo=dt.UTC)
SETTINGS = book_settings()
ANY_TIME = Since()
OLD, NEW = (f"ecs/pm/{digit * 32}" for digit in "0f")


def after(seconds: float) -> dt.datetime:
    return AT + dt.timedelta(seconds=seconds)


def say(seen: Log, seconds: float, message: str, stream: str = "") -> None:
    seen.take(
        {"timestamp": int(after(seconds).timestamp() * 1000), "message": message, "logStreamName": stream}
    )


def log(*messages: str) -> Log:
    """A line each second."""
    seen = Log()
    for second, message in enumerate(messages):
        say(seen, second, message)
    return seen


def lines(seen: Log, book: dict[str, int] | None = None, since: Since = ANY_TIME) -> tuple[Fact, Fact]:
    errors, count = check_log(seen, SETTINGS, {"large": 3} if book is None else book, since)
    return errors, count


def test_log_is_green() -> None:
    errors, count = lines(log("Checking 10 open positions...", "INFO Checking 3 open positions", "done"))
    assert (errors.state, count.state) == ("good", "good")
    assert (
        "none of the 3 known errors in 3 events in the last 10min of /ecs/ops-pipeline/position-manager-service"
        in errors.text
    )
    assert count.text == (
        '"Checking 3 open positions" at 16:08:01 UTC, the total of the book (large 3, tiny 0)'
    )


@pytest.mark.parametrize(
    "message",
    [
        "alpaca: position does not exist",
        '{"message":"Position Does Not Exist: QCOM"}',
        "WARN No position found for symbol NOW",
        "ERROR CLOSING POSITION 16: HTTP 404",
        "ERROR  closing position 16",
        "Error closing\nposition 16",
        "no position\tfound for  symbol NOW",
        r'{"message": "position\u0020does\u00a0not exist"}',
        r'{"log": "{\"message\": \"error\\u000aclosing\\nposition\"}"}',
    ],
)
def test_log_with_a_known_error_is_red(message: str) -> None:
    errors, count = lines(log("Checking 3 open positions", message, "Checking 3 open positions"))
    assert (errors.state, count.state) == ("bad", "good")
    assert errors.text.startswith(tuple(f'"{sign}" once in' for sign in BAD_SIGNS))
    if "  " not in message and "\\" not in message:
        assert " ".join(message.split()) in errors.text


@pytest.mark.parametrize(
    "message",
    [
        '{"level": "INFO", "message": "Checking 3 open positions"}',
        r'{"message": "\tChecking 3 open positions\n"}',
        r'{"log": "{\"message\": \"\\nChecking 3 open positions\"}"}',
        "\x1b[1mChecking \x1b[36m3\x1b[0m open positions",
        r'{"message": "\u001b[1mChecking \u001b[36m3\u001b[0m open positions"}',
        "Checking 10 open positions\nChecking 3 open positions",
        "checking 3 open position",
    ],
)
def test_a_number_is_found_in_json_and_in_colours(message: str) -> None:
    assert lines(log(message))[1].state == "good"


def test_numbers_of_other_kinds() -> None:
    assert lines(log("Checking 8,851 open positions"), {"large": 8851})[1].state == "good"
    assert lines(log("Checking 0 open positions"), {})[1].text.endswith(
        "the total of the book (large 0, tiny 0)"
    )
    assert lines(log("Checking 0 open positions"))[1].state == "bad"
    assert 'no "Checking N open positions"' in lines(log("Rechecking 3 open positions"))[1].text


def test_no_event_proves_nothing() -> None:
    errors, count = lines(Log(), {})
    assert (errors.state, count.state) == ("bad", "bad")
    assert "which proves nothing" in errors.text


def test_the_newest_number_counts_in_whatever_order_it_comes() -> None:
    seen = log("Checking 3 open positions")
    say(seen, -60, "Checking 10 open positions")
    assert lines(seen)[1].state == "good"
    line = lines(log("Checking 3 open positions", "checking 10 open positions"), {"large": 2, "tiny": 1})[1]
    assert (line.state, line.text) == (
        "bad", '"Checking 10 open positions" at 16:08:01 UTC; the book has 3 (large 2, tiny 1); '
        "these are not its accounts in turn either: 10 at 16:08:01 UTC; 3 at 16:08:00 UTC",
    )  # fmt: skip
    assert lines(log("started"))[1].text.startswith('no "Checking N open positions" among 1 event ')


def test_a_book_that_is_not_known_makes_the_number_unknown() -> None:
    found = check_log(log("Checking 3 open positions"), SETTINGS, None, ANY_TIME)
    assert [line.state for line in found] == ["good", "unknown"]


def test_a_log_that_was_not_read_to_its_end_is_not_green() -> None:
    seen = log("Checking 3 open positions")
    seen.whole = False
    assert [line.state for line in lines(seen)] == ["unknown", "unknown"]
    seen.take({"timestamp": 1, "message": "error closing position"})
    assert [line.state for line in lines(seen)] == ["bad", "unknown"]


# What is older than the fix, or than the deployment.


@pytest.mark.parametrize(
    ("since", "words"),
    [
        (Since(after(1)), "is older than the fix, of 2026-02-03 16:08:01.000 UTC"),
        (Since(after(0)), "is older than the fix, of 2026-02-03 16:08:00.000 UTC"),
        (Since(None, after(2)), "is older than the deployment, of 2026-02-03 16:08:02.000 UTC"),
        (Since(after(1), after(2)), "is older than the deployment, of 2026-02-03 16:08:02.000 UTC"),
        (Since(after(2), after(-9)), "is older than the fix, of 2026-02-03 16:08:02.000 UTC"),
    ],
)
def test_an_old_number_is_red_however_right_it_is(since: Since, words: str) -> None:
    line = lines(log("Checking 3 open positions"), since=since)[1]
    assert (line.state, line.remedy) == ("bad", "The service has logged nothing newer: --wait 12min")
    assert line.text.startswith(
        '"Checking 3 open positions" at 16:08:00 UTC; that line, of 2026-02-03 16:08:00.000 UTC, '
    )
    assert line.text.endswith(words)
    unknown = check_log(log("Checking 3 open positions"), SETTINGS, None, since)[1]
    assert unknown.state == "bad"


def test_a_number_that_is_newer_than_both_is_green() -> None:
    seen = log("Checking 10 open positions", "Checking 10 open positions", "Checking 3 open positions")
    assert lines(seen, since=Since(after(1.5), after(1)))[1].state == "good"
    assert lines(seen, since=Since(AT - dt.timedelta(days=9), None))[1].state == "good"


def test_errors_from_before_go_by_and_stay_red_until_then() -> None:
    seen = log("error closing position 16")
    for since, what in ((Since(after(60)), "the fix"), (Since(after(-60), after(60)), "the deployment")):
        line = lines(seen, since=since)[0]
        assert line.state == "bad"
        assert line.remedy == (
            f"All of these are older than {what}, of 2026-02-03 16:09:00.000 UTC: check again when they have left the window, "
            "or --wait 12min"
        )
    assert lines(seen, since=Since(after(-60), after(-30)))[0].remedy == ""


def test_what_the_task_before_says_after_the_deployment_began_is_not_the_new_one_speaking() -> None:
    began = Since(None, AT)
    seen = Log()
    for seconds in (30, -30, 10):  # as pages may come
        say(seen, seconds, "Checking 3 open positions", OLD)
    say(seen, 31, "starting", NEW)
    line = lines(seen, since=began)[1]
    assert (line.state, OLD in line.text) == ("bad", True)
    assert "already wrote at 2026-02-03 16:07:30.000 UTC: it is older than the deployment" in line.text
    say(seen, 40, "Checking 3 open positions", NEW)
    assert lines(seen, since=began)[1].state == "good"


def test_a_stream_that_outlives_tasks_says_nothing_about_them() -> None:
    seen = Log()
    say(seen, -30, "Checking 3 open positions", "position-manager")
    say(seen, 30, "Checking 3 open positions", "position-manager")
    assert lines(seen, since=Since(None, AT))[1].state == "good"


# Several streams.


def test_two_tasks_that_run_side_by_side_must_agree_with_the_book() -> None:
    seen = Log()
    for minute in range(3):
        say(seen, 60 * minute, "Checking 10 open positions", OLD)
        say(seen, 60 * minute + 5, "Checking 3 open positions", NEW)
    line = lines(seen)[1]
    assert line.state == "bad"
    assert f"others have another number: 10 at 16:10:00 UTC in {OLD}; the book has 3" in line.text


def test_a_task_that_spoke_no_more_does_not_count() -> None:
    seen = Log()
    say(seen, 100, "Checking 10 open positions", OLD)
    for seconds in (120, 180, 60):
        say(seen, seconds, "Checking 3 open positions", NEW)
    assert lines(seen)[1].state == "good"
    say(seen, 121, "Checking 10 open positions", OLD)
    assert lines(seen)[1].state == "bad"


@pytest.mark.parametrize(
    ("since", "colour"),
    [
        (ANY_TIME, "bad"),
        (Since(after(-60)), "bad"),
        (Since(None, after(-60)), "bad"),
        (Since(after(-60), after(60)), "good"),
    ],
)
def test_a_task_that_spoke_but_once_is_not_believed_alone(since: Since, colour: str) -> None:
    seen = Log()
    for seconds in (0, 60):
        say(seen, seconds, "Checking 10 open positions", OLD)
    say(seen, 60.5, "Checking 3 open positions", NEW)
    line = lines(seen, since=since)[1]
    assert line.state == colour
    if colour == "bad":
        assert f"others have another number: 10 at 16:09:00 UTC in {OLD}" in line.text
        assert "--wait" in line.remedy
    say(seen, 120, "Checking 3 open positions", NEW)
    assert lines(seen, since=since)[1].state == "good"


def test_where_nothing_happened_what_was_said_long_ago_does_not_count() -> None:
    seen = Log()
    say(seen, 0, "Checking 10 open positions", OLD)
    say(seen, 121, "Checking 3 open positions", NEW)
    assert lines(seen)[1].state == "good"


# What is shown.


def test_no_secret_of_the_log_is_repeated() -> None:
    errors, _ = lines(log("error closing position, postgresql://ops:HIDDEN@db/book\n" + "x" * 1000))
    assert "HIDDEN" not in errors.text
    assert len(errors.text) < 500


def test_the_error_is_seen_in_an_event_of_any_length() -> None:
    blob = (
        "x" * 100_000 + " postgresql://ops:HIDDEN@db/book\x1b[2K error closing position 16 " + "y" * 100_000
    )
    errors, _ = lines(log(blob))
    assert "***@db/book [2K error closing position 16 yyy" in errors.text
    assert "HIDDEN" not in errors.text
    assert "\x1b" not in errors.text
    assert len(errors.text) < 500


def test_no_event_takes_long() -> None:
    began = time.monotonic()
    for part in (
        "\\",
        "key",
        "\x1b[1",
        "checking ",
        "error closing position key=",
        " ",
        "error ",
        "error" + 99 * " ",
    ):
        errors, _ = lines(log("error closing position " + part * (1_000_000 // len(part))))
        assert errors.state == "bad"
    assert time.monotonic() - began < 5


# Reading it.


class Pages(Aws):
    """A log of many pages."""

    def __init__(self, pages: list[dict[str, Any]]) -> None:
        super().__init__("us-west-2")
        self.pages, self.asked = pages, list[dict[str, Any]]()

    def ask(self, service: str, operation: str, /, **arguments: Any) -> Any:
        self.asked.append(arguments)
        return self.pages[min(len(self.asked), len(self.pages)) - 1]


def read(pages: list[dict[str, Any]], **flags: str) -> tuple[Log, Pages]:
    aws = Pages(pages)
    return read_log(aws, book_settings(**flags), AT), aws


def test_every_page_of_the_log_is_read_also_after_an_empty_one() -> None:
    event = {"timestamp": 1, "message": "error closing position"}
    pages: list[dict[str, Any]] = [
        {"events": [], "nextToken": "1"},
        {"events": [event] * 3, "nextToken": "2"},
        {"events": [event]},
    ]
    seen, aws = read(pages, log_window="2min", log_group="arn:aws:logs:us-west-2:123456789012:log-group:x:*")
    assert (seen.events, seen.bad, seen.whole) == (4, {"error closing position": 4}, True)
    assert [asked.get("nextToken") for asked in aws.asked] == [None, "1", "2"]
    assert aws.asked[0]["startTime"] == AT.timestamp() * 1000 - 120_000
    assert "endTime" not in aws.asked[0]
    assert aws.asked[0]["logGroupIdentifier"].endswith(":log-group:x")


def test_a_log_without_end_is_left_and_said_so() -> None:
    pages = [{"events": [], "nextToken": str(n)} for n in range(1000)]
    seen, aws = read(pages)
    assert (seen.whole, len(aws.asked)) == (False, 200)


def test_a_log_that_may_not_be_read_says_which_right_is_missing() -> None:
    denied = not_read(NotAsked("AccessDeniedException: no", "AccessDeniedException"), SETTINGS)
    assert [(line.state, line.lasting) for line in denied] == [("unknown", True)] * 2
    assert "logs:FilterLogEvents" in denied[0].remedy
    slow = not_read(NotAsked("ThrottlingException: later", "ThrottlingException"), SETTINGS)
    assert [(line.state, line.lasting) for line in slow] == [("unknown", False)] * 2
