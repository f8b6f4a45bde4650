"""Reads what Alpaca says about orders: what is being carried out, and what was bought and sold. Pure."""

import datetime as dt
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from decimal import Decimal

from datafixes.reconcile.alpaca_answers import CRYPTO, Json, moment, number, rows_of, symbol_of, text
from datafixes.reconcile.broker import NoAnswer
from datafixes.reconcile.positions import BrokerPosition, Fill
from datafixes.reconcile.symbols import NoSymbol, Symbol, parse_symbol

_FINISHED = {"filled", "canceled", "expired", "replaced", "rejected"}
_WAITING = {"new", "accepted", "held"}
_GROUPS = {"bracket", "oco", "oto"}
_STOPS = {"stop", "stop_limit", "trailing_stop"}


@dataclass(frozen=True)
class Order:
    """An order, or one leg of it.

    Attributes:
        id: the broker's number.
        symbol: of what.
        status: Alpaca's word.
        quantity: how many it buys; negative: sells; None where it names an amount of money.
        filled: how many it has bought so far; negative: sold.
        price: at which price on average; None where nothing was filled.
        changed_at: when it was filled, or ended.
        guards: it belongs to a bracket or another group of exits, or is a stop order.
        opens: it is known to open a position.
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


def read_orders(rows: Iterable[dict[str, Json]]) -> list[Order]:
    """All orders and all their legs, without those in crypto, which no row of the book is about."""
    found: list[Order] = []
    for row in rows:
        legs = row.get("legs") or []
        found += read_orders(rows_of(legs, "legs"))
        if not str(row.get("asset_class") or "").startswith(CRYPTO) and (row.get("symbol") or not legs):
            found.append(_order(row))
    return found


def _order(row: dict[str, Json]) -> Order:
    symbol = symbol_of(row)
    side = row.get("side")
    if side not in ("buy", "sell"):
        raise NoAnswer(f"an order in {symbol} has the side {str(side)[:20]!r}")
    sign = 1 if side == "buy" else -1
    ended = next(
        (
            name
            for name in ("filled_at", "canceled_at", "expired_at", "replaced_at", "updated_at")
            if row.get(name)
        ),
        None,
    )
    filled = number(row, "filled_qty", str(symbol)) if row.get("filled_qty") is not None else Decimal(0)
    return Order(
        id=text(row, "id"),
        symbol=symbol,
        status=text(row, "status"),
        quantity=None if row.get("qty") is None else sign * number(row, "qty", str(symbol)),
        filled=sign * filled,
        price=number(row, "filled_avg_price", str(symbol))
        if filled and row.get("filled_avg_price")
        else None,
        changed_at=moment(row, ended) if ended else None,
        guards=str(row.get("order_class")) in _GROUPS or str(row.get("type")) in _STOPS,
        opens=str(row.get("position_intent") or "").endswith("_to_open"),
    )


def in_flight(orders: Iterable[Order], positions: Iterable[BrokerPosition]) -> frozenset[Symbol]:
    """The symbols in which an order is being carried out.

    An exit that merely waits is none: the stop-loss of a filled bracket (`held`) and its take-profit (`new`) stay as
    long as the position, and no such position would ever be compared. The same goes for a stop order that guards a
    position. Either counts as soon as a part of it is filled, when it is more than the position, or when there is no
    position for it to close.
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
    """The symbols of which an order bought or sold something since then."""
    return frozenset(
        order.symbol for order in orders if order.filled and order.changed_at and order.changed_at >= since
    )


def symbols_of_fills(rows: Iterable[dict[str, Json]]) -> frozenset[Symbol]:
    """The symbols in a list of fills; the list does not tell crypto apart, and what is no symbol is no row's."""
    found: set[Symbol] = set()
    for row in rows:
        try:
            found.add(parse_symbol(text(row, "symbol")))
        except NoSymbol:
            continue
    return frozenset(found)


def closing_fills(orders: Iterable[Order], symbols: Collection[Symbol], after: dt.datetime) -> list[Fill]:
    """What orders did since then in these symbols, without those that are known to have opened a position."""
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
