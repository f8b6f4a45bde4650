"""A time limit for waits that no socket timeout covers: the work runs in a thread, so that signals are handled."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, TypeVar

T = TypeVar("T")

THREAD_NAME = "datafixes work"


class Unfinished(Exception):
    """The work exceeded its time limit, and continues.

    Attributes:
        future: the result of the work.
    """

    def __init__(self, future: "Future[Any]") -> None:
        super().__init__()
        self.future = future


def within(seconds: float | None, work: Callable[[], T], farewell: float = 0) -> T:
    """The result of the work, or the error that it raises.

    Args:
        seconds: the time limit; None sets no limit.
        work: runs in its own thread.
        farewell: seconds that the thread gets to end and close its connections when the wait is interrupted.

    Raises:
        Unfinished: the work exceeded the limit.
    """
    future = in_thread(work)
    try:
        finished = is_done(future, seconds)
    except BaseException:
        is_done(future, farewell)
        raise
    if not finished:
        raise Unfinished(future)
    return future.result()


def in_thread(work: Callable[[], T]) -> "Future[T]":
    """Begin the work, in a daemon thread."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name=THREAD_NAME, daemon=True).start()
    return future


def is_done(future: "Future[T]", seconds: float | None) -> bool:
    """Whether the work ends within a number of seconds."""
    wait([future], seconds)
    return future.done()
