"""Finds the changes since the last round, and their alerts. Pure: no clock, no file, no network."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from datafixes.audit.wording import counted, named
from datafixes.book.alerts.alert import Alert, Event
from datafixes.book.positions.position import Comparison, LeftOut
from datafixes.book.watch.flapping import Change, Damped, damp
from datafixes.book.watch.incidents import Moment, lasted, unknown_accounts, unsettled_positions
from datafixes.book.watch.state import Incident, Place, Seen, State


@dataclass(frozen=True)
class Failure:
    """The round failed.

    Attributes:
        why: what went wrong, in one line, without secrets.
    """

    why: str


@dataclass(frozen=True)
class Look:
    """The round succeeded.

    Attributes:
        comparison: the differences, and what is unknown.
        unreadable: rows of the book that cannot be compared.
    """

    comparison: Comparison
    unreadable: tuple[Seen, ...] = ()


def after_round(state: State, found: Look | Failure, moment: Moment) -> tuple[State, tuple[Alert, ...]]:
    """The new state and the alerts after a round.

    Unknown data changes nothing: the differences of an account that did not answer, and of unsettled positions, stay as
    they were.
    """
    if isinstance(found, Failure):
        return _failed(state, found, moment)
    failing, alerts = _no_failure(state.failing, moment)
    comparison = found.comparison
    state = _without(state, comparison.left_out)
    now = (*(Seen.of(one) for one in comparison.differences), *found.unreadable)
    seen = _with_doubt(state.seen, now, comparison)
    damped = damp(state.flapping, _by_place(state.seen), _by_place(seen), moment, comparison.unknown)
    alerts += _of_differences(damped, moment)
    unknown, of_accounts = unknown_accounts(state.unknown, comparison, moment)
    new = _places(seen) - _places(state.seen)
    unsettled, of_positions = unsettled_positions(state.unsettled, comparison, new, moment)
    after = replace(
        state, seen=seen, unknown=unknown, unsettled=unsettled, flapping=damped.flapping, failing=failing
    )
    return after, (*alerts, *of_accounts, *of_positions)


def _without(state: State, left_out: Iterable[LeftOut]) -> State:
    """Forget reports about instruments that are no longer compared: their differences did not go away."""
    places = {
        (one.account, name)
        for one in left_out
        for name in (one.instrument, *(f"row {id_}" for id_ in one.rows))
    }
    return replace(
        state,
        seen=tuple(one for one in state.seen if one.place not in places),
        unsettled={place: one for place, one in state.unsettled.items() if place not in places},
        flapping={place: one for place, one in state.flapping.items() if place not in places},
    )


def _by_place(seen: Iterable[Seen]) -> dict[Place, Seen]:
    return {one.place: one for one in seen}


def _places(seen: Iterable[Seen]) -> set[Place]:
    """Every position of the differences; one in the wrong account concerns two."""
    return {place for one in seen for place in (one.place, (one.elsewhere, one.symbol))}


def _failed(state: State, failure: Failure, moment: Moment) -> tuple[State, tuple[Alert, ...]]:
    """One alert for as long as the failure lasts, even if its message changes."""
    after = replace(state, failing=Incident(moment.since(state.failing), failure.why, reported=True))
    if state.failing is not None:
        return after, ()
    title = "The book could not be compared with the broker"
    return after, (moment.alert("failed", title, (failure.why,), ({"why": failure.why},)),)


def _no_failure(failing: Incident | None, moment: Moment) -> tuple[Incident | None, list[Alert]]:
    """The job works again; reported when it has worked for a while."""
    after = None if failing is None else moment.well(failing)
    if failing is None or after is not None:
        return after, []
    title = f"The book can be compared with the broker again, after {lasted(moment.trouble(failing))}"
    return None, [moment.alert("recovered", title, (f"It was: {failing.why}",))]


def _with_doubt(before: Iterable[Seen], now: Iterable[Seen], found: Comparison) -> tuple[Seen, ...]:
    """The differences of this round, and earlier ones that cannot be judged now."""
    unsettled = {(one.account, str(one.symbol)) for one in found.unsettled}

    def is_open(account: str, symbol: str) -> bool:
        return account in found.unknown or (account, symbol) in unsettled

    seen = {one.place: one for one in now}
    for one in before:
        new = seen.get(one.place)
        is_phantom = new is not None and (new.kind, new.rows, new.book) == ("phantom", one.rows, one.book)
        # A position in the wrong account looks like another difference while one of the two accounts is unknown.
        is_half = one.elsewhere and is_open(one.elsewhere, one.symbol) and is_phantom
        if is_half or is_open(*one.place):
            seen[one.place] = one
            seen.pop((one.elsewhere, one.symbol), None)
    return tuple(sorted(seen.values()))


def _of_differences(damped: Damped, moment: Moment) -> list[Alert]:
    """One alert for all differences of one kind: a thousand phantoms are one message."""
    found: dict[Event, list[Change]] = {event: [] for event in _WORDS}
    for was, one in damped.reported:
        found["appeared" if was is None else "gone" if one is None else "changed"].append((was, one))
    found["flapping"] += damped.held
    return [_reported(moment, event, pairs) for event, pairs in found.items() if pairs]


_WORDS: Mapping[Event, str] = {
    "appeared": "appeared",
    "changed": "changed",
    "gone": "went away",
    "flapping": "changed repeatedly; the next report follows in an hour, or when it is stable",
}


def _reported(moment: Moment, event: Event, pairs: Sequence[Change]) -> Alert:
    number = counted(len(pairs), "difference")
    title = f"{number} between book and broker {_WORDS[event]}"
    lines = tuple(_line(event, was, one) for was, one in pairs)
    facts = tuple(
        {"before": None if was is None else asdict(was), "now": None if one is None else asdict(one)}
        for was, one in pairs
    )
    return moment.alert(event, title, lines, facts)


def _line(event: Event, was: Seen | None, one: Seen | None) -> str:
    if was is None:
        return in_words(one)
    if one is None:
        return in_words(was) if event == "gone" else f"{in_words(was)}; now equal"
    if was == one:
        return f"{in_words(one)} (as reported before)"
    return f"{in_words(one)} (before: {_facts(was)})"


def in_words(one: Seen | None) -> str:
    """``large QCOM: phantom, rows 16: book 5, broker 0``."""
    return "" if one is None else f"{one.account} {one.symbol}: {_facts(one)}"


def _facts(one: Seen) -> str:
    if one.why:
        return f"{one.kind}: {one.why}"
    where = f"{named('row', one.rows)}: " if one.rows else ""
    other = f" in {one.elsewhere}" if one.elsewhere else ""
    return f"{one.kind}, {where}book {one.book}, broker {one.broker}{other}"
