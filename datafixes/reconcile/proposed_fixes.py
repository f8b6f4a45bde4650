"""The fixes of a proposal, each with its evidence: phantoms, duplicates, quantities, missing positions."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from datafixes.expressions import Value, sql
from datafixes.fix import Change, DataFix, Insert, Update
from datafixes.reconcile.book_row import BookRow
from datafixes.reconcile.closed_rows import ClosedRow
from datafixes.reconcile.closing import Exit, closing_of, exit_of
from datafixes.reconcile.evidence import exit_told, moment, number, positions, row_told, rows_are
from datafixes.reconcile.positions import BrokerPosition, Difference, Fill, Unknown
from datafixes.reconcile.symbols import Option
from datafixes.reconcile.target import Target
from datafixes.rows import Rows
from datafixes.script import literal
from datafixes.values import parse_application

_OPEN = "status IN ('open', 'closing')"
_CLOSED = "status = 'closed'"
_SYMBOL = "coalesce(option_symbol, ticker)"
# An id alone is no proof of identity: the book makes its phantoms anew, and the ids move on.
_SIDE = "CASE WHEN lower(side) IN ('short', 'sell') THEN 'short' ELSE 'long' END"
_IDENTITY = {
    "symbol": _SYMBOL, "account": "account_name", "side": _SIDE, "quantity": "quantity", "opened": "entry_time",
    "entry": "entry_price",
}  # fmt: skip
# What the Position Manager writes every minute into a row that is open.
_HOUSEKEEPING = (
    "current_price", "current_pnl_dollars", "current_pnl_percent", "last_checked_at", "check_count", "updated_at",
    "peak_price", "trailing_stop_price",
)  # fmt: skip
_KEPT = Decimal("0.0001")  # what the book's prices keep


@dataclass(frozen=True)
class Seen:
    """What all fixes of a proposal share.

    Attributes:
        target: the table.
        revision: the id of the revision.
        read_at: when the broker was asked.
        broker: which one.
        witness: a condition that holds in the database of this book, and in no other.
    """

    target: Target
    revision: str
    read_at: dt.datetime
    broker: str
    witness: str = ""


@dataclass(frozen=True)
class Chosen:
    """A difference about which something is proposed.

    Attributes:
        difference: how book and broker differ.
        rows: the rows of the book, oldest first.
        held: what the broker has.
        read_at: when it said so.
        fills: what it did in the symbol of a phantom, or why that is not known.
        closed: rows of the same position that are closed.
    """

    difference: Difference
    rows: tuple[BookRow, ...]
    held: tuple[BrokerPosition, ...]
    read_at: dt.datetime
    fills: Sequence[Fill] | Unknown = ()
    closed: tuple[ClosedRow, ...] = ()

    @property
    def entry_price(self) -> Decimal | None:
        """The average price at which the broker says that it was opened; None where it does not say."""
        weights = [(one.entry_price, abs(one.quantity)) for one in self.held]
        prices = [price * weight for price, weight in weights if price is not None]
        total = sum((weight for _, weight in weights), Decimal(0))
        if len(prices) != len(weights) or not total:
            return None
        return (sum(prices, Decimal(0)) / total).quantize(_KEPT)


@dataclass(frozen=True)
class ProposedFix:
    """A fix with its evidence.

    Attributes:
        fix: the declaration.
        evidence: what was seen, a line for each row.
    """

    fix: DataFix
    evidence: tuple[str, ...]


def close_phantoms(chosen: Sequence[Chosen], seen: Seen) -> ProposedFix:
    """Close every row of positions that the broker does not hold; at the true price where its fills say it."""
    exits: dict[int, Exit] = {}
    evidence: list[str] = []
    for one in chosen:
        positions = [row.position for row in one.rows]
        closing = closing_of(one.difference, positions, one.fills, one.closed)
        price = closing.price
        true = {row.id: exit_of(row, price) for row in positions} if price is not None else {}
        exits |= {id_: found for id_, found in true.items() if found is not None}
        evidence += [row_told(row, exit_told(true.get(row.position.id), closing)) for row in one.rows]
    rows = [row for one in chosen for row in one.rows]
    reason = f"{rows_are(len(rows))} open in the book, and not held by the broker ({_asked(seen)})."
    ensure = "" if exits else "exit_price = entry_price"
    named = _named(rows, seen.target, already=_CLOSED, ensure=ensure)
    fix = _fix("close_phantoms", reason, _closed(exits, seen.target), named, seen)
    return ProposedFix(fix, tuple(evidence))


def close_duplicates(chosen: Sequence[Chosen], seen: Seen) -> ProposedFix:
    """Close all rows of a position but the oldest that are what the broker holds."""
    closed: list[BookRow] = []
    kept: list[BookRow] = []
    evidence: list[str] = []
    for one in chosen:
        keeps = _kept(one)
        kept += keeps
        closed += [row for row in one.rows if row not in keeps]
        told = f"the broker has {number(one.difference.broker)}"
        evidence += [row_told(row, f"{told}; {'stays' if row in keeps else 'closes'}") for row in one.rows]
    reason = f"{rows_are(len(closed))} in the book once more for what the broker holds once ({_asked(seen)})."
    named = _named(closed, seen.target, already=_CLOSED, ensure=_still_there(kept, seen.target))
    fix = _fix("close_duplicates", reason, _closed({}, seen.target), named, seen)
    return ProposedFix(fix, tuple(evidence))


def correct_quantities(chosen: Sequence[Chosen], seen: Seen) -> ProposedFix:
    """Give rows the quantity that the broker has."""
    rows = [row for one in chosen for row in one.rows]
    wanted = {one.rows[0].position.id: int(abs(one.difference.broker)) for one in chosen}
    quantity: Value | sql = sql(_case(wanted)) if len(wanted) > 1 else next(iter(wanted.values()))
    change = Update(seen.target.table, set={"quantity": quantity}, where=_OPEN, schema=seen.target.schema)
    evidence = (
        row_told(row, f"the broker has {number(one.difference.broker)}") for one in chosen for row in one.rows
    )
    reason = f"{rows_are(len(rows))} in the book with another quantity than the broker's ({_asked(seen)})."
    return ProposedFix(
        _fix("correct_quantities", reason, change, _named(rows, seen.target), seen), tuple(evidence)
    )


def insert_missing(chosen: Sequence[Chosen], seen: Seen) -> ProposedFix:
    """Add a row for every position that the broker alone has."""
    target = seen.target
    rows = [_new_row(one, seen) for one in chosen]
    change = Insert(target.table, rows=rows, schema=target.schema, where=seen.witness)
    book = literal.name(target.table)
    # Somebody may have told the book meanwhile.
    alone = (
        f"(SELECT count(*) FROM {literal.qualified(target.schema, target.table)} AS other WHERE other.{_OPEN}"
        f" AND other.account_name = {book}.account_name"
        " AND upper(replace(coalesce(other.option_symbol, other.ticker), ' ', ''))"
        f" = upper(coalesce({book}.option_symbol, {book}.ticker))) = 1"
    )
    evidence = tuple(
        f"{one.difference.account} {one.difference.symbol}: the broker has {number(one.difference.broker)}"
        f" at {', '.join(number(held.entry_price) for held in one.held if held.entry_price is not None)}"
        for one in chosen
    )
    reason = f"The broker holds {positions(len(chosen))} that the book does not have ({_asked(seen)})."
    new = Rows(key="id", expect=len(chosen), ensure=alone)
    return ProposedFix(_fix("insert_missing", reason, change, new, seen), evidence)


def _new_row(one: Chosen, seen: Seen) -> dict[str, Value | sql]:
    symbol, quantity = one.difference.symbol, one.difference.broker
    option = symbol if isinstance(symbol, Option) else None
    kind = "STOCK" if option is None else {"C": "CALL", "P": "PUT"}[option.right]
    return {
        "account_name": one.difference.account,
        "ticker": str(symbol) if option is None else option.root,
        "instrument_type": kind,
        "option_symbol": None if option is None else str(option),
        "strike_price": None if option is None else option.strike,
        "expiration_date": None if option is None else option.expiry,
        "strategy_type": "reconciled",
        "side": "long" if quantity > 0 else "short",
        "quantity": int(abs(quantity)),
        "entry_price": one.entry_price,
        "entry_time": seen.target.time("entry_time", one.read_at.replace(microsecond=0)),
        "status": "open",
    }


def _kept(one: Chosen) -> list[BookRow]:
    """The oldest row that is what the broker has, or else the oldest of each size, or of one size, that make it up."""
    oldest = sorted(one.rows, key=lambda row: (_opened(row), row.position.id))
    whole = [row for row in oldest if row.position.quantity == one.difference.broker]
    if whole:
        return whole[:1]
    sizes = {row.position.quantity: row for row in reversed(oldest)}
    if sum(sizes) == one.difference.broker:
        return list(sizes.values())
    return oldest[: int(one.difference.broker / oldest[0].position.quantity)]


def _opened(row: BookRow) -> dt.datetime:
    return row.position.opened_at or dt.datetime.max.replace(tzinfo=dt.UTC)


def _closed(exits: Mapping[int, Exit], target: Target) -> Update:
    """Close rows neutrally, or as far as it is known, at the price at which they were closed."""
    now = "now()" if target.has_zone("closed_at") else "now() AT TIME ZONE 'UTC'"
    values: dict[str, Value | sql] = {
        "status": "closed",
        "close_reason": "manual_reconciliation",
        "closed_at": sql(now),
        "exit_price": sql("entry_price"),
        "current_pnl_dollars": 0,
        "current_pnl_percent": 0,
    }
    if exits:
        for column, field, otherwise in (
            ("exit_price", "price", "entry_price"),
            ("current_pnl_dollars", "dollars", "0"),
            ("current_pnl_percent", "percent", "0"),
        ):
            values[column] = sql(_case({id_: getattr(one, field) for id_, one in exits.items()}, otherwise))
    return Update(target.table, set=values, where=_OPEN, schema=target.schema)


def _side(row: BookRow) -> str:
    return "short" if row.position.quantity < 0 else "long"


def _named(rows: Iterable[BookRow], target: Target, *, already: str = "", ensure: str = "") -> Rows:
    """The rows as the book showed them."""
    expect = {
        row.position.id: (
            row.written,
            row.position.account,
            _side(row),
            int(abs(row.position.quantity)),
            row.position.opened_at and target.time("entry_time", row.position.opened_at),
            row.position.entry_price,
        )
        for row in sorted(rows, key=lambda row: row.position.id)
    }
    return Rows(key="id", identity=_IDENTITY, expect=expect, already=already, ensure=ensure)


def _fix(name: str, reason: str, change: Change, rows: Rows, seen: Seen) -> DataFix:
    target = seen.target
    return DataFix(
        name=f"{name}_{seen.revision}",
        reason=reason,
        change=change,
        rows=rows,
        audit=target.audit,
        audit_schema="" if target.audit_schema == target.schema else target.audit_schema,
        housekeeping=[one for one in _HOUSEKEEPING if one in target.columns]
        if isinstance(change, Insert)
        else (),
    )


def _still_there(rows: Sequence[BookRow], target: Target) -> str:
    """The condition that the rows to keep are still what makes the others superfluous."""
    kept = ", ".join(
        f"({row.position.id}, {literal.text(row.written)}, {literal.text(row.position.account)},"
        f" {int(abs(row.position.quantity))}, {literal.text(_side(row))})"
        for row in sorted(rows, key=lambda row: row.position.id)
    )
    return (
        f"(SELECT count(*) FROM {literal.qualified(target.schema, target.table)} AS kept WHERE kept.{_OPEN}"
        f" AND (kept.id, coalesce(kept.option_symbol, kept.ticker), kept.account_name, kept.quantity,"
        f" {_SIDE.replace('side', 'kept.side')}) IN ({kept}))"
        f" = {len(rows)}"
    )


def _case(values: Mapping[int, Decimal | int], otherwise: str = "") -> str:
    cases = " ".join(f"WHEN {id_} THEN {value}" for id_, value in sorted(values.items()))
    return f"CASE id {cases}{f' ELSE {otherwise}' if otherwise else ''} END"


def _asked(seen: Seen) -> str:
    return f"{parse_application(seen.broker)}, {moment(seen.read_at)}"
