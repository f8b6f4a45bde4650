"""All sinks together: a broken one blocks nothing, is reported once, and gets missed alerts later."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from urllib.parse import SplitResult, unquote, urlsplit

from datafixes.book.alerts.alert import Alert, Refused, Sink, Unanswered, shortened
from datafixes.book.alerts.log import LogSink
from datafixes.book.alerts.sns import SnsSink
from datafixes.book.alerts.webhook import WebhookSink
from datafixes.book.settings import BookSettings
from datafixes.book.thread import in_thread, is_done
from datafixes.settings.values import masked

MOST_WAITING = 100
"""The maximum number of alerts kept for a failing sink; the newest are kept."""

_SECRET_VARIABLES = ("PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")

_LONGEST = 18.0
"""Seconds, below the 30 after which a container is killed after SIGTERM."""

Waiting = Mapping[str, tuple[Alert, ...]]
"""By name of a sink, its undelivered alerts, oldest first."""


def sinks_of(settings: BookSettings) -> list[Sink]:
    """The log, and the sinks in the settings.

    Raises:
        SettingError: an invalid topic or URL.
    """
    sinks: list[Sink] = [LogSink()]
    if settings.alert_topic:
        sinks.append(SnsSink(settings.alert_topic))
    if settings.alert_webhook:
        sinks.append(WebhookSink(settings.alert_webhook))
    return sinks


def hiding(settings: BookSettings, environment: Mapping[str, str] | None = None) -> Callable[[str], str]:
    """Removes secrets from a text: on one line, without passwords, and without the secrets of the settings."""
    webhook, password = _split(settings.alert_webhook), _split(settings.engine.url).password or ""
    secrets = {
        settings.alert_webhook,
        *(webhook.path.strip("/"), webhook.query, webhook.password or ""),
        *(password, unquote(password)),
        *_secrets_of(settings, environment or {}),
    }
    known = sorted((secret for secret in secrets if len(secret) > 3), key=len, reverse=True)

    def hide(text: str) -> str:
        for secret in known:
            text = text.replace(secret, "***")
        return masked(" ".join(text.split()))

    return hide


def _secrets_of(settings: BookSettings, environment: Mapping[str, str]) -> list[str]:
    """The secrets in the environment: of libpq, of AWS, and the keys of the broker."""
    found = [environment.get(name, "") for name in _SECRET_VARIABLES]
    for place in settings.broker_accounts.values():
        content = environment.get(place.removeprefix("env:"), "") if place.startswith("env:") else ""
        try:
            keys = json.loads(content or "{}")
        except ValueError:
            found.append(content.strip())
            continue
        if isinstance(keys, Mapping):
            found += [
                key.strip() for name in ("api_key", "secret_key") if isinstance(key := keys.get(name), str)
            ]
    return found


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


class Sinks:
    """Delivers alerts to every sink.

    Args:
        sinks: the sinks.
        say: takes messages about the sinks themselves; never fails.
        hide: removes secrets from a text.
        limit: the time limit of a sink for one alert, in seconds.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        say: Callable[[str], None],
        hide: Callable[[str], str],
        limit: float = _LONGEST,
    ) -> None:
        self._sinks, self._say, self._hide, self._limit = sinks, say, hide, limit
        self._broken: set[str] = set()
        self._late: dict[str, tuple[Alert, Future[None] | None]] = {}

    def queued(self, alerts: Sequence[Alert], waiting: Waiting) -> Waiting:
        """The undelivered alerts of each sink, with the new ones after them."""
        queues = {sink.name: (*waiting.get(sink.name, ())[-MOST_WAITING:], *alerts) for sink in self._sinks}
        return {name: queue for name, queue in queues.items() if queue}

    def deliver(self, waiting: Waiting) -> Iterator[Waiting]:
        """Deliver waiting alerts, oldest first, to each sink in turn; one that fails gets no more in this round.

        Yields:
            after each attempt, the alerts that still wait; a caller that saves them reports nothing twice.
        """
        left = dict(waiting)
        ready = [sink for sink in self._sinks if left.get(sink.name)]
        while ready:
            for sink in ready:
                left[sink.name] = self._after_next(sink, left[sink.name])
                yield {name: queue for name, queue in left.items() if queue}
            ready = [sink for sink in ready if left[sink.name] and sink.name not in self._broken]

    def _after_next(self, sink: Sink, queue: tuple[Alert, ...]) -> tuple[Alert, ...]:
        """The waiting alerts of a sink after one attempt."""
        sent, error = self._attempt(sink, queue[0])
        # It may have been dropped meanwhile, as the oldest of too many alerts.
        is_first = queue[0] == sent
        if error is None:
            if sink.name in self._broken:
                self._broken.remove(sink.name)
                self._say(f"The {sink.name} accepts alerts again.")
            return queue[1:] if is_first else queue
        if isinstance(error, Refused):
            self._broken.discard(sink.name)
            return self._after_refusal(sink.name, queue, error) if is_first else queue
        if sink.name not in self._broken:
            self._broken.add(sink.name)
            why = self._hide(str(error)) or type(error).__name__
            kept = f"The newest {MOST_WAITING} are kept and tried again."
            self._say(f"The {sink.name} does not accept alerts: {why}. {kept}")
        if isinstance(error, Unanswered) and is_first:
            return self._after_silence(sink.name, queue)
        return queue[-MOST_WAITING:]

    def _attempt(self, sink: Sink, alert: Alert) -> tuple[Alert, BaseException | None]:
        """Send an alert, or wait for the one in progress; return it and its error."""
        patience = 0.0
        sent, future = self._late.pop(sink.name, (alert, None))
        # One in progress may have arrived, so sending it again could report it twice.
        if future is None or (future.done() and future.exception() is not None):
            sent, future, patience = alert, in_thread(partial(sink.send, alert)), self._limit
        if is_done(future, patience):
            return sent, future.exception()
        self._late[sink.name] = sent, future
        return sent, TimeoutError(f"it does not accept one within {self._limit:g}s")

    def _after_refusal(self, name: str, queue: tuple[Alert, ...], error: Refused) -> tuple[Alert, ...]:
        """Shorten a refused alert; drop it if that is refused too, so that it does not block the others."""
        short, why = shortened(queue[0]), self._hide(str(error))
        if short != queue[0]:
            self._say(f"The {name} refuses an alert: {why}. It gets only the title; the log has all of it.")
            return short, *queue[1:]
        self._say(
            f"The {name} refuses the shortened alert too: {why}. It is dropped: {self._hide(queue[0].title)}"
        )
        return queue[1:]

    def _after_silence(self, name: str, queue: tuple[Alert, ...]) -> tuple[Alert, ...]:
        """Send an alert that may have arrived once more, and then count it as reported."""
        if not queue[0].unanswered:
            return replace(queue[0], unanswered=True), *queue[1:][1 - MOST_WAITING :]
        self._say(
            f"The {name} was sent an alert twice without an answer. It counts as reported: {self._hide(queue[0].title)}"
        )
        return queue[1:][-MOST_WAITING:]
