"""The results of the checks, which are repeated until all are green or the time is up."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from datafixes.book.thread import Unfinished, within
from datafixes.database.aws_client import DENIED, NotAsked
from datafixes.report.document import Fact, State, unknown

_REPORT_EVERY = 30.0
LONGEST_LOOK = 90.0
_SPARE, FAREWELL = 15.0, 2.0
"""Seconds."""

COLOURS: Mapping[State, str] = {"good": "green", "bad": "red", "unknown": "unknown", "": "skipped"}
"""The words for readers: as expected; not as expected; could not be checked; skipped on request."""


@dataclass(frozen=True)
class Checklist:
    """All lines, in display order."""

    lines: tuple[Fact, ...]

    @property
    def is_green(self) -> bool:
        """Whether nothing is red or unknown."""
        return all(line.state in ("good", "") for line in self.lines)

    @property
    def is_red(self) -> bool:
        """Whether a line is red."""
        return any(line.state == "bad" for line in self.lines)

    @property
    def is_final(self) -> bool:
        """Whether checking again is pointless."""
        return self.is_green or any(line.lasting for line in self.lines)

    def counts(self) -> str:
        """``3 green, 1 red``."""
        numbers = [(sum(line.state == state for line in self.lines), COLOURS[state]) for state in COLOURS]
        return ", ".join(f"{number} {colour}" for number, colour in numbers if number)


@dataclass
class Progress:
    """The progress of a check, for a waiting thread.

    Attributes:
        lines: the lines so far.
        asked: the name of the current subject.
    """

    lines: tuple[Fact, ...] = ()
    asked: str = "Checklist"

    def asks(self, name: str, *known: Fact) -> None:
        """Add lines, and go on to the next subject."""
        self.lines, self.asked = (*self.lines, *known), name

    def given_up(self, seconds: float) -> Checklist:
        """The checklist if the check does not end in time."""
        evidence = f"does not answer within {seconds:.3g} s; later lines were not checked"
        return Checklist((*self.lines, unknown(self.asked, evidence)))


def not_asked(name: str, error: NotAsked, permission: str) -> Fact:
    """The line for a question that AWS did not answer."""
    denied = error.code in DENIED
    hint = f"These credentials need {permission}" if denied else ""
    return unknown(name, str(error), hint, lasting=denied)


def some(texts: Iterable[str], most: int = 5) -> str:
    """The first of several texts, and the number of the others."""
    listed = list(texts)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return "; ".join(listed[:most]) + more


@dataclass(frozen=True)
class Patience:
    """How long to wait.

    Attributes:
        seconds: the maximum; 0: a single check.
        pause: seconds between two checks.
        clock: a monotonic clock.
        sleep: waits a number of seconds.
        longest: the time limit of one check, in seconds.
        spare: the time limit of the last check when the time is up.
    """

    seconds: float
    pause: float = 5.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep
    longest: float = LONGEST_LOOK
    spare: float = _SPARE

    def of_look(self, elapsed: float) -> float:
        """The time limit of a check that begins after a number of seconds."""
        return min(self.longest, self.seconds - elapsed + self.spare) if self.seconds else self.longest


def look_until_green(
    look: Callable[[Progress], Checklist], patience: Patience, say: Callable[[str], None]
) -> Checklist:
    """The last checklist: a green one, one that waiting will not change, or the one when the time was up.

    Args:
        look: runs the checks once, in its own thread, because a database may stop answering.
        patience: how long to wait.
        say: takes a line of progress, on changes and every half minute.
    """
    began = patience.clock()
    reported, reported_at = "", began
    while True:
        seconds, progress = patience.of_look(patience.clock() - began), Progress()
        try:
            found = within(seconds, partial(look, progress), FAREWELL)
        except Unfinished:
            found = progress.given_up(seconds)
        elapsed = patience.clock() - began
        left = patience.seconds - elapsed
        if found.is_final or left <= 0:
            if left > 0 and not found.is_green:
                lasting = (f"{line.name} will not change by itself" for line in found.lines if line.lasting)
                say(f"Not waiting any longer: {', '.join(lasting)}")
            return found
        waits = [f"{one.name} {COLOURS[one.state]}" for one in found.lines if one.state in ("bad", "unknown")]
        status = f"{found.counts()} ({', '.join(waits)})"
        if status != reported or patience.clock() - reported_at >= _REPORT_EVERY:
            say(f"{_clock(elapsed)} of {_clock(patience.seconds)}: {status}")
            reported, reported_at = status, patience.clock()
        patience.sleep(min(patience.pause, left))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"
