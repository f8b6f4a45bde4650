"""Compares in a thread of its own: a database that does not answer must not keep the job from ending or reporting."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from datafixes.book.thread import in_thread, is_done
from datafixes.book.watch.signals import SignalHandler
from datafixes.errors import DatafixError

if TYPE_CHECKING:
    from datafixes.book.watch.changes import Look

_LONGEST = 600.0
_FAREWELL = 5.0
_GIVEN_UP = 1800.0
"""Seconds."""
_MOST_GIVEN_UP = 3


class TimedOut(Exception):
    """The comparison of this round takes too long; it may still finish."""


class GaveUp(DatafixError):
    """So many comparisons never finished that another one would not either."""


class Poller:
    """Compares once a round, and never twice at a time, unless a comparison is given up.

    Args:
        compare: does it; may raise anything, and may never finish.
        signals: how somebody asks the job to end.
        seconds: seconds that never go back.
    """

    def __init__(
        self, compare: Callable[[], Look], signals: SignalHandler, seconds: Callable[[], float]
    ) -> None:
        self._compare, self._signals, self._seconds = compare, signals, seconds
        self._late: Future[Look] | None = None
        self._began = 0.0
        self._given_up: list[Future[Look]] = []

    def poll(self) -> Look:
        """What one round finds.

        Raises:
            Terminated: SIGTERM came meanwhile.
            TimedOut: it is not known yet.
            GaveUp: nothing more is to be expected in this process.
            Exception: whatever went wrong.
        """
        if self._late is not None and not self._late.done():
            if self._seconds() - self._began < _GIVEN_UP:
                raise _timed_out()
            self._give_up(self._late)
        self._late = None
        self._began = self._seconds()
        comparing = in_thread(self._compare)
        try:
            with self._signals.interruptible():
                if not is_done(comparing, _LONGEST):
                    self._late = comparing
                    raise _timed_out()
        except TimedOut:
            raise
        except BaseException:
            # Most end by themselves at once, and leave nothing open.
            is_done(comparing, _FAREWELL)
            raise
        return comparing.result()

    def _give_up(self, late: Future[Look]) -> None:
        self._given_up = [one for one in self._given_up if not one.done()]
        if len(self._given_up) >= _MOST_GIVEN_UP:
            raise GaveUp(
                f"{len(self._given_up) + 1} comparisons came to no end, each within {_GIVEN_UP / 60:g} minutes.",
                hint="Start the watch again, and see why the database or the broker says nothing.",
            )
        self._given_up.append(late)


def _timed_out() -> TimedOut:
    return TimedOut(f"The comparison does not end within {_LONGEST / 60:g} minutes")
