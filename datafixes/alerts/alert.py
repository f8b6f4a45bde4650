"""What an alert says, and what it takes to be told one."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

from datafixes.values import masked

Event = Literal["appeared", "changed", "gone", "unknown", "known", "failed", "recovered"]
"""Differences that appeared, changed or went away; accounts that are unknown, or known again; the job itself failed, or
works again."""

MOST_LINES = 50
"""How many lines people are shown; programs get all of them."""


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
    """

    event: Event
    title: str
    at: dt.datetime
    source: str = ""
    lines: tuple[str, ...] = ()
    facts: tuple[Mapping[str, Any], ...] = ()

    def text(self) -> str:
        """For people: the title, the source, and as many lines as somebody reads."""
        shown = list(self.lines[:MOST_LINES])
        if len(self.lines) > MOST_LINES:
            shown.append(f"... and {len(self.lines) - MOST_LINES} more")
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
            "lines": [masked(line) for line in self.lines],
            "facts": [_masked_values(fact) for fact in self.facts],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Alert":
        """Read what `as_json` wrote.

        Raises:
            ValueError, KeyError, TypeError: it is something else.
        """
        if value["event"] not in get_args(Event):
            raise ValueError(f"{value['event']!r} is no event")
        return cls(
            value["event"],
            str(value["title"]),
            dt.datetime.fromisoformat(value["at"]),
            str(value["source"]),
            tuple(str(line) for line in value["lines"]),
            tuple(dict(fact) for fact in value["facts"]),
        )


def _masked_values(fact: Mapping[str, Any]) -> dict[str, Any]:
    return {name: masked(value) if isinstance(value, str) else value for name, value in fact.items()}


class Sink(Protocol):
    """Where alerts go."""

    @property
    def name(self) -> str:
        """What the sink is called where it is told that it is broken."""

    def send(self, alert: Alert) -> None:
        """Deliver one alert, or raise whatever went wrong, within seconds."""
