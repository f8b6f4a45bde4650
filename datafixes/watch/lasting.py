"""What is not as it should be for a while: when that has lasted too long, and when it is over. Pure."""

import datetime as dt
from collections.abc import Collection, Mapping
from typing import Any

from datafixes.alerts.alert import Alert, Event
from datafixes.reconcile.positions import Comparison
from datafixes.watch.moment import Moment, lasted
from datafixes.watch.state import Away, Place

_What = str | Place


def unknown_accounts(
    before: Mapping[str, Away], found: Comparison, moment: Moment
) -> tuple[dict[str, Away], list[Alert]]:
    """The accounts that are unknown now, and the alerts about those that are so for too long, or no longer."""
    now = {
        account: _still(before.get(account), why, moment, moment.limits.unknown)
        for account, why in found.unknown.items()
    }
    late = {account: away for account, away in now.items() if away.told and not _told(before.get(account))}
    back = {account: away for account, away in before.items() if account not in now and away.told}
    return now, [
        *_alerts(moment, "unknown", late, ("account of which nothing is known", "accounts of which nothing is known")),
        *_alerts(moment, "known", back, ("account known again", "accounts known again")),
    ]  # fmt: skip


def unsettled_positions(
    before: Mapping[Place, Away], found: Comparison, different: Collection[Place], moment: Moment
) -> tuple[dict[Place, Away], list[Alert]]:
    """The positions that are not settled, and the alerts about those that are so for too long, or settled since.

    Each position has one alert open at most. One that became a difference is told as such; one that was told as a
    difference is that until it is gone.

    Args:
        before: those of the round before.
        found: what this round found.
        different: where a difference is told.
        moment: when.
    """
    unsettled = {(one.account, str(one.symbol)): one.why for one in found.unsettled}
    # Of what cannot be seen now, nothing has become different.
    now = {place: away for place, away in before.items() if place[0] in found.unknown}
    for place, why in unsettled.items():
        limit = None if place in different else moment.limits.unsettled
        now[place] = _still(before.get(place), why, moment, limit)
    late = {place: away for place, away in now.items() if away.told and not _told(before.get(place))}
    over = {
        place: away
        for place, away in before.items()
        if away.told and place not in now and place not in different
    }
    return now, [
        *_alerts(moment, "unsettled", late, ("position is not settled", "positions are not settled")),
        *_alerts(moment, "settled", over, ("position is settled again", "positions are settled again")),
    ]


def _told(away: Away | None) -> bool:
    return away is not None and away.told


def _still(before: Away | None, why: str, moment: Moment, limit: dt.timedelta | None) -> Away:
    since = moment.since(before)
    is_late = limit is not None and moment.now - since >= limit
    return Away(since, why, _told(before) or is_late)


def _alerts(moment: Moment, event: Event, things: Mapping[Any, Away], words: tuple[str, str]) -> list[Alert]:
    """One alert for all of one kind."""
    if not things:
        return []
    lines = tuple(
        f"{_name(what)}, for {lasted(moment.now - away.since)}: {away.why}" for what, away in things.items()
    )
    facts = tuple(
        {**_facts(what), "since": away.since.isoformat(), "why": away.why} for what, away in things.items()
    )
    return [moment.alert(event, f"{len(things)} {words[len(things) > 1]}", lines, facts)]


def _name(what: _What) -> str:
    return what if isinstance(what, str) else " ".join(what)


def _facts(what: _What) -> dict[str, str]:
    return {"account": what} if isinstance(what, str) else {"account": what[0], "symbol": what[1]}
