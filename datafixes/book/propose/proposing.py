"""Turns differences into a proposal. Pure: the data of the book and the broker is given."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from datafixes.audit.wording import named
from datafixes.book.compare.doubts import in_doubt
from datafixes.book.positions.position import BookPosition, Difference, Known, Unknown, digits
from datafixes.book.positions.symbols import may_be_renamed
from datafixes.book.propose import proposed_fixes as fixes
from datafixes.book.propose.gathering import Findings
from datafixes.book.propose.pending import Pending
from datafixes.book.propose.proposed_fixes import Chosen, ProposedFix

_SAME_PRICE = Decimal("0.01")
"""The relative difference up to which prices count as equal."""

_MAKERS: Mapping[str, Callable[[Sequence[Chosen], Findings], ProposedFix]] = {
    "missing": fixes.insert_missing,
    "phantom": fixes.close_phantoms,
    "duplicate": fixes.close_duplicates,
    "quantity": fixes.correct_quantities,
}
"""By kind of difference, in the order of a revision. An insert locks its table exclusively; it comes first, so that the
revision holds no row locks by then."""


@dataclass(frozen=True)
class Proposal:
    """A proposal.

    Attributes:
        fixes: in the order in which they run.
        left: a line for each requested difference that is left alone, with the reason.
        waiting: pending revisions that already cover differences, and how many.
    """

    fixes: tuple[ProposedFix, ...] = ()
    left: tuple[str, ...] = ()
    waiting: Mapping[str, int] = field(default_factory=dict)


def propose(findings: Findings) -> Proposal:
    """Make fixes from the differences of the requested kinds."""
    chosen: dict[str, list[Chosen]] = {kind: [] for kind in _MAKERS if kind in findings.kinds}
    left: list[str] = []
    waiting = Counter[str]()
    found = findings.found
    rows = {row.id: row for row in found.book.rows}
    for difference in found.comparison.differences:
        if difference.kind not in chosen or (findings.account and difference.account != findings.account):
            continue
        one, pending = _beside(difference, findings.pending, rows)
        waiting.update(pending)
        if one is None:
            continue
        choice = _choice(one, findings, rows, whole=not pending)
        if why := _why_not(choice, findings) or in_doubt(
            one, found.comparison, found.answers, trusted=findings.trusted
        ):
            of = f" ({named('row', one.rows)})" if one.rows else ""
            left.append(f"{one.kind} {one.account} {one.symbol}{of}: {why}")
        else:
            chosen[one.kind].append(choice)
    made = tuple(_MAKERS[kind](choices, findings) for kind, choices in chosen.items() if choices)
    return Proposal(made, tuple(left), waiting)


def _beside(
    one: Difference, pending: Pending, rows: Mapping[int, BookPosition]
) -> tuple[Difference | None, list[str]]:
    """The part of a difference that pending revisions do not cover, and these revisions."""
    if one.kind == "missing":
        revision = pending.inserted.get((one.account, one.symbol))
        return (one, []) if revision is None else (None, [revision])
    revisions = sorted({pending.rows[row] for row in one.rows if row in pending.rows})
    if not revisions:
        return one, revisions
    rest = tuple(row for row in one.rows if row not in pending.rows)
    if one.kind != "phantom" or not rest:
        return None, revisions
    # The book recreates its phantoms: each row is one.
    book = sum((rows[row].quantity for row in rest), Decimal(0))
    return replace(one, rows=rest, book=book), revisions


def _choice(one: Difference, findings: Findings, rows: Mapping[int, BookPosition], *, whole: bool) -> Chosen:
    answer = findings.found.answers[one.account]
    positions, read_at = (answer.positions, answer.read_at) if isinstance(answer, Known) else ((), None)
    held = tuple(position for position in positions if position.symbol == one.symbol)
    # Fills do not say how a part of a position was closed.
    fills = findings.fills.get(one.account, ()) if whole else ()
    return Chosen(
        one,
        tuple(rows[id_] for id_ in one.rows),
        held,
        min(read_at or findings.found.read_at, findings.found.read_at),
        fills if isinstance(fills, Unknown) else [fill for fill in fills if fill.symbol == one.symbol],
        tuple(row for row in findings.others if row.symbol == one.symbol and row.is_in(one.account)),
    )


def _why_not(choice: Chosen, findings: Findings) -> str:
    """Why nothing can be proposed without doubt; empty if something can."""
    one = choice.difference
    if choice.read_at < findings.found.read_at - findings.found.grace:
        return "the broker's data is older than grace, and may have changed since: refresh it, or use -x grace=TIME"
    if other := _another_name(choice, findings):
        return f"it may be {other} of the same account, under another name"
    if one.kind in ("quantity", "missing") and one.broker % 1:
        return f"the broker has a fraction ({digits(one.broker)}), which the book does not store"
    if one.kind == "quantity":
        return _no_quantity(choice)
    if one.kind == "duplicate":
        return _no_duplicate(choice)
    return _no_insert(choice, findings.witness) if one.kind == "missing" else ""


def _no_quantity(choice: Chosen) -> str:
    one = choice.difference
    if len(one.rows) > 1:
        return "several rows form this position, and it is unknown which of them is wrong"
    entry, price = choice.rows[0].entry_price, choice.entry_price
    if not entry or price is None:
        return "its entry price is unknown, so it may be a split, or another purchase"
    if not _is_same_price(entry, price):
        return f"the broker's entry price is {digits(price)}: a split, or another purchase"
    return ""


def _no_insert(choice: Chosen, witness: str) -> str:
    if choice.entry_price is None:
        return "the broker gives no entry price"
    if choice.entry_price <= 0:
        return f"the broker's entry price is {digits(choice.entry_price)}, which is not a valid price"
    if not witness:
        return "the book has no row that identifies its database"
    return ""


def _no_duplicate(choice: Chosen) -> str:
    """Why rows are not duplicates: those must differ only in their time."""
    kept = fixes.kept_of(choice)
    same = {_lot(row) for row in kept}
    other = next((row for row in choice.rows if _lot(row) not in same), None)
    if other is None:
        return ""
    return f"row {other.id} differs in size, price or strategy from those that would stay"


def _lot(row: BookPosition) -> tuple[Decimal, Decimal | None, str]:
    return row.quantity, row.entry_price, row.strategy


def _is_same_price(one: Decimal, other: Decimal) -> bool:
    return abs(one - other) <= abs(one) * _SAME_PRICE


def _another_name(choice: Chosen, findings: Findings) -> str:
    """A missing position that may be a phantom, or the other way round: renamed, adjusted, or spelt differently."""
    one = choice.difference
    if one.kind not in ("phantom", "missing"):
        return ""
    for other in findings.found.comparison.differences:
        is_opposite = {one.kind, other.kind} == {"phantom", "missing"} and other.account == one.account
        if is_opposite and (may_be_renamed(one.symbol, other.symbol) or _is_same_lot(one, other, findings)):
            return str(other.symbol)
    answer = findings.found.answers[one.account]
    left_out = answer.left_out if one.kind == "phantom" and isinstance(answer, Known) else {}
    return next((name for name, held in left_out.items() if held.quantity == one.book), "")


def _is_same_lot(one: Difference, other: Difference, findings: Findings) -> bool:
    """Whether quantity and price are equal, and both are stocks or both are options."""
    phantom, missing = (one, other) if one.kind == "phantom" else (other, one)
    if phantom.book != missing.broker or type(phantom.symbol) is not type(missing.symbol):
        return False
    prices = [row.entry_price for row in findings.found.book.rows if row.id in phantom.rows]
    answer = findings.found.answers[missing.account]
    held = answer.positions if isinstance(answer, Known) else ()
    price = next((position.entry_price for position in held if position.symbol == missing.symbol), None)
    return price is not None and any(entry is not None and _is_same_price(entry, price) for entry in prices)
