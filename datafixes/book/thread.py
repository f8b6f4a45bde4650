"""Work in its own thread: for waits that no socket timeout covers, and so that signals are handled meanwhile."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

T = TypeVar("T")


def in_thread(work: Callable[[], T]) -> "Future[T]":
    """Begin the work, in a daemon thread."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def is_done(future: "Future[T]", seconds: float) -> bool:
    """Whether the work ends within a number of seconds."""
    wait([future], seconds)
    return future.done()
