"""Finds the price at which a phantom was closed, if the broker's fills give it without doubt."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from datafixes.audit.wording import moment
from datafixes.book.positions.position import BookPosition, Difference, Fill, Unknown, digits
from datafixes.book.positions.symbols import Option, Stock
from datafixes.book.rows.book import OtherRow

_ZERO = Decimal(0)
_KEPT = Decimal("0.0001")  # the precision of the book's prices
A_MOMENT = dt.timedelta(minutes=2)
"""The maximum time between an order's fill and its row in the book."""
_TOO_MUCH = Decimal(10_000)  # per cent, the limit of the book's column
_SHARES_OF_AN_OPTION = 100


@dataclass(frozen=True)
class Exit:
    """How a row of the book was closed.

    Attributes:
        price: the average price, rounded to the book's precision.
        dollars: the gain or loss.
        percent: the same, relative to the entry price.
    """

    price: Decimal
    dollars: Decimal
    percent: Decimal


@dataclass(frozen=True)
class Closing:
    """How a phantom was closed.

    Attributes:
        fills: the fills that may have closed it.
        price: the average price, if they close exactly the book's position, without doubt; else None.
        doubt: why they may not have closed it, or why they are unknown.
    """

    fills: tuple[Fill, ...] = ()
    price: Decimal | None = None
    doubt: str = ""


def closing_of(
    one: Difference, rows: Sequence[BookPosition], fills: Sequence[Fill] | Unknown, others: Sequence[OtherRow]
) -> Closing:
    """How a phantom was closed, according to fills of its symbol.

    Args:
        one: the phantom.
        rows: its rows.
        fills: the broker's fills in its symbol, or why they are unknown.
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
        doubt = f"these may have closed row {used[-1].id} of the book, which is no longer open"
    elif again := [fill for fill in since if fill not in ours and not _opens(fill, times)]:
        doubt = (
            f"it was also traded the other way (order {again[0].order_id}), so these may have closed another"
        )
    elif any(fill.filled_at < max(times, default=fill.filled_at) for fill in ours):
        doubt = "some of these are older than some of its rows"
    elif not all(fill.is_whole for fill in ours):
        doubt = "some of these belong to an order whose rest was canceled, so their time is uncertain"
    elif sum((fill.quantity for fill in ours), _ZERO) != -one.book:
        doubt = "these do not add up to it"
    if doubt:
        return Closing(ours, doubt=doubt)
    price = sum((fill.quantity * fill.price for fill in ours), _ZERO) / -one.book
    return Closing(ours, price.quantize(_KEPT))


def _opens(fill: Fill, times: Sequence[dt.datetime]) -> bool:
    """Whether it opened one of the rows; the book may have recorded it shortly before."""
    return any(abs(fill.filled_at - time) <= A_MOMENT for time in times)


def exit_of(row: BookPosition, price: Decimal) -> Exit | None:
    """The gain or loss of a row at a price; None if the book has no entry price.

    Also None for an adjusted option, whose root ends in a digit: its contract is not for a hundred shares.
    """
    if not row.entry_price or (isinstance(row.symbol, Option) and row.symbol.root[-1].isdecimal()):
        return None
    each = price - row.entry_price
    shares = 1 if isinstance(row.symbol, Stock) else _SHARES_OF_AN_OPTION
    percent = each / row.entry_price * 100 * (1 if row.quantity > 0 else -1)
    if abs(percent) >= _TOO_MUCH:
        return None
    return Exit(price, (each * row.quantity * shares).quantize(_KEPT), percent.quantize(_KEPT))


def exit_text(true: Exit | None, closing: Closing) -> str:
    """How a phantom was closed, according to the broker."""
    words = ", ".join(
        f"order {fill.order_id}: {digits(fill.quantity)} at {digits(fill.price)}, {moment(fill.filled_at)}"
        for fill in closing.fills
    )
    if true:
        return f"closed by {words}"
    why = closing.doubt or "the book does not give its entry price or its number of shares"
    return f"a neutral exit: {why}{f': {words}' if words else ''}"
