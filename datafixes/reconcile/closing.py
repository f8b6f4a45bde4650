"""At which price a phantom was closed, where the broker's fills say so without a doubt."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from datafixes.reconcile.closed_rows import ClosedRow
from datafixes.reconcile.positions import BookPosition, Difference, Fill, Unknown
from datafixes.reconcile.symbols import Stock

_ZERO = Decimal(0)
_KEPT = Decimal("0.0001")  # what the book's prices keep
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
    one: Difference,
    rows: Sequence[BookPosition],
    fills: Sequence[Fill] | Unknown,
    closed: Sequence[ClosedRow],
) -> Closing:
    """How a phantom was closed, as far as fills of its symbol say so.

    Args:
        one: the phantom.
        rows: its rows.
        fills: what the broker did in its symbol, or why that is not known.
        closed: rows of the book of the same position that are closed: a fill that closed one of them closes no other.
    """
    if isinstance(fills, Unknown):
        return Closing(doubt=f"the broker did not say how it was closed ({fills.why})")
    opened = min((row.opened_at for row in rows if row.opened_at is not None), default=None)
    # The other way, and after the first row was opened.
    ours = tuple(
        fill
        for fill in fills
        if fill.quantity * one.book < 0 and (opened is None or fill.filled_at >= opened)
    )
    used = [row for row in closed if opened is None or row.closed_at >= opened]
    if ours and used:
        return Closing(ours, doubt=f"row {used[-1].id} of the book, closed since, may be what these closed")
    total = sum((fill.quantity for fill in ours), _ZERO)
    if not total or total != -one.book:
        return Closing(ours, doubt="these do not add up to it" if ours else "no closing fill is known")
    price = sum((fill.quantity * fill.price for fill in ours), _ZERO) / total
    return Closing(ours, price.quantize(_KEPT))


def exit_of(row: BookPosition, price: Decimal) -> Exit | None:
    """What a row gained or lost at a price; None where the book does not say what it began with."""
    if not row.entry_price:
        return None
    each = price - row.entry_price
    shares = 1 if isinstance(row.symbol, Stock) else _SHARES_OF_AN_OPTION
    percent = each / row.entry_price * 100 * (1 if row.quantity > 0 else -1)
    if abs(percent) >= _TOO_MUCH:
        return None
    return Exit(price, (each * row.quantity * shares).quantize(_KEPT), percent.quantize(_KEPT))
