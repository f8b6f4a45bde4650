"""Turns differences into a proposal. Pure: what the book and the broker say is given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from datafixes.reconcile import proposed_fixes as fixes
from datafixes.reconcile.book_row import BookRow
from datafixes.reconcile.closed_rows import ClosedRow
from datafixes.reconcile.doubts import in_doubt
from datafixes.reconcile.pending import Pending
from datafixes.reconcile.positions import Difference, Fill, Known, Unknown
from datafixes.reconcile.proposed_fixes import Chosen, ProposedFix, Seen
from datafixes.reconcile.reconciling import Reconciliation
from datafixes.reconcile.target import Target

KINDS = ("phantom", "duplicate", "quantity", "missing")
"""What can be proposed, in the order in which a revision does it."""

_MAKERS: Mapping[str, Callable[[Sequence[Chosen], Seen], ProposedFix]] = {
    "phantom": fixes.close_phantoms,
    "duplicate": fixes.close_duplicates,
    "quantity": fixes.correct_quantities,
    "missing": fixes.insert_missing,
}


@dataclass(frozen=True)
class Findings:
    """Everything that a proposal is made of.

    Attributes:
        found: what was compared.
        target: the table that is the book.
        fills: by account, what the broker did in the symbols of its phantoms, or why that is not known.
        pending: what revisions will change that have not run.
        closed: rows of the phantoms' symbols that are closed.
        witness: a condition that holds in the database of this book, and in no other; empty where there is none.
    """

    found: Reconciliation
    target: Target
    fills: Mapping[str, Sequence[Fill] | Unknown] = field(default_factory=dict)
    pending: Pending = field(default_factory=Pending)
    closed: Sequence[ClosedRow] = ()
    witness: str = ""


@dataclass(frozen=True)
class Proposal:
    """What is proposed.

    Attributes:
        fixes: in the order in which they run.
        left: a line for each difference of the kinds asked for that is left alone, with the reason.
        waiting: revisions that have not run yet and change what some of the differences are about, and how many.
    """

    fixes: tuple[ProposedFix, ...] = ()
    left: tuple[str, ...] = ()
    waiting: Mapping[str, int] = field(default_factory=dict)


def propose(findings: Findings, kinds: Collection[str], revision: str) -> Proposal:
    """Make fixes of the differences of some kinds.

    Args:
        findings: what was found.
        kinds: of `KINDS`; whatever is of another kind is not looked at.
        revision: the id of the revision, which becomes part of the fixes' names.
    """
    chosen: dict[str, list[Chosen]] = {kind: [] for kind in KINDS if kind in kinds}
    left: list[str] = []
    waiting = Counter[str]()
    found = findings.found
    rows = {row.position.id: row for row in found.book.rows}
    for difference in found.comparison.differences:
        if difference.kind not in chosen:
            continue
        one, pending = _beside(difference, findings.pending, rows)
        waiting.update(pending)
        if one is None:
            continue
        choice = _choice(one, findings, rows, whole=not pending)
        if why := _why_not(choice, findings) or in_doubt(one, found.comparison, found.answers):
            left.append(f"{_told(one)}: {why}")
        else:
            chosen[one.kind].append(choice)
    seen = Seen(findings.target, revision, found.read_at, found.broker, findings.witness)
    made = tuple(_MAKERS[kind](choices, seen) for kind, choices in chosen.items() if choices)
    return Proposal(made, tuple(left), waiting)


def _beside(
    one: Difference, pending: Pending, rows: Mapping[int, BookRow]
) -> tuple[Difference | None, set[str]]:
    """What is left of a difference beside what revisions will do that have not run yet, and these revisions."""
    if one.kind == "missing":
        revision = pending.inserted.get((one.account, str(one.symbol)))
        return (one, set()) if revision is None else (None, {revision})
    revisions = {pending.rows[row] for row in one.rows if row in pending.rows}
    if not revisions:
        return one, revisions
    rest = tuple(row for row in one.rows if row not in pending.rows)
    if one.kind != "phantom" or not rest:
        return None, revisions
    # The book makes its phantoms anew: every row of them is one.
    book = sum((rows[row].position.quantity for row in rest), Decimal(0))
    return replace(one, rows=rest, book=book), revisions


def _choice(one: Difference, findings: Findings, rows: Mapping[int, BookRow], *, whole: bool) -> Chosen:
    answer = findings.found.answers[one.account]
    positions, read_at = (answer.positions, answer.read_at) if isinstance(answer, Known) else ((), None)
    held = tuple(position for position in positions if position.symbol == one.symbol)
    # Of a part of a position, no fill says how it was closed.
    fills = findings.fills.get(one.account, ()) if whole else ()
    return Chosen(
        one,
        tuple(rows[id_] for id_ in one.rows),
        held,
        read_at or findings.found.read_at,
        fills if isinstance(fills, Unknown) else [fill for fill in fills if fill.symbol == one.symbol],
        tuple(row for row in findings.closed if (row.account, row.symbol) == (one.account, one.symbol)),
    )


def _why_not(choice: Chosen, findings: Findings) -> str:
    """Why nothing can be proposed without a doubt; empty where something can."""
    one = choice.difference
    if one.kind in ("quantity", "missing") and one.broker % 1:
        return f"the broker has a fraction ({one.broker.normalize():f}), which the book does not keep"
    if one.kind == "quantity" and len(one.rows) > 1:
        return "several rows make up this position, and nothing says which of them is wrong"
    if one.kind == "missing" and choice.entry_price is None:
        return "the broker does not say at which price it was opened"
    if one.kind == "missing" and not findings.witness:
        return "the book has no row at all by which its database could be told from another"
    return ""


def _told(one: Difference) -> str:
    rows = f" (row{'s' if len(one.rows) > 1 else ''} {', '.join(map(str, one.rows))})" if one.rows else ""
    return f"{one.kind} {one.account} {one.symbol}{rows}"
