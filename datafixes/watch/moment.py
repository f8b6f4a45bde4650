"""When a round is, and what counts as long."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from datafixes.alerts.alert import Alert, Event, fitting
from datafixes.watch.state import Away


@dataclass(frozen=True)
class Limits:
    """How long something may last before that is an alert.

    Attributes:
        unknown: an account of which nothing is known.
        unsettled: a position that differs and is excused.
    """

    unknown: dt.timedelta
    unsettled: dt.timedelta

    def without_memory(self) -> "Limits":
        """Where nothing is remembered, nobody can know for how long an account has been unknown: at once."""
        # Positions are opened every day: that one is not settled in a single round says nothing.
        return replace(self, unknown=dt.timedelta(0))


@dataclass(frozen=True)
class Moment:
    """A round, for what follows from it.

    Attributes:
        now: when it is.
        limits: what counts as long.
        source: which book and which broker it is about, for the alerts.
    """

    now: dt.datetime
    limits: Limits
    source: str = ""

    def since(self, before: Away | None) -> dt.datetime:
        """Since when something is so; never later than now, whatever a clock said that was set back."""
        return min(before.since, self.now) if before else self.now

    def alert(
        self,
        event: Event,
        title: str,
        lines: tuple[str, ...] = (),
        facts: tuple[Mapping[str, Any], ...] = (),
    ) -> Alert:
        """An alert of this round."""
        return fitting(Alert(event, title, self.now, self.source, lines, facts))


def lasted(time: dt.timedelta) -> str:
    """``40 s``, ``15 min``, ``2 h 5 min``; never less than nothing."""
    seconds = max(0, int(time.total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    hours, minutes = divmod(seconds // 60, 60)
    return f"{minutes} min" if not hours else f"{hours} h {minutes} min" if minutes else f"{hours} h"
