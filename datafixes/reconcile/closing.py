"""At which price a phantom was closed, where the broker's fills say so without a doubt."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from datafixes.reconcile.positions import BookPosition, Difference, Fill
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


def closing_fills(one: Difference, rows: Sequence[BookPosition], fills: Sequence[Fill]) -> list[Fill]:
    """Of the fills of its symbol, those that may have closed a phantom: the other way, after its first row."""
    opened = min((row.opened_at for row in rows if row.opened_at is not None), default=None)
    return [
        fill
        for fill in fills
        if fill.quantity * one.book < 0 and (opened is None or fill.filled_at >= opened)
    ]


def exit_price(one: Difference, closing: Sequence[Fill]) -> Decimal | None:
    """The average price of fills that close exactly what the book has; None where they close more or less."""
    total = sum((fill.quantity for fill in closing), _ZERO)
    if not total or total != -one.book:
        return None
    return (sum((fill.quantity * fill.price for fill in closing), _ZERO) / total).quantize(_KEPT)


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
