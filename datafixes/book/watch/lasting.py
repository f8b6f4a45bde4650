"""Lasting incidents: when they have lasted too long, and when they are over. Pure."""

import datetime as dt
from collections.abc import Collection, Mapping
from typing import Any

from datafixes.book.alerts.alert import Alert, Event
from datafixes.book.positions.position import Comparison
from datafixes.book.watch.moment import Moment, lasted, trouble
from datafixes.book.watch.state import Incident, Place

_What = str | Place


def unknown_accounts(
    before: Mapping[str, Incident], found: Comparison, moment: Moment
) -> tuple[dict[str, Incident], list[Alert]]:
    """The accounts that are unknown, or were recently, and the alerts about long incidents and their ends."""
    now = {
        account: moment.still(before.get(account), why, moment.limits.unknown)
        for account, why in found.unknown.items()
    }
    late = {
        account: incident
        for account, incident in now.items()
        if incident.reported and not _reported(before.get(account))
    }
    well = {account: moment.well(incident) for account, incident in before.items() if account not in now}
    back = {
        account: before[account]
        for account, incident in well.items()
        if not incident and before[account].reported
    }
    now |= {account: incident for account, incident in well.items() if incident}
    return now, [
        *_alerts(moment, "unknown", late, ("account is unknown", "accounts are unknown")),
        *_alerts(moment, "known", back, ("account is known again", "accounts are known again")),
    ]  # fmt: skip


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
    unsettled = {(one.account, str(one.symbol)): one.why for one in found.unsettled}
    # A position that cannot be seen now has not become a difference.
    now = {place: incident for place, incident in before.items() if place[0] in found.unknown}
    for place, why in unsettled.items():
        now[place] = moment.still(before.get(place), why, moment.limits.unsettled)
    late = {
        place: incident
        for place, incident in now.items()
        if incident.reported and not _reported(before.get(place))
    }
    over = {
        place: incident
        for place, incident in before.items()
        if incident.reported and place not in now and place not in new
    }
    return now, [
        *_alerts(moment, "unsettled", late, ("position is unsettled", "positions are unsettled")),
        *_alerts(moment, "settled", over, ("position is settled again", "positions are settled again")),
    ]


def _reported(incident: Incident | None) -> bool:
    return incident is not None and incident.reported


def _alerts(
    moment: Moment, event: Event, things: Mapping[Any, Incident], words: tuple[str, str]
) -> list[Alert]:
    """One alert for all incidents of one kind."""
    if not things:
        return []
    lines = tuple(
        f"{_name(what)}, for {lasted(_time(incident, moment))}: {incident.why}"
        for what, incident in things.items()
    )
    facts = tuple(
        {**_facts(what), "since": incident.since.isoformat(), "why": incident.why}
        for what, incident in things.items()
    )
    return [moment.alert(event, f"{len(things)} {words[len(things) > 1]}", lines, facts)]


def _time(incident: Incident, moment: Moment) -> dt.timedelta:
    return trouble(incident) if incident.well else moment.now - incident.since


def _name(what: _What) -> str:
    return what if isinstance(what, str) else " ".join(what)


def _facts(what: _What) -> dict[str, str]:
    return {"account": what} if isinstance(what, str) else {"account": what[0], "symbol": what[1]}
