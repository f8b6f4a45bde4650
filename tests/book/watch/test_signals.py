"""SIGTERM: at once where nothing is half done, and not before the end of what must be whole."""

import os
import signal
import time

import pytest

from datafixes.book.watch.signals import SignalHandler, Terminated


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
    signals = SignalHandler()
    began = time.monotonic()
    with signals.on_sigterm(), pytest.raises(Terminated), signals.interruptible():
        term()
    assert time.monotonic() - began < 5


def test_what_must_be_whole_is_finished_first() -> None:
    signals, done = SignalHandler(), []
    with signals.on_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
        done.append("whole")
        with pytest.raises(Terminated), signals.interruptible():
            done.append("more")
    assert done == ["whole"]


def test_it_is_told_once_and_the_way_out_is_not_interrupted() -> None:
    signals, cleaned = SignalHandler(), list[bool]()
    with signals.on_sigterm(), pytest.raises(Terminated), signals.interruptible():
        term_twice(cleaned)
    assert cleaned == [True]


def test_afterwards_the_signal_is_what_it_was() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with SignalHandler().on_sigterm():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
