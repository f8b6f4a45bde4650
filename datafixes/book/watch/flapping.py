"""Flapping differences: after some reports they are reported once an hour, until they are stable. Pure.

A position that flaps in every round would otherwise cause an alert in every round, and hide the others.
"""

import datetime as dt
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from datafixes.book.watch.incidents import Moment
from datafixes.book.watch.state import Flapping, Place, Seen

_MOST = 6
_WITHIN = dt.timedelta(hours=1)

Change = tuple[Seen | None, Seen | None]
"""A difference before and now; None if there was or is none."""


@dataclass(frozen=True)
class Damped:
    """The changes of a round, sorted for the reports.

    Attributes:
        flapping: the positions that changed recently.
        reported: changes to report; for a position that was held back, since its last report.
        held: changes after which a position is held back, and once an hour those of positions held back before.
    """

    flapping: Mapping[Place, Flapping]
    reported: tuple[Change, ...]
    held: tuple[Change, ...]


def damp(
    before: Mapping[Place, Flapping],
    was: Mapping[Place, Seen],
    now: Mapping[Place, Seen],
    moment: Moment,
    unknown: Collection[str] = (),
) -> Damped:
    """Sort the changes of a round.

    Args:
        before: the positions that changed recently.
        was: the differences of the round before.
        now: the differences of this round.
        moment: the round.
        unknown: unknown accounts, whose positions cannot count as stable.
    """
    after: dict[Place, Flapping] = {}
    reported: list[Change] = []
    held: list[Change] = []
    for place in sorted({*before, *was, *now}):
        one, change = before.get(place), (was.get(place), now.get(place))
        if change[0] != change[1]:
            after[place] = _changed(one, change, moment)
            if not after[place].held:
                reported.append(change)
            elif one is None or not one.held:
                held.append(change)
        elif one is not None and (place[0] in unknown or _goes_on(one, moment)):
            # A clock that was set back must not hold it back indefinitely.
            after[place] = replace(one, since=min(one.since, moment.now))
        elif one is not None and one.held and one.reported != change[1]:
            reported.append((one.reported, change[1]))
    known = {place for place, one in before.items() if one.held and place[0] not in unknown}
    reminders = _reminders({place: after[place] for place in sorted(known & {*after})}, now, moment)
    for place, change in reminders.items():
        after[place] = replace(after[place], times=(moment.now,), reported=change[1])
    return Damped(after, tuple(reported), (*held, *reminders.values()))


def _reminders(
    held: Mapping[Place, Flapping], now: Mapping[Place, Seen], moment: Moment
) -> dict[Place, Change]:
    """All positions that are held back, reported together when the first is due: one alert an hour."""
    changes = {place: (one.reported, now.get(place)) for place, one in held.items()}
    # A difference that was reported as gone, and is gone, is reported when it returns.
    changes = {place: change for place, change in changes.items() if change != (None, None)}
    is_due = any(not _lately(held[place], moment) for place in changes)
    return changes if is_due else {}


def _changed(one: Flapping | None, change: Change, moment: Moment) -> Flapping:
    if one is not None and one.held:
        return replace(one, since=moment.now)
    times = (*(_lately(one, moment) if one else ()), moment.now)
    return Flapping(times, moment.now, len(times) > _MOST, change[1])


def _lately(one: Flapping, moment: Moment) -> tuple[dt.datetime, ...]:
    return tuple(time for time in one.times if moment.now - _WITHIN < time <= moment.now)


def _goes_on(one: Flapping, moment: Moment) -> bool:
    """Whether to keep an unchanged position in the state."""
    enough = min(moment.limits.unsettled, _WITHIN)
    return moment.now - one.since < enough if one.held else bool(_lately(one, moment))
