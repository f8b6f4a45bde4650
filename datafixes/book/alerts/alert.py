"""An alert, and the interface of a sink."""

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, get_args

from datafixes.audit.wording import moment
from datafixes.settings.values import masked, parse_text

Event = Literal[
    "appeared",
    "changed",
    "gone",
    "flapping",
    "unknown",
    "known",
    "unsettled",
    "settled",
    "failed",
    "recovered",
]
"""Differences that appeared, changed, went away or flap; accounts that are unknown, or known again; positions that are
unsettled, or settled again; the job itself failed, or works again."""

MOST_LINES = 50
"""The number of lines for people; programs get more."""

LARGEST = 200_000
"""The maximum of all lines and facts, in characters of JSON: logs, topics and webhooks cut or refuse over 256 KiB."""

_LONGEST_LINE = 500
_SEE_LOG = "The log has all of it."


class Refused(Exception):
    """A sink will never accept this alert; the text says why."""


class Unanswered(Exception):
    """An alert was sent, but there was no answer: it may have arrived. The text says why."""


@dataclass(frozen=True)
class Alert:
    """An alert.

    Attributes:
        event: its kind.
        title: a summary in one line.
        at: when it was found.
        source: the book and the broker.
        lines: one for each difference or account.
        facts: the same for programs, in JSON's own types.
        left_out: the number of omitted lines and facts, if there were too many.
        unanswered: it was sent once to the sink for which it waits, and may have arrived. It is kept, and not sent.
    """

    event: Event
    title: str
    at: dt.datetime
    source: str = ""
    lines: tuple[str, ...] = ()
    facts: tuple[Mapping[str, Any], ...] = ()
    left_out: int = 0
    unanswered: bool = False

    def text(self) -> str:
        """The text for people: the title, the source, and the first lines."""
        shown = [_shown(line) for line in self.lines[:MOST_LINES]]
        if more := len(self.lines) + self.left_out - len(shown):
            shown.append(f"... and {more} more")
        when = moment(self.at)
        about = f"{self.source}, {when}" if self.source else when
        return masked("\n".join([self.title, *shown, about]))

    def as_json(self) -> dict[str, Any]:
        """The JSON for programs. ``text`` is the text for people, which many webhooks show alone."""
        return {
            "version": 1,
            "kind": "alert",
            "event": self.event,
            "title": masked(self.title),
            "text": self.text(),
            "at": self.at.astimezone(dt.UTC).isoformat(),
            "source": masked(self.source),
            "lines": [masked(_shown(line)) for line in self.lines],
            "facts": [_printable_fact(fact) for fact in self.facts],
            "left_out": self.left_out,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Alert":
        """Read what `as_json` wrote.

        Raises:
            ValueError, KeyError, TypeError, OverflowError: it is something else.
        """
        if value["event"] not in get_args(Event):
            raise ValueError(f"{value['event']!r} is not an event")
        return cls(
            value["event"],
            str(value["title"]),
            dt.datetime.fromisoformat(value["at"]).astimezone(dt.UTC),
            str(value["source"]),
            tuple(str(line) for line in value["lines"]),
            tuple(dict(fact) for fact in value["facts"]),
            int(value.get("left_out", 0)),
            bool(value.get("unanswered", False)),
        )


def fitting(alert: Alert) -> Alert:
    """The alert, cut to the maximum of lines and facts."""
    size = 0
    for number, (line, fact) in enumerate(zip(alert.lines, alert.facts, strict=False)):
        size += len(json.dumps([_shown(line), _printable_fact(fact)]))
        if size > LARGEST:
            left_out = alert.left_out + len(alert.lines) - number
            return replace(alert, lines=alert.lines[:number], facts=alert.facts[:number], left_out=left_out)
    return alert


def shortened(alert: Alert) -> Alert:
    """The alert cut to its title and the number of its lines, for a sink that refuses the whole."""
    if (alert.lines, alert.facts) == ((_SEE_LOG,), ()):
        return alert
    left_out = alert.left_out + len(alert.lines)
    return replace(alert, lines=(_SEE_LOG,), facts=(), left_out=left_out, unanswered=False)


def _shown(line: str) -> str:
    """A line that is safe in a terminal and a mail: without control characters and changes of text direction."""
    clean = parse_text(line)
    return clean if len(clean) <= _LONGEST_LINE else clean[: _LONGEST_LINE - 3] + "..."


def _printable_fact(value: Any) -> Any:
    """Without passwords and lone surrogates."""
    if isinstance(value, str):
        return masked(value.encode(errors="replace").decode())
    if isinstance(value, Mapping):
        return {name: _printable_fact(one) for name, one in value.items()}
    return value


class Sink(Protocol):
    """A destination of alerts."""

    @property
    def name(self) -> str:
        """The name of the sink in the log, if it fails."""

    def send(self, alert: Alert) -> None:
        """Deliver one alert within seconds.

        Raises:
            Refused: the sink will never accept it.
            Unanswered: it was sent, and may have arrived.
            Exception: any other failure; another attempt may succeed.
        """
