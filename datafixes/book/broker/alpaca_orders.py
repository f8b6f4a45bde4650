"""Parses Alpaca's orders: those in flight, and what was bought and sold. Pure."""

import datetime as dt
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal

from datafixes.book.broker.alpaca_answers import CRYPTO, Json, rows_of, symbol_of, text
from datafixes.book.broker.protocol import NoAnswer, moment, number
from datafixes.book.positions.position import BrokerPosition, Fill, exact
from datafixes.book.positions.symbols import NoSymbol, Symbol, instrument_of, parse_symbol

_ENDED = ("canceled", "expired", "replaced", "rejected")
_ENDS = ("filled_at", "canceled_at", "expired_at", "replaced_at", "updated_at")
_FINISHED = {"filled", *_ENDED}
_WAITING = {"new", "accepted", "held"}
_GROUPS = {"bracket", "oco", "oto"}
_STOPS = {"stop", "stop_limit", "trailing_stop"}


@dataclass(frozen=True)
class Order:
    """An order, or one leg of it.

    Attributes:
        id: the broker's number.
        symbol: its symbol.
        status: Alpaca's status.
        quantity: the quantity that it buys; negative: sells; None if it names an amount of money.
        filled: the quantity bought so far; negative: sold.
        price: the average price; None if nothing was filled.
        changed_at: when it was filled, or ended.
        guards: whether it belongs to a bracket or another group of exits, or is a stop order.
        opens: whether it is known to open a position.
    """

    id: str
    symbol: Symbol
    status: str
    quantity: Decimal | None
    filled: Decimal
    price: Decimal | None
    changed_at: dt.datetime | None
    guards: bool
    opens: bool


def read_orders(rows: Iterable[dict[str, Json]], ignored: Collection[str] = ()) -> list[Order]:
    """All orders and legs that may have changed a position, or still may.

    Args:
        rows: Alpaca's list.
        ignored: instruments whose orders are ignored.

    Raises:
        NoAnswer: one of them is invalid, or in something that is neither a stock nor an option.
    """
    found: list[Order] = []
    for row in rows:
        legs = row.get("legs") or []
        found += read_orders(rows_of(legs, "legs"), ignored)
        if (row.get("symbol") or not legs) and not _is_left_alone(row, ignored):
            found.append(_order(row))
    return found


def _is_left_alone(row: dict[str, Json], ignored: Collection[str]) -> bool:
    """Whether an order cannot affect the comparison, whatever its instrument.

    An order that ended without a fill changed nothing. An open one may be filled at any time, and a filled one has
    changed a position; in an unknown instrument, the effect is unknown.
    """
    if row.get("status") in _ENDED and exact(row.get("filled_qty")) == 0:
        return True
    return row.get("asset_class") in CRYPTO or instrument_of(str(row.get("symbol") or "")) in ignored


def _order(row: dict[str, Json]) -> Order:
    symbol = symbol_of(row, "has an order in")
    side = row.get("side")
    if side not in ("buy", "sell"):
        raise NoAnswer(f"an order in {symbol} has the side {str(side)[:20]!r}")
    sign = 1 if side == "buy" else -1
    ended = next((name for name in _ENDS if row.get(name)), None)
    filled = number(row, "filled_qty", str(symbol)) if row.get("filled_qty") is not None else Decimal(0)
    is_priced = filled and row.get("filled_avg_price")
    return Order(
        id=text(row, "id"),
        symbol=symbol,
        status=text(row, "status"),
        quantity=None if row.get("qty") is None else sign * number(row, "qty", str(symbol)),
        filled=sign * filled,
        price=number(row, "filled_avg_price", str(symbol)) if is_priced else None,
        changed_at=moment(row, ended) if ended else None,
        guards=str(row.get("order_class")) in _GROUPS or str(row.get("type")) in _STOPS,
        opens=str(row.get("position_intent") or "").endswith("_to_open"),
    )


def in_flight(orders: Iterable[Order], positions: Iterable[BrokerPosition]) -> frozenset[Symbol]:
    """The symbols with an order in flight.

    A waiting exit does not count: the stop-loss of a filled bracket (`held`) and its take-profit (`new`) stay as long
    as the position, which would otherwise never be compared. The same holds for a stop order that guards a position.
    Either counts as soon as a part of it is filled, if it is larger than the position, or if there is no position for
    it to close.
    """
    held = {position.symbol: position.quantity for position in positions}
    return frozenset(
        order.symbol
        for order in orders
        if order.status not in _FINISHED and not _merely_waits(order, held.get(order.symbol, Decimal(0)))
    )


def _merely_waits(order: Order, held: Decimal) -> bool:
    return (
        order.guards
        and not order.opens
        and not order.filled
        and order.status in _WAITING
        and order.quantity is not None
        and order.quantity * held < 0
        and abs(order.quantity) <= abs(held)
    )


def filled_since(orders: Iterable[Order], since: dt.datetime) -> frozenset[Symbol]:
    """The symbols with fills since then."""
    return frozenset(
        order.symbol for order in orders if order.filled and order.changed_at and order.changed_at >= since
    )


def symbols_of_fills(rows: Iterable[dict[str, Json]], ignored: Collection[str] = ()) -> frozenset[Symbol]:
    """The symbols in a list of fills, which only excuse differences.

    The list usually has no asset class, and texts that are not symbols are skipped. If it has one, that is checked.

    Raises:
        NoAnswer: a fill is in something that is neither a stock nor an option.
    """
    found: set[Symbol] = set()
    for row in rows:
        name, kind = text(row, "symbol"), row.get("asset_class")
        if kind in CRYPTO or instrument_of(name) in ignored:
            continue
        if kind:
            found.add(symbol_of(row, "has a fill in"))
            continue
        with suppress(NoSymbol):
            found.add(parse_symbol(name))
    return frozenset(found)


def closing_fills(orders: Iterable[Order], symbols: Collection[Symbol], after: dt.datetime) -> list[Fill]:
    """The fills of these symbols since then, except those that are known to have opened a position."""
    fills = [
        Fill(order.symbol, order.filled, order.price, order.changed_at, order.id, order.status == "filled")
        for order in orders
        if order.symbol in symbols
        and not order.opens
        and order.filled
        and order.price
        and order.changed_at is not None
        and order.changed_at >= after
    ]
    return sorted(fills, key=lambda fill: (fill.filled_at, fill.order_id))
