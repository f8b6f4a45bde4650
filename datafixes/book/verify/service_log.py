"""Reads the log of the service: known errors, and the numbers of positions that it checks."""

import datetime as dt
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from datafixes.book.settings import BookSettings
from datafixes.database.aws_client import Aws
from datafixes.settings.values import masked, parse_text

BAD_SIGNS = ("position does not exist", "no position found for symbol", "error closing position")
"""Known errors, which the log must not contain, in any case."""

_BAD = re.compile("|".join(r"\s+".join(map(re.escape, sign.split())) for sign in BAD_SIGNS), re.IGNORECASE)
_CHECKING = re.compile(r"\bchecking\s+(\d[\d,_]*)\s+open\s+positions?\b", re.IGNORECASE)
# Colour codes, and escapes for white space in JSON: both hide the beginning of a word.
_COLOUR = re.compile(r"(?:\x1b|\\{1,8}u001[bB])\[[\d;]{0,20}m")
_ESCAPED = re.compile(r"\\{1,8}(?:[nrt]|u00(?:20|09|0[aAdD]|[aA]0))")
# Each page holds up to 1 MB or 10,000 events, and some are empty.
_MOST_PAGES = 200
_KEPT, _OF_ONE_EVENT, _AROUND = 200, 20, 1_000
_SHOWN, _LOOKED_AT = 200, 4_000
# Not part of a longer word, of a path, or of a module's name.
_WHOLE = r"(?<![\w./-]){}(?![\w/-]|\.\w)"


@dataclass(frozen=True)
class Since:
    """The last changes of the book and of the service, if known: older lines of the log prove nothing.

    The one by the database's clock, the other by ECS's.

    Attributes:
        fixed_at: when the fix in force finished.
        deployed_at: when the running deployment was begun.
    """

    fixed_at: dt.datetime | None = None
    deployed_at: dt.datetime | None = None

    @property
    def milliseconds(self) -> float | None:
        """The later of the two."""
        return max(self._known)[0].timestamp() * 1000 if self._known else None

    def limit(self, milliseconds: int) -> str | None:
        """The latest event that is newer than a line of that time, in words, or None.

        Clock differences are ignored: the message shows both times.
        """
        if not self._known:
            return None
        at, what = max(self._known)
        return f"{what}, of {moment(at)}" if milliseconds <= at.timestamp() * 1000 else None

    @property
    def _known(self) -> list[tuple[dt.datetime, str]]:
        both = (self.fixed_at, "the fix"), (self.deployed_at, "the deployment")
        return [(at, what) for at, what in both if at is not None]


def moment(at: dt.datetime) -> str:
    """A time to the millisecond, for comparisons."""
    return f"{at.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3] + " UTC"


def moment_of(milliseconds: int) -> dt.datetime:
    """The time of an event of the log."""
    return dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC)


def clock(milliseconds: int) -> str:
    """The time of day of an event."""
    return f"{moment_of(milliseconds):%H:%M:%S UTC}"


@dataclass(frozen=True)
class Check:
    """A line with a number of checked positions.

    Attributes:
        time: when, in milliseconds.
        number: the number of positions.
        stream: its stream; each task of a service has its own.
        account: the account that it names, or an empty string.
    """

    time: int
    number: int
    stream: str
    account: str = ""


@dataclass
class Stream:
    """One stream.

    Attributes:
        first: the time of its first event, in milliseconds.
        checks: its newest checks, the newest first.
    """

    first: int
    checks: list[Check] = field(default_factory=list)

    def take(self, check: Check) -> None:
        """Keep the newest, in any order of arrival; at equal times, the last one is the newest."""
        place = next((at for at, one in enumerate(self.checks) if one.time <= check.time), len(self.checks))
        self.checks.insert(place, check)
        del self.checks[_KEPT:]


@dataclass
class Log:
    """A summary of the log, with a few lines of each stream.

    Attributes:
        accounts: the names of accounts that a line may contain.
        events: the number of events.
        bad: the number of events with each known error.
        newest_bad: the newest event with a known error, verbatim, and its time in milliseconds.
        streams: the streams by name.
        whole: whether everything was read.
    """

    accounts: tuple[str, ...] = ()
    events: int = 0
    bad: dict[str, int] = field(default_factory=dict)
    newest_bad: tuple[int, str] | None = None
    streams: dict[str, Stream] = field(default_factory=dict)
    whole: bool = True

    def take(self, event: Mapping[str, Any]) -> None:
        """Add an event."""
        message, time = str(event.get("message", "")), int(event.get("timestamp", 0))
        name = str(event.get("logStreamName", ""))
        self.events += 1
        stream = self.streams.setdefault(name, Stream(time))
        stream.first = min(stream.first, time)
        text = _plain(message)
        signs = {" ".join(found[0].lower().split()) for found in _BAD.finditer(text)}
        for sign in signs:
            self.bad[sign] = self.bad.get(sign, 0) + 1
        if signs and (self.newest_bad is None or time >= self.newest_bad[0]):
            self.newest_bad = time, message
        for number, said in _checks_in(text):
            named = [one for one in self.accounts if re.search(_WHOLE.format(re.escape(one)), said)]
            stream.take(Check(time, number, name, named[0] if len(named) == 1 else ""))

    @property
    def newest(self) -> Check | None:
        """The newest check of all."""
        found = [one.checks[0] for one in self.streams.values() if one.checks]
        return max(found, key=lambda one: one.time, default=None)


def _checks_in(text: str) -> Iterator[tuple[int, str]]:
    """Each number of positions in an event, with the text around it; the line alone, where there are several."""
    found = list(_CHECKING.finditer(text))
    for one in found[-_OF_ONE_EVENT:]:
        begin, end = max(0, one.start() - _AROUND), min(len(text), one.end() + _AROUND)
        if len(found) > 1:
            begin = max(begin, text.rfind("\n", begin, one.start()) + 1)
            line_end = text.find("\n", one.end(), end)
            end = end if line_end < 0 else line_end
        yield int(re.sub("[,_]", "", one[1])), text[begin:end]


def excerpt(message: str) -> str:
    """The part of an event that holds a known error, on one line and without secrets."""
    text = " ".join(_plain(message).split())
    text = parse_text(masked(_around(text, _LOOKED_AT)))
    return _around(text, _SHOWN)


def _around(text: str, length: int) -> str:
    found = _BAD.search(text)
    begin = found.start() - length // 2 if found and len(text) > length else 0
    return text[max(0, begin) :][:length]


def _plain(message: str) -> str:
    return _ESCAPED.sub(" ", _COLOUR.sub("", message))


def read_log(aws: Aws, settings: BookSettings, now: dt.datetime, book: Iterable[str] = ()) -> Log:
    """Read the last part of the log, page by page.

    Args:
        aws: AWS.
        settings: the log, its window, and the accounts.
        now: the time.
        book: further accounts, which only the book has.

    Raises:
        NotAsked: AWS refuses, or does not answer.
    """
    log = Log(tuple(sorted({*settings.broker_accounts, *book})))
    for event in _events(aws, settings, now, log):
        log.take(event)
    return log


def _events(aws: Aws, settings: BookSettings, now: dt.datetime, log: Log) -> Iterator[Mapping[str, Any]]:
    by_arn = settings.log_group.startswith("arn:")
    # No end time: if this machine's clock is slow, the newest lines would be missing.
    wanted: dict[str, Any] = {
        "logGroupIdentifier" if by_arn else "logGroupName": settings.log_group.removesuffix(":*"),
        "startTime": int(now.timestamp() * 1000) - settings.log_window.milliseconds,
    }
    for _ in range(_MOST_PAGES):
        page = aws.ask("logs", "filter_log_events", **wanted)
        yield from page.get("events", ())
        token = page.get("nextToken")
        if not token or token == wanted.get("nextToken"):
            return
        wanted["nextToken"] = token
    log.whole = False
