"""The one time limit: of a comparison, of a look, of a question to a broker."""

import os
import signal
import threading
import time

import pytest

from datafixes.book.thread import Unfinished, within


def test_what_the_work_brings_or_raises_comes_back() -> None:
    assert within(60, lambda: 7) == within(None, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        within(60, lambda: 1 / 0)


def test_what_takes_longer_goes_on_and_its_end_can_be_seen() -> None:
    go = threading.Event()
    with pytest.raises(Unfinished) as caught:
        within(0.05, lambda: go.wait(60))
    assert not caught.value.future.done()
    go.set()
    assert caught.value.future.result(60) is True


def interrupt() -> None:
    """Ctrl-C, once the wait has begun."""
    time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_ends_the_wait_and_gives_the_work_its_farewell() -> None:
    ended = threading.Event()

    def work() -> None:
        interrupt()
        time.sleep(0.3)
        ended.set()

    with pytest.raises(KeyboardInterrupt):
        within(60, work, farewell=60)
    assert ended.is_set()

    mute = threading.Event()

    def never() -> None:
        interrupt()
        mute.wait(60)

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        within(60, never)
    assert time.monotonic() - begun < 5
    mute.set()
