"""Compares the book with the broker. Pure: no database, no network, no clock of its own."""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from datafixes.reconcile.positions import (
    NOT_IN_SETTINGS,
    Answer,
    BookPosition,
    Comparison,
    Difference,
    Kind,
    Known,
    Unknown,
    Unsettled,
)
from datafixes.reconcile.symbols import Symbol

_NONE = Decimal(0)


@dataclass(frozen=True)
class Compared:
    """What was found in one account by itself.

    Attributes:
        differences: by symbol.
        unsettled: by symbol.
        equal: how many positions are equal.
        held: how many positions the broker holds.
    """

    differences: tuple[Difference, ...]
    unsettled: tuple[Unsettled, ...]
    equal: int
    held: int


def compare(
    book: Iterable[BookPosition], broker: Mapping[str, Answer], *, now: dt.datetime, grace: dt.timedelta
) -> Comparison:
    """Compare every row that is open in the book with what the broker holds.

    Args:
        book: the rows, of all accounts.
        broker: the broker's answer for each account. An account of the book that is missing here is unknown.
        now: when the broker was asked.
        grace: rows that were opened later than this before the answer are unsettled.
    """
    rows: dict[str, list[BookPosition]] = defaultdict(list)
    for row in book:
        rows[row.account].append(row)
    accounts = sorted({*rows, *broker})
    answers = {account: broker.get(account, NOT_IN_SETTINGS) for account in accounts}
    compared = {
        account: compare_account(account, rows[account], answer, now=now, grace=grace)
        for account, answer in answers.items()
        if isinstance(answer, Known)
    }
    unknown = {account: answer.why for account, answer in answers.items() if isinstance(answer, Unknown)}
    return together(compared, unknown)


def compare_account(
    account: str, book: Iterable[BookPosition], answer: Known, *, now: dt.datetime, grace: dt.timedelta
) -> Compared:
    """Compare one account by itself; see `compare`.

    A position that is equal is settled, whatever is going on in it. Where it is not, an order in flight or a row that
    was just opened excuses it.
    """
    rows: dict[Symbol, list[BookPosition]] = defaultdict(list)
    for row in book:
        rows[row.symbol].append(row)
    held = _held(answer)
    # A file of positions may be older than this comparison: what was opened since cannot be in it.
    since = min(now, answer.read_at or now) - grace
    found: list[Difference] = []
    unsettled: list[Unsettled] = []
    equal = 0
    for symbol in sorted({*rows, *held}, key=str):
        mine = sorted(rows.get(symbol, ()), key=lambda row: row.id)
        difference = _difference(account, symbol, mine, held.get(symbol, _NONE))
        if difference is None:
            equal += 1
        elif why := _why_unsettled(mine, symbol, answer, since):
            unsettled.append(Unsettled(account, symbol, difference.rows, why))
        else:
            found.append(difference)
    return Compared(tuple(found), tuple(unsettled), equal, len(held))


def together(compared: Mapping[str, Compared], unknown: Mapping[str, str]) -> Comparison:
    """What was found in all accounts: some of it is the same position, in the other account.

    Args:
        compared: what was found in each account that is known.
        unknown: the others, with the reason.
    """
    accounts = [compared[account] for account in sorted(compared)]
    return Comparison(
        tuple(_moved([one for found in accounts for one in found.differences])),
        tuple(one for found in accounts for one in found.unsettled),
        dict(sorted(unknown.items())),
        sum(found.equal for found in accounts),
    )


def _held(answer: Known) -> dict[Symbol, Decimal]:
    held: dict[Symbol, Decimal] = defaultdict(Decimal)
    for position in answer.positions:
        held[position.symbol] += position.quantity
    return {symbol: quantity for symbol, quantity in held.items() if quantity}


def _why_unsettled(rows: Sequence[BookPosition], symbol: Symbol, answer: Known, since: dt.datetime) -> str:
    if symbol in answer.in_flight:
        return "an order is in flight"
    if symbol in answer.closed_lately:
        return "something was filled within the grace period"
    if any(row.opened_at is not None and row.opened_at > since for row in rows):
        return "opened within the grace period"
    return ""


def _difference(
    account: str, symbol: Symbol, rows: Sequence[BookPosition], broker: Decimal
) -> Difference | None:
    """How one position differs; None where the rows together make up what the broker has."""
    book = sum((row.quantity for row in rows), _NONE)
    kind: Kind
    if book == broker and (broker or not rows):
        return None
    if not rows:
        kind = "missing"
    elif not broker:
        kind = "phantom"
    elif book * broker < 0:
        kind = "side"
    elif _holds_too_many(rows, broker):
        kind = "duplicate"
    else:
        kind = "quantity"
    return Difference(kind, account, symbol, tuple(row.id for row in rows), book, broker)


def _holds_too_many(rows: Sequence[BookPosition], broker: Decimal) -> bool:
    """Whether some of the rows are the broker's position, and the others say the same again."""
    quantities = {row.quantity for row in rows}
    if len(quantities) < len(rows) and sum(quantities, _NONE) == broker:
        return True
    if broker in quantities and len(quantities) > 1:
        # Rows of several sizes: one of them alone must be the answer, and no others together.
        smaller = [row.quantity for row in rows if row.quantity != broker]
        return broker not in _sums(smaller) if len(smaller) <= 12 else False
    if broker in quantities:
        return len(rows) > 1
    # Rows of one size, more of them than there are at the broker.
    [one, *others] = quantities
    return not others and any(one * count == broker for count in range(1, len(rows)))


def _sums(quantities: Sequence[Decimal]) -> set[Decimal]:
    """What some of them make together."""
    found = {_NONE}
    for quantity in quantities:
        found |= {one + quantity for one in found}
    return found - {_NONE}


def _moved(found: Sequence[Difference]) -> list[Difference]:
    """A phantom in one account, and the same missing in exactly one other: the position is in the other account."""
    missing: dict[tuple[Symbol, Decimal], list[Difference]] = defaultdict(list)
    for one in found:
        if one.kind == "missing":
            missing[one.symbol, one.broker].append(one)
    phantoms: dict[tuple[Symbol, Decimal], list[Difference]] = defaultdict(list)
    for one in found:
        if one.kind == "phantom":
            phantoms[one.symbol, one.book].append(one)
    moved = {
        id(phantoms[key][0]): others[0]
        for key, others in missing.items()
        if len(others) == len(phantoms[key]) == 1
    }
    gone = {id(other) for other in moved.values()}
    return [
        replace(one, kind="account", broker=moved[id(one)].broker, elsewhere=moved[id(one)].account)
        if id(one) in moved
        else one
        for one in found
        if id(one) not in gone
    ]
