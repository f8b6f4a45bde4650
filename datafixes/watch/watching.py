"""The job: look, tell what is new, remember it, wait; and go on whatever happens."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from datafixes.alerts.sinks import Sinks
from datafixes.errors import DatafixError
from datafixes.settings import Settings
from datafixes.watch.changes import Failure, Look, Moment, after_round
from datafixes.watch.state import Seen, State, read_state, write_state

if TYPE_CHECKING:
    from datafixes.reconcile.reconciling import Reconciliation

_LONGEST_REASON = 500


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True)
class Clock:
    """Time as the job has it.

    Attributes:
        now: the time of day, with a zone.
        seconds: seconds that never go back.
        wait: lets so many seconds pass.
    """

    now: Callable[[], dt.datetime] = _now
    seconds: Callable[[], float] = time.monotonic
    wait: Callable[[float], object] = time.sleep


@dataclass(frozen=True)
class Job:
    """What is done in each round.

    Attributes:
        look: compares the book with the broker; may raise anything.
        sinks: take the alerts.
        path: where the state is kept.
        limit: how long an account may be unknown.
        source: which book and which broker.
        hide: makes a text fit to be told.
        say: takes a line about how it goes.
        clock: the time.
        interruptible: around what may be broken off at any moment.
    """

    look: Callable[[], Look]
    sinks: Sinks
    path: Path
    limit: dt.timedelta
    source: str
    hide: Callable[[str], str]
    say: Callable[[str], None]
    clock: Clock = Clock()
    interruptible: Callable[[], AbstractContextManager[None]] = nullcontext


def look_once(job: Job) -> Look | Failure:
    """One round of its own, for cron and scheduled tasks.

    Where nothing is remembered, nobody can know for how long an account has been unknown: that is told at once.
    """
    state = _remembered(job)
    found, after = _round(job, state, dt.timedelta(0) if state.fresh else job.limit)
    _remember(job, after)
    return found


def keep_looking(job: Job, every: float) -> None:
    """Round after round, until something like `Ended` is raised.

    Args:
        job: what to do.
        every: seconds from the beginning of a round to the next; a round that takes longer leaves some out.
    """
    state = _remembered(job)
    writable = True
    while True:
        began = job.clock.seconds()
        _, state = _round(job, state, job.limit)
        writable = _remember(job, state, quiet=not writable)
        with job.interruptible():
            job.clock.wait(every - (job.clock.seconds() - began) % every)


def _remembered(job: Job) -> State:
    state, wrong = read_state(job.path)
    if wrong:
        job.say(f"What was told before is not known: {wrong}. All present differences are told again.")
    return state


def _remember(job: Job, state: State, *, quiet: bool = False) -> bool:
    """Write the state; where that does not work the job goes on from memory."""
    try:
        write_state(job.path, state)
    except OSError as error:
        if not quiet:
            why = error.strerror or str(error)
            job.say(f"The state cannot be written to {job.path}: {why}. After a restart all is told again.")
        return False
    return True


def _round(job: Job, state: State, limit: dt.timedelta) -> tuple[Look | Failure, State]:
    with job.interruptible():
        found = _found(job)
    after, alerts = after_round(state, found, Moment(job.clock.now(), limit, job.source))
    job.say(_summary(found))
    return found, replace(after, waiting=job.sinks.deliver(alerts, state.waiting), fresh=False)


def _found(job: Job) -> Look | Failure:
    try:
        found = job.look()
    except DatafixError as error:
        return Failure(job.hide(error.one_line())[:_LONGEST_REASON])
    except Exception as error:  # the job has to be there when the cause is gone
        return Failure(f"{type(error).__name__}: {job.hide(str(error))}"[:_LONGEST_REASON])
    unknown = {a: job.hide(why)[:_LONGEST_REASON] for a, why in found.comparison.unknown.items()}
    return replace(found, comparison=replace(found.comparison, unknown=unknown))


def _summary(found: Look | Failure) -> str:
    if isinstance(found, Failure):
        return f"Failed: {found.why}"
    one = found.comparison
    parts = [f"{one.equal} equal", f"{len(one.differences)} different"]
    if found.unreadable:
        parts.append(f"{len(found.unreadable)} rows not comparable")
    if one.unsettled:
        parts.append(f"{len(one.unsettled)} not settled")
    parts += [f"{account} unknown: {why}" for account, why in one.unknown.items()]
    return ", ".join(parts)


def source_of(settings: Settings) -> str:
    """Which book and which broker, without secrets: somebody may watch several."""
    place = settings.shown("url") or f"AWS {settings.aws_region} {settings.aws_parameters}"
    book = place if settings.book == "postgres" else settings.shown("book")
    broker = settings.shown("broker")
    if settings.broker == "alpaca":
        broker = f"{broker} {settings.shown('broker_url')}"
    return f"{settings.book_table} of {book}, broker {broker}"


def look_of(found: Reconciliation) -> Look:
    """What the watch makes of a reconciliation."""
    unreadable = tuple(
        Seen(row.account or "(no account)", f"row {row.id}", "not comparable", (row.id,), "", "", why=row.why)
        for row in found.book.unreadable
    )
    return Look(found.comparison, unreadable)
