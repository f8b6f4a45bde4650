"""Values for positions of the book and the broker, and for their differences."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Literal

from datafixes.audit.wording import named
from datafixes.book.positions.symbols import Symbol

_MOST_DIGITS = 15
"""The maximum number of digits before the point."""

Kind = Literal["phantom", "missing", "quantity", "side", "duplicate", "account"]
"""How the book differs: only the book has the position; only the broker has it; another quantity; the other side;
several rows for one position; the broker has it in another account."""


@dataclass(frozen=True, slots=True)
class BookPosition:
    """An open row of the book.

    Attributes:
        id: the row.
        account: its account.
        symbol: its instrument.
        quantity: its quantity, negative for a short position.
        opened_at: when it was opened, if the book knows.
        entry_price: the price at which it was opened.
        written: its symbol, verbatim.
        strategy: its strategy, verbatim.
    """

    id: int
    account: str
    symbol: Symbol
    quantity: Decimal
    opened_at: dt.datetime | None = None
    entry_price: Decimal | None = None
    written: str = ""
    strategy: str = ""


@dataclass(frozen=True, slots=True)
class BrokerPosition:
    """A position of the broker.

    Attributes:
        symbol: its instrument.
        quantity: its quantity, negative for a short position.
        entry_price: the average price at which it was opened, if the broker gives it.
    """

    symbol: Symbol
    quantity: Decimal
    entry_price: Decimal | None = None


@dataclass(frozen=True)
class Ignored:
    """The broker's position in an instrument that the settings exclude: reported, and not compared.

    Attributes:
        quantity: its quantity, negative for a short position; None if that is not a number.
        words: the same in the broker's words: ``3 us_equity``.
    """

    quantity: Decimal | None
    words: str


@dataclass(frozen=True)
class Fill:
    """The fill of an order at the broker.

    Attributes:
        symbol: its instrument.
        quantity: the quantity bought; negative: sold.
        price: the average price.
        filled_at: its time.
        order_id: the broker's number of the order.
        is_whole: whether the whole order was filled; for a part, the time is the end of the order.
    """

    symbol: Symbol
    quantity: Decimal
    price: Decimal
    filled_at: dt.datetime
    order_id: str
    is_whole: bool = True


@dataclass(frozen=True)
class Known:
    """The broker's positions in one account: a full and plausible answer.

    Attributes:
        positions: all open positions.
        in_flight: symbols with an order in flight.
        closed_lately: symbols with a fill within the grace period.
        read_at: when the broker was asked.
        source: the source, for the evidence.
        identity: the account's identity at the broker; empty if it has none.
        proven: whether the settings give an identity, and it matches.
        left_out: the account's positions in excluded instruments.
    """

    positions: Sequence[BrokerPosition]
    in_flight: frozenset[Symbol] = frozenset()
    closed_lately: frozenset[Symbol] = frozenset()
    read_at: dt.datetime | None = None
    source: str = ""
    identity: str = ""
    proven: bool = False
    left_out: Mapping[str, Ignored] = field(default_factory=dict)


@dataclass(frozen=True)
class Unknown:
    """No full and plausible answer. It proves nothing.

    Attributes:
        why: what went wrong, in one line, without secrets.
    """

    why: str


Answer = Known | Unknown

NOT_IN_SETTINGS = Unknown("the settings have no such account")


@dataclass(frozen=True)
class Difference:
    """One position in which the book and the broker differ.

    Attributes:
        kind: how they differ.
        account: the account in the book.
        symbol: the position.
        rows: its rows in the book, oldest first.
        book: the quantity of all these rows together.
        broker: the broker's quantity.
        elsewhere: for the kind ``account``, the account in which the broker has it.
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
    """A difference that is excused, because the position is just being opened or closed."""

    account: str
    symbol: Symbol
    rows: tuple[int, ...]
    why: str


@dataclass(frozen=True)
class LeftOut:
    """An instrument of an account that the settings exclude from the comparison.

    Attributes:
        account: the account.
        instrument: its name.
        broker: the broker's position in it; empty if there is none, or it is unknown.
        rows: rows of the book in it.
    """

    account: str
    instrument: str
    broker: str = ""
    rows: tuple[int, ...] = ()

    def __str__(self) -> str:
        words = [self.broker] if self.broker else []
        if self.rows:
            words.append(f"in the book too: {named('row', self.rows)}")
        beside = f" ({'; '.join(words)})" if words else ""
        return f"{self.account} {self.instrument}{beside}"


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison.

    Attributes:
        differences: in a fixed order.
        unsettled: positions that cannot be judged yet.
        unknown: unknown accounts, with the reason.
        equal: the number of equal positions.
        left_out: instruments that the settings exclude.
        held: the number of the broker's positions.
    """

    differences: tuple[Difference, ...]
    unsettled: tuple[Unsettled, ...] = ()
    unknown: Mapping[str, str] = field(default_factory=dict)
    equal: int = 0
    left_out: tuple[LeftOut, ...] = ()
    held: int = 0


def exact(value: object) -> Decimal | None:
    """An exact number; None if the text is not a plausible price or quantity."""
    text = str(value)
    try:
        number = Decimal(text if "_" not in text else "")
    except InvalidOperation:
        return None
    # Checked by its digits, because arithmetic could overflow.
    return number if number.is_finite() and number.adjusted() < _MOST_DIGITS else None


def digits(value: Decimal) -> str:
    """All digits of a number, without trailing zeros."""
    return f"{value.normalize():f}" if value else "0"
