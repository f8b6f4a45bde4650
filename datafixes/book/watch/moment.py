"""When a round is, and what counts as long."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from datafixes.book.alerts.alert import Alert, Event, fitting
from datafixes.book.watch.state import Incident

_USUAL = dt.timedelta(minutes=15)


@dataclass(frozen=True)
class Limits:
    """How long something may last before that is an alert.

    Attributes:
        unknown: an account of which nothing is known.
        unsettled: a position that differs and is excused.
        over: how long all must be well before a trouble that was reported is over.
    """

    unknown: dt.timedelta
    unsettled: dt.timedelta
    over: dt.timedelta = _USUAL

    @classmethod
    def of(cls, unknown: dt.timedelta, grace: dt.timedelta) -> "Limits":
        """Those of the settings.

        Args:
            unknown: how long an account may be unknown, or a position not settled; zero: for ever.
            grace: how long a position is excused in any case.
        """
        if not unknown:
            return cls(dt.timedelta.max, dt.timedelta.max)
        return cls(unknown, max(unknown, grace), min(unknown, _USUAL))

    def without_memory(self) -> "Limits":
        """Where nothing is remembered, nobody can know for how long an account has been unknown: at once."""
        # Positions are opened every day: that one is not settled in a single round says nothing.
        return self if self.unknown == dt.timedelta.max else replace(self, unknown=dt.timedelta(0))


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

    def since(self, before: Incident | None) -> dt.datetime:
        """Since when something is so; never later than now, whatever a clock said that was set back."""
        return min(before.since, self.now) if before else self.now

    def still(self, before: Incident | None, why: str, limit: dt.timedelta) -> Incident:
        """Something that is not as it should be now.

        Args:
            before: what it was in the round before.
            why: what is wrong.
            limit: how long that may last before it is reported.
        """
        if before is not None and not before.reported and self._is_over(before):
            before = None
        since = self.since(before)
        reported = before is not None and before.reported
        return Incident(since, why, reported or self.now - since >= limit)

    def well(self, before: Incident) -> Incident | None:
        """Something that is as it should be now, and was not lately: None where that is over.

        What comes and goes in every other round is one trouble, and not a new one each time.
        """
        well = self.now if before.well is None else min(before.well, self.now)
        after = replace(before, since=self.since(before), well=well)
        return None if self._is_over(after) else after

    def _is_over(self, one: Incident) -> bool:
        if one.well is None:
            return False
        # What was not reported yet needs no more than to be well for longer than it was not.
        enough = self.limits.over if one.reported else min(self.limits.over, 2 * (one.well - one.since))
        return self.now - one.well >= enough

    def alert(
        self,
        event: Event,
        title: str,
        lines: tuple[str, ...] = (),
        facts: tuple[Mapping[str, Any], ...] = (),
    ) -> Alert:
        """An alert of this round."""
        return fitting(Alert(event, title, self.now, self.source, lines, facts))


def trouble(one: Incident) -> dt.timedelta:
    """How long it was not as it should be."""
    return (one.well or one.since) - one.since


def lasted(time: dt.timedelta) -> str:
    """``40 s``, ``15 min``, ``2 h 5 min``; never less than nothing."""
    seconds = max(0, int(time.total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    hours, minutes = divmod(seconds // 60, 60)
    return f"{minutes} min" if not hours else f"{hours} h {minutes} min" if minutes else f"{hours} h"
