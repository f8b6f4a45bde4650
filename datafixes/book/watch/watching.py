"""The job: compare, report changes, save the state, wait; it goes on after any error."""

import datetime as dt
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from datafixes.book.alerts.sinks import Sinks
from datafixes.book.compare.reconciling import Reconciliation
from datafixes.book.settings import BookSettings
from datafixes.book.watch.changes import Failure, Look, after_round
from datafixes.book.watch.incidents import Limits, Moment
from datafixes.book.watch.lock import alone_with
from datafixes.book.watch.poller import GaveUp, Poller, TimedOut
from datafixes.book.watch.signals import SignalHandler
from datafixes.book.watch.state import Seen, State, StateFile
from datafixes.errors import DatafixError
from datafixes.settings import Settings

_LONGEST_REASON = 500
_LONGEST_REPORTING = 60.0
"""Seconds."""
_TRIES = 5


@dataclass(frozen=True)
class Clock:
    """The clocks of the job.

    Attributes:
        now: the time of day, with a zone.
        seconds: a monotonic clock.
        wait: waits a number of seconds.
    """

    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)
    seconds: Callable[[], float] = time.monotonic
    wait: Callable[[float], object] = time.sleep


@dataclass(frozen=True)
class Job:
    """The work of each round.

    Attributes:
        look: compares the book with the broker; may raise anything.
        sinks: take the alerts.
        path: the state file.
        limits: the time limits.
        source: the book and the broker.
        hide: removes secrets from a text.
        say: takes a line of the log.
        clock: the clocks.
        signals: whether SIGTERM has come.
    """

    look: Callable[[], Look]
    sinks: Sinks
    path: Path
    limits: Limits
    source: str
    hide: Callable[[str], str]
    say: Callable[[str], None]
    clock: Clock = Clock()
    signals: SignalHandler = field(default_factory=SignalHandler)


def look_once(job: Job) -> Look | Failure:
    """A single round, for cron and scheduled tasks.

    Raises:
        AtWork: another watch uses the state, and keeps it.
    """
    tries = iter(range(_TRIES))
    with alone_with(job.path, job.say, lambda: _waited(job) and next(tries, None) is not None):
        file = StateFile(job.path, job.say)
        state = file.read()
        found = _found(job, Poller(job.look, job.signals, job.clock.seconds))
        limits = job.limits.without_memory() if state.fresh else job.limits
        _report(job, file, _after(job, state, found, limits), _LONGEST_REPORTING)
        return found


def keep_looking(job: Job, every: float) -> None:
    """Round after round, until something like `Terminated` is raised, or `GaveUp`.

    While another watch uses the state, this one waits, and takes over when that one ends, so that a service can be
    redeployed.

    Args:
        job: the work.
        every: the interval of rounds in seconds; a round that takes longer skips some.
    """
    with alone_with(job.path, job.say, _standing_by(job)):
        file, poller = StateFile(job.path, job.say), Poller(job.look, job.signals, job.clock.seconds)
        state = file.read()
        while True:
            began = job.clock.seconds()
            after = _after(job, state, _found(job, poller), job.limits)
            state = _report(job, file, after, min(_LONGEST_REPORTING, every / 2))
            with job.signals.interruptible():
                job.clock.wait(every - (job.clock.seconds() - began) % every)


def _waited(job: Job) -> bool:
    with job.signals.interruptible():
        job.clock.wait(1)
    return True


def _standing_by(job: Job) -> Callable[[], bool]:
    """Wait for the other watch; the first time, say so."""
    line = iter([f"Another watch is running with {job.path}. This one waits until it ends."])

    def again() -> bool:
        for reported in line:
            job.say(reported)
        return _waited(job)

    return again


def _after(job: Job, state: State, found: Look | Failure, limits: Limits) -> State:
    """The state after a round, and its alerts."""
    after, alerts = after_round(state, found, Moment(job.clock.now(), limits, job.source))
    job.say(_summary(found))
    return replace(after, waiting=job.sinks.queued(alerts, state.waiting), fresh=False)


def _report(job: Job, file: StateFile, state: State, seconds: float) -> State:
    """Deliver for a number of seconds, or until SIGTERM; the rest waits for the next round.

    Each delivered alert is saved before the next one is sent. Each sink gets at least one attempt, so that a slow one
    cannot starve the others.
    """
    file.keep(state)
    until = job.clock.seconds() + seconds
    attempts = len(state.waiting)
    for number, left in enumerate(job.sinks.deliver(state.waiting), 1):
        if left != state.waiting:
            state = replace(state, waiting=left)
            file.keep(state)
        if job.signals.asked or (number >= attempts and job.clock.seconds() >= until):
            break
    return state


def _found(job: Job, poller: Poller) -> Look | Failure:
    """The result of one round, without secrets."""
    hide = job.hide
    try:
        found = poller.poll()
    except TimedOut as error:
        return Failure(str(error))
    except GaveUp:
        raise
    except DatafixError as error:
        return Failure(hide(error.one_line())[:_LONGEST_REASON])
    except Exception as error:  # the job must survive any error
        return Failure(f"{type(error).__name__}: {hide(str(error))}"[:_LONGEST_REASON])
    unknown = {a: hide(why)[:_LONGEST_REASON] for a, why in found.comparison.unknown.items()}
    return replace(found, comparison=replace(found.comparison, unknown=unknown))


def _summary(found: Look | Failure) -> str:
    if isinstance(found, Failure):
        return f"Failed: {found.why}"
    one = found.comparison
    parts = [f"{one.equal} equal", f"{len(one.differences)} different"]
    if found.unreadable:
        parts.append(f"{len(found.unreadable)} rows not comparable")
    if one.unsettled:
        parts.append(f"{len(one.unsettled)} unsettled")
    parts += [f"{account} unknown: {why}" for account, why in one.unknown.items()]
    parts += [f"not compared: {left_out}" for left_out in one.left_out]
    return ", ".join(parts)


def source_of(settings: BookSettings) -> str:
    """The book and the broker, without secrets, to tell several watches apart."""
    engine = settings.engine
    place = _database(engine) if engine.url else f"AWS {engine.aws_region} {engine.aws_parameters}"
    book = place if settings.book == "postgres" else settings.shown("book")
    broker = settings.shown("broker")
    if settings.broker == "alpaca":
        broker = f"{broker} {settings.shown('broker_url')}"
    without = f", without {settings.shown('broker_ignore')}" if settings.broker_ignore else ""
    return f"{settings.book_table} of {book}, broker {broker}{without}"


def _database(settings: Settings) -> str:
    """The URL without its password; if that cannot be located with certainty, the origin of the URL."""
    shown = settings.shown("url")
    if re.fullmatch(r"embedded:(?!//)[^@]*", settings.url):
        return shown
    # make_url is less strict: without an @ it treats the user as the host.
    certain = re.match(
        r"[\w+]+://([^@/:]*(:\*{3})?@)?(?P<host>[^@/?]*)(/(?P<name>[^@/:?]*))?(\?[^@]*)?$", shown
    )
    try:
        make_url(settings.url)
    except (ArgumentError, ValueError):
        certain = None
    if certain and (certain["host"] or certain["name"]):
        return shown
    return f"the URL of {settings.origins['url']}"


def default_path(settings: BookSettings, environment: Mapping[str, str]) -> Path:
    """The default place of the state: in the user's cache, one file for each book and broker."""
    engine = [settings.engine.shown(name) for name in ("url", "aws_region", "aws_parameters", "aws_secret")]
    book = [
        settings.shown(name) for name in ("book", "book_table", "broker", "broker_url", "broker_accounts")
    ]
    about = "\n".join([*engine, *book])
    file = f"watch-{hashlib.sha256(about.encode()).hexdigest()[:12]}.json"
    cache = environment.get("XDG_CACHE_HOME", "")
    home = environment.get("HOME", "")
    if os.path.isabs(cache):
        return Path(cache, "datafixes", file)
    if os.path.isabs(home) and os.access(home, os.W_OK):
        return Path(home, ".cache", "datafixes", file)
    shared = Path(tempfile.gettempdir(), f"datafixes-{os.getuid()}")
    # Another user's directory of that name could contain a forged state.
    is_ours = not os.path.lexists(shared) or os.lstat(shared).st_uid == os.getuid()
    return (shared if is_ours else Path(tempfile.mkdtemp(prefix="datafixes-"))) / file


def look_of(found: Reconciliation) -> Look:
    """The result of a reconciliation, for the watch."""
    unreadable = tuple(
        Seen(row.account or "(no account)", f"row {row.id}", "not comparable", (row.id,), "", "", why=row.why)
        for row in found.book.unreadable
    )
    return Look(found.comparison, unreadable)
