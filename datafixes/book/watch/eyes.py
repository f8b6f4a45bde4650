"""Looks in a thread of its own: a database that says nothing keeps the job neither from ending nor from telling."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from datafixes.book.thread import aside, is_done
from datafixes.book.watch.ending import Ending
from datafixes.errors import DatafixError

if TYPE_CHECKING:
    from datafixes.book.watch.changes import Look

_LONGEST = 600.0
_FAREWELL = 5.0
_GIVEN_UP = 1800.0
"""Seconds."""
_MOST_GIVEN_UP = 3


class TooLate(Exception):
    """A look takes too long; it may come to an end yet."""


class Blind(DatafixError):
    """So many looks came to no end that another one would not either."""


class Eyes:
    """Looks once a round, and never twice at a time, unless a look is given up.

    Args:
        see: does it; may raise anything, and may come to no end.
        ending: how somebody asks the job to end.
        seconds: seconds that never go back.
    """

    def __init__(self, see: Callable[[], Look], ending: Ending, seconds: Callable[[], float]) -> None:
        self._see, self._ending, self._seconds = see, ending, seconds
        self._late: Future[Look] | None = None
        self._began = 0.0
        self._given_up: list[Future[Look]] = []

    def look(self) -> Look:
        """What one round finds.

        Raises:
            Ended: somebody asked for it meanwhile.
            TooLate: it is not known yet.
            Blind: nothing more is to be expected in this process.
            Exception: whatever went wrong.
        """
        if self._late is not None and not self._late.done():
            if self._seconds() - self._began < _GIVEN_UP:
                raise _too_late()
            self._give_up(self._late)
        self._late = None
        self._began = self._seconds()
        looking = aside(self._see)
        try:
            with self._ending.interruptible():
                if not is_done(looking, _LONGEST):
                    self._late = looking
                    raise _too_late()
        except TooLate:
            raise
        except BaseException:
            # Most end by themselves at once, and leave nothing open.
            is_done(looking, _FAREWELL)
            raise
        return looking.result()

    def _give_up(self, late: Future[Look]) -> None:
        self._given_up = [one for one in self._given_up if not one.done()]
        if len(self._given_up) >= _MOST_GIVEN_UP:
            raise Blind(
                f"{len(self._given_up) + 1} comparisons came to no end, each within {_GIVEN_UP / 60:g} minutes.",
                hint="Start the watch again, and see why the database or the broker says nothing.",
            )
        self._given_up.append(late)


def _too_late() -> TooLate:
    return TooLate(f"The comparison does not end within {_LONGEST / 60:g} minutes")
