"""All sinks together: a broken one stops nothing, is reported of once, and gets later what it missed."""

import datetime as dt
import json
import threading
from dataclasses import dataclass, field, replace

import jsonschema
import pytest

from datafixes.book.alerts.alert import Alert, Refused, Unanswered
from datafixes.book.alerts.sinks import MOST_WAITING, Sinks, Waiting, hiding, sinks_of
from datafixes.book.settings import BookSettings
from datafixes.errors import SettingError
from tests.book.settings import book_settings
from tests.cli.commands import schema

TOPIC = "arn:aws:sns:us-west-2:123456789012:alerts"
WEBHOOK = "https://me:P0SECRET@hooks.example.org/services/T0SECRET/x?key=K0SECRET"


@dataclass
class Kept:
    name: str
    broken: bool = False
    taken: list[str] = field(default_factory=list)

    def send(self, alert: Alert) -> None:
        if self.broken:
            raise RuntimeError(f"no way to {WEBHOOK}\nnor postgresql://ops:D0SECRET@db/book")
        self.taken.append(alert.title)


def alerts(*titles: str) -> list[Alert]:
    return [Alert("appeared", title, dt.datetime(2026, 2, 3, tzinfo=dt.UTC)) for title in titles]


def reported(sinks: Sinks, new: list[Alert], waiting: Waiting) -> Waiting:
    """A round without a limit."""
    waiting = sinks.queued(new, waiting)
    return [waiting, *sinks.deliver(waiting)][-1]


def settings(**flags: str) -> BookSettings:
    return book_settings(**flags)


def test_a_broken_sink_stops_nothing_and_is_told_of_once() -> None:
    said: list[str] = []
    good, bad = Kept("log"), Kept("webhook", broken=True)
    hide = hiding(settings(alert_webhook=WEBHOOK, url="postgresql://ops:D0SECRET@db/book"))
    sinks = Sinks([bad, good], said.append, hide)
    waiting = reported(sinks, alerts("1", "2"), {})
    waiting = reported(sinks, alerts("3"), waiting)
    waiting = reported(sinks, [], waiting)
    assert good.taken == ["1", "2", "3"]
    assert [alert.title for alert in waiting["webhook"]] == ["1", "2", "3"]
    assert set(waiting) == {"webhook"}
    assert len(said) == 1
    assert said[0].startswith("The webhook does not accept alerts: no way to")
    assert "SECRET" not in said[0]
    bad.broken = False
    assert reported(sinks, alerts("4"), waiting) == {}
    assert bad.taken == ["1", "2", "3", "4"]
    assert said[1:] == ["The webhook accepts alerts again."]
    bad.broken = True
    reported(sinks, alerts("5"), {})
    assert len(said) == 3


def test_no_more_is_kept_than_somebody_would_read() -> None:
    sinks = Sinks([Kept("webhook", broken=True)], lambda _: None, str)
    waiting = reported(sinks, alerts(*map(str, range(MOST_WAITING + 5))), {})
    assert [alert.title for alert in waiting["webhook"]] == [str(n) for n in range(5, MOST_WAITING + 5)]


def test_what_waits_for_a_sink_that_is_gone_is_let_go() -> None:
    assert reported(Sinks([Kept("log")], lambda _: None, str), [], {"webhook": tuple(alerts("1"))}) == {}


def test_the_settings_say_which_there_are() -> None:
    assert [sink.name for sink in sinks_of(settings())] == ["log"]
    both = settings(alert_topic=TOPIC, alert_webhook=WEBHOOK)
    assert [sink.name for sink in sinks_of(both)] == ["log", "SNS topic", "webhook"]


@pytest.mark.parametrize(
    "topic",
    ["alerts", "arn:aws:sqs:us-west-2:123456789012:alerts", "arn:aws:sns::1:a", f"{TOPIC}:subscription"],
)
def test_a_topic_that_is_none_is_a_matter_of_settings(topic: str) -> None:
    with pytest.raises(SettingError, match="not the ARN of an SNS topic"):
        sinks_of(settings(alert_topic=topic))


def test_the_password_of_the_database_and_the_webhook_are_hidden_wherever_they_are() -> None:
    hide = hiding(settings(alert_webhook=WEBHOOK, url="postgresql://ops:D0%40SECRET@db/book"))
    reported = hide(
        "password D0@SECRET or D0%40SECRET of db,\n at services/T0SECRET/x with key=K0SECRET and P0SECRET"
    )
    assert "SECRET" not in reported
    assert "\n" not in reported
    assert hiding(settings())("nothing to hide") == "nothing to hide"


def test_the_keys_and_passwords_of_the_environment_are_hidden_too() -> None:
    environment = {
        "PGPASSWORD": "P0SECRET", "AWS_SESSION_TOKEN": "T0SECRET", "KEYS": '{"api_key": "A0SECRET", "secret_key": "B0SECRET"}',
        "BAD": "C0SECRET, not JSON",
    }  # fmt: skip
    hide = hiding(settings(broker_accounts="large=env:KEYS,tiny=env:BAD,other=secret"), environment)
    assert "SECRET" not in hide("P0SECRET T0SECRET A0SECRET B0SECRET C0SECRET, not JSON")


@dataclass
class Slow:
    """Takes each alert, when it may."""

    name: str = "slow"
    may: threading.Event = field(default_factory=threading.Event)
    taken: list[str] = field(default_factory=list)
    fails: bool = False

    def send(self, alert: Alert) -> None:
        assert self.may.wait(30)
        if self.fails:
            raise OSError("no")
        self.taken.append(alert.title)


def test_a_sink_that_takes_too_long_holds_up_no_other_and_is_told_nothing_twice() -> None:
    said: list[str] = []
    slow, good = Slow(), Kept("log")
    sinks = Sinks([slow, good], said.append, str, limit=0.1)
    waiting = reported(sinks, alerts("1", "2"), {})
    waiting = reported(sinks, alerts("3"), waiting)
    assert good.taken == ["1", "2", "3"]
    assert [alert.title for alert in waiting["slow"]] == ["1", "2", "3"]
    assert said == [
        "The slow does not accept alerts: it does not accept one within 0.1s. "
        "The newest 100 are kept and tried again."
    ]
    slow.may.set()
    while not slow.taken:
        threading.Event().wait(0.01)
    assert reported(sinks, [], waiting) == {}
    assert slow.taken == ["1", "2", "3"]


def test_what_failed_after_all_is_sent_again() -> None:
    slow = Slow(fails=True)
    sinks = Sinks([slow], lambda _: None, str, limit=0.1)
    waiting = reported(sinks, alerts("1"), {})
    slow.may.set()
    threading.Event().wait(0.2)
    slow.fails = False
    assert reported(sinks, [], waiting) == {}
    assert slow.taken == ["1"]


def test_an_alert_that_arrived_late_and_waits_no_more_takes_no_other_with_it() -> None:
    slow = Slow()
    sinks = Sinks([slow], lambda _: None, str, limit=0.1)
    waiting = reported(sinks, alerts("late"), {})
    waiting = reported(sinks, alerts(*map(str, range(MOST_WAITING))), waiting)
    slow.may.set()
    while not slow.taken:
        threading.Event().wait(0.01)
    assert reported(sinks, [], waiting) == {}
    assert slow.taken == ["late", *map(str, range(MOST_WAITING))]


@dataclass
class Strict:
    """Refuses what is long, and whatever has one of these titles."""

    name: str = "webhook"
    never: tuple[str, ...] = ()
    taken: list[Alert] = field(default_factory=list)

    def send(self, alert: Alert) -> None:
        if len(alert.lines) > 2 or alert.title in self.never:
            raise Refused("it answers 413")
        self.taken.append(alert)


def test_what_is_refused_is_sent_in_short_and_what_is_refused_then_too_blocks_no_other() -> None:
    said: list[str] = []
    strict, good = Strict(never=("never",)), Kept("log")
    [long, *others] = alerts("long", "never", "short")
    long = replace(long, lines=("a",) * 1500, facts=({"why": "a"},) * 1500)
    assert reported(Sinks([strict, good], said.append, str), [long, *others], {}) == {}
    assert good.taken == ["long", "never", "short"]
    assert [alert.title for alert in strict.taken] == ["long", "short"]
    assert strict.taken[0].text().splitlines()[:3] == [
        "long",
        "The log has all of it.",
        "... and 1500 more",
    ]
    jsonschema.validate(strict.taken[0].as_json(), schema()["$defs"]["alert"])
    assert said == [
        "The webhook refuses an alert: it answers 413. It gets only the title; the log has all of it.",
        "The webhook refuses an alert: it answers 413. It gets only the title; the log has all of it.",
        "The webhook refuses the shortened alert too: it answers 413. It is dropped: never",
    ]


def test_what_got_no_answer_is_sent_once_more_also_after_a_restart_and_not_for_ever() -> None:
    said: list[str] = []
    sent: list[str] = []

    class Mute:
        name = "webhook"

        def send(self, alert: Alert) -> None:
            sent.append(alert.title)
            raise Unanswered("it does not answer within 10s")

    waiting: Waiting = {}
    for new in (alerts("1", "2"), [], [], [], [], []):
        waiting = reported(Sinks([Mute()], said.append, str), new, waiting)
        kept = {
            name: json.loads(
                json.dumps([{**alert.as_json(), "unanswered": alert.unanswered} for alert in queue])
            )
            for name, queue in waiting.items()
        }
        waiting = {name: tuple(map(Alert.from_json, queue)) for name, queue in kept.items()}
    assert sent == ["1", "1", "2", "2"]
    assert [line for line in said if "twice" in line] == [
        f"The webhook was sent an alert twice without an answer. It counts as reported: {n}" for n in (1, 2)
    ]


def test_each_sink_gets_one_in_turn() -> None:
    order: list[str] = []

    @dataclass
    class Noted:
        name: str

        def send(self, alert: Alert) -> None:
            order.append(self.name + alert.title)

    sinks = Sinks([Noted("a"), Noted("b")], lambda _: None, str)
    left = [
        {name: len(queue) for name, queue in waiting.items()}
        for waiting in sinks.deliver(sinks.queued(alerts("1", "2"), {}))
    ]
    assert order == ["a1", "b1", "a2", "b2"]
    assert left == [{"a": 1, "b": 2}, {"a": 1, "b": 1}, {"b": 1}, {}]
