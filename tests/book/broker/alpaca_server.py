"""A broker on this machine that speaks Alpaca's JSON, and can be told to answer badly."""

import datetime as dt
import itertools
import json
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Row = dict[str, Any]
_numbers = itertools.count(1)


def position(symbol: str, quantity: str, price: str = "10", **more: Any) -> Row:
    """A position as Alpaca shows it; negative is short."""
    amount = Decimal(quantity)
    size = 100 if len(symbol) > 6 else 1
    return {
        "asset_id": str(uuid.UUID(int=next(_numbers))),
        "symbol": symbol,
        "exchange": "NASDAQ" if size == 1 else "",
        "asset_class": "us_equity" if size == 1 else "us_option",
        "avg_entry_price": price,
        "qty": quantity,
        "side": "short" if amount < 0 else "long",
        "market_value": str(amount * Decimal(price) * size),
        "cost_basis": str(amount * Decimal(price) * size),
        "current_price": price,
        "qty_available": quantity,
        **more,
    }


def order(symbol: str, quantity: str, status: str = "new", **more: Any) -> Row:
    """An order as Alpaca shows it; negative sells. Filled ones are filled at 10, when they were submitted."""
    amount = Decimal(quantity)
    at = more.pop("at", dt.datetime.now(dt.UTC) - dt.timedelta(hours=1))
    when = at if isinstance(at, str) else at.isoformat()
    filled = status == "filled"
    return {
        "id": str(uuid.UUID(int=next(_numbers))),
        "client_order_id": f"client-{next(_numbers)}",
        "created_at": when,
        "updated_at": when,
        "submitted_at": when,
        "filled_at": when if filled else None,
        "canceled_at": None,
        "symbol": symbol,
        "asset_class": "us_option" if len(symbol) > 6 else "us_equity",
        "notional": None,
        "qty": str(abs(amount)),
        "filled_qty": str(abs(amount)) if filled else "0",
        "filled_avg_price": "10" if filled else None,
        "order_class": "",
        "type": "market",
        "side": "sell" if amount < 0 else "buy",
        "time_in_force": "day",
        "status": status,
        "extended_hours": False,
        "legs": None,
        **more,
    }


def fill(symbol: str, quantity: str, at: dt.datetime, **more: Any) -> Row:
    """A fill in the list of activities."""
    return {
        "id": f"{at:%Y%m%d%H%M%S%f}::{uuid.UUID(int=next(_numbers))}",
        "activity_type": "FILL",
        "transaction_time": at.isoformat(),
        "type": "fill",
        "price": "10",
        "qty": str(abs(Decimal(quantity))),
        "side": "sell" if quantity.startswith("-") else "buy",
        "symbol": symbol,
        "order_id": str(uuid.UUID(int=next(_numbers))),
        **more,
    }


@dataclass
class Account:
    """What one account holds. Its own figures follow from its positions, unless `figures` says otherwise."""

    number: str
    api_key: str
    secret_key: str
    positions: list[Row] = field(default_factory=list)
    orders: list[Row] = field(default_factory=list)
    fills: list[Row] = field(default_factory=list)
    figures: Row = field(default_factory=dict)

    def hold(self, **quantities: str) -> None:
        """Hold these instead of what is held now."""
        self.positions = [position(symbol, quantity) for symbol, quantity in quantities.items()]

    def shown(self) -> Row:
        """The answer to /v2/account."""
        worth = [
            Decimal(row["market_value"] or 0) for row in self.positions if _is_number(row["market_value"])
        ]
        long = sum((value for value in worth if value > 0), Decimal(0))
        short = sum((value for value in worth if value < 0), Decimal(0))
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_DNS, self.number)),
            "account_number": self.number,
            "status": "ACTIVE",
            "currency": "USD",
            "cash": "1000",
            "account_blocked": False,
            "trading_blocked": False,
            "equity": str(1000 + long + short),
            "long_market_value": str(long),
            "short_market_value": str(short),
            "position_market_value": str(long - short),
            **self.figures,
        }


def _is_number(value: object) -> bool:
    return value is None or str(value).lstrip("-").replace(".", "", 1).isdigit()


Fault = Callable[["_Handler"], None]
"""Answers instead of the broker."""


def status(code: int, message: str = "no", **headers: str) -> Fault:
    """An error as Alpaca words it."""
    return lambda handler: handler.send(
        code, json.dumps({"code": code * 100_000, "message": message}), headers
    )


def body(content: str, code: int = 200) -> Fault:
    """Another answer."""
    return lambda handler: handler.send(code, content, {})


def slow(seconds: float) -> Fault:
    """No answer for so long, and then none."""
    return lambda handler: time.sleep(seconds)


def drip(seconds: float) -> Fault:
    """One byte at a time, for so long."""

    def answer(handler: "_Handler") -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.05)

    return answer


def half(handler: "_Handler") -> None:
    """The first half of a true answer; then the connection ends."""
    content = json.dumps(handler.answer())
    handler.wfile.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n".encode())
    handler.wfile.write(content[: len(content) // 2].encode())


def closed(handler: "_Handler") -> None:
    """Nothing: the connection ends."""
    handler.connection.shutdown(socket.SHUT_RDWR)


@dataclass
class _Planned:
    path: str
    fault: Fault
    left: int


class Alpaca:
    """The broker: its accounts, what it was asked, and what goes wrong."""

    def __init__(self, **accounts: Account) -> None:
        self.accounts = accounts
        self.asked: list[tuple[str, str, Mapping[str, list[str]]]] = []
        self.url = ""
        self._planned: list[_Planned] = []

    def fail(self, path: str, fault: Fault, times: int = 1_000_000) -> None:
        """Answer questions for this path so, the next `times` times."""
        self._planned.append(_Planned(path, fault, times))

    def heal(self) -> None:
        """From now on nothing goes wrong."""
        self._planned.clear()

    def count(self, path: str) -> int:
        """How often this path was asked."""
        return sum(one == path for _, one, _ in self.asked)

    def secret(self, name: str, *, number: bool = True) -> str:
        """The keys of an account, as its secret holds them; with its number, which proves them, or without."""
        account = self.accounts[name]
        keys = {"api_key": account.api_key, "secret_key": account.secret_key}
        return json.dumps(keys | ({"account_number": account.number} if number else {}))

    def fault_for(self, path: str) -> Fault | None:
        """What goes wrong now."""
        for planned in self._planned:
            if planned.path == path and planned.left:
                planned.left -= 1
                return planned.fault
        return None


def accounts() -> dict[str, Account]:
    """The two accounts of the pipeline, without positions."""
    return {
        "large": Account("PA3LARGE1111", "PKLARGE", "HIDDEN-large"),
        "tiny": Account("PA3TINY2222", "PKTINY", "HIDDEN-tiny"),
    }


@contextmanager
def running(alpaca: Alpaca) -> Iterator[Alpaca]:
    """The broker on a port of its own, until the block ends."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.alpaca = alpaca
    alpaca.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield alpaca
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    alpaca: Alpaca
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    account: Account
    path: str

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.close_connection = True
        self.query = parse_qs(parts.query)
        self.route = parts.path.removeprefix("/v2")
        alpaca = self.server.alpaca
        name = next((name for name, one in alpaca.accounts.items() if self._opens(one)), "")
        alpaca.asked.append((name, self.route, self.query))
        if fault := alpaca.fault_for(self.route):
            if name:
                self.account = alpaca.accounts[name]
            fault(self)
        elif not name:
            self.send(401, json.dumps({"code": 40110000, "message": "request is not authorized"}), {})
        else:
            self.account = alpaca.accounts[name]
            answer = self.answer()
            self.send(404 if answer is None else 200, json.dumps(answer), {})

    def _opens(self, account: Account) -> bool:
        return (
            self.headers["APCA-API-KEY-ID"] == account.api_key
            and self.headers["APCA-API-SECRET-KEY"] == account.secret_key
        )

    def answer(self) -> Any:
        """What Alpaca would say."""
        if self.route == "/account":
            return self.account.shown()
        if self.route == "/positions":
            return self.account.positions
        if self.route == "/orders":
            return self._orders()
        if self.route == "/account/activities/FILL":
            return self._fills()
        if self.route.startswith("/orders/"):
            return next((row for row in self.account.orders if self.route.endswith(row["id"])), None)
        return None

    def _orders(self) -> list[Row]:
        finished = {"filled", "canceled", "expired", "replaced", "rejected"}
        wanted, symbols = self._one("status", "open"), self._one("symbols")
        after = self._one("after")
        rows = [
            row if self._one("nested") == "True" or row["symbol"] else {**row, "legs": None}
            for row in self.account.orders
            if wanted == "all" or (row["status"] in finished) is (wanted == "closed")
        ]
        rows = [
            row
            for row in rows
            if (not symbols or row["symbol"] in symbols.split(","))
            and (not after or _exact(row["submitted_at"]) > _exact(after))
        ]
        rows.sort(
            key=lambda row: _exact(row["submitted_at"]), reverse=self._one("direction", "desc") == "desc"
        )
        return rows[: int(self._one("limit", "50"))]

    def _fills(self) -> list[Row]:
        rows = sorted(self.account.fills, key=lambda row: row["id"])
        after, token = self._one("after"), self._one("page_token")
        rows = [row for row in rows if _exact(row["transaction_time"]) > _exact(after) and row["id"] > token]
        return rows[: int(self._one("page_size", "100"))]

    def _one(self, name: str, default: str = "") -> str:
        return self.query.get(name, [default])[0]

    def send(self, code: int, content: str, headers: Mapping[str, str]) -> None:
        """One whole answer."""
        data = content.encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def _exact(moment: str) -> tuple[dt.datetime, str]:
    """Alpaca keeps nanoseconds, of which Python's datetime knows a thousand at a time."""
    digits = moment.partition(".")[2].rstrip("Z").partition("+")[0].partition("-")[0]
    return dt.datetime.fromisoformat(moment).replace(microsecond=0), digits.ljust(9, "0")
