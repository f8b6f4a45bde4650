"""At which price a phantom was closed, where the broker's fills say so without a doubt."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from datafixes.book.positions.position import BookPosition, Difference, Fill, Unknown
from datafixes.book.positions.symbols import Option, Stock
from datafixes.book.rows.others import OtherRow

_ZERO = Decimal(0)
_KEPT = Decimal("0.0001")  # what the book's prices keep
A_MOMENT = dt.timedelta(minutes=2)
"""By how much the book may know of an order before or after the broker carried it out."""
_TOO_MUCH = Decimal(10_000)  # per cent, for the book's column
_SHARES_OF_AN_OPTION = 100


@dataclass(frozen=True)
class Exit:
    """How a row of the book was closed.

    Attributes:
        price: the average price, to what the book keeps.
        dollars: what was gained or lost.
        percent: the same, of the entry price.
    """

    price: Decimal
    dollars: Decimal
    percent: Decimal


@dataclass(frozen=True)
class Closing:
    """What is known of how a phantom was closed.

    Attributes:
        fills: what orders did that may have closed it.
        price: the average price, where they close exactly what the book has, without a doubt; else None.
        doubt: why they may be nothing of the kind; or why they are not known.
    """

    fills: tuple[Fill, ...] = ()
    price: Decimal | None = None
    doubt: str = ""


def closing_of(
    one: Difference, rows: Sequence[BookPosition], fills: Sequence[Fill] | Unknown, others: Sequence[OtherRow]
) -> Closing:
    """How a phantom was closed, as far as fills of its symbol say so.

    Args:
        one: the phantom.
        rows: its rows.
        fills: what the broker did in its symbol, or why that is not known.
        others: rows of the book of the same position that are not open: a fill that closed one of them closes no other.
    """
    if isinstance(fills, Unknown):
        return Closing(doubt=f"the broker did not say how it was closed ({fills.why})")
    times = [row.opened_at for row in rows if row.opened_at is not None]
    opened = min(times, default=None)
    since = [fill for fill in fills if opened is None or fill.filled_at >= opened]
    ours = tuple(fill for fill in since if fill.quantity * one.book < 0)
    if not ours:
        return Closing(doubt="no closing fill is known")
    used = [
        row for row in others if opened is None or row.closed_at is None or row.closed_at >= opened - A_MOMENT
    ]
    doubt = ""
    if used:
        doubt = f"row {used[-1].id} of the book, not open any more, may be what these closed"
    elif again := [fill for fill in since if fill not in ours and not _opens(fill, times)]:
        doubt = (
            f"it was also traded the other way (order {again[0].order_id}), so these may have closed another"
        )
    elif any(fill.filled_at < max(times, default=fill.filled_at) for fill in ours):
        doubt = "some of these are older than some of its rows"
    elif not all(fill.is_whole for fill in ours):
        doubt = "some of these belong to an order of which the rest was canceled, so that their time is not certain"
    elif sum((fill.quantity for fill in ours), _ZERO) != -one.book:
        doubt = "these do not add up to it"
    if doubt:
        return Closing(ours, doubt=doubt)
    price = sum((fill.quantity * fill.price for fill in ours), _ZERO) / -one.book
    return Closing(ours, price.quantize(_KEPT))


def _opens(fill: Fill, times: Sequence[dt.datetime]) -> bool:
    """Whether it is what opened one of the rows: the book may know of it some moments before."""
    return any(abs(fill.filled_at - time) <= A_MOMENT for time in times)


def exit_of(row: BookPosition, price: Decimal) -> Exit | None:
    """What a row gained or lost at a price; None where the book does not say what it began with.

    None also for an adjusted option, whose root ends in a digit: its contract is not of a hundred shares.
    """
    if not row.entry_price or (isinstance(row.symbol, Option) and row.symbol.root[-1].isdecimal()):
        return None
    each = price - row.entry_price
    shares = 1 if isinstance(row.symbol, Stock) else _SHARES_OF_AN_OPTION
    percent = each / row.entry_price * 100 * (1 if row.quantity > 0 else -1)
    if abs(percent) >= _TOO_MUCH:
        return None
    return Exit(price, (each * row.quantity * shares).quantize(_KEPT), percent.quantize(_KEPT))
