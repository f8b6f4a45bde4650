"""The fixes of a proposal, each with its evidence: phantoms, duplicates, quantities, missing positions."""

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from datafixes.audit.wording import counted, moment
from datafixes.book.compare.comparing import parts_of
from datafixes.book.positions.position import BookPosition, BrokerPosition, Difference, Fill, Unknown, digits
from datafixes.book.positions.symbols import Option
from datafixes.book.propose.closing import Exit, closing_of, exit_of, exit_text
from datafixes.book.propose.conditions import (
    CLOSED,
    IDENTITY,
    OPEN,
    Target,
    alone,
    ended_since,
    seen_row,
    still_there,
)
from datafixes.book.propose.gathering import Findings
from datafixes.book.rows.book import OtherRow
from datafixes.declaration.expressions import Value, sql
from datafixes.declaration.fix import Change, DataFix, Insert, Update
from datafixes.declaration.rows import Rows
from datafixes.script import literal
from datafixes.settings.values import parse_application

# Columns that the Position Manager updates every minute in open rows.
_HOUSEKEEPING = (
    "current_price", "current_pnl_dollars", "current_pnl_percent", "last_checked_at", "check_count", "updated_at",
    "peak_price", "trailing_stop_price",
)  # fmt: skip
_GOOD_FOR = dt.timedelta(days=1)
_KEPT = Decimal("0.0001")  # the precision of the book's prices


@dataclass(frozen=True)
class Chosen:
    """A difference for which a fix is proposed.

    Attributes:
        difference: how book and broker differ.
        rows: the rows of the book, oldest first.
        held: the broker's positions.
        read_at: when the broker was asked.
        fills: the broker's fills in the symbol of a phantom, or why they are unknown.
        others: rows of the same position that are not open.
    """

    difference: Difference
    rows: tuple[BookPosition, ...]
    held: tuple[BrokerPosition, ...]
    read_at: dt.datetime
    fills: Sequence[Fill] | Unknown = ()
    others: tuple[OtherRow, ...] = ()

    @property
    def entry_price(self) -> Decimal | None:
        """The broker's average entry price, or None."""
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
        evidence: a line for each row.
        guards: its conditions besides the rows themselves, in words.
    """

    fix: DataFix
    evidence: tuple[str, ...]
    guards: str = ""


def close_phantoms(chosen: Sequence[Chosen], findings: Findings) -> ProposedFix:
    """Close every row of positions that the broker does not hold; at the true price if its fills give it."""
    exits: dict[int, Exit] = {}
    evidence: list[str] = []
    for one in chosen:
        closing = closing_of(one.difference, one.rows, one.fills, one.others)
        price = closing.price
        true = {row.id: exit_of(row, price) for row in one.rows} if price is not None else {}
        exits |= {id_: found for id_, found in true.items() if found is not None}
        evidence += [_row_text(row, exit_text(true.get(row.id), closing)) for row in one.rows]
    rows = [row for one in chosen for row in one.rows]
    reason = f"{_rows_are(rows)} open in the book, and not held by the broker"
    ensure = "" if exits else "exit_price IS NOT DISTINCT FROM entry_price"
    named = _named(rows, findings.target, already=CLOSED, ensure=ensure)
    fix = _fix("close_phantoms", reason, _closed(exits, findings.target), named, findings)
    return ProposedFix(fix, tuple(evidence))


def close_duplicates(chosen: Sequence[Chosen], findings: Findings) -> ProposedFix:
    """Close all rows of a position except the oldest that add up to the broker's position."""
    kept = [row for one in chosen for row in kept_of(one)]
    closed = [row for one in chosen for row in one.rows if row not in kept]
    evidence = (
        _row_text(row, f"{_broker_has(one)}; {'stays' if row in kept else 'closes'}")
        for one in chosen
        for row in one.rows
    )
    reason = f"{_rows_are(closed)} in the book a second time for what the broker holds once"
    ensure = still_there([seen_row(row) for row in kept], findings.target)
    named = _named(closed, findings.target, already=CLOSED, ensure=ensure)
    fix = _fix("close_duplicates", reason, _closed({}, findings.target), named, findings)
    return ProposedFix(fix, tuple(evidence), "the rows that stay are open and unchanged")


def correct_quantities(chosen: Sequence[Chosen], findings: Findings) -> ProposedFix:
    """Set the quantity of rows to the broker's."""
    target, rows = findings.target, [row for one in chosen for row in one.rows]
    wanted = {one.rows[0].id: int(abs(one.difference.broker)) for one in chosen}
    quantity: Value | sql = sql(_case(wanted)) if len(wanted) > 1 else next(iter(wanted.values()))
    change = Update(target.table, set={"quantity": quantity}, where=OPEN, schema=target.schema)
    evidence = tuple(_row_text(row, _broker_has(one)) for one in chosen for row in one.rows)
    reason = f"{_rows_are(rows)} in the book with another quantity than the broker's"
    fix = _fix("correct_quantities", reason, change, _named(rows, target, ensure=alone(target)), findings)
    return ProposedFix(fix, evidence, "each row is the only open one of its position")


def insert_missing(chosen: Sequence[Chosen], findings: Findings) -> ProposedFix:
    """Insert a row for every position that only the broker has."""
    target = findings.target
    rows = [_new_row(one, target) for one in chosen]
    read_at = min(one.read_at for one in chosen)
    # An old answer of the broker does not justify an insert days later: then it must be proposed again.
    until = (read_at + _GOOD_FOR).astimezone(dt.UTC).replace(microsecond=0)
    where = f"{findings.witness} AND now() < timestamptz {literal.text(until.isoformat(' '))}"
    change = Insert(target.table, rows=rows, schema=target.schema, where=where)
    evidence = tuple(
        f"{one.difference.account} {one.difference.symbol}: {_broker_has(one)}"
        f" at {', '.join(digits(held.entry_price) for held in one.held if held.entry_price is not None)}"
        for one in chosen
    )
    reason = f"The broker holds {counted(len(chosen), 'position')} that the book does not have"
    since = read_at - findings.found.grace
    ensure = f"{alone(target)} AND NOT {ended_since(target, since)}"
    guards = (
        f"it is this book (in other databases, and from {moment(until)} on, it is not applicable); the book has no row "
        f"of these positions, and none of them has ended since {moment(since)}"
    )
    new = Rows(key="id", expect=len(chosen), ensure=ensure)
    return ProposedFix(_fix("insert_missing", reason, change, new, findings), evidence, guards)


def _new_row(one: Chosen, target: Target) -> dict[str, Value | sql]:
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
        "entry_time": target.time("entry_time", one.read_at.replace(microsecond=0)),
        "status": "open",
    }


def kept_of(one: Chosen) -> list[BookPosition]:
    """The rows of a duplicate that add up to the broker's position: of each size, the oldest."""
    parts = parts_of([row.quantity for row in one.rows], one.difference.broker) or Counter()
    kept: list[BookPosition] = []
    latest = dt.datetime.max.replace(tzinfo=dt.UTC)
    for size, count in parts.items():
        rows = [row for row in one.rows if row.quantity == size]
        kept += sorted(rows, key=lambda row: (row.opened_at or latest, row.id))[:count]
    return kept


def _closed(exits: Mapping[int, Exit], target: Target) -> Update:
    """Close rows at the price at which they were closed, or neutrally if that is unknown."""
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
    return Update(target.table, set=values, where=OPEN, schema=target.schema)


def _named(rows: Iterable[BookPosition], target: Target, *, already: str = "", ensure: str = "") -> Rows:
    """The expected rows, with their identity."""
    expect = {}
    for row in sorted(rows, key=lambda row: row.id):
        opened_at = row.opened_at and target.time("entry_time", row.opened_at)
        expect[row.id] = (*seen_row(row)[1:], opened_at, row.entry_price)
    return Rows(key="id", identity=IDENTITY, expect=expect, already=already, ensure=ensure)


def _fix(name: str, reason: str, change: Change, rows: Rows, findings: Findings) -> DataFix:
    target, found = findings.target, findings.found
    kept = [one for one in _HOUSEKEEPING if one in target.columns] if isinstance(change, Insert) else ()
    return DataFix(
        name=f"{name}_{findings.revision}",
        reason=f"{reason} ({parse_application(found.broker)}, {moment(found.read_at)}).",
        change=change,
        rows=rows,
        audit=target.audit,
        audit_schema="" if target.audit_schema == target.schema else target.audit_schema,
        housekeeping=kept,
    )


def _case(values: Mapping[int, Decimal | int], otherwise: str = "") -> str:
    cases = " ".join(f"WHEN {id_} THEN {value}" for id_, value in sorted(values.items()))
    return f"CASE id {cases}{f' ELSE {otherwise}' if otherwise else ''} END"


def _row_text(row: BookPosition, what: str) -> str:
    """A row of the book, and a comment on it."""
    since = f" since {moment(row.opened_at)}" if row.opened_at else ""
    price = f" at {row.entry_price}" if row.entry_price is not None else ""
    return f"{row.id} {row.account} {row.written}: {digits(row.quantity)}{since}{price}; {what}"


def _rows_are(rows: Sequence[BookPosition]) -> str:
    """``1 row is``, ``7 rows are``."""
    return f"{counted(len(rows), 'row')} {'is' if len(rows) == 1 else 'are'}"


def _broker_has(one: Chosen) -> str:
    return f"the broker has {digits(one.difference.broker)}"
