"""What lasts too long is reported once, and when it is over."""

import datetime as dt
from dataclasses import replace

import pytest

from datafixes.book.positions.position import Comparison
from datafixes.book.watch.changes import Failure, Look, after_round
from datafixes.book.watch.incidents import Limits, Moment, lasted
from datafixes.book.watch.state import State
from tests.book.watch.story import LIMIT, NOTHING, START, Story, moved, phantom, unknown, unsettled


def test_an_account_that_is_unknown_for_too_long_is_told_once_and_when_it_is_back() -> None:
    story = Story()
    assert [story.events(unknown("large")) for _ in range(15)] == [[]] * 15
    [late] = story.round(unknown("large", "tiny"))
    assert (late.event, late.title) == ("unknown", "1 account is unknown")
    assert late.lines == ("large, for 15 min: it answers 500",)
    assert story.events(unknown("large", "tiny")) == []
    assert [story.events(NOTHING) for _ in range(15)] == [[]] * 15
    [back] = story.round(NOTHING)
    assert (back.event, back.lines) == ("known", ("large, for 17 min: it answers 500",))
    assert story.events(unknown("large")) == []
    assert story.events(NOTHING) == []


@pytest.mark.parametrize(("away", "there"), [(2, 1), (4, 1), (1, 1), (20, 14)])
def test_an_account_that_comes_and_goes_is_told_once(away: int, there: int) -> None:
    story = Story()
    reported = [
        event
        for n in range(720)
        for event in story.events(unknown("large") if n % (away + there) < away else NOTHING)
    ]
    assert reported == ["unknown"]
    assert [event for _ in range(20) for event in story.events(NOTHING)] == ["known"]
    assert not story.state.unknown


def test_an_account_that_is_unknown_now_and_then_is_not_told() -> None:
    story = Story()
    rounds = (unknown("large"), *[NOTHING] * 3)
    assert [event for n in range(720) for event in story.events(rounds[n % 4])] == []


def test_no_limit_is_no_alert() -> None:
    never = Limits.of(dt.timedelta(0), dt.timedelta(minutes=5))
    both = replace(unsettled(), unknown={"tiny": "it answers 500"})
    for limits in (never, never.without_memory()):
        state = State(fresh=True)
        for day in range(9):
            state, alerts = after_round(state, Look(both), Moment(START + dt.timedelta(days=day), limits))
            assert alerts == ()
    assert Limits.of(dt.timedelta(seconds=2), dt.timedelta(minutes=5)) == Limits(
        dt.timedelta(seconds=2), dt.timedelta(minutes=5), dt.timedelta(seconds=2)
    )


def test_a_failing_job_forgets_no_clock() -> None:
    story = Story()
    story.round(unknown("large"))
    for _ in range(20):
        story.round(Failure("away"))
    assert story.events(unknown("large")) == ["unknown"]


def test_a_clock_that_was_set_back_delays_no_alert_for_ever() -> None:
    story = Story()
    story.minute = 1000
    story.round(unknown("large"))
    story.minute = 0
    assert [story.events(unknown("large")) for _ in range(16)][-1] == ["unknown"]


def test_how_long_something_lasted() -> None:
    times = [lasted(dt.timedelta(seconds=s)) for s in (0, 59, 60, 3599, 3600, 7500)]
    assert times == ["0 s", "59 s", "1 min", "59 min", "1 h", "2 h 5 min"]


def test_what_does_not_settle_is_told_once_and_when_it_did() -> None:
    story = Story()
    assert [story.events(unsettled()) for _ in range(15)] == [[]] * 15
    [late] = story.round(unsettled())
    assert (late.event, late.title) == ("unsettled", "1 position is unsettled")
    assert late.lines == ("large QCOM, for 15 min: an order is in flight",)
    assert late.facts == (
        {"account": "large", "symbol": "QCOM", "since": START.isoformat(), "why": "an order is in flight"},
    )
    assert [story.events(unsettled()) for _ in range(30)] == [[]] * 30
    [over] = story.round(NOTHING)
    assert (over.event, over.title) == ("settled", "1 position is settled again")
    assert over.lines == ("large QCOM, for 46 min: an order is in flight",)
    assert story.events(NOTHING) == []


def test_what_settles_in_time_is_not_told_and_begins_anew() -> None:
    story = Story()
    for _ in range(10):
        assert [story.events(unsettled()) for _ in range(14)] == [[]] * 14
        assert story.events(NOTHING) == []


def test_what_becomes_a_difference_is_told_as_one_and_not_as_settled() -> None:
    story = Story()
    for _ in range(16):
        story.round(unsettled())
    assert story.events(Comparison((phantom(),))) == ["appeared"]
    # A reported difference whose position is touched for too long may grow, and nobody hears of it.
    assert [event for _ in range(60) for event in story.events(unsettled())] == ["unsettled"]
    assert story.events(NOTHING) == ["gone", "settled"]
    # Also where the difference is about two accounts.
    story.round(Comparison((moved(),)))
    half = replace(unsettled("tiny"), differences=(phantom(),))
    assert [event for _ in range(60) for event in story.events(half)] == ["unsettled"]
    assert story.events(Comparison((moved(),))) == ["settled"]


def test_nothing_settles_while_the_account_is_unknown_or_the_job_fails() -> None:
    story = Story()
    for _ in range(16):
        story.round(unsettled())
    assert story.events(unknown("large")) == []
    assert story.events(Failure("away")) == ["failed"]
    assert story.events(unsettled()) == []
    assert story.events(unknown("large")) == []
    assert story.events(NOTHING) == ["settled"]


def test_without_a_memory_an_order_in_flight_is_no_alert() -> None:
    limits = Limits(LIMIT, LIMIT).without_memory()
    both = replace(unsettled(), unknown={"tiny": "it answers 500"})
    _, alerts = after_round(State(fresh=True), Look(both), Moment(START, limits))
    assert [alert.event for alert in alerts] == ["unknown"]


def test_a_clock_that_was_set_back_never_makes_a_time_negative() -> None:
    story = Story()
    story.minute = 1000
    story.round(unsettled())
    story.round(Failure("away"))
    story.minute = 0
    alerts = [alert for _ in range(16) for alert in story.round(unsettled())]
    assert [alert.event for alert in alerts] == ["recovered", "unsettled"]
    assert alerts[0].title.endswith("after 0 s")
    story.minute = -100
    [over] = story.round(NOTHING)
    assert over.lines == ("large QCOM, for 0 s: an order is in flight",)
    assert lasted(dt.timedelta(seconds=-5)) == "0 s"
