"""``--wait``: looks again until all is green, and says how it goes."""

import threading

import pytest

from datafixes.book.verify.checklist import Checklist, Patience, Progress, look_until_green
from datafixes.errors import DatafixError
from datafixes.report.document import Fact, State


def checklist(colour: State, lasting: bool = False) -> Checklist:
    return Checklist((Fact("Ledger", "", "good"), Fact("Log", "", colour, lasting=lasting)))


class World:
    """A clock that does not wait; the last checklist is seen again and again."""

    def __init__(self, *found: Checklist, takes: float = 1.0) -> None:
        self.found, self.takes, self.seconds, self.looks = list(found), takes, 0.0, 0
        self.said: list[str] = []

    def look(self, _progress: Progress) -> Checklist:
        self.looks += 1
        self.seconds += self.takes
        return self.found.pop(0) if len(self.found) > 1 else self.found[0]

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def wait(self, seconds: float) -> Checklist:
        patience = Patience(seconds, 5.0, lambda: self.seconds, self.sleep)
        return look_until_green(self.look, patience, self.said.append)


def test_without_waiting_it_looks_once() -> None:
    world = World(checklist("bad"), checklist("good"))
    assert world.wait(0).is_red
    assert (world.looks, world.said) == (1, [])


def test_it_ends_when_all_is_green() -> None:
    world = World(*[checklist("bad")] * 10, checklist("unknown"), checklist("good"))
    assert world.wait(600).is_green
    assert world.looks == 12
    assert world.said[0] == "0:01 of 10:00: 1 green, 1 red (Log red)"
    # One line when something changes, and one every half a minute.
    assert len(world.said) == 3
    assert "1 unknown" in world.said[-1]


def test_it_ends_when_the_time_is_up() -> None:
    world = World(checklist("bad"))
    assert world.wait(60).is_red
    assert 60 <= world.seconds <= 62
    assert world.looks == 11


def test_it_ends_at_once_where_waiting_changes_nothing() -> None:
    world = World(checklist("unknown", lasting=True))
    world.wait(600)
    assert world.looks == 1
    assert world.said == ["Not waiting any longer: Log will not change by itself"]
    world.wait(0)
    assert len(world.said) == 1


GREEN = checklist("good")
MUTE = threading.Event()
"""Nobody ever sets it."""


class Mute:
    """Says nothing more after its first line, so many times."""

    def __init__(self, times: int) -> None:
        self.times = times

    def look(self, progress: Progress) -> Checklist:
        progress.asks("Ledger", Fact("AWS identity", "", "good"))
        self.times -= 1
        if self.times >= 0:
            MUTE.wait(60)
        return GREEN


def test_a_look_without_an_answer_is_one_unknown_line_after_what_is_known() -> None:
    found = look_until_green(Mute(1).look, Patience(0, longest=0.05), print)
    assert [(line.name, line.state) for line in found.lines] == [
        ("AWS identity", "good"),
        ("Ledger", "unknown"),
    ]
    assert found.lines[1].text.startswith("does not answer within 0.05 s")


def test_the_wait_goes_on_after_a_look_without_an_answer() -> None:
    said = list[str]()
    found = look_until_green(Mute(2).look, Patience(10, 0.01, longest=0.05), said.append)
    assert (found, said) == (GREEN, ["0:00 of 0:10: 1 green, 1 unknown (Ledger unknown)"])


def test_the_last_look_takes_no_longer_than_the_wait_and_a_little() -> None:
    patience = Patience(0.05, 0.01, spare=0.05)
    found = look_until_green(Mute(9).look, patience, print)
    assert found.lines[1].text.startswith("does not answer within 0.1 s")
    assert [Patience(600).of_look(elapsed) for elapsed in (0, 590, 600)] == [90, 25, 15]
    assert (Patience(5).of_look(0), Patience(0).of_look(0)) == (20, 90)


def test_what_goes_wrong_in_a_look_goes_wrong_here() -> None:
    def look(_progress: Progress) -> Checklist:
        raise DatafixError("why")

    with pytest.raises(DatafixError, match="why"):
        look_until_green(look, Patience(0), print)
