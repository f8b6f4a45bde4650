"""What comes and goes is reported a few times, then once an hour, and when it stays."""

from datafixes.book.positions.position import Comparison
from tests.book.watch.story import NOTHING, Story, phantom, unknown


def test_what_flaps_all_night_is_told_a_few_times_and_when_it_ends() -> None:
    story = Story()
    both = (Comparison((phantom(),)), NOTHING)
    reported = [event for n in range(460) for event in story.events(both[n % 2])]
    # Nobody has to think for a whole night that all is well.
    assert reported == ["appeared", "gone"] * 3 + ["flapping"] * 8
    story.round(Comparison((phantom(),)))
    assert [story.events(Comparison((phantom(),))) for _ in range(14)] == [[]] * 14
    # It was reported as there, and is there.
    assert story.events(Comparison((phantom(),))) == []
    [gone] = story.round(NOTHING)
    assert gone.event == "gone"


def test_how_it_ended_is_told_where_that_is_not_what_was_told_last() -> None:
    story = Story()
    both = (Comparison((phantom(),)), NOTHING)
    rounds = [story.round(both[n % 2]) for n in range(8)]
    [flapping] = rounds[6]
    assert (
        flapping.title == "1 difference between book and broker changed repeatedly; "
        "the next report follows in an hour, or when it is stable"
    )
    assert flapping.lines == ("large QCOM: phantom, row 16: book 5, broker 0",)
    # An account of which nothing is known does not stay as it was.
    assert [story.events(unknown("large")) for _ in range(20)].count([]) == 19
    assert [event for _ in range(16) for event in story.events(NOTHING)] == ["gone", "known"]


def test_what_grows_and_grows_is_told_once_an_hour_with_what_is_so_then() -> None:
    story = Story()
    rounds = [
        story.round(
            Comparison(
                (phantom("large", "QCOM", *range(16, 17 + n)), *(phantom("tiny", "SPY", n + 1),) * (n > 30))
            )
        )
        for n in range(200)
    ]
    reported = [
        (n, alert) for n, alerts in enumerate(rounds) for alert in alerts if alert.event == "flapping"
    ]
    # The other one, held back later, is reported with it.
    assert [(n, len(alert.lines)) for n, alert in reported] == [(6, 1), (37, 1), (66, 2), (126, 2), (186, 2)]
    growth = reported[-1][1].facts[0]
    assert [growth[when]["rows"][-1] for when in ("before", "now")] == [16 + 126, 16 + 186]
    assert story.state.flapping[("large", "QCOM")].held


def test_what_changes_and_is_the_same_in_each_hour_is_told_all_the_same() -> None:
    story = Story()
    both = (Comparison((phantom(),)), Comparison((phantom("large", "QCOM", 16, 41),)))
    rounds = [story.round(both[n % 2]) for n in range(130)]
    [first, second, third] = [a for alerts in rounds for a in alerts if a.event == "flapping"]
    assert first.lines[0].endswith("(before: phantom, rows 16, 41: book 5, broker 0)")
    assert (
        second.lines == third.lines == ("large QCOM: phantom, row 16: book 5, broker 0 (as reported before)",)
    )


def test_what_changes_now_and_then_is_told_each_time() -> None:
    story = Story()
    both = (Comparison((phantom(),)), NOTHING)
    reported = [event for n in range(1200) for event in story.events(both[n // 12 % 2])]
    assert reported == ["appeared", "gone"] * 50
    assert story.state.flapping
    for _ in range(61):
        story.round(NOTHING)
    assert not story.state.flapping


def test_a_clock_that_was_set_back_holds_nothing_back_for_ever() -> None:
    story = Story()
    story.minute = 1000
    both = (Comparison((phantom(),)), NOTHING)
    for n in range(8):
        story.round(both[n % 2])
    story.minute = 0
    [alert] = [alert for _ in range(90) for alert in story.round(NOTHING)]
    assert alert.lines == ("large QCOM: phantom, row 16: book 5, broker 0; now equal",)
    assert not story.state.flapping
