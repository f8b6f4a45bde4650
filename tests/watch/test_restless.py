"""What comes and goes is told a few times, and then when it stays."""

from datafixes.reconcile.positions import Comparison
from tests.watch.story import NOTHING, Story, phantom, unknown


def test_what_flaps_all_night_is_told_a_few_times_and_when_it_ends() -> None:
    story = Story()
    both = (Comparison((phantom(),)), NOTHING)
    told = [event for n in range(480) for event in story.events(both[n % 2])]
    assert told == ["appeared", "gone"] * 3 + ["restless"]
    story.round(Comparison((phantom(),)))
    assert [story.events(Comparison((phantom(),))) for _ in range(14)] == [[]] * 14
    # It was told as there, and is there.
    assert story.events(Comparison((phantom(),))) == []
    [gone] = story.round(NOTHING)
    assert gone.event == "gone"


def test_how_it_ended_is_told_where_that_is_not_what_was_told_last() -> None:
    story = Story()
    both = (Comparison((phantom(),)), NOTHING)
    rounds = [story.round(both[n % 2]) for n in range(8)]
    [restless] = rounds[6]
    assert (
        restless.title
        == "1 difference between book and broker changed again and again; told next when it stays otherwise"
    )
    assert restless.lines == ("large QCOM: phantom, row 16: book 5, broker 0",)
    # An account of which nothing is known does not stay as it was.
    assert [story.events(unknown("large")) for _ in range(20)].count([]) == 19
    assert story.events(NOTHING) == ["gone", "known"]


def test_what_changes_now_and_then_is_told_each_time() -> None:
    story = Story()
    both = (Comparison((phantom(),)), NOTHING)
    told = [event for n in range(1200) for event in story.events(both[n // 12 % 2])]
    assert told == ["appeared", "gone"] * 50
    assert story.state.restless
    for _ in range(61):
        story.round(NOTHING)
    assert not story.state.restless


def test_a_clock_that_was_set_back_holds_nothing_back_for_ever() -> None:
    story = Story()
    story.minute = 1000
    both = (Comparison((phantom(),)), NOTHING)
    for n in range(8):
        story.round(both[n % 2])
    story.minute = 0
    assert [event for _ in range(17) for event in story.events(NOTHING)] == ["gone"]
