"""Looks again and again, until everything is green or the time is up."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from datafixes.verify.checklist import Checklist

_TELL_EVERY = 30.0


@dataclass(frozen=True)
class Patience:
    """How long to wait.

    Attributes:
        seconds: how long at most; 0 is a single look.
        pause: seconds between two looks.
        clock: seconds that never go back.
        sleep: lets so many seconds pass.
    """

    seconds: float
    pause: float = 5.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep


def look_until_green(
    look: Callable[[], Checklist], patience: Patience, say: Callable[[str], None]
) -> Checklist:
    """The last checklist: a green one, one that waiting will not change, or the one when the time was up.

    Args:
        look: looks once.
        patience: how long to wait.
        say: takes a line of progress, when something changes and every half a minute.
    """
    began = patience.clock()
    told, told_at = "", began
    while True:
        found = look()
        elapsed = patience.clock() - began
        left = patience.seconds - elapsed
        if found.is_final or left <= 0:
            if left > 0 and not found.is_green:
                say(f"No longer waited for: {_lasting(found)}")
            return found
        progress = _progress(found)
        if progress != told or patience.clock() - told_at >= _TELL_EVERY:
            say(f"{_clock(elapsed)} of {_clock(patience.seconds)}: {progress}")
            told, told_at = progress, patience.clock()
        patience.sleep(min(patience.pause, left))


def _progress(found: Checklist) -> str:
    waiting = [f"{line.name} {line.colour}" for line in found.lines if line.colour in ("red", "unknown")]
    return f"{found.counts()} ({', '.join(waiting)})"


def _lasting(found: Checklist) -> str:
    return ", ".join(f"{line.name} will not change by itself" for line in found.lines if line.lasting)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"
