"""Signal handling: SIGTERM ends the job at safe points, never while it sends alerts or writes the state."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(BaseException):
    """SIGTERM came. Not an `Exception`, so that handlers of errors do not catch it."""


class SignalHandler:
    """Notes a SIGTERM, and raises `Terminated` at points where the job may be interrupted.

    Attributes:
        asked: whether SIGTERM has come.
    """

    def __init__(self) -> None:
        self.asked = self._interruptible = False

    @contextmanager
    def on_sigterm(self) -> Iterator[None]:
        """Handle the signal while the context lasts. Only possible in the main thread."""
        before = signal.signal(signal.SIGTERM, self._ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let SIGTERM end the job at once while the context lasts.

        Raises:
            Terminated: SIGTERM came, before or meanwhile.
        """
        self._interruptible = True
        try:
            if self.asked:
                raise Terminated
            yield
        finally:
            self._interruptible = False

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
        if self._interruptible:
            # Once: the cleanup must not be interrupted again.
            self._interruptible = False
            raise Terminated
