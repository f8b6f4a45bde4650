"""What the book and the broker say about positions, and how the two may differ: values and nothing else."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from datafixes.book.positions.symbols import Symbol

Kind = Literal["phantom", "missing", "quantity", "side", "duplicate", "account"]
"""How the book differs: it alone has the position; the broker alone has it; another quantity; the other side; several
rows for one position; the broker has it in another account."""


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
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
class Ignored:
    """What a broker holds of an instrument that the settings leave out: reported, and not compared.

    Attributes:
        quantity: how many, negative for a short position; None where that is no number.
        words: the same with what the broker calls it, as it says it: ``3 us_equity``.
    """

    quantity: Decimal | None
    words: str


@dataclass(frozen=True)
class Fill:
    """What an order did at the broker.

    Attributes:
        symbol: of what.
        quantity: how many were bought; negative: sold.
        price: at which price on average.
        filled_at: when.
        order_id: the broker's number of the order.
        is_whole: all of the order was filled, then; of a part, the time is the end of the order.
    """

    symbol: Symbol
    quantity: Decimal
    price: Decimal
    filled_at: dt.datetime
    order_id: str
    is_whole: bool = True


@dataclass(frozen=True)
class Known:
    """What a broker holds in one account: a full and plausible answer.

    Attributes:
        positions: all open positions.
        in_flight: symbols with an order that is not settled.
        closed_lately: symbols of which something was filled within the grace period.
        read_at: when the broker was asked.
        source: from where, for the evidence.
        identity: what tells this account from any other at the broker; empty where nothing does.
        proven: the settings say which identity it must have, and it has it.
        left_out: by instrument that the settings leave out, what the account holds of it.
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
    """No answer, or not a full and plausible one. Nothing follows from it.

    Attributes:
        why: what went wrong, in one line, with no secret in it.
    """

    why: str


Answer = Known | Unknown

NOT_IN_SETTINGS = Unknown("the settings do not know this account")


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
    """Book and broker differ, and something excuses it: a position that is just being opened or closed."""

    account: str
    symbol: Symbol
    rows: tuple[int, ...]
    why: str


@dataclass(frozen=True)
class LeftOut:
    """An instrument of an account that the settings leave out of the comparison.

    Attributes:
        account: the account.
        instrument: its name.
        broker: what the broker holds of it; empty where it holds none, or nobody knows.
        rows: rows of the book that are in it nevertheless.
    """

    account: str
    instrument: str
    broker: str = ""
    rows: tuple[int, ...] = ()

    def __str__(self) -> str:
        words = [self.broker] if self.broker else []
        if self.rows:
            words.append(
                f"in the book too: row{'' if len(self.rows) == 1 else 's'} {', '.join(map(str, self.rows))}"
            )
        beside = f" ({'; '.join(words)})" if words else ""
        return f"{self.account} {self.instrument}{beside}"


@dataclass(frozen=True)
class Comparison:
    """What was found.

    Attributes:
        differences: in a fixed order.
        unsettled: positions about which nothing is said yet.
        unknown: accounts of which nothing is known, with the reason.
        equal: how many positions are equal.
        left_out: instruments that were not compared, because the settings say so.
    """

    differences: tuple[Difference, ...]
    unsettled: tuple[Unsettled, ...] = ()
    unknown: Mapping[str, str] = field(default_factory=dict)
    equal: int = 0
    left_out: tuple[LeftOut, ...] = ()
