"""What is new since the last round, and which alerts follow. Pure: no clock, no file, no network of its own."""

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from datafixes.alerts.alert import Alert, Event
from datafixes.reconcile.positions import Comparison
from datafixes.watch.state import Away, Seen, State


@dataclass(frozen=True)
class Failure:
    """The round could not be done.

    Attributes:
        why: what went wrong, in one line, fit to be told.
    """

    why: str


@dataclass(frozen=True)
class Look:
    """The round could be done.

    Attributes:
        comparison: what differs, and what is not known.
        unreadable: rows of the book that cannot be compared.
    """

    comparison: Comparison
    unreadable: tuple[Seen, ...] = ()


@dataclass(frozen=True)
class Moment:
    """When a round was, and what counts as long.

    Attributes:
        now: when.
        limit: how long an account may be unknown before that is an alert.
        source: which book and which broker it is about, for the alerts.
    """

    now: dt.datetime
    limit: dt.timedelta
    source: str = ""

    def alert(
        self,
        event: Event,
        title: str,
        lines: tuple[str, ...] = (),
        facts: tuple[Mapping[str, Any], ...] = (),
    ) -> Alert:
        """An alert of this round."""
        return Alert(event, title, self.now, self.source, lines, facts)


def after_round(state: State, found: Look | Failure, moment: Moment) -> tuple[State, tuple[Alert, ...]]:
    """What to remember and what to tell after a round.

    Nothing follows from what is not known: the differences of an account that did not answer, and of positions that
    are not settled, stay as they were.
    """
    if isinstance(found, Failure):
        return _failed(state, found, moment)
    alerts = []
    if state.failing is not None:
        alerts.append(
            moment.alert("recovered", _recovered(state.failing, moment), (f"It was: {state.failing.why}",))
        )
    comparison = found.comparison
    now = (*(Seen.of(one) for one in comparison.differences), *found.unreadable)
    seen = _with_doubt(state.seen, now, comparison)
    alerts += _of_differences(state.seen, seen, moment)
    unknown, more = _unknown(state, comparison.unknown, moment)
    return replace(state, seen=seen, unknown=unknown, failing=None), (*alerts, *more)


def _failed(state: State, failure: Failure, moment: Moment) -> tuple[State, tuple[Alert, ...]]:
    """One alert for as long as it lasts, whatever it says from round to round."""
    since = state.failing.since if state.failing else moment.now
    after = replace(state, failing=Away(since, failure.why, told=True))
    if state.failing is not None:
        return after, ()
    title = "The book could not be compared with the broker"
    return after, (moment.alert("failed", title, (failure.why,), ({"why": failure.why},)),)


def _recovered(failing: Away, moment: Moment) -> str:
    return f"The book can be compared with the broker again, after {lasted(moment.now - failing.since)}"


def _with_doubt(before: Iterable[Seen], now: Iterable[Seen], found: Comparison) -> tuple[Seen, ...]:
    """The differences of this round, and those before about which nothing can be said now."""
    unsettled = {(one.account, str(one.symbol)) for one in found.unsettled}

    def is_open(account: str, symbol: str) -> bool:
        return account in found.unknown or (account, symbol) in unsettled

    seen = {one.place: one for one in now}
    for one in before:
        new = seen.get(one.place)
        # What is in the wrong account looks like another difference while nothing is known of one of the two.
        is_half = one.elsewhere and is_open(one.elsewhere, one.symbol) and _is_phantom_of(one, new)
        if is_half or is_open(*one.place):
            seen[one.place] = one
            seen.pop((one.elsewhere, one.symbol), None)
    return tuple(sorted(seen.values()))


def _is_phantom_of(one: Seen, new: Seen | None) -> bool:
    return new is not None and (new.kind, new.rows, new.book) == ("phantom", one.rows, one.book)


def _of_differences(before: Iterable[Seen], now: Iterable[Seen], moment: Moment) -> list[Alert]:
    old, new = {one.place: one for one in before}, {one.place: one for one in now}
    changed = [(old[place], one) for place, one in new.items() if place in old and old[place] != one]
    return [
        *_told(moment, "appeared", [(None, one) for place, one in new.items() if place not in old]),
        *_told(moment, "changed", [(was, one) for was, one in changed]),
        *_told(moment, "gone", [(one, None) for place, one in old.items() if place not in new]),
    ]


_WORDS: Mapping[Event, str] = {"appeared": "appeared", "changed": "changed", "gone": "went away"}


def _told(moment: Moment, event: Event, pairs: list[tuple[Seen | None, Seen | None]]) -> list[Alert]:
    """One alert for all of one kind: a thousand phantoms are one message."""
    if not pairs:
        return []
    number = f"{len(pairs)} difference{'' if len(pairs) == 1 else 's'}"
    title = f"{number} between book and broker {_WORDS[event]}"
    lines = tuple(_line(was, one) for was, one in pairs)
    facts = tuple(
        {"before": None if was is None else asdict(was), "now": None if one is None else asdict(one)}
        for was, one in pairs
    )
    return [moment.alert(event, title, lines, facts)]


def _line(was: Seen | None, one: Seen | None) -> str:
    if one is None or was is None:
        return in_words(one or was)
    return f"{in_words(one)} (before: {_facts(was)})"


def in_words(one: Seen | None) -> str:
    """``large QCOM: phantom, rows 16: book 5, broker 0``."""
    return "" if one is None else f"{one.account} {one.symbol}: {_facts(one)}"


def _facts(one: Seen) -> str:
    if one.why:
        return f"{one.kind}: {one.why}"
    where = f"row{'' if len(one.rows) == 1 else 's'} {', '.join(map(str, one.rows))}: " if one.rows else ""
    other = f" in {one.elsewhere}" if one.elsewhere else ""
    return f"{one.kind}, {where}book {one.book}, broker {one.broker}{other}"


def _unknown(state: State, unknown: Mapping[str, str], moment: Moment) -> tuple[dict[str, Away], list[Alert]]:
    """The accounts that are unknown now, and the alerts about those that are so for too long, or no longer."""
    now: dict[str, Away] = {}
    late: dict[str, Away] = {}
    for account, why in unknown.items():
        before = state.unknown.get(account)
        since = min(before.since, moment.now) if before else moment.now
        told = before is not None and before.told
        is_late = not told and moment.now - since >= moment.limit
        now[account] = Away(since, why, told or is_late)
        if is_late:
            late[account] = now[account]
    back = {account: away for account, away in state.unknown.items() if account not in now and away.told}
    return now, [
        *_about_accounts(moment, "unknown", late, "of which nothing is known"),
        *_about_accounts(moment, "known", back, "known again"),
    ]


def _about_accounts(moment: Moment, event: Event, accounts: Mapping[str, Away], words: str) -> list[Alert]:
    if not accounts:
        return []
    lines = tuple(
        f"{account}, for {lasted(moment.now - away.since)}: {away.why}" for account, away in accounts.items()
    )
    facts = tuple(
        {"account": account, "since": away.since.isoformat(), "why": away.why}
        for account, away in accounts.items()
    )
    number = f"{len(accounts)} account{'' if len(accounts) == 1 else 's'}"
    return [moment.alert(event, f"{number} {words}", lines, facts)]


def lasted(time: dt.timedelta) -> str:
    """``40 s``, ``15 min``, ``2 h 5 min``."""
    seconds = int(time.total_seconds())
    if seconds < 60:
        return f"{seconds} s"
    hours, minutes = divmod(seconds // 60, 60)
    return f"{minutes} min" if not hours else f"{hours} h {minutes} min" if minutes else f"{hours} h"
