"""Whether the service checks as many positions as the book has, of each account: which lines decide, and how. Pure.

The service may work with the whole book, or with one account after the other, in one task or in several. So a line
counts for the account that it names; else a stream counts for the account that the setting log_streams gives it to;
else one number is that of the whole book; else each stream has the number of one account; else each stream has the
numbers of all accounts, one after the other.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise

from datafixes.book.verify.checklist import some
from datafixes.book.verify.service_log import Check
from datafixes.book.verify.since import Since

_SIDE_BY_SIDE, _PAUSE = 120_000, 10_000
"""Milliseconds. What is shorter than a pause may be the way from one account to the next."""

Lines = Mapping[str, Sequence[Check]]
"""By name of a stream, its checks, the newest first; none without any."""


@dataclass(frozen=True)
class Asked:
    """What the lines are held against.

    Attributes:
        book: by account, how many rows of the book are open; every account is there.
        patterns: pairs of an account and a pattern for its streams.
        since: what happened last to the book and to the service.
    """

    book: Mapping[str, int]
    patterns: Sequence[tuple[str, str]] = ()
    since: Since = Since()  # noqa: RUF009 - it cannot be changed

    @property
    def each(self) -> str:
        """``large 3, tiny 0``."""
        return ", ".join(f"{account} {rows}" for account, rows in sorted(self.book.items())) or "none"

    @property
    def words(self) -> str:
        """``3 (large 3, tiny 0)``."""
        return f"{sum(self.book.values())} ({self.each})"


@dataclass(frozen=True)
class Found:
    """What the lines say.

    Attributes:
        right: they say what the book has.
        evidence: the lines, and the rule by which they count.
        waits: what is missing may come yet.
    """

    right: bool
    evidence: str
    waits: bool = False


def held_against(asked: Asked, lines: Lines) -> Found:
    """Hold lines of the log against the book.

    Args:
        asked: the book.
        lines: those that are new enough to prove something.
    """
    rest, parts = dict(asked.book), list[Found]()
    for account in asked.book:
        if own := _naming(account, lines):
            parts.append(_of_account(asked, account, own, "the line names it"))
            del rest[account]
    unnamed = _naming("", lines)
    if not rest:
        parts += _strays(asked, lines)
    for account in [account for account in rest if any(account == one for one, _ in asked.patterns)]:
        own = {stream: checks for stream, checks in unnamed.items() if account in _owners(asked, stream)}
        parts.append(_of_account(asked, account, own, "by log_streams"))
        del rest[account]
    if rest:
        free = {stream: checks for stream, checks in unnamed.items() if not _owners(asked, stream)}
        parts.append(_together(Asked(rest, (), asked.since), free))
    wrong = [one for one in parts if not one.right]
    evidence = "; ".join(one.evidence for one in wrong or parts)
    return Found(not wrong, evidence, any(one.waits for one in wrong))


def _naming(account: str, lines: Lines) -> dict[str, list[Check]]:
    """The lines that name an account; for an empty name, those that name none."""
    found = {stream: [one for one in checks if one.account == account] for stream, checks in lines.items()}
    return {stream: checks for stream, checks in found.items() if checks}


def _owners(asked: Asked, stream: str) -> set[str]:
    return {account for account, pattern in asked.patterns if fnmatchcase(stream, pattern)}


def _of_account(asked: Asked, account: str, own: Lines, rule: str) -> Found:
    """The newest number of one account; of other streams too that still speak of it."""
    wanted = asked.book[account]
    if not own:
        return Found(False, f"{account}: no line that is new enough ({rule}); the book has {wanted}", True)
    newest = [checks[0] for checks in _speaking(asked, own)]
    if both := next((one for stream in own if len(one := _owners(asked, stream)) > 1), None):
        return Found(False, f"log_streams gives one stream to {' and '.join(sorted(both))}")
    shown = [one for one in newest if one.number != wanted] or newest[:1]
    evidence = f"{account}: {some(map(_said, shown))} ({rule}), the book has {wanted}"
    return Found(shown[0].number == wanted, evidence, len(newest) > 1)


def _strays(asked: Asked, lines: Lines) -> list[Found]:
    """Streams that still speak of no account, and say what is no account's number, nor that of all."""
    possible = {sum(asked.book.values()), *asked.book.values()}
    newest = [checks[0] for checks in _speaking(asked, lines)]
    strays = [one for one in newest if not one.account and one.number not in possible]
    words = f"others say another number: {some(map(_in_stream, strays))}; the book has {asked.words}"
    return [Found(False, words, True)] if strays else []


def _together(asked: Asked, lines: Lines) -> Found:
    """Lines that name no account, in streams of which nobody said whose they are."""
    if not lines:
        accounts = ", ".join(sorted(asked.book))
        return Found(False, f"no line that is new enough says how many of {accounts} are checked", True)
    speaking = _speaking(asked, lines)
    newest, wanted = [checks[0] for checks in speaking], sorted(asked.book.values())
    total, first = sum(wanted), newest[0]
    if all(one.number == total for one in newest):
        return Found(True, f"{_said(first)}, as many as the book has in all ({asked.each})")
    if len(newest) > 1 and sorted(one.number for one in newest) == wanted:
        words = some(map(_in_stream, newest))
        return Found(
            True, f"each of {len(newest)} streams for one account: {words}; the book has {asked.words}"
        )
    cycles = [_cycle(checks, wanted) for checks in speaking]
    if all(cycle or checks[0].number == total for cycle, checks in zip(cycles, speaking, strict=True)):
        words = some(map(_at, next(filter(None, cycles))))
        streams = f"{len(speaking)} streams, each" if len(speaking) > 1 else "one stream,"
        rule = f"the newest numbers of {streams} one account after the other"
        return Found(True, f"{rule}: {words}; the book has {asked.words}")
    return _wrong(asked, speaking)


def _wrong(asked: Asked, speaking: Sequence[Sequence[Check]]) -> Found:
    first, count = speaking[0][0], len(asked.book)
    others = [checks[0] for checks in speaking[1:]]
    if others:
        words = f"{_said(first)} in {first.stream}, and others say another number: {some(map(_in_stream, others))}"
        return Found(False, f"{words}; the book has {asked.words}", True)
    newest = speaking[0][:count]
    if count == 1:
        return Found(False, f"{_said(first)}; the book has {asked.words}")
    words = f"nor are these its accounts, one after the other: {some(map(_at, newest))}"
    return Found(False, f"{_said(first)}; the book has {asked.words}; {words}", len(newest) < count)


def _cycle(checks: Sequence[Check], wanted: Sequence[int]) -> Sequence[Check]:
    """The newest lines of a stream that have the number of each account, once; none where they do not.

    Numbers that differ prove themselves. Of the same one twice, both must be of one cycle: else one account may have
    said it twice, and the other nothing.
    """
    is_distinct = len(set(wanted)) == len(wanted)
    newest = checks[: len(wanted)]
    if is_distinct and sorted(one.number for one in newest) == wanted:
        return newest
    groups = _cycles(checks[: 4 * len(wanted)])
    # The newest one may be in flight.
    for group in groups[:2] if {one.number for one in groups[0]} <= set(wanted) else ():
        # Each line may be there more than once.
        numbers = [one.number for one in group]
        chosen = [group[numbers.index(number)] for number in dict.fromkeys(numbers)] if is_distinct else group
        if sorted(one.number for one in chosen) == wanted:
            return chosen
    return ()


def _cycles(checks: Sequence[Check]) -> list[list[Check]]:
    """Lines apart where the stream paused, the newest first."""
    pauses = [one.time - other.time for one, other in pairwise(checks)]
    groups = [[checks[0]]]
    for one, pause in zip(checks[1:], pauses, strict=True):
        if 2 * pause > max(pauses):
            groups.append([])
        groups[-1].append(one)
    return groups


def _speaking(asked: Asked, lines: Lines) -> list[Sequence[Check]]:
    """The newest stream, and the others that spoke since it began its last cycle: what spoke earlier has ended."""
    first, *others = sorted(lines.values(), key=lambda checks: checks[0].time, reverse=True)
    count, since = len(asked.book), asked.since.milliseconds
    times = [one.time for one in first[: 2 * count + 1]]
    pause = max((one - other for one, other in pairwise(times)), default=0)
    limit: float = times[0] - pause
    if len(times) <= count and pause < _PAUSE:
        # It has not been seen to pause: whoever spoke since the fix, or within two minutes, may speak again.
        limit = times[0] - _SIDE_BY_SIDE if since is None else since
    return [first, *(checks for checks in others if checks[0].time > limit)]


def _said(one: Check) -> str:
    return f'"Checking {one.number} open positions" at {clock(one.time)}'


def _at(one: Check) -> str:
    return f"{one.number} at {clock(one.time)}"


def _in_stream(one: Check) -> str:
    return f"{_at(one)} in {one.stream}"


def clock(milliseconds: int) -> str:
    """The time of day of an event."""
    return f"{dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC):%H:%M:%S UTC}"
