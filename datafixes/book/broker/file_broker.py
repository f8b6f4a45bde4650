"""A file of positions as the broker: for brokers without a client here, and for tests."""

import datetime as dt
import stat
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from pathlib import Path

from datafixes.book.broker.file_rows import foreign_in, rows_in
from datafixes.book.broker.protocol import NoAnswer, aware, moment, number
from datafixes.book.positions.position import (
    Answer,
    BrokerPosition,
    Fill,
    Ignored,
    Known,
    Unknown,
    digits,
    exact,
)
from datafixes.book.positions.symbols import NoSymbol, Symbol, instrument_of, parse_symbol

_SKEW = dt.timedelta(minutes=5)


@dataclass(frozen=True)
class _Foreign:
    """A row that is neither a stock nor an option: a position, or a fill with its time."""

    instrument: str
    why: str
    filled_at: dt.datetime | None = None


@dataclass
class _Content:
    positions: dict[str, list[BrokerPosition]] = field(default_factory=dict)
    fills: dict[str, list[Fill]] = field(default_factory=dict)
    foreign: dict[str, list[_Foreign]] = field(default_factory=dict)
    left_out: dict[str, dict[str, Ignored]] = field(default_factory=dict)
    empty: set[str] = field(default_factory=set)
    read_at: dt.datetime = dt.datetime.min

    def held(self, account: str, since: dt.datetime) -> list[BrokerPosition]:
        """The positions of an account.

        Raises:
            NoAnswer: the file does not list them, or something is, or recently was, neither a stock nor an option.
        """
        for one in self.foreign.get(account, ()):
            if one.filled_at is None or one.filled_at >= since:
                raise NoAnswer(one.why, instrument=one.instrument)
        if account not in self.positions:
            raise NoAnswer("does not list this account, not even as empty")
        return self.positions[account]


@dataclass
class FileBroker:
    """The positions of all accounts in a CSV or JSON file, which is read once.

    CSV: the columns account, symbol, quantity, and optionally entry_price. A row with only an account means that it
    holds nothing. A row with filled_at, price and order_id is a fill. JSON: the same as an object of lists,
    ``{"positions": [{"account": ..., ...}], "fills": [...], "empty": ["tiny"]}``. If rows give the kind of instrument
    or the currency, they must be stocks or options, in US dollars.

    Attributes:
        path: the file; it is JSON if its name ends in .json.
        oldest: the maximum age of the file; None for no limit.
        now: the time.
        ignored: by account, instruments that are excluded.
    """

    path: Path
    oldest: dt.timedelta | None = None
    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)
    ignored: Mapping[str, Collection[str]] = field(default_factory=dict)

    def positions(self, account: str, *, since: dt.datetime) -> Answer:
        """See `Broker.positions`.

        A bad line makes all accounts unknown; a row that is neither a stock nor an option makes its account unknown.
        """
        try:
            content = self._content
        except NoAnswer as error:
            return Unknown(error.why)
        age = self.now() - content.read_at
        if self.oldest is not None and age > self.oldest:
            return Unknown(f"{self.path} was written {_ago(age)} ago, which is too old (broker_file_age)")
        if -age > _SKEW:
            return Unknown(f"{self.path} was written in the future, {_ago(-age)} from now")
        try:
            held = content.held(account, aware(since))
        except NoAnswer as error:
            return NoAnswer(f"{self.path} {error.why}", instrument=error.instrument).of(account)
        return Known(
            held,
            closed_lately=frozenset(
                fill.symbol for fill in content.fills.get(account, []) if fill.filled_at >= aware(since)
            ),
            read_at=content.read_at,
            source=f"file {self.path}",
            left_out=content.left_out.get(account, {}),
        )

    def fills(
        self, account: str, symbols: Collection[Symbol], *, after: dt.datetime
    ) -> Sequence[Fill] | Unknown:
        """See `Broker.fills`."""
        try:
            content = self._content
        except NoAnswer as error:
            return Unknown(error.why)
        names = set(map(str, symbols))
        for one in content.foreign.get(account, ()):
            if one.filled_at and one.filled_at >= aware(after) and one.instrument in names:
                return Unknown(f"{self.path} {one.why}")
        fills = content.fills.get(account, [])
        ours = (fill for fill in fills if fill.symbol in symbols and fill.filled_at >= aware(after))
        return sorted(ours, key=lambda fill: (fill.filled_at, fill.order_id))

    @cached_property
    def _content(self) -> _Content:
        try:
            status = self.path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise NoAnswer(f"{self.path} is not a file")
            text = self.path.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise NoAnswer(f"{self.path} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise NoAnswer(f"{self.path} is not UTF-8 (byte {error.start})") from None
        rows = rows_in(text, is_json=self.path.suffix.lower() == ".json")
        # The contents cannot be newer than the file.
        content = _Content(read_at=dt.datetime.fromtimestamp(status.st_mtime, dt.UTC))
        seen: dict[tuple[str, Symbol], str] = {}
        try:
            for place, row in rows:
                try:
                    if not _is_set_apart(content, row, place, self.ignored):
                        _add(content, row, place, seen)
                except NoAnswer as error:
                    raise NoAnswer(f"{place}: {error.why}") from None
            for account in sorted(content.empty):
                if (
                    any(account in said for said in (content.left_out, content.foreign))
                    or content.positions[account]
                ):
                    raise NoAnswer(f"lists {account} both as empty and with positions")
        except NoAnswer as error:
            raise NoAnswer(f"{self.path} {error.why}") from None
        return content


def _is_set_apart(
    content: _Content, row: Mapping[str, str], place: str, ignored: Mapping[str, Collection[str]]
) -> bool:
    """Whether a row is not compared: it is excluded by the settings, or is neither a stock nor an option."""
    account, name = row.get("account", ""), row.get("symbol", "")
    if not account or not name:
        return False
    instrument, is_fill = instrument_of(name), bool(row.get("filled_at"))
    if instrument in ignored.get(account, ()):
        if not is_fill:
            quantity = exact(row.get("quantity", ""))
            words = repr(row.get("quantity", "")) if quantity is None else digits(quantity)
            content.positions.setdefault(account, [])
            content.left_out.setdefault(account, {})[instrument] = Ignored(quantity, words)
        return True
    if why := _why_foreign(row, name):
        filled_at = moment(row, "filled_at") if is_fill else None
        content.foreign.setdefault(account, []).append(_Foreign(instrument, f"{place}: {why}", filled_at))
    return bool(why)


def _why_foreign(row: Mapping[str, str], name: str) -> str:
    """Why a well-formed row is neither a stock nor an option; empty if it may be one."""
    deed = "has a fill in" if row.get("filled_at") else "holds"
    try:
        symbol, unknown = parse_symbol(name), ""
    except NoSymbol as error:
        symbol, unknown = None, error.message if exact(row.get("quantity", "")) is not None else ""
    if why := foreign_in(row, symbol):
        return f"{deed} {name[:40]}, {why}"
    return unknown and f"{deed} {name[:40]}: {unknown}"


def _add(content: _Content, row: Mapping[str, str], place: str, seen: dict[tuple[str, Symbol], str]) -> None:
    account = row.get("account", "")
    if not account:
        raise NoAnswer("no account")
    if not any(value for name, value in row.items() if name != "account"):
        content.positions.setdefault(account, [])
        content.empty.add(account)
        return
    try:
        symbol = parse_symbol(row.get("symbol", ""))
    except NoSymbol as error:
        raise NoAnswer(error.message) from None
    quantity = number(row, "quantity")
    if row.get("filled_at"):
        price, filled_at = _price(row, "price"), moment(row, "filled_at")
        if not row.get("order_id"):
            raise NoAnswer("a fill needs its order_id")
        content.fills.setdefault(account, []).append(
            Fill(symbol, quantity, price, filled_at, row["order_id"])
        )
        return
    if row.get("price") or row.get("order_id"):
        raise NoAnswer("it has a price or an order_id, like a fill, but no filled_at")
    if (account, symbol) in seen:
        raise NoAnswer(f"{symbol} of {account} is already on {seen[account, symbol]}")
    seen[account, symbol] = place
    entry = _price(row, "entry_price") if row.get("entry_price") else None
    content.positions.setdefault(account, []).append(BrokerPosition(symbol, quantity, entry))


def _price(row: Mapping[str, str], name: str) -> Decimal:
    price = number(row, name)
    if price <= 0:
        raise NoAnswer(f"{name} {row[name]!r} is not a price")
    return price


def _ago(age: dt.timedelta) -> str:
    minutes = int(age.total_seconds()) // 60
    for unit, size in (("days", 1440), ("hours", 60)):
        if minutes >= 2 * size:
            return f"{minutes // size} {unit}"
    return f"{minutes} minutes"
