"""Compares the numbers of checked positions in the log with the book, by account. Pure.

The service may check the whole book, or one account after the other, in one task or in several. So a line counts for
the account that it names; else a stream counts for its account in the setting log_streams; else one number is that of
the whole book; else each stream has the number of one account; else each stream has the numbers of all accounts, one
after the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise

from datafixes.book.verify.checklist import some
from datafixes.book.verify.service_log import Check, Since, clock

_SIDE_BY_SIDE, _PAUSE = 120_000, 10_000
"""Milliseconds. A shorter gap may be the step from one account to the next."""

Lines = Mapping[str, Sequence[Check]]
"""The checks of each stream, newest first; streams without checks are missing."""


@dataclass(frozen=True)
class Asked:
    """The expectation for the lines.

    Attributes:
        book: the number of open rows of every account.
        patterns: pairs of an account and a pattern for its streams.
        since: the last changes of the book and of the service.
    """

    book: Mapping[str, int]
    patterns: Sequence[tuple[str, str]] = ()
    since: Since = Since()  # noqa: RUF009 - immutable

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
    """The result of the comparison.

    Attributes:
        right: whether the lines match the book.
        evidence: the lines, and the rule by which they count.
        waits: whether missing lines may still come.
    """

    right: bool
    evidence: str
    waits: bool = False


def held_against(asked: Asked, lines: Lines) -> Found:
    """Compare lines of the log with the book.

    Args:
        asked: the book.
        lines: the lines that are new enough.
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
    """The lines that name an account; for an empty name, the lines without an account."""
    found = {stream: [one for one in checks if one.account == account] for stream, checks in lines.items()}
    return {stream: checks for stream, checks in found.items() if checks}


def _owners(asked: Asked, stream: str) -> set[str]:
    return {account for account, pattern in asked.patterns if fnmatchcase(stream, pattern)}


def _of_account(asked: Asked, account: str, own: Lines, rule: str) -> Found:
    """The newest number of one account, and those of other active streams."""
    wanted = asked.book[account]
    if not own:
        return Found(False, f"{account}: no recent enough line ({rule}); the book has {wanted}", True)
    newest = [checks[0] for checks in _speaking(asked, own)]
    if both := next((one for stream in own if len(one := _owners(asked, stream)) > 1), None):
        return Found(False, f"log_streams gives one stream to {' and '.join(sorted(both))}")
    shown = [one for one in newest if one.number != wanted] or newest[:1]
    evidence = f"{account}: {some(map(_said, shown))} ({rule}), the book has {wanted}"
    return Found(shown[0].number == wanted, evidence, len(newest) > 1)


def _strays(asked: Asked, lines: Lines) -> list[Found]:
    """Active streams without an account whose number is neither one account's nor the total."""
    possible = {sum(asked.book.values()), *asked.book.values()}
    newest = [checks[0] for checks in _speaking(asked, lines)]
    strays = [one for one in newest if not one.account and one.number not in possible]
    words = f"others have another number: {some(map(_in_stream, strays))}; the book has {asked.words}"
    return [Found(False, words, True)] if strays else []


def _together(asked: Asked, lines: Lines) -> Found:
    """Lines without an account, in streams that log_streams does not assign."""
    if not lines:
        accounts = ", ".join(sorted(asked.book))
        return Found(False, f"no recent enough line says how many of {accounts} are checked", True)
    speaking = _speaking(asked, lines)
    newest, wanted = [checks[0] for checks in speaking], sorted(asked.book.values())
    total, first = sum(wanted), newest[0]
    if all(one.number == total for one in newest):
        return Found(True, f"{_said(first)}, the total of the book ({asked.each})")
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
        words = f"{_said(first)} in {first.stream}, and others have another number: {some(map(_in_stream, others))}"
        return Found(False, f"{words}; the book has {asked.words}", True)
    newest = speaking[0][:count]
    if count == 1:
        return Found(False, f"{_said(first)}; the book has {asked.words}")
    words = f"these are not its accounts in turn either: {some(map(_at, newest))}"
    return Found(False, f"{_said(first)}; the book has {asked.words}; {words}", len(newest) < count)


def _cycle(checks: Sequence[Check], wanted: Sequence[int]) -> Sequence[Check]:
    """The newest lines of a stream with the number of each account once; empty if they do not match.

    Different numbers suffice. Equal numbers must be of one cycle: otherwise one account may have logged twice, and the
    other not at all.
    """
    is_distinct = len(set(wanted)) == len(wanted)
    newest = checks[: len(wanted)]
    if is_distinct and sorted(one.number for one in newest) == wanted:
        return newest
    groups = _cycles(checks[: 4 * len(wanted)])
    # The newest cycle may be incomplete.
    for group in groups[:2] if {one.number for one in groups[0]} <= set(wanted) else ():
        # Each line may occur more than once.
        numbers = [one.number for one in group]
        chosen = [group[numbers.index(number)] for number in dict.fromkeys(numbers)] if is_distinct else group
        if sorted(one.number for one in chosen) == wanted:
            return chosen
    return ()


def _cycles(checks: Sequence[Check]) -> list[list[Check]]:
    """The lines, split at the pauses of the stream, newest first."""
    pauses = [one.time - other.time for one, other in pairwise(checks)]
    groups = [[checks[0]]]
    for one, pause in zip(checks[1:], pauses, strict=True):
        if 2 * pause > max(pauses):
            groups.append([])
        groups[-1].append(one)
    return groups


def _speaking(asked: Asked, lines: Lines) -> list[Sequence[Check]]:
    """The newest stream, and the others with lines since its last cycle began: older streams have ended."""
    first, *others = sorted(lines.values(), key=lambda checks: checks[0].time, reverse=True)
    count, since = len(asked.book), asked.since.milliseconds
    times = [one.time for one in first[: 2 * count + 1]]
    pause = max((one - other for one, other in pairwise(times)), default=0)
    limit: float = times[0] - pause
    if len(times) <= count and pause < _PAUSE:
        # No pause was seen: streams with lines since the fix, or within two minutes, may be active.
        limit = times[0] - _SIDE_BY_SIDE if since is None else since
    return [first, *(checks for checks in others if checks[0].time > limit)]


def _said(one: Check) -> str:
    return f'"Checking {one.number} open positions" at {clock(one.time)}'


def _at(one: Check) -> str:
    return f"{one.number} at {clock(one.time)}"


def _in_stream(one: Check) -> str:
    return f"{_at(one)} in {one.stream}"
