"""What the log of the service says: no known error, and the right number of positions."""

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from datafixes.settings import Settings
from datafixes.values import masked
from datafixes.verify.aws import Aws, NotAsked
from datafixes.verify.checklist import Line

ERRORS_NAME, COUNT_NAME = "Log: errors", "Log: positions checked"

BAD_SIGNS = ("position does not exist", "no position found for symbol", "error closing position")
"""What the log must be free of, in whatever case."""

_CHECKING = re.compile(r"\bchecking\s+(\d+)\s+open\s+positions?\b", re.IGNORECASE)
# Each page holds up to 1 MB or 10,000 events, and some are empty.
_MOST_PAGES = 200
_GONE = "ResourceNotFoundException"


@dataclass
class Log:
    """What was seen in the log so far; it holds no more than a line of each kind.

    Attributes:
        events: how many events there were.
        bad: by sign, how often it was there.
        newest_bad: the newest line with a sign, and its time in milliseconds.
        checking: the newest number of positions, and its time in milliseconds.
        whole: everything was read.
    """

    events: int = 0
    bad: dict[str, int] = field(default_factory=dict)
    newest_bad: tuple[int, str] | None = None
    checking: tuple[int, int] | None = None
    whole: bool = True

    def take(self, event: Mapping[str, Any]) -> None:
        """Look at one more event."""
        message, time = str(event.get("message", "")), int(event.get("timestamp", 0))
        self.events += 1
        lower = message.lower()
        signs = [sign for sign in BAD_SIGNS if sign in lower]
        for sign in signs:
            self.bad[sign] = self.bad.get(sign, 0) + 1
        if signs and (self.newest_bad is None or time >= self.newest_bad[0]):
            self.newest_bad = time, _short(message)
        found = _CHECKING.search(message)
        if found and (self.checking is None or time >= self.checking[0]):
            self.checking = time, int(found[1])


def _short(message: str) -> str:
    return masked(" ".join(message.split()))[:200]


def read_log(aws: Aws, settings: Settings, now: dt.datetime) -> Log:
    """Read the last part of the log, page by page.

    Raises:
        NotAsked: AWS does not give it.
    """
    log = Log()
    for event in _events(aws, settings, now, log):
        log.take(event)
    return log


def _events(aws: Aws, settings: Settings, now: dt.datetime, log: Log) -> Iterator[Mapping[str, Any]]:
    end = int(now.timestamp() * 1000)
    by_arn = settings.log_group.startswith("arn:")
    wanted: dict[str, Any] = {
        "logGroupIdentifier" if by_arn else "logGroupName": settings.log_group.removesuffix(":*"),
        "startTime": end - settings.log_window.milliseconds,
        "endTime": end + 1,
    }
    for _ in range(_MOST_PAGES):
        page = aws.ask("logs", "filter_log_events", **wanted)
        yield from page.get("events", ())
        token = page.get("nextToken")
        if not token or token == wanted.get("nextToken"):
            return
        wanted["nextToken"] = token
    log.whole = False


def check_log(
    log: Log, settings: Settings, book: Mapping[str, int] | None, fixed_at: dt.datetime | None
) -> tuple[Line, ...]:
    """The two lines about the log.

    Args:
        log: what was read.
        settings: which log that was, and how much of it.
        book: by account, how many rows of the book are open; None where nobody knows.
        fixed_at: when the fix finished: what is older may be told by waiting.
    """
    where = f"in the last {settings.log_window} of {settings.log_group}"
    if not log.events:
        quiet = f"no event at all {where}: silence proves nothing"
        hint = "Does the service run, and is this its log? Another one: -x log_group=NAME"
        return Line(ERRORS_NAME, "red", quiet, hint), Line(COUNT_NAME, "red", quiet)
    return _errors(log, where, fixed_at), _count(log, where, book)


def _errors(log: Log, where: str, fixed_at: dt.datetime | None) -> Line:
    if log.bad and log.newest_bad:
        time, line = log.newest_bad
        signs = ", ".join(f'"{sign}" {_times(number)}' for sign, number in sorted(log.bad.items()))
        before = fixed_at is not None and time < fixed_at.timestamp() * 1000
        hint = (
            "All of that is older than the fix: look again when it has gone by, or --wait 15m"
            if before
            else ""
        )
        return Line(ERRORS_NAME, "red", f"{signs} {where}; the newest at {_at(time)}: {line}", hint)
    if not log.whole:
        return _too_much(ERRORS_NAME, log, where)
    return Line(ERRORS_NAME, "green", f"none of the {len(BAD_SIGNS)} known errors in {_counted(log)} {where}")


def _count(log: Log, where: str, book: Mapping[str, int] | None) -> Line:
    if not log.whole:
        return _too_much(COUNT_NAME, log, where)
    if log.checking is None:
        return Line(COUNT_NAME, "red", f'no "Checking N open positions" among {_counted(log)} {where}')
    time, number = log.checking
    said = f'"Checking {number} open positions" at {_at(time)}'
    if book is None:
        return Line(COUNT_NAME, "unknown", f"{said}; what the book has is not known")
    total = sum(book.values())
    each = ", ".join(f"{account} {rows}" for account, rows in sorted(book.items())) or "none"
    if number != total:
        return Line(COUNT_NAME, "red", f"{said}; the book has {total} ({each})")
    return Line(COUNT_NAME, "green", f"{said}, as many as the book has ({each})")


def _too_much(name: str, log: Log, where: str) -> Line:
    evidence = f"more than {_counted(log)} {where}, not all of which were read"
    return Line(name, "unknown", evidence, "Read less: -x log_window=2min")


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _counted(log: Log) -> str:
    return f"{log.events} event{'' if log.events == 1 else 's'}"


def _at(milliseconds: int) -> str:
    return f"{dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC):%H:%M:%S UTC}"


def not_read(error: NotAsked, settings: Settings) -> tuple[Line, ...]:
    """The lines of a log that could not be read. That there is none is an answer."""
    if error.code == _GONE:
        evidence = f"there is no log group {settings.log_group} in this account and region"
        hint = "Another one: -x log_group=NAME"
        return Line(ERRORS_NAME, "red", evidence, hint), Line(COUNT_NAME, "red", evidence)
    return tuple(Line(name, "unknown", str(error)) for name in (ERRORS_NAME, COUNT_NAME))
