"""SIGTERM: at once where nothing is half done, and not before the end of what must be whole."""

import os
import signal
import time

import pytest

from datafixes.book.watch.ending import Ended, Ending


def term() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)


def term_twice(cleaned: list[bool]) -> None:
    try:
        term()
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        cleaned.append(True)


def test_it_ends_at_once_where_it_may() -> None:
    ending = Ending()
    began = time.monotonic()
    with ending.on_sigterm(), pytest.raises(Ended), ending.interruptible():
        term()
    assert time.monotonic() - began < 5


def test_what_must_be_whole_is_finished_first() -> None:
    ending, done = Ending(), []
    with ending.on_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
        done.append("whole")
        with pytest.raises(Ended), ending.interruptible():
            done.append("more")
    assert done == ["whole"]


def test_it_is_told_once_and_the_way_out_is_not_interrupted() -> None:
    ending, cleaned = Ending(), list[bool]()
    with ending.on_sigterm(), pytest.raises(Ended), ending.interruptible():
        term_twice(cleaned)
    assert cleaned == [True]


def test_afterwards_the_signal_is_what_it_was() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Ending().on_sigterm():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
