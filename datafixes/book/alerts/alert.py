"""What an alert says, and what a sink for alerts must do."""

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, get_args

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
"""Differences that appeared, changed or went away, or do so again and again; accounts that are unknown, or known
again; positions that do not settle, or did; the job itself failed, or works again."""

MOST_LINES = 50
"""How many lines people are shown; programs get more of them."""

LARGEST = 200_000
"""How many characters of JSON all lines and facts may be: logs, topics and webhooks cut or refuse more than 256 KiB."""

_LONGEST_LINE = 500
_SEE_LOG = "All of it is in the log."


class Refused(Exception):
    """A sink will never take this alert as it is; the text says why."""


class Unanswered(Exception):
    """An alert went out in full, and no answer came: it may have arrived. The text says how."""


@dataclass(frozen=True)
class Alert:
    """One thing that somebody should know.

    Attributes:
        event: what happened.
        title: all of it in one line.
        at: when it was seen.
        source: which book and which broker it is about.
        lines: one for each difference or account.
        facts: the same for programs, in JSON's own types.
        left_out: how many more there are of both, where that would be too large.
        unanswered: it went out once where it waits now, and may have arrived. It is kept, and not sent.
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
        """For people: the title, the source, and as many lines as somebody reads."""
        shown = [_shown(line) for line in self.lines[:MOST_LINES]]
        if more := len(self.lines) + self.left_out - len(shown):
            shown.append(f"... and {more} more")
        when = self.at.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        about = f"{self.source}, {when}" if self.source else when
        return masked("\n".join([self.title, *shown, about]))

    def as_json(self) -> dict[str, Any]:
        """For programs. ``text`` is what people read: many a webhook shows just that."""
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
            raise ValueError(f"{value['event']!r} is no event")
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
    """The same with as many lines and facts as an alert can carry."""
    size = 0
    for number, (line, fact) in enumerate(zip(alert.lines, alert.facts, strict=False)):
        size += len(json.dumps([_shown(line), _printable_fact(fact)]))
        if size > LARGEST:
            left_out = alert.left_out + len(alert.lines) - number
            return replace(alert, lines=alert.lines[:number], facts=alert.facts[:number], left_out=left_out)
    return alert


def shortened(alert: Alert) -> Alert:
    """The same with its title and how many lines it has, for a sink that refuses the whole; itself where it is that."""
    if (alert.lines, alert.facts) == ((_SEE_LOG,), ()):
        return alert
    left_out = alert.left_out + len(alert.lines)
    return replace(alert, lines=(_SEE_LOG,), facts=(), left_out=left_out, unanswered=False)


def _shown(line: str) -> str:
    """A line as it may stand in a terminal and a mail: nothing in it moves the cursor or turns the text round."""
    clean = parse_text(line)
    return clean if len(clean) <= _LONGEST_LINE else clean[: _LONGEST_LINE - 3] + "..."


def _printable_fact(value: Any) -> Any:
    """Without passwords, and in texts that everybody can read: halves of characters are none."""
    if isinstance(value, str):
        return masked(value.encode(errors="replace").decode())
    if isinstance(value, Mapping):
        return {name: _printable_fact(one) for name, one in value.items()}
    return value


class Sink(Protocol):
    """Where alerts go."""

    @property
    def name(self) -> str:
        """The name of the sink in the log, where it does not work."""

    def send(self, alert: Alert) -> None:
        """Deliver one alert within seconds.

        Raises:
            Refused: the sink will never take it as it is.
            Unanswered: it went out, and may have arrived.
            Exception: whatever else went wrong; another attempt may help.
        """
