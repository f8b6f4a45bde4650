"""Compares the book with the broker. Pure: no database, no network, no clock of its own."""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from datafixes.reconcile.symbols import Symbol

Kind = Literal["phantom", "missing", "quantity", "side", "duplicate", "account"]
"""How the book differs: it alone has the position; the broker alone has it; another quantity; the other side; several
rows for one position; the broker has it in another account."""


@dataclass(frozen=True)
class BookPosition:
    """A row of the book that says a position is held.

    Attributes:
        id: the row.
        account: the account it says.
        symbol: what it is in.
        quantity: how many, negative for a short position.
        opened_at: when it was opened, as far as the book knows.
        entry_price: the price at which it was opened.
    """

    id: int
    account: str
    symbol: Symbol
    quantity: Decimal
    opened_at: dt.datetime | None = None
    entry_price: Decimal | None = None


@dataclass(frozen=True)
class BrokerPosition:
    """A position that the broker holds.

    Attributes:
        symbol: what it is in.
        quantity: how many, negative for a short position.
        entry_price: the average price at which it was opened, where the broker says.
    """

    symbol: Symbol
    quantity: Decimal
    entry_price: Decimal | None = None


@dataclass(frozen=True)
class Fill:
    """What an order did at the broker.

    Attributes:
        symbol: of what.
        quantity: how many were bought; negative: sold.
        price: at which price on average.
        filled_at: when.
        order_id: the broker's number of the order.
    """

    symbol: Symbol
    quantity: Decimal
    price: Decimal
    filled_at: dt.datetime
    order_id: str


@dataclass(frozen=True)
class Known:
    """What a broker holds in one account: a full and plausible answer.

    Attributes:
        positions: all open positions.
        in_flight: symbols with an order that is not settled.
        closed_lately: symbols of which something was filled within the grace period.
        read_at: when the broker was asked.
        source: from where, for the evidence.
    """

    positions: Sequence[BrokerPosition]
    in_flight: frozenset[Symbol] = frozenset()
    closed_lately: frozenset[Symbol] = frozenset()
    read_at: dt.datetime | None = None
    source: str = ""


@dataclass(frozen=True)
class Unknown:
    """No answer, or not a full and plausible one. Nothing follows from it.

    Attributes:
        why: what went wrong, in one line, with no secret in it.
    """

    why: str


Answer = Known | Unknown


@dataclass(frozen=True)
class Difference:
    """One position about which the book and the broker differ.

    Attributes:
        kind: how.
        account: the account, as the book has it.
        symbol: the position.
        rows: every row of the book that it is about, oldest first.
        book: the quantity of all these rows together.
        broker: the broker's quantity.
        elsewhere: of kind ``account``, the account in which the broker has it.
    """

    kind: Kind
    account: str
    symbol: Symbol
    rows: tuple[int, ...]
    book: Decimal
    broker: Decimal
    elsewhere: str = ""


@dataclass(frozen=True)
class Unsettled:
    """A position that is just being opened or closed: no difference yet."""

    account: str
    symbol: Symbol
    rows: tuple[int, ...]
    why: str


@dataclass(frozen=True)
class Comparison:
    """What was found.

    Attributes:
        differences: in a fixed order.
        unsettled: positions about which nothing is said yet.
        unknown: accounts of which nothing is known, with the reason.
        equal: how many positions are equal.
    """

    differences: tuple[Difference, ...]
    unsettled: tuple[Unsettled, ...] = ()
    unknown: Mapping[str, str] = field(default_factory=dict)
    equal: int = 0


_NONE = Decimal(0)


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
    rows: dict[str, dict[Symbol, list[BookPosition]]] = defaultdict(lambda: defaultdict(list))
    for row in book:
        rows[row.account][row.symbol].append(row)
    answers = {
        account: broker.get(account, Unknown("the settings do not know this account"))
        for account in {*rows, *broker}
    }
    known = {account: answer for account, answer in answers.items() if isinstance(answer, Known)}
    unknown = {
        account: answer.why for account, answer in sorted(answers.items()) if isinstance(answer, Unknown)
    }
    held = {account: _held(answer) for account, answer in known.items()}
    found: list[Difference] = []
    unsettled: list[Unsettled] = []
    equal = 0
    for account in sorted(known):
        # A file of positions may be older than this comparison: what was opened since cannot be in it.
        since = min(now, known[account].read_at or now) - grace
        for symbol in sorted({*rows[account], *held[account]}, key=str):
            mine = sorted(rows[account][symbol], key=lambda row: row.id)
            if why := _why_unsettled(mine, symbol, known[account], since):
                unsettled.append(Unsettled(account, symbol, _ids(mine), why))
                continue
            difference = _difference(account, symbol, mine, held[account].get(symbol, _NONE))
            if difference is None:
                equal += 1
            else:
                found.append(difference)
    return Comparison(tuple(_moved(found)), tuple(unsettled), unknown, equal)


def _held(answer: Known) -> dict[Symbol, Decimal]:
    held: dict[Symbol, Decimal] = defaultdict(Decimal)
    for position in answer.positions:
        held[position.symbol] += position.quantity
    return {symbol: quantity for symbol, quantity in held.items() if quantity}


def _ids(rows: Iterable[BookPosition]) -> tuple[int, ...]:
    return tuple(row.id for row in rows)


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
    return Difference(kind, account, symbol, _ids(rows), book, broker)


def _holds_too_many(rows: Sequence[BookPosition], broker: Decimal) -> bool:
    """Whether some of the rows are the broker's position, and the others say the same again."""
    quantities = {row.quantity for row in rows}
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
        Difference(
            "account",
            one.account,
            one.symbol,
            one.rows,
            one.book,
            moved[id(one)].broker,
            moved[id(one)].account,
        )
        if id(one) in moved
        else one
        for one in found
        if id(one) not in gone
    ]
