"""Incidents: what is unknown or unsettled for too long, and when it is over. Pure."""

import datetime as dt
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from datafixes.audit.wording import counted
from datafixes.book.alerts.alert import Alert, Event, fitting
from datafixes.book.positions.position import Comparison
from datafixes.book.watch.state import Incident, Place

_USUAL = dt.timedelta(minutes=15)


@dataclass(frozen=True)
class Limits:
    """How long a condition may last before an alert.

    Attributes:
        unknown: for an unknown account.
        unsettled: for an unsettled position.
        over: how long all must be well before a reported incident is over.
    """

    unknown: dt.timedelta
    unsettled: dt.timedelta
    over: dt.timedelta = _USUAL

    @classmethod
    def of(cls, unknown: dt.timedelta, grace: dt.timedelta) -> "Limits":
        """From the settings.

        Args:
            unknown: how long an account may be unknown, or a position unsettled; zero: no limit.
            grace: how long a position is unsettled in any case.
        """
        if not unknown:
            return cls(dt.timedelta.max, dt.timedelta.max)
        return cls(unknown, max(unknown, grace), min(unknown, _USUAL))

    def without_memory(self) -> "Limits":
        """Without a state, the duration of an incident is unknown: alert on unknown accounts at once."""
        # Positions are opened every day: a position that is unsettled in a single round proves nothing.
        return self if self.unknown == dt.timedelta.max else replace(self, unknown=dt.timedelta(0))


@dataclass(frozen=True)
class Moment:
    """The time and limits of a round.

    Attributes:
        now: its time.
        limits: the time limits.
        source: the book and the broker, for the alerts.
    """

    now: dt.datetime
    limits: Limits
    source: str = ""

    def since(self, before: Incident | None) -> dt.datetime:
        """The start of a condition; never later than now, even if the clock was set back."""
        return min(before.since, self.now) if before else self.now

    def still(self, before: Incident | None, why: str, limit: dt.timedelta) -> Incident:
        """An incident that is present in this round.

        Args:
            before: the incident in the round before.
            why: what is wrong.
            limit: how long it may last before it is reported.
        """
        if before is not None and not before.reported and self._is_over(before):
            before = None
        since = self.since(before)
        reported = before is not None and before.reported
        return Incident(since, why, reported or self.now - since >= limit)

    def well(self, before: Incident) -> Incident | None:
        """An incident that is absent in this round: None if it is over.

        An incident that comes and goes is one incident, and not a new one each time.
        """
        well = self.now if before.well is None else min(before.well, self.now)
        after = replace(before, since=self.since(before), well=well)
        return None if self._is_over(after) else after

    def trouble(self, one: Incident) -> dt.timedelta:
        """How long the incident lasted."""
        return (one.well or self.now) - one.since

    def _is_over(self, one: Incident) -> bool:
        if one.well is None:
            return False
        # An unreported incident is over when it has been absent for longer than it was present.
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


def lasted(time: dt.timedelta) -> str:
    """``40 s``, ``15 min``, ``2 h 5 min``; never negative."""
    seconds = max(0, int(time.total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    hours, minutes = divmod(seconds // 60, 60)
    return f"{minutes} min" if not hours else f"{hours} h {minutes} min" if minutes else f"{hours} h"


def unknown_accounts(
    before: Mapping[str, Incident], found: Comparison, moment: Moment
) -> tuple[dict[str, Incident], list[Alert]]:
    """The accounts that are unknown, or were recently, and the alerts about long incidents and their ends."""
    now = {
        account: moment.still(before.get(account), why, moment.limits.unknown)
        for account, why in found.unknown.items()
    }
    for account, one in before.items():
        if account not in now and (recent := moment.well(one)):
            now[account] = recent
    return now, [
        *_alerts(moment, "unknown", ("account", "unknown"), _begun(before, now)),
        *_alerts(moment, "known", ("account", "known again"), _ended(before, now)),
    ]


def unsettled_positions(
    before: Mapping[Place, Incident], found: Comparison, new: Collection[Place], moment: Moment
) -> tuple[dict[Place, Incident], list[Alert]]:
    """The unsettled positions, and the alerts about long incidents and their ends.

    One that became a difference is reported as such, and not as settled. One that was reported as a difference is also
    reported as unsettled, because changes of the difference are not visible meanwhile.

    Args:
        before: those of the round before.
        found: the result of this round.
        new: positions that differ since this round.
        moment: the round.
    """
    # A position that cannot be seen now has not become a difference.
    now = {place: incident for place, incident in before.items() if place[0] in found.unknown}
    for one in found.unsettled:
        place = one.account, str(one.symbol)
        now[place] = moment.still(before.get(place), one.why, moment.limits.unsettled)
    over = {place: incident for place, incident in _ended(before, now).items() if place not in new}
    return now, [
        *_alerts(moment, "unsettled", ("position", "unsettled"), _begun(before, now)),
        *_alerts(moment, "settled", ("position", "settled again"), over),
    ]


def _begun(before: Mapping[Any, Incident], now: Mapping[Any, Incident]) -> dict[Any, Incident]:
    """Those to be reported now: they have lasted too long."""
    known = {what for what, incident in before.items() if incident.reported}
    return {what: incident for what, incident in now.items() if incident.reported and what not in known}


def _ended(before: Mapping[Any, Incident], now: Mapping[Any, Incident]) -> dict[Any, Incident]:
    """Those that were reported, and are over."""
    return {what: incident for what, incident in before.items() if incident.reported and what not in now}


def _alerts(
    moment: Moment, event: Event, words: tuple[str, str], incidents: Mapping[str | Place, Incident]
) -> list[Alert]:
    """One alert for all incidents of one kind."""
    if not incidents:
        return []
    names = [(what,) if isinstance(what, str) else what for what in incidents]
    both = list(zip(names, incidents.values(), strict=True))
    lines = tuple(f"{' '.join(name)}, for {lasted(moment.trouble(one))}: {one.why}" for name, one in both)
    facts = tuple(
        {
            **dict(zip(("account", "symbol"), name, strict=False)),
            "since": one.since.isoformat(),
            "why": one.why,
        }
        for name, one in both
    )
    title = f"{counted(len(both), words[0])} {'is' if len(both) == 1 else 'are'} {words[1]}"
    return [moment.alert(event, title, lines, facts)]
