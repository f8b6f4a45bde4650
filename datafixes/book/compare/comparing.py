"""Compares the book with the broker. Pure: no database, no network, no clock."""

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from datafixes.book.positions.position import (
    BookPosition,
    Comparison,
    Difference,
    Kind,
    Known,
    Unsettled,
)
from datafixes.book.positions.symbols import Symbol

_NONE = Decimal(0)
_MOST_WORK = 50_000
"""The maximum number of sums to try: rows with more different sizes are not duplicates of one position."""


def compare_account(
    account: str, book: Iterable[BookPosition], answer: Known, *, now: dt.datetime, grace: dt.timedelta
) -> Comparison:
    """Compare the open rows of the book with the broker's positions, for one account by itself.

    An equal position is settled, whatever its orders. A different one is unsettled while an order is in flight, or if a
    row was just opened.

    Args:
        account: the account.
        book: its rows.
        answer: the broker's answer.
        now: when the broker was asked.
        grace: rows that were opened within this time before the answer are unsettled.
    """
    rows: dict[Symbol, list[BookPosition]] = defaultdict(list)
    for row in book:
        rows[row.symbol].append(row)
    held = _held(answer)
    # A file of positions may be older than this comparison: it cannot contain positions opened since.
    since = min(now, answer.read_at or now) - grace
    found: list[Difference] = []
    unsettled: list[Unsettled] = []
    equal = 0
    for symbol in sorted({*rows, *held}, key=str):
        mine = rows.get(symbol, [])
        mine.sort(key=lambda row: row.id)
        difference = _difference(account, symbol, mine, held.get(symbol, _NONE))
        if difference is None:
            equal += 1
        elif symbol in answer.in_flight or symbol in answer.closed_lately:
            is_waiting = symbol in answer.in_flight
            why = "an order is in flight" if is_waiting else "something was filled within the grace period"
            unsettled.append(Unsettled(account, symbol, difference.rows, why))
        else:
            certain, waiting = _by_age(difference, mine, since)
            found += certain
            unsettled += waiting
    return Comparison(tuple(found), tuple(unsettled), equal=equal, held=len(held))


def _by_age(
    one: Difference, rows: Sequence[BookPosition], since: dt.datetime
) -> tuple[list[Difference], list[Unsettled]]:
    """The certain part of a difference, and the part that a row that was just opened excuses.

    Older rows that exceed the broker's position are a difference, whatever was opened since: a book that recreates its
    phantoms every five minutes would otherwise always look unsettled.
    """
    young = [row for row in rows if row.opened_at is not None and row.opened_at > since]
    if not young:
        return [one], []
    waiting = Unsettled(
        one.account, one.symbol, tuple(row.id for row in young), "opened within the grace period"
    )
    old = [row for row in rows if row not in young]
    book = sum((row.quantity for row in old), _NONE)
    too_many = abs(book) > abs(one.broker) or book * one.broker < 0
    if not book or not too_many or any(row.quantity * book < 0 for row in young):
        return [], [Unsettled(one.account, one.symbol, one.rows, waiting.why)]
    difference = _difference(one.account, one.symbol, old, one.broker)
    return ([difference] if difference else []), [waiting]


def together(compared: Mapping[str, Comparison], unknown: Mapping[str, str]) -> Comparison:
    """The result for all accounts: some differences are one position in the wrong account.

    Args:
        compared: the result for each known account.
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


def _difference(
    account: str, symbol: Symbol, rows: Sequence[BookPosition], broker: Decimal
) -> Difference | None:
    """How one position differs; None if the rows add up to the broker's position."""
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
    else:
        # Some of the rows may be the broker's position, and the others repeat them.
        parts = parts_of([row.quantity for row in rows], broker)
        kind = "duplicate" if parts is not None and parts.total() < len(rows) else "quantity"
    return Difference(kind, account, symbol, tuple(row.id for row in rows), book, broker)


def parts_of(quantities: Iterable[Decimal], whole: Decimal) -> Counter[Decimal] | None:
    """How many of each size add up to a whole; None if no choice does, or several do.

    If a size has the opposite sign of the whole, no choice does.
    """
    sizes = Counter(quantities)
    if any(size * whole <= 0 for size in sizes):
        return None
    # For each size, by sum, the number of choices of this size and those before it; 2 means two or more.
    ways = {_NONE: 1}
    steps = []
    work = 0
    for size, count in sizes.items():
        longer: dict[Decimal, int] = {}
        for total, choices in ways.items():
            for number in range(count + 1):
                reached = total + size * number
                if abs(reached) > abs(whole):
                    break
                longer[reached] = min(2, longer.get(reached, 0) + choices)
                work += 1
            if work > _MOST_WORK:
                return None
        steps.append((size, ways))
        ways = longer
    return _chosen(steps, whole, sizes) if ways.get(whole) == 1 else None


def _chosen(
    steps: Sequence[tuple[Decimal, Mapping[Decimal, int]]], whole: Decimal, sizes: Mapping[Decimal, int]
) -> Counter[Decimal]:
    """The only choice, from the last size to the first."""
    found = Counter[Decimal]()
    for size, ways in reversed(steps):
        number = next(number for number in range(sizes[size] + 1) if whole - size * number in ways)
        whole -= size * number
        found[size] = number
    return +found


def _moved(found: Sequence[Difference]) -> list[Difference]:
    """Combine a phantom in one account and the same position missing in exactly one other: the account is wrong."""
    alike: dict[tuple[Kind, Symbol, Decimal], list[Difference]] = defaultdict(list)
    for one in found:
        alike[one.kind, one.symbol, one.book or one.broker].append(one)
    moved = {
        id(phantoms[0]): others[0]
        for (kind, symbol, amount), phantoms in [*alike.items()]
        if kind == "phantom" and len(others := alike["missing", symbol, amount]) == len(phantoms) == 1
    }
    gone = {id(other) for other in moved.values()}
    return [
        replace(one, kind="account", broker=moved[id(one)].broker, elsewhere=moved[id(one)].account)
        if id(one) in moved
        else one
        for one in found
        if id(one) not in gone
    ]
