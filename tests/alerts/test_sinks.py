"""All sinks together: a broken one stops nothing, is told of once, and gets later what it missed."""

import datetime as dt
from dataclasses import dataclass, field

import pytest

from datafixes.alerts.alert import Alert
from datafixes.alerts.sinks import MOST_WAITING, Sinks, hiding, sinks_of
from datafixes.errors import SettingError
from datafixes.settings import Settings

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


def settings(**flags: str) -> Settings:
    return Settings.resolve(flags, {}, {})


def test_a_broken_sink_stops_nothing_and_is_told_of_once() -> None:
    said: list[str] = []
    good, bad = Kept("log"), Kept("webhook", broken=True)
    hide = hiding(settings(alert_webhook=WEBHOOK, url="postgresql://ops:D0SECRET@db/book"))
    sinks = Sinks([bad, good], said.append, hide)
    waiting = sinks.deliver(alerts("1", "2"), {})
    waiting = sinks.deliver(alerts("3"), waiting)
    waiting = sinks.deliver([], waiting)
    assert good.taken == ["1", "2", "3"]
    assert [alert.title for alert in waiting["webhook"]] == ["1", "2", "3"]
    assert set(waiting) == {"webhook"}
    assert len(said) == 1
    assert said[0].startswith("The webhook does not take alerts: no way to")
    assert "SECRET" not in said[0]
    bad.broken = False
    assert sinks.deliver(alerts("4"), waiting) == {}
    assert bad.taken == ["1", "2", "3", "4"]
    assert said[1:] == ["The webhook takes alerts again."]
    bad.broken = True
    sinks.deliver(alerts("5"), {})
    assert len(said) == 3


def test_no_more_is_kept_than_somebody_would_read() -> None:
    sinks = Sinks([Kept("webhook", broken=True)], lambda _: None, str)
    waiting = sinks.deliver(alerts(*map(str, range(MOST_WAITING + 5))), {})
    assert [alert.title for alert in waiting["webhook"]] == [str(n) for n in range(5, MOST_WAITING + 5)]


def test_what_waits_for_a_sink_that_is_gone_is_let_go() -> None:
    assert Sinks([Kept("log")], lambda _: None, str).deliver([], {"webhook": tuple(alerts("1"))}) == {}


def test_the_settings_say_which_there_are() -> None:
    assert [sink.name for sink in sinks_of(settings())] == ["log"]
    both = settings(alert_topic=TOPIC, alert_webhook=WEBHOOK)
    assert [sink.name for sink in sinks_of(both)] == ["log", "SNS topic", "webhook"]


@pytest.mark.parametrize(
    "topic",
    ["alerts", "arn:aws:sqs:us-west-2:123456789012:alerts", "arn:aws:sns::1:a", f"{TOPIC}:subscription"],
)
def test_a_topic_that_is_none_is_a_matter_of_settings(topic: str) -> None:
    with pytest.raises(SettingError, match="no ARN of an SNS topic"):
        sinks_of(settings(alert_topic=topic))


def test_the_password_of_the_database_and_the_webhook_are_hidden_wherever_they_are() -> None:
    hide = hiding(settings(alert_webhook=WEBHOOK, url="postgresql://ops:D0%40SECRET@db/book"))
    told = hide(
        "password D0@SECRET or D0%40SECRET of db,\n at services/T0SECRET/x with key=K0SECRET and P0SECRET"
    )
    assert "SECRET" not in told
    assert "\n" not in told
    assert hiding(settings())("nothing to hide") == "nothing to hide"
