"""The verdict of a reconciliation on one account, in a word and in a line. Pure."""

from dataclasses import dataclass
from typing import Literal

from datafixes.audit.wording import named
from datafixes.book.compare.reconciling import Reconciliation

Word = Literal["equal", "different", "unsettled", "unknown"]


@dataclass(frozen=True)
class Verdict:
    """The verdict on an account.

    Attributes:
        word: all compared positions are equal; some differ; none differ, but some are unsettled; unknown.
        text: the same with the counts, or the reason.
        differences: the number of different positions.
    """

    word: Word
    text: str
    differences: int


def verdict_on(found: Reconciliation, account: str) -> Verdict:
    """The verdict on one account of a reconciliation."""
    part = found.only(account)
    count = len(part.comparison.differences)
    bad = part.book.unreadable
    cannot = f"{named('row', (row.id for row in bad))} cannot be compared"
    waiting = f"{len(part.comparison.unsettled)} unsettled"
    if count:
        more = [cannot] * bool(bad) + [waiting] * bool(part.comparison.unsettled)
        return Verdict("different", ", ".join([f"{count} differ{'s' if count == 1 else ''}", *more]), count)
    if account in part.comparison.unknown:
        return Verdict("unknown", f"unknown: {part.comparison.unknown[account]}", 0)
    if bad:
        why = f": {bad[0].why}" if len(bad) == 1 else ""
        return Verdict("unknown", f"unknown: {cannot}{why}", 0)
    if part.comparison.unsettled:
        return Verdict("unsettled", waiting, 0)
    return Verdict("equal", "equal", 0)
