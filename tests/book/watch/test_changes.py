"""What is new since the last round, and which alerts follow."""

import random
from dataclasses import replace
from decimal import Decimal

from datafixes.book.positions.position import Comparison, Difference
from datafixes.book.watch.changes import Failure, Look
from datafixes.book.watch.state import Seen
from tests.book.watch.story import NOTHING, Story, missing, moved, phantom, unknown, unsettled


def test_a_difference_is_told_when_it_appears_changes_and_goes_and_not_in_between() -> None:
    story = Story()
    assert story.events(NOTHING) == []
    [appeared] = story.round(Comparison((phantom(),)))
    assert appeared.title == "1 difference between book and broker appeared"
    assert appeared.lines == ("large QCOM: phantom, row 16: book 5, broker 0",)
    assert story.events(Comparison((phantom(),))) == []
    [changed] = story.round(Comparison((phantom("large", "QCOM", 16, 41),)))
    assert changed.event == "changed"
    assert changed.lines == (
        "large QCOM: phantom, rows 16, 41: book 5, broker 0 (before: phantom, row 16: book 5, broker 0)",
    )
    [gone] = story.round(NOTHING)
    assert (gone.event, gone.lines) == ("gone", ("large QCOM: phantom, rows 16, 41: book 5, broker 0",))
    assert story.events(NOTHING) == []


def test_a_quantity_written_otherwise_is_no_change() -> None:
    story = Story()
    story.round(Comparison((phantom(),)))
    assert story.events(Comparison((replace(phantom(), book=Decimal("5")),))) == []


def test_all_of_a_round_is_one_alert_of_each_kind() -> None:
    story = Story()
    many = tuple(phantom("large", f"A{n}", n + 1) for n in range(1000))
    [alert] = story.round(Comparison(many))
    assert alert.title == "1000 differences between book and broker appeared"
    assert len(alert.lines) + alert.left_out == 1000
    alerts = story.round(Comparison((*many[1:], phantom("tiny", "SPY", 7))))
    assert [alert.event for alert in alerts] == ["appeared", "gone"]


def test_nothing_follows_from_an_account_that_does_not_answer() -> None:
    story = Story()
    story.round(Comparison((phantom(), phantom("tiny", "SPY", 19))))
    assert story.events(unknown("large", differences=(phantom("tiny", "SPY", 19),))) == []
    assert story.events(Comparison((phantom(), phantom("tiny", "SPY", 19)))) == []
    story.round(unknown("large", differences=(phantom("tiny", "SPY", 19),)))
    [gone] = story.round(Comparison((phantom("tiny", "SPY", 19),)))
    assert gone.lines == ("large QCOM: phantom, row 16: book 5, broker 0",)


def test_nothing_follows_from_a_position_that_is_not_settled() -> None:
    story = Story()
    story.round(Comparison((phantom(),)))
    assert story.events(unsettled()) == []
    assert story.events(Comparison((phantom(),))) == []
    story.round(unsettled())
    assert story.events(NOTHING) == ["gone"]


def test_a_position_in_the_wrong_account_stays_one_while_one_of_the_two_is_unknown() -> None:
    story = Story()
    [appeared] = story.round(Comparison((moved(),)))
    assert appeared.lines == ("large QCOM: account, row 16: book 5, broker 5 in tiny",)
    for half in (
        unknown("tiny", differences=(phantom(),)),
        unknown("large", differences=(missing(),)),
        replace(unsettled("tiny"), differences=(phantom(),)),
        replace(unsettled("large"), differences=(missing(),)),
    ):
        assert story.events(half) == []
        assert story.events(Comparison((moved(),))) == []
    # What is certain is reported all the same.
    assert story.events(unknown("tiny", differences=(phantom("large", "QCOM", 16, 41),))) == ["changed"]


def test_the_job_fails_and_recovers_each_told_once() -> None:
    story = Story()
    story.round(Comparison((phantom(),)))
    [failed] = story.round(Failure("The database does not answer"))
    assert (failed.event, failed.lines) == ("failed", ("The database does not answer",))
    assert [story.events(Failure(f"reason {n}")) for n in range(59)] == [[]] * 59
    assert story.events(NOTHING) == ["gone"]
    # It works again when it has worked for a while.
    assert [story.events(NOTHING) for _ in range(14)] == [[]] * 14
    [recovered] = story.round(NOTHING)
    assert recovered.title == "The book can be compared with the broker again, after 1 h"
    assert recovered.lines == ("It was: reason 58",)
    assert story.events(NOTHING) == []


def test_a_comparison_that_fails_every_other_round_is_one_failure() -> None:
    story = Story()
    rounds = (Failure("away"), NOTHING)
    assert [event for n in range(720) for event in story.events(rounds[n % 2])] == ["failed"]
    assert [event for _ in range(20) for event in story.events(NOTHING)] == ["recovered"]


def test_a_row_that_cannot_be_compared_is_told_like_a_difference() -> None:
    story = Story()
    row = Seen("large", "row 40", "not comparable", (40,), "", "", why="its quantity is zero")
    [alert] = story.round(Look(NOTHING, (row,)))
    assert alert.lines == ("large row 40: not comparable: its quantity is zero",)
    assert story.events(Look(NOTHING, (row,))) == []
    assert story.events(NOTHING) == ["gone"]


def test_whatever_happens_the_alerts_add_up_to_what_is() -> None:
    # Appeared minus gone is what the last round saw, when everything is known again.
    chance = random.Random(5)
    places = [(account, symbol) for account in ("large", "tiny") for symbol in ("QCOM", "SPY", "NOW")]
    for _ in range(200):
        story, reported, found, was_last = Story(), set(), list[Difference](), False
        for last in (*[False] * 12, *[True] * 17):
            found = (
                found
                if last and was_last
                else [phantom(a, s, chance.randrange(1, 3)) for a, s in places if chance.random() < 0.5]
            )
            was_last = last
            away = [] if last else [a for a in ("large", "tiny") if chance.random() < 0.3]
            if not last and chance.random() < 0.2:
                story.round(Failure("away"))
                continue
            known = tuple(one for one in found if one.account not in away)
            for alert in story.round(unknown(*away, differences=known)):
                for fact in alert.facts if alert.event in ("appeared", "changed", "gone", "flapping") else ():
                    reported.discard(_key(fact["before"]))
                    reported.add(_key(fact["now"]))
        assert reported - {None} == {(one.account, str(one.symbol), one.rows) for one in found}


def _key(fact: dict[str, object] | None) -> object:
    return None if fact is None else (fact["account"], fact["symbol"], fact["rows"])
