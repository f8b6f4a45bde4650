"""Repeats the checks until all are green or the time is up."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from datafixes.book.thread import Unfinished, within
from datafixes.book.verify.checklist import COLOURS, Checklist, Progress

_REPORT_EVERY = 30.0
LONGEST_LOOK = 90.0
_SPARE, FAREWELL = 15.0, 2.0
"""Seconds."""


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
        found = _look(look, patience.of_look(patience.clock() - began))
        elapsed = patience.clock() - began
        left = patience.seconds - elapsed
        if found.is_final or left <= 0:
            if left > 0 and not found.is_green:
                say(f"Not waiting any longer: {_lasting(found)}")
            return found
        status = _status(found)
        if status != reported or patience.clock() - reported_at >= _REPORT_EVERY:
            say(f"{_clock(elapsed)} of {_clock(patience.seconds)}: {status}")
            reported, reported_at = status, patience.clock()
        patience.sleep(min(patience.pause, left))


def _look(look: Callable[[Progress], Checklist], seconds: float) -> Checklist:
    progress = Progress()
    try:
        return within(seconds, lambda: look(progress), FAREWELL)
    except Unfinished:
        return progress.given_up(seconds)


def _status(found: Checklist) -> str:
    waiting = [
        f"{line.name} {COLOURS[line.state]}" for line in found.lines if line.state in ("bad", "unknown")
    ]
    return f"{found.counts()} ({', '.join(waiting)})"


def _lasting(found: Checklist) -> str:
    return ", ".join(f"{line.name} will not change by itself" for line in found.lines if line.lasting)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"
