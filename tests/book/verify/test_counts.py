"""Which lines of the log prove that the service checks the positions of each account, and which only look like it.

Kinds of service, each right and wrong: one number for the whole book; lines that name accounts; a stream for each
account, with and without log_streams; one account after the other in one stream, or in each of several.
"""

import datetime as dt

import pytest

from datafixes.book.verify.log_lines import check_log, usual_wait
from datafixes.book.verify.service_log import Log, Since
from datafixes.report.document import Fact
from tests.book.settings import book_settings

AT = dt.datetime(2026, 2, 3, 16, 8, tzinfo=dt.UTC)
BOOK = {"large": 3}
Said = tuple[float, str] | tuple[float, str, str]
"""Seconds, a number or a line, and a stream."""


def after(seconds: float) -> dt.datetime:
    return AT + dt.timedelta(seconds=seconds)


def check(
    *said: Said,
    book: dict[str, int] | None = None,
    since: Since | None = None,
    accounts: str = "",
    streams: str = "",
) -> Fact:
    """The line about the positions."""
    flags = {"broker_accounts": accounts, "log_streams": streams}
    settings = book_settings(**{name: value for name, value in flags.items() if value})
    book = BOOK if book is None else book
    log = Log(tuple({*settings.broker_accounts, *book}))
    for second, words, *stream in said:
        message = f"Checking {words} open positions" if words.isdecimal() else words
        time = int(after(second).timestamp() * 1000)
        log.take({"timestamp": time, "message": message, "logStreamName": stream[0] if stream else "task"})
    return check_log(log, settings, book, Since() if since is None else since)[1]


def minutes(*numbers: str, stream: str = "task", first: float = 0) -> list[Said]:
    """A cycle each minute, with a number for one account after the other."""
    return [(60 * n + place + first, one, stream) for n in range(3) for place, one in enumerate(numbers)]


@pytest.mark.parametrize(
    ("said", "book", "words"),
    [
        (minutes("3", "0"), BOOK, "one stream, one account after the other: 0 at 16:10:01 UTC; 3 at 16:10:00 UTC; the"),
        (minutes("0", "3"), BOOK, "the total of the book (large 3, tiny 0)"),
        (minutes("2", "1"), {"large": 2, "tiny": 1}, "one stream, one account after the other: 1 at"),
        (minutes("2", "2"), {"large": 2, "tiny": 2}, "one stream, one account after the other: 2 at"),
        (minutes("0", "0"), {}, "the total of the book (large 0, tiny 0)"),
        # In the middle of a cycle, and with a handler that writes each line twice.
        ([*minutes("2", "1"), (180, "2")], {"large": 2, "tiny": 1}, "2 at 16:11:00 UTC; 1 at 16:10:01 UTC"),
        (minutes("2", "2", "1", "1"), {"large": 2, "tiny": 1}, "1 at 16:10:03 UTC; 2 at 16:10:01 UTC"),
        # The newest cycle is in flight, and its number is that of several accounts.
        ([*minutes("2", "2"), (180, "2")], {"large": 2, "tiny": 2}, "2 at 16:10:01 UTC; 2 at 16:10:00 UTC"),
        # Two tasks, each of which does both accounts.
        (
            [*minutes("2", "1", stream="a"), *minutes("1", "2", stream="b", first=20)],
            {"large": 2, "tiny": 1},
            "each of 2 streams for one account",
        ),
        (
            [*minutes("2", "1", stream="a"), *minutes("2", "1", stream="b", first=20)],
            {"large": 2, "tiny": 1},
            "2 streams, each one account after the other",
        ),
        # An account that only the book has.
        (minutes("2", "1", "0"), {"large": 2, "mid": 1}, "one account after the other: 0 at"),
    ],
)  # fmt: skip
def test_one_account_after_the_other(said: list[Said], book: dict[str, int], words: str) -> None:
    line = check(*said, book=book)
    assert (line.state, words in line.text) == ("good", True), line


@pytest.mark.parametrize(
    ("said", "book"),
    [
        (minutes("7", "0"), BOOK),
        (minutes("1", "0"), BOOK),
        (minutes("2", "2"), {"large": 2, "tiny": 1}),
        (minutes("2", "1"), {"large": 2, "tiny": 2}),
        (minutes("2", "1", "0"), {"large": 2, "tiny": 1}),
        # The large account is not checked any more: its last number is of another cycle.
        ([*minutes("2", "1"), (181, "1"), (241, "1"), (301, "1")], {"large": 2, "tiny": 1}),
        # One line in a cycle is not two accounts, nor are two lines of two cycles a third.
        (minutes("2"), {"large": 2, "tiny": 2}),
        (minutes("3", "0"), {"large": 3, "mid": 0, "tiny": 1}),
        (minutes("3", "0"), {"large": 3, "mid": 0, "other": 0, "tiny": 1}),
        (minutes("1", "2"), {"large": 1, "mid": 2, "other": 2}),
    ],
)  # fmt: skip
def test_numbers_that_are_not_those_of_the_accounts_are_red(said: list[Said], book: dict[str, int]) -> None:
    line = check(*said, book=book)
    assert line.state == "bad", line
    assert "these are not its accounts in turn either" in line.text


def test_lines_from_before_prove_nothing_here_either() -> None:
    book = {"large": 2, "tiny": 1}
    line = check(*minutes("2", "1"), book=book, since=Since(after(120)))
    assert (line.state, "--wait 12min" in line.remedy) == ("bad", True), line
    assert check(*minutes("2", "1"), book=book, since=Since(after(119))).state == "good"
    line = check(*minutes("2", "1"), book=book, since=Since(None, after(300)))
    assert (line.state, "is older than the deployment" in line.text) == ("bad", True)
    # The account after this one has not had its turn since the fix.
    assert check((0, "1"), (60, "2"), book=book, since=Since(after(30))).state == "bad"


def test_a_task_beside_that_says_another_number_is_seen_whatever_a_cycle_is() -> None:
    book = {"large": 2, "tiny": 1}
    new = minutes("2", "1", stream="new", first=10)
    old = minutes("9", "9", stream="old", first=-20)
    line = check(*new, *old, book=book)
    assert (line.state, "others have another number: 9 at 16:09:41 UTC in old" in line.text) == (
        "bad",
        True,
    )
    # In its first cycle the new task has not been seen to pause.
    assert check(*new[:2], *old[:2], book=book, since=Since(after(-40))).state == "bad"
    # It has ended.
    assert check(*new, *old[:2], book=book).state == "good"


# Lines that name an account.


@pytest.mark.parametrize(
    ("large", "tiny"),
    [
        ("[large] Checking 3 open positions", "[tiny] Checking 0 open positions"),
        ("Checking 3 open positions for large", "Checking 0 open positions for tiny..."),
        ("account=large Checking 3 open positions", "account=tiny Checking 0 open positions"),
        (
            '{"account": "large", "message": "Checking 3 open positions"}',
            '{"message": "Checking 0 open positions", "account": "tiny"}',
        ),
        (r'{"log": "{\"account\": \"large\"} Checking 3 open positions"}', "tiny: Checking 0 open positions"),
        ("Checking 3 open positions (large account).", "Checking 0 open positions (tiny account)."),
    ],
)
@pytest.mark.parametrize("streams", [("task", "task"), ("one", "two")])
def test_a_line_that_names_an_account_counts_for_it(large: str, tiny: str, streams: tuple[str, str]) -> None:
    line = check((0, large, streams[0]), (1, tiny, streams[1]))
    assert line.state == "good"
    assert line.text == (
        'large: "Checking 3 open positions" at 16:08:00 UTC (the line names it), the book has 3; '
        'tiny: "Checking 0 open positions" at 16:08:01 UTC (the line names it), the book has 0'
    )
    # The numbers are right, and of the wrong accounts.
    swapped = check((0, large, streams[0]), (1, tiny, streams[1]), book={"tiny": 3})
    assert swapped.state == "bad"
    assert (
        'large: "Checking 3 open positions" at 16:08:00 UTC (the line names it), the book has 0'
        in swapped.text
    )


def test_two_lines_of_one_event_are_told_apart() -> None:
    assert check((0, "[large] Checking 3 open positions\n[tiny] Checking 0 open positions")).state == "good"
    assert check((0, "[large] Checking 0 open positions\n[tiny] Checking 3 open positions")).state == "bad"


def test_a_line_of_one_account_is_no_number_of_the_whole_book() -> None:
    line = check((0, "[large] Checking 3 open positions"), book={"large": 2, "tiny": 1})
    assert (line.state, "the book has 2" in line.text, "of tiny are checked" in line.text) == (
        "bad", True, True
    )  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        "app.large: Checking 3 open positions",
        "/srv/large/main.py Checking 3 open positions",
        "large.py Checking 3 open positions",
        "extra-large Checking 3 open positions",
        "enlarge Checking 3 open positions",
        "[large] [tiny] Checking 3 open positions",
    ],
)
def test_what_only_looks_like_a_name_is_none(line: str) -> None:
    assert "the total of the book" in check((0, line)).text


def test_an_account_that_is_not_named_any_more_and_one_that_never_is() -> None:
    named = [(0.0, "[large] Checking 3 open positions", "a"), (1.0, "[tiny] Checking 0 open positions", "a")]
    assert check(*named, since=Since(after(0.5))).state == "bad"
    # The other account says its number without a name.
    assert check(named[0], (1, "0", "b")).state == "good"
    assert check(named[0], (1, "1", "b")).state == "bad"
    # An old task that names nobody still works with another book.
    line = check(*named, (2, "9", "old"))
    assert (line.state, "others have another number: 9 at 16:08:02 UTC in old" in line.text) == (
        "bad",
        True,
    )


# Streams.


def test_each_stream_is_one_account() -> None:
    said = [*minutes("2", stream="pm-a/x/1"), *minutes("1", stream="pm-b/x/2", first=30)]
    line = check(*said, book={"large": 2, "tiny": 1})
    assert line.state == "good"
    assert line.text == (
        "each of 2 streams for one account: 1 at 16:10:30 UTC in pm-b/x/2; 2 at 16:10:00 UTC in pm-a/x/1; "
        "the book has 3 (large 2, tiny 1)"
    )
    assert check(*said, book={"large": 2, "tiny": 2}).state == "bad"
    assert check(*said, book={"large": 2, "tiny": 1, "mid": 0}).state == "bad"
    # A count is used once.
    assert (
        check(*said, *minutes("1", stream="pm-c/x/3", first=31), book={"large": 2, "tiny": 1}).state == "bad"
    )


def test_the_setting_says_whose_a_stream_is() -> None:
    said = [*minutes("2", stream="pm-a/x/1"), *minutes("1", stream="pm-b/x/2", first=30)]
    streams, book = "large=pm-a/*,tiny=pm-b/*", {"large": 2, "tiny": 1}
    line = check(*said, book=book, streams=streams)
    assert line.state == "good"
    assert line.text == (
        'large: "Checking 2 open positions" at 16:10:00 UTC (by log_streams), the book has 2; '
        'tiny: "Checking 1 open positions" at 16:10:30 UTC (by log_streams), the book has 1'
    )
    # Without it nobody could tell.
    swapped = {"large": 1, "tiny": 2}
    assert check(*said, book=swapped).state == "good"
    assert check(*said, book=swapped, streams=streams).state == "bad"
    # One of them only; a stream of nobody proves nothing, and an account without a stream is not checked.
    assert check(*said, book=book, streams="large=pm-a/*").state == "good"
    assert check(*said, *minutes("9", stream="scan", first=2), book=book, streams=streams).state == "good"
    line = check(*said, book=book, streams="large=pm-a/*,tiny=none/*")
    assert (line.state, "tiny: no recent enough line (by log_streams)" in line.text) == (
        "bad",
        True,
    )
    line = check(*said, book=book, streams="large=pm-a/*,tiny=pm-*")
    assert (line.state, line.text.count("log_streams gives one stream to large and tiny")) == ("bad", 2)
    # A task that takes over.
    newer = [*said, *minutes("9", stream="pm-a/x/3", first=40)]
    assert check(*newer, book=book, streams=streams).state == "bad"


def test_waiting_takes_longer_than_the_log_is_read_back() -> None:
    for window, wait in (("10min", "12min"), ("1h", "62min"), ("30s", "150s")):
        assert str(usual_wait(book_settings(log_window=window))) == wait
