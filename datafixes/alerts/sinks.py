"""All sinks together: a broken one stops nothing, is told of once, and gets later what it missed."""

from collections.abc import Callable, Mapping, Sequence
from urllib.parse import unquote, urlsplit

from datafixes.alerts.alert import Alert, Sink
from datafixes.alerts.log import LogSink
from datafixes.alerts.sns import SnsSink
from datafixes.alerts.webhook import WebhookSink
from datafixes.settings import Settings
from datafixes.values import masked

MOST_WAITING = 100
"""How many alerts are kept for a sink that does not take them; the newest ones are."""

Waiting = Mapping[str, tuple[Alert, ...]]
"""By name of a sink, the alerts that it has not taken, oldest first."""


def sinks_of(settings: Settings) -> list[Sink]:
    """The log, and what the settings name besides.

    Raises:
        SettingError: a topic or a URL that cannot be one.
    """
    sinks: list[Sink] = [LogSink()]
    if settings.alert_topic:
        sinks.append(SnsSink(settings.alert_topic))
    if settings.alert_webhook:
        sinks.append(WebhookSink(settings.alert_webhook))
    return sinks


def hiding(settings: Settings) -> Callable[[str], str]:
    """What makes a text fit to be told: on one line, without passwords, and without what the settings hold of them."""
    secrets = {settings.alert_webhook, *_parts_of(settings.alert_webhook), *_password_of(settings.url)}
    known = sorted((secret for secret in secrets if len(secret) > 3), key=len, reverse=True)

    def hide(text: str) -> str:
        for secret in known:
            text = text.replace(secret, "***")
        return masked(" ".join(text.split()))

    return hide


def _parts_of(url: str) -> list[str]:
    """What of a webhook's URL is as good as a password: its path, its query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return []
    return [parts.path.strip("/"), parts.query, parts.password or ""]


def _password_of(url: str) -> list[str]:
    try:
        password = urlsplit(url).password or ""
    except ValueError:
        return []
    return [password, unquote(password)]


class Sinks:
    """Delivers alerts to every sink.

    Args:
        sinks: where to.
        say: takes what people should know about the sinks themselves; never fails.
        hide: makes a text fit to be told.
    """

    def __init__(self, sinks: Sequence[Sink], say: Callable[[str], None], hide: Callable[[str], str]) -> None:
        self._sinks, self._say, self._hide = sinks, say, hide
        self._broken: set[str] = set()

    def deliver(self, alerts: Sequence[Alert], waiting: Waiting) -> dict[str, tuple[Alert, ...]]:
        """Deliver what waited and what is new, in this order.

        Returns:
            by name of a sink, what it did not take: to be given to the next call.
        """
        left = {
            sink.name: self._deliver(sink, [*waiting.get(sink.name, ()), *alerts]) for sink in self._sinks
        }
        return {name: alerts[-MOST_WAITING:] for name, alerts in left.items() if alerts}

    def _deliver(self, sink: Sink, alerts: list[Alert]) -> tuple[Alert, ...]:
        for number, alert in enumerate(alerts):
            try:
                sink.send(alert)
            except Exception as error:  # whatever a sink does wrong is not the job's fault
                self._say_broken(sink.name, error)
                return tuple(alerts[number:])
        if alerts and sink.name in self._broken:
            self._broken.remove(sink.name)
            self._say(f"The {sink.name} takes alerts again.")
        return ()

    def _say_broken(self, name: str, error: Exception) -> None:
        if name not in self._broken:
            self._broken.add(name)
            why = self._hide(str(error)) or type(error).__name__
            self._say(
                f"The {name} does not take alerts: {why}. They are kept and tried again, the newest {MOST_WAITING}."
            )
