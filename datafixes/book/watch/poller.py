"""Compares in its own thread: a database that does not answer must not prevent the job from ending or reporting."""

from collections.abc import Callable
from concurrent.futures import Future

from datafixes.book.thread import Unfinished, within
from datafixes.book.watch.changes import Look
from datafixes.book.watch.signals import SignalHandler
from datafixes.errors import DatafixError

_LONGEST = 600.0
_FAREWELL = 5.0
_GIVEN_UP = 1800.0
"""Seconds."""
_MOST_GIVEN_UP = 3


class TimedOut(Exception):
    """The comparison of this round takes too long; it may still finish."""

    def __str__(self) -> str:
        return f"The comparison did not end within {_LONGEST / 60:g} minutes"


class GaveUp(DatafixError):
    """Too many comparisons have not ended."""


class Poller:
    """Compares once per round, and never twice at a time, unless a comparison is given up.

    Args:
        compare: the comparison; may raise anything, and may never end.
        signals: whether SIGTERM has come.
        seconds: a monotonic clock.
    """

    def __init__(
        self, compare: Callable[[], Look], signals: SignalHandler, seconds: Callable[[], float]
    ) -> None:
        self._compare, self._signals, self._seconds = compare, signals, seconds
        self._late: Future[Look] | None = None
        self._began = 0.0
        self._given_up: list[Future[Look]] = []

    def poll(self) -> Look:
        """The result of one round.

        Raises:
            Terminated: SIGTERM came meanwhile.
            TimedOut: there is no result yet.
            GaveUp: too many comparisons have not ended.
            Exception: the comparison failed.
        """
        if self._late is not None and not self._late.done():
            if self._seconds() - self._began < _GIVEN_UP:
                raise TimedOut
            self._give_up(self._late)
        self._late = None
        self._began = self._seconds()
        try:
            with self._signals.interruptible():
                return within(_LONGEST, self._compare, _FAREWELL)
        except Unfinished as late:
            self._late = late.future
            raise TimedOut from None

    def _give_up(self, late: Future[Look]) -> None:
        self._given_up = [one for one in self._given_up if not one.done()]
        if len(self._given_up) >= _MOST_GIVEN_UP:
            raise GaveUp(
                f"{len(self._given_up) + 1} comparisons did not end within {_GIVEN_UP / 60:g} minutes each.",
                hint="Restart the watch, and find out why the database or the broker does not answer.",
            )
        self._given_up.append(late)
