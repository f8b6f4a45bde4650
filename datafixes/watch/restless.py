"""Differences that come and go: after some tellings they are held back until they stay as they are. Pure.

A position that flaps in every round would be an alert in every round, all night, and bury the others.
"""

import datetime as dt
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from datafixes.watch.moment import Moment
from datafixes.watch.state import Place, Restless, Seen

_MOST = 6
_WITHIN = dt.timedelta(hours=1)

Change = tuple[Seen | None, Seen | None]
"""What a difference was, and what it is; None where there was or is none."""


@dataclass(frozen=True)
class Heard:
    """What is to be told of a round's changes.

    Attributes:
        restless: what is remembered of positions that changed lately.
        told: changes to tell as they are; those of a position that was held back begin with what was told last.
        held: changes after which a position is held back.
    """

    restless: Mapping[Place, Restless]
    told: tuple[Change, ...]
    held: tuple[Change, ...]


def hear(
    before: Mapping[Place, Restless],
    was: Mapping[Place, Seen],
    now: Mapping[Place, Seen],
    moment: Moment,
    unknown: Collection[str] = (),
) -> Heard:
    """Sort the changes of a round.

    Args:
        before: what is remembered of positions that changed lately.
        was: the differences of the round before.
        now: the differences of this round.
        moment: when.
        unknown: accounts of which nothing is known: who was not seen did not stay as they were.
    """
    after: dict[Place, Restless] = {}
    told: list[Change] = []
    held: list[Change] = []
    for place in sorted({*before, *was, *now}):
        one, change = before.get(place), (was.get(place), now.get(place))
        if change[0] != change[1]:
            after[place] = _changed(one, change, moment)
            if not after[place].held:
                told.append(change)
            elif one is None or not one.held:
                held.append(change)
        elif one is not None and (place[0] in unknown or _goes_on(one, moment)):
            # A clock that was set back must not hold it for ever.
            after[place] = replace(one, since=min(one.since, moment.now))
        elif one is not None and one.held and one.told != change[1]:
            told.append((one.told, change[1]))
    return Heard(after, tuple(told), tuple(held))


def _changed(one: Restless | None, change: Change, moment: Moment) -> Restless:
    if one is not None and one.held:
        return replace(one, since=moment.now)
    times = (*(_lately(one, moment) if one else ()), moment.now)
    return Restless(times, moment.now, len(times) > _MOST, change[1])


def _lately(one: Restless, moment: Moment) -> tuple[dt.datetime, ...]:
    return tuple(time for time in one.times if moment.now - _WITHIN < time <= moment.now)


def _goes_on(one: Restless, moment: Moment) -> bool:
    """Whether it is still to be remembered, of a position that did not change."""
    return moment.now - one.since < moment.limits.unsettled if one.held else bool(_lately(one, moment))
