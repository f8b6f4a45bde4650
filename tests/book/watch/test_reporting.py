"""Alerts go out one by one, are remembered one by one, and hold up neither the rounds nor the end."""

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from datafixes.book.alerts.alert import Alert
from datafixes.book.alerts.sinks import Sinks
from datafixes.book.watch import poller
from datafixes.book.watch.changes import Look
from datafixes.book.watch.signals import Terminated
from datafixes.book.watch.state import State, read_state, write_state
from datafixes.book.watch.watching import keep_looking
from datafixes.errors import DatafixError
from tests.book.watch.world import FOUND, START, World, world


def many_waiting(path: Path, number: int) -> None:
    alerts = tuple(Alert("gone", f"alert {n}", START) for n in range(number))
    write_state(path, State(waiting={"webhook": alerts}))


def titles(here: World) -> list[str]:
    """What waits, as the file has it."""
    return [alert.title for alert in read_state(here.path)[0].waiting.get("webhook", ())]


def test_each_alert_is_remembered_before_the_next_one_goes(tmp_path: Path) -> None:
    here = world(tmp_path, FOUND)
    many_waiting(here.path, 3)
    kept: list[list[str]] = []
    here.sending = lambda _: kept.append(titles(here))
    here.run()
    new = "1 difference between book and broker appeared"
    assert kept == [
        ["alert 0", "alert 1", "alert 2", new],
        ["alert 1", "alert 2", new],
        ["alert 2", new],
        [new],
    ]
    assert titles(here) == []


def test_sigterm_ends_it_between_two_alerts_and_nothing_is_lost_or_told_twice(tmp_path: Path) -> None:
    here = world(tmp_path, FOUND, FOUND)
    many_waiting(here.path, 5)
    sent: list[str] = []

    def send(alert: Alert) -> None:
        sent.append(alert.title)
        if len(sent) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait(0.2)

    here.sending = send
    with here.signals.on_sigterm():
        here.run()
    assert sent == ["alert 0", "alert 1"]
    assert here.looks == [0]
    again = world(tmp_path, FOUND)
    again.sending = send
    again.run()
    assert sent[2:] == ["alert 2", "alert 3", "alert 4", "1 difference between book and broker appeared"]


def test_a_slow_sink_does_not_hold_up_the_rounds_and_gets_all_in_the_end(tmp_path: Path) -> None:
    here = world(tmp_path, *[FOUND] * 20)
    many_waiting(here.path, 50)
    sent: list[str] = []

    def send(alert: Alert) -> None:
        here.seconds += 10
        sent.append(alert.title)

    here.sending = send
    here.run(60)
    assert here.looks == [60 * n for n in range(21)]
    assert sent[:50] == [f"alert {n}" for n in range(50)]
    assert len(sent) == 51


def test_a_slow_sink_does_not_starve_another_one(tmp_path: Path) -> None:
    here = world(tmp_path, FOUND)
    taken: list[str] = []

    class Slow:
        name = "SNS topic"

        def send(self, _alert: Alert) -> None:
            here.seconds += 12
            raise OSError("read timeout")

    class Good:
        name = "log"

        def send(self, alert: Alert) -> None:
            taken.append(alert.event)

    job = replace(here.job, sinks=Sinks([Slow(), Good()], here.said.append, str))
    with pytest.raises(Terminated):
        keep_looking(job, 10)
    assert taken == ["appeared"]


def test_a_database_that_says_nothing_more_is_told_and_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller, "_LONGEST", 0.05)
    answer = threading.Event()

    def silent() -> Look:
        assert answer.wait(30)
        return FOUND

    here = world(tmp_path, silent, FOUND, FOUND, FOUND)
    waits = iter([None, None, answer.set])

    def wait(seconds: float) -> None:
        here.seconds += seconds
        if then := next(waits, None):
            then()
            threading.Event().wait(0.3)

    monkeypatch.setattr(here, "wait", wait)
    here.run()
    assert here.reported == [(0, "failed"), (900, "appeared")]
    assert here.looks == [0, 900, 1200, 1500, 1800]


def test_a_look_that_hangs_is_given_up_and_another_one_finds_the_database_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller, "_LONGEST", 0.05)
    for_ever = threading.Event()

    def hangs() -> Look:
        for_ever.wait(60)
        return FOUND

    here = world(tmp_path, hangs, *[FOUND] * 5)
    here.run()
    assert here.reported == [(0, "failed"), (1800, "appeared"), (2700, "recovered")]
    assert here.looks[:3] == [0, 1800, 2100]
    # Where every look hangs it ends, for whoever runs it to start it again.
    here = world(tmp_path, *[hangs] * 9)
    with pytest.raises(DatafixError, match="4 comparisons did not end within 30 minutes each"):
        keep_looking(here.job, 300)
    assert here.looks == [0, 1800, 3600, 5400]
    assert here.reported == [(0, "failed")]
    assert here.seconds == 7200
    for_ever.set()


def test_the_end_does_not_wait_for_a_database_that_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller, "_FAREWELL", 0.05)
    answer = threading.Event()

    def silent() -> Look:
        os.kill(os.getpid(), signal.SIGTERM)
        answer.wait(30)
        return FOUND

    here = world(tmp_path, silent)
    with here.signals.on_sigterm():
        here.run()
    assert not answer.is_set()
    answer.set()


def test_what_was_no_state_is_kept_aside(tmp_path: Path) -> None:
    here = world(tmp_path, FOUND)
    here.path.write_text("precious", "utf-8")
    here.run()
    assert (tmp_path / "watch.json.spoiled").read_text("utf-8") == "precious"
    assert "it is now" in here.said[0]


def test_a_full_disk_is_told_once_and_again_after_it_was_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = [True, True, False, False, True, True]
    real = os.replace

    def replace_(*paths: Path) -> None:
        if full.pop(0) if full else False:
            raise OSError(28, "No space left on device")
        real(*paths)

    monkeypatch.setattr("os.replace", replace_)
    here = world(tmp_path, *[FOUND] * 6)
    here.run()
    assert sum("cannot be written" in line for line in here.said) == 2
    assert [event for _, event in here.reported] == ["appeared"]
