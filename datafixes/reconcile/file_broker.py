"""A file of positions as the broker: for brokers without a client here, and for tests."""

import csv
import datetime as dt
import io
import json
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from datafixes.reconcile.broker import NoAnswer, aware
from datafixes.reconcile.exact import exact
from datafixes.reconcile.positions import Answer, BrokerPosition, Fill, Known, Unknown
from datafixes.reconcile.symbols import NoSymbol, Symbol, parse_symbol

_COLUMNS = ("account", "symbol", "quantity")
"""A CSV file must have these. Others: entry_price; and for fills filled_at, price, order_id."""
_TURNS = ("side", "direction", "position_side")
"""Columns that would turn the meaning of a quantity; others that are not known are left alone."""
_SKEW = dt.timedelta(minutes=5)


@dataclass
class _Content:
    positions: dict[str, list[BrokerPosition]] = field(default_factory=dict)
    fills: dict[str, list[Fill]] = field(default_factory=dict)
    empty: set[str] = field(default_factory=set)
    read_at: dt.datetime = dt.datetime.min


@dataclass
class FileBroker:
    """The positions in a CSV or JSON file, which is read once: all accounts stand in the same one.

    CSV: the columns account, symbol, quantity, and entry_price where it is known. A row with nothing but an account
    says that it holds nothing. A row with filled_at, price and order_id is a fill. JSON: the same as an object of
    lists, ``{"positions": [{"account": ..., ...}], "fills": [...], "empty": ["tiny"]}``.

    Attributes:
        path: the file; it is JSON when its name ends in .json.
        oldest: what was written longer ago says nothing about now; None for no limit.
        now: the time.
    """

    path: Path
    oldest: dt.timedelta | None = None
    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)
    _content: _Content | None = None

    def positions(self, account: str, *, since: dt.datetime) -> Answer:
        """See `Broker.positions`. A file with one bad line says nothing about any account."""
        try:
            content = self._read()
        except NoAnswer as error:
            return Unknown(error.why)
        age = self.now() - content.read_at
        if self.oldest is not None and age > self.oldest:
            return Unknown(f"{self.path} was written {_ago(age)} ago: too old to say what is held now")
        if -age > _SKEW:
            return Unknown(f"{self.path} was written in the future, {_ago(-age)} from now")
        if account not in content.positions:
            return Unknown(f"{self.path} does not say what this account holds, nor that it holds nothing")
        return Known(
            content.positions[account],
            closed_lately=frozenset(
                fill.symbol for fill in content.fills.get(account, []) if fill.filled_at >= aware(since)
            ),
            read_at=content.read_at,
            source=f"file {self.path}",
        )

    def fills(
        self, account: str, symbols: Collection[Symbol], *, after: dt.datetime
    ) -> Sequence[Fill] | Unknown:
        """See `Broker.fills`."""
        try:
            fills = self._read().fills.get(account, [])
        except NoAnswer as error:
            return Unknown(error.why)
        ours = (fill for fill in fills if fill.symbol in symbols and fill.filled_at >= aware(after))
        return sorted(ours, key=lambda fill: (fill.filled_at, fill.order_id))

    def _read(self) -> _Content:
        if self._content is None:
            self._content = self._anew()
        return self._content

    def _anew(self) -> _Content:
        try:
            status = self.path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise NoAnswer(f"{self.path} is no file")
            text = self.path.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise NoAnswer(f"{self.path} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise NoAnswer(f"{self.path} is not UTF-8 (byte {error.start})") from None
        rows = _json_rows(text) if self.path.suffix.lower() == ".json" else _csv_rows(text)
        # When the file was written is as new as what it says can be.
        content = _Content(read_at=dt.datetime.fromtimestamp(status.st_mtime, dt.UTC))
        seen: dict[tuple[str, Symbol], str] = {}
        try:
            for place, row in rows:
                try:
                    _add(content, row, place, seen)
                except NoAnswer as error:
                    raise NoAnswer(f"{place}: {error.why}") from None
            for account in sorted(content.empty):
                if content.positions[account]:
                    raise NoAnswer(f"says that {account} holds nothing, and what it holds")
        except NoAnswer as error:
            raise NoAnswer(f"{self.path} {error.why}") from None
        return content


def _add(content: _Content, row: Mapping[str, str], place: str, seen: dict[tuple[str, Symbol], str]) -> None:
    account = row.get("account", "")
    if not account:
        raise NoAnswer("no account")
    if not any(value for name, value in row.items() if name != "account"):
        content.positions.setdefault(account, [])
        content.empty.add(account)
        return
    symbol = _symbol(row.get("symbol", ""))
    quantity = _number(row, "quantity")
    if row.get("filled_at"):
        content.fills.setdefault(account, []).append(
            Fill(symbol, quantity, _price(row, "price"), _moment(row["filled_at"]), _order_id(row))
        )
        return
    if row.get("price") or row.get("order_id"):
        raise NoAnswer("it has a price or an order_id, as a fill has, and no filled_at")
    if (account, symbol) in seen:
        raise NoAnswer(f"{symbol} of {account} stands on {seen[account, symbol]} already")
    seen[account, symbol] = place
    entry = _price(row, "entry_price") if row.get("entry_price") else None
    content.positions.setdefault(account, []).append(BrokerPosition(symbol, quantity, entry))


def _csv_rows(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    if text and not text.endswith(("\n", "\r")):
        raise NoAnswer("ends in the middle of a line")  # a number that was cut off is another number
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns: list[str] = []
    try:
        for cells in reader:
            plain = [cell.strip() for cell in cells]
            if not any(plain):
                continue
            place = f"line {reader.line_num}"
            if not columns:
                columns = _header(plain)
            elif len(plain) != len(columns):
                raise NoAnswer(f"{place}: {len(plain)} values for {len(columns)} columns")
            else:
                yield place, dict(zip(columns, plain, strict=True))
    except csv.Error as error:
        raise NoAnswer(f"line {reader.line_num}: {error}") from None
    if not columns:
        raise NoAnswer("line 1: is empty; the first line names the columns")


def _header(cells: Sequence[str]) -> list[str]:
    columns = [cell.lower() for cell in cells]
    missing = [name for name in _COLUMNS if name not in columns]
    if missing:
        raise NoAnswer(f"line 1: no column {' and no column '.join(missing)}")
    if turned := [name for name in columns if name in _TURNS]:
        raise NoAnswer(f"line 1: {_no_side(turned[0])}")
    twice = {name for name in columns if name and columns.count(name) > 1}
    if twice:
        raise NoAnswer(f"line 1: the column {min(twice)} is there twice")
    return columns


def _no_side(name: str) -> str:
    return f"{name!r} is not read: a short position has a negative quantity"


def _json_rows(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    try:
        # As they are written: a number that became a float is not the same any more.
        value = json.loads(text, parse_float=str, parse_int=str, parse_constant=str, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise NoAnswer(f"line {error.lineno}: is not JSON: {error.msg}") from None
    except RecursionError:
        raise NoAnswer("line 1: is nested too deeply") from None
    if not isinstance(value, dict) or not set(value) <= {"positions", "fills", "empty"}:
        raise NoAnswer('line 1: is not {"positions": [...], "fills": [...], "empty": [...]}')
    for name, parts in value.items():
        if not isinstance(parts, list):
            raise NoAnswer(f"{name}: is not a list")
        for index, part in enumerate(parts):
            place = f"{name}[{index}]"
            yield place, _json_row(name, {"account": part} if name == "empty" else part, place)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of a name that is there twice, nobody can tell which one counts."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise NoAnswer(
            f"line 1: the name {next(name for name in names if names.count(name) > 1)!r} is there twice"
        )
    return found


def _json_row(name: str, part: Any, place: str) -> dict[str, str]:
    if not isinstance(part, dict) or not all(isinstance(value, str | None) for value in part.values()):
        raise NoAnswer(f"{place}: is not an object with plain values")
    if turned := [key for key in part if key.lower() in _TURNS]:
        raise NoAnswer(f"{place}: {_no_side(turned[0])}")
    row = {key: (value or "").strip() for key, value in part.items()}
    if name != "empty" and not row.get("symbol"):
        raise NoAnswer(f"{place}: no symbol")
    if (name == "fills") is not bool(row.get("filled_at")):
        raise NoAnswer(f"{place}: {'no filled_at' if name == 'fills' else 'a position has no filled_at'}")
    return row


def _symbol(text: str) -> Symbol:
    try:
        return parse_symbol(text)
    except NoSymbol as error:
        raise NoAnswer(error.message) from None


def _number(row: Mapping[str, str], name: str) -> Decimal:
    value = exact(row.get(name, ""))
    if value is None:
        raise NoAnswer(f"{name} {row.get(name, '')!r} is not a number")
    return value


def _price(row: Mapping[str, str], name: str) -> Decimal:
    price = _number(row, name)
    if price <= 0:
        raise NoAnswer(f"{name} {row[name]!r} is not a price")
    return price


def _moment(text: str) -> dt.datetime:
    try:
        return aware(dt.datetime.fromisoformat(text))
    except ValueError:
        raise NoAnswer(f"filled_at {text!r} is not a date and time such as 2026-02-13T15:04:05Z") from None


def _ago(age: dt.timedelta) -> str:
    hours = int(age.total_seconds()) // 3600
    return (
        f"{hours // 24} days"
        if hours >= 48
        else f"{hours} hours"
        if hours >= 2
        else f"{int(age.total_seconds()) // 60} minutes"
    )


def _order_id(row: Mapping[str, str]) -> str:
    if not row.get("order_id"):
        raise NoAnswer("a fill needs its order_id")
    return row["order_id"]
