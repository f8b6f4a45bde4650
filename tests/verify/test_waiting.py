"""``--wait``: looks again until all is green, and says how it goes."""

from datafixes.verify.checklist import Checklist, Colour, Line
from datafixes.verify.waiting import Patience, look_until_green


def checklist(colour: Colour, lasting: bool = False) -> Checklist:
    return Checklist((Line("Ledger", "green", ""), Line("Log", colour, "", lasting=lasting)))


class World:
    """A clock that does not wait; the last checklist is seen again and again."""

    def __init__(self, *found: Checklist, takes: float = 1.0) -> None:
        self.found, self.takes, self.seconds, self.looks = list(found), takes, 0.0, 0
        self.said: list[str] = []

    def look(self) -> Checklist:
        self.looks += 1
        self.seconds += self.takes
        return self.found.pop(0) if len(self.found) > 1 else self.found[0]

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def wait(self, seconds: float) -> Checklist:
        patience = Patience(seconds, 5.0, lambda: self.seconds, self.sleep)
        return look_until_green(self.look, patience, self.said.append)


def test_without_waiting_it_looks_once() -> None:
    world = World(checklist("red"), checklist("green"))
    assert world.wait(0).is_red
    assert (world.looks, world.said) == (1, [])


def test_it_ends_when_all_is_green() -> None:
    world = World(*[checklist("red")] * 10, checklist("unknown"), checklist("green"))
    assert world.wait(600).is_green
    assert world.looks == 12
    assert world.said[0] == "0:01 of 10:00: 1 green, 1 red (Log red)"
    # One line when something changes, and one every half a minute.
    assert len(world.said) == 3
    assert "1 unknown" in world.said[-1]


def test_it_ends_when_the_time_is_up() -> None:
    world = World(checklist("red"))
    assert world.wait(60).is_red
    assert 60 <= world.seconds <= 62
    assert world.looks == 11


def test_it_ends_at_once_where_waiting_changes_nothing() -> None:
    world = World(checklist("unknown", lasting=True))
    world.wait(600)
    assert world.looks == 1
    assert world.said == ["No longer waited for: Log will not change by itself"]
    world.wait(0)
    assert len(world.said) == 1
