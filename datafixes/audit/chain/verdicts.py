"""What is known of a run: whether it is as it was sealed, and the evidence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from datafixes.audit.chain.entries import Entry, SealedTable, Shape
from datafixes.audit.chain.reading import Leaves
from datafixes.audit.chain.redacting import Redaction, SaltedLeaves, told
from datafixes.audit.wording import counted

State = Literal["proven", "redacted", "pruned", "differs", "broken", "removed", "added", "unsealed", "new"]
"""What is known of a run.

As it was sealed; so it is but for values that a run redacted; so are its lines, and its images were given up by a run that
is proven; its ledger's lines or its images differ; its entry does not follow from the one before it; the run or
some of its images are gone; there are more images, or images of no run; it ended before another began, and has no entry;
it has just ended.
"""

_WORST: tuple[State, ...] = (
    "broken",
    "removed",
    "added",
    "differs",
    "unsealed",
    "new",
    "pruned",
    "redacted",
    "proven",
)


@dataclass(frozen=True)
class Verdict:
    """What is known of a run.

    Attributes:
        run_id: its number.
        fix: its fix, or None if the ledger does not have it any more.
        outcome: its outcome.
        finished_at: when it ended, in UTC.
        position: the position of its entry.
        sealed_at: when it was sealed: it is proven from then on.
        state: what is known.
        why: the evidence, in sentences.
        not_covered: columns that are not part of the proof, with their audit table.
        images: how many images were proven.
    """

    run_id: int
    fix: str | None
    outcome: str | None
    finished_at: str | None
    position: int | None
    sealed_at: str | None
    state: State
    why: tuple[str, ...] = ()
    not_covered: tuple[str, ...] = ()
    images: int = 0

    @property
    def is_fine(self) -> bool:
        """Whether nothing is wrong; a run that has just ended may still be sealed."""
        return self.state in ("proven", "redacted", "pruned", "new")


def link(entry: Entry, before: Entry | None) -> str:
    """What is wrong with an entry's place in the chain; empty if nothing."""
    if entry.computed_head != entry.head:
        return f"Entry {entry.position} does not have the head that follows from its columns: it was changed."
    position, head = (before.position, before.head) if before else (0, "")
    if entry.position != position + 1:
        return f"Entry {entry.position} comes after entry {position}: the entries between them are gone."
    if entry.previous != head:
        return f"Entry {entry.position} does not follow from entry {position}: one of them was replaced."
    return ""


def verdict_of(
    entry: Entry, run: tuple[str | None, ...] | None, found: Sequence[tuple[State, str]]
) -> Verdict:
    """What is known of a run in the chain.

    Args:
        entry: its entry.
        run: its fix, its outcome and when it ended; None if the ledger does not have it.
        found: what is wrong, or was given up.
    """
    fix, outcome, finished_at = run or (None, None, None)
    states = [state for state, _ in found]
    tables = Shape.read(entry.shape).tables if "broken" not in states else ()
    return Verdict(
        entry.run_id, fix, outcome, finished_at, entry.position, entry.sealed_at,
        next((state for state in _WORST if state in states), "proven"),
        tuple(why for _, why in found),
        tuple(f"{one.audit}.{column}" for one in tables for column in one.not_covered),
        entry.images if set(states) <= {"redacted"} else 0,
    )  # fmt: skip


def differences(
    leaves: Leaves, table: SealedTable, where: str, redaction: Redaction | None = None
) -> Iterator[tuple[State, str]]:
    """What is wrong with the images of a run in one table, or was redacted, after the last was taken.

    Args:
        leaves: the images.
        table: as they were sealed.
        where: the place where they were read.
        redaction: what was redacted.
    """
    if leaves.images < table.images:
        yield "removed", f"{where} has {leaves.images} of {counted(table.images, 'image')}."
    elif leaves.images > table.images:
        yield "added", f"{where} has {counted(leaves.images, 'image')}, and {table.images} were sealed."
    elif leaves.hexdigest() != table.sha256:
        yield "differs", f"The {counted(table.images, 'image')} in {where} are not those that were sealed."
    if redaction is not None and isinstance(leaves, SaltedLeaves):
        wrong = list(leaves.differences(redaction, where))
        yield from (("differs", why) for why in wrong)
        if redaction.images and not wrong:
            yield "redacted", told(redaction, where)
