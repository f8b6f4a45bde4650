"""Ends a job when it is told to, where it can end: never while alerts go out and the state is written."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Ended(BaseException):
    """Somebody asked the job to end. No error: whoever catches errors must not catch it."""


class Ending:
    """Waits for SIGTERM, and raises `Ended` where the job may be interrupted."""

    def __init__(self) -> None:
        self._asked = self._interruptible = False

    @property
    def asked(self) -> bool:
        """Whether somebody did."""
        return self._asked

    @contextmanager
    def on_sigterm(self) -> Iterator[None]:
        """Heed the signal while the context lasts. Only the main thread can."""
        before = signal.signal(signal.SIGTERM, self._ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Here the job ends at once when it is asked to.

        Raises:
            Ended: it was asked, before or meanwhile.
        """
        self._interruptible = True
        try:
            if self._asked:
                raise Ended
            yield
        finally:
            self._interruptible = False

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True
        if self._interruptible:
            # Once: what is cleaned up on the way out must not be interrupted again.
            self._interruptible = False
            raise Ended
