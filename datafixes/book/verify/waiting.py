"""Looks again and again, until everything is green or the time is up."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from datafixes.book.thread import in_thread, is_done
from datafixes.book.verify.checklist import Checklist, Progress
from datafixes.errors import DatafixError

T = TypeVar("T")

_REPORT_EVERY = 30.0
LONGEST_LOOK = 90.0
_SPARE, _FAREWELL = 15.0, 2.0
"""Seconds."""


@dataclass(frozen=True)
class Patience:
    """How long to wait.

    Attributes:
        seconds: how long at most; 0 is a single look.
        pause: seconds between two looks.
        clock: seconds that never go back.
        sleep: lets so many seconds pass.
        longest: how many seconds one look may take.
        spare: how many seconds the last look may take when the time is up.
    """

    seconds: float
    pause: float = 5.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep
    longest: float = LONGEST_LOOK
    spare: float = _SPARE

    def of_look(self, elapsed: float) -> float:
        """How long a look may take that begins after so many seconds."""
        return min(self.longest, self.seconds - elapsed + self.spare) if self.seconds else self.longest


def look_until_green(
    look: Callable[[Progress], Checklist], patience: Patience, say: Callable[[str], None]
) -> Checklist:
    """The last checklist: a green one, one that waiting will not change, or the one when the time was up.

    Args:
        look: looks once, in a thread of its own: a database that says nothing more must not keep this from its end.
        patience: how long to wait.
        say: takes a line of progress, when something changes and every half a minute.
    """
    began = patience.clock()
    reported, reported_at = "", began
    while True:
        found = _look(look, patience.of_look(patience.clock() - began))
        elapsed = patience.clock() - began
        left = patience.seconds - elapsed
        if found.is_final or left <= 0:
            if left > 0 and not found.is_green:
                say(f"No longer waited for: {_lasting(found)}")
            return found
        status = _status(found)
        if status != reported or patience.clock() - reported_at >= _REPORT_EVERY:
            say(f"{_clock(elapsed)} of {_clock(patience.seconds)}: {status}")
            reported, reported_at = status, patience.clock()
        patience.sleep(min(patience.pause, left))


def _look(look: Callable[[Progress], Checklist], seconds: float) -> Checklist:
    progress = Progress()
    looking = in_thread(lambda: look(progress))
    return looking.result() if _is_done(looking, seconds) else progress.given_up(seconds)


def within(seconds: float, what: str, work: Callable[[], T]) -> T:
    """What the work brings.

    Raises:
        DatafixError: it takes longer; `what` says of what.
    """
    future = in_thread(work)
    if not _is_done(future, seconds):
        raise DatafixError(f"{what} does not answer within {seconds:.3g} s")
    return future.result()


def _is_done(future: Future[T], seconds: float) -> bool:
    try:
        return is_done(future, seconds)
    except BaseException:
        # Interrupted: most end by themselves at once, and leave nothing open.
        is_done(future, _FAREWELL)
        raise


def _status(found: Checklist) -> str:
    waiting = [f"{line.name} {line.colour}" for line in found.lines if line.colour in ("red", "unknown")]
    return f"{found.counts()} ({', '.join(waiting)})"


def _lasting(found: Checklist) -> str:
    return ", ".join(f"{line.name} will not change by itself" for line in found.lines if line.lasting)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"
