"""Alpaca's own client, with time limits and a limited number of attempts.

The only module that imports alpaca-py. It returns Alpaca's JSON unchanged; other modules check it.
"""

import datetime as dt
import functools
import socket
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from datafixes.book.broker.alpaca_answers import Json, rows_of, seconds_until, text
from datafixes.book.broker.credentials import Keys
from datafixes.book.broker.protocol import NoAnswer, moment
from datafixes.book.thread import Unfinished, within
from datafixes.errors import DatafixError

if TYPE_CHECKING:
    from alpaca.trading.client import TradingClient
    from requests import Response

Row = dict[str, Json]

_PAUSES = (0.5, 1.0, 2.0)
"""Seconds before the second, third and fourth attempt."""
_CONVERSATION = 6
"""The limit of a whole conversation, as a multiple of the limit of one answer."""
_ORDERS = 500
_FILLS = 100
_TICK = dt.timedelta(microseconds=1)


class _Again(Exception):
    """No answer; another attempt may succeed."""

    def __init__(self, why: str, wait: float = 0) -> None:
        super().__init__(why)
        self.why = why
        self.wait = wait


def check_installed() -> None:
    """Check that the client is installed.

    Raises:
        DatafixError: it is not.
    """
    try:
        with warnings.catch_warnings():
            # Its streams, which are not used here, import deprecated modules.
            warnings.simplefilter("ignore", DeprecationWarning)
            from alpaca.trading.client import TradingClient  # noqa: F401
    except ImportError as error:
        raise DatafixError(
            f"the broker is alpaca, but its client is not installed ({error})",
            hint="pip install 'datafixes[broker]'",
        ) from None


class Session:
    """One conversation with one account.

    Every method raises NoAnswer if Alpaca does not answer in time, or refuses.
    """

    def __init__(
        self, url: str, keys: Keys, timeout: float, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._url = url
        self._host = urlsplit(url).netloc
        self._keys = keys
        self._timeout = timeout or None
        self._sleep = sleep
        self._until = time.monotonic() + timeout * _CONVERSATION if timeout else None
        self._client: TradingClient | None = None
        self._connections: list[Any] = []
        self.date = ""
        """The time of Alpaca's last answer, from its header."""

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client._session.close()
            self._client = None

    def account(self) -> Json:
        """The account's number and its figures."""
        return self._ask(lambda client: client.get_account())

    def positions(self) -> Json:
        """All positions, which Alpaca returns in one answer."""
        return self._ask(lambda client: client.get_all_positions())

    def orders(self, status: str, after: dt.datetime | None = None, symbols: Sequence[str] = ()) -> list[Row]:
        """All `open` or `closed` orders that were submitted after a time, page by page."""
        from alpaca.common.enums import Sort
        from alpaca.trading.enums import QueryOrderStatus
        from alpaca.trading.requests import GetOrdersRequest

        wish = GetOrdersRequest(
            status=QueryOrderStatus(status),
            limit=_ORDERS,
            direction=Sort.ASC,
            after=after,
            symbols=list(symbols) or None,
        )

        def page(last: Row | None, client: "TradingClient") -> Any:
            if last:
                # "After" excludes the time itself, which the orders of one bracket share: some orders come twice.
                wish.after = moment(last, "submitted_at") - _TICK
            return client.get_orders(wish)

        return [self._with_legs(row) for row in self._all("orders", _ORDERS, page)]

    def fills(self, after: dt.datetime) -> list[Row]:
        """All fills after a time, whenever their orders were submitted, page by page."""
        wish = {"after": after.isoformat(), "direction": "asc", "page_size": str(_FILLS)}

        def page(last: Row | None, client: "TradingClient") -> Any:
            return client.get(
                "/account/activities/FILL", wish | ({"page_token": text(last, "id")} if last else {})
            )

        return self._all("fills", _FILLS, page)

    def _all(self, what: str, most: int, page: Callable[[Row | None, "TradingClient"], Any]) -> list[Row]:
        """The rows of all pages; the last row of a page leads to the next one."""
        found: dict[str, Row] = {}
        last: Row | None = None
        while True:
            rows = rows_of(self._ask(functools.partial(page, last)), what)
            fresh = {text(row, "id"): row for row in rows if text(row, "id") not in found}
            found.update(fresh)
            if len(rows) < most:
                return list(found.values())
            if not fresh:
                raise NoAnswer(f"{self._host} lists more than {most} {what} with the same time")
            last = rows[-1]

    def _with_legs(self, row: Row) -> Row:
        """Add the legs of an order without a symbol of its own, with a request if necessary."""
        if row.get("symbol") or row.get("legs"):
            return row
        from alpaca.trading.requests import GetOrderByIdRequest

        number = text(row, "id")
        answer = self._ask(lambda client: client.get_order_by_id(number, GetOrderByIdRequest(nested=True)))
        return rows_of([answer], "orders")[0]

    def _ask(self, question: Callable[["TradingClient"], Any]) -> Json:
        attempt = 0
        while True:
            try:
                return self._once(question)
            except _Again as again:
                is_last = attempt == len(_PAUSES)
                wait = max(again.wait, 0 if is_last else _PAUSES[attempt])
                if is_last or (self._until is not None and time.monotonic() + wait > self._until):
                    asked = f" and asks to wait {again.wait:.0f}s" if again.wait else ""
                    times = f" ({attempt + 1} attempts)" if attempt else ""
                    raise NoAnswer(f"{self._host} {again.why}{asked}{times}") from None
                self._sleep(wait)
                attempt += 1

    def _once(self, question: Callable[["TradingClient"], Any]) -> Json:
        """One attempt, in a thread, because no socket timeout covers a slow name server or an endless answer."""
        limit = self._timeout
        if self._until is not None and limit is not None:
            limit = min(limit, self._until - time.monotonic())
            if limit <= 0:
                raise NoAnswer(f"{self._host} takes too long for all requests together")
        client = self._client or self._connect()
        try:
            answer = within(limit, lambda: question(client))
        except Unfinished as late:
            # The thread still has the connection, and would stay as long as bytes arrive.
            late.future.add_done_callback(lambda _: client._session.close())
            _cut(self._connections)
            self._client = None
            raise self._too_slow() from None
        except Exception as error:
            raise self._explained(error) from None
        if answer is None:
            raise NoAnswer(f"{self._host} gave an empty answer")
        return answer

    def _connect(self) -> "TradingClient":
        from alpaca.trading.client import TradingClient

        client = TradingClient(
            self._keys.api_key, self._keys.secret_key, raw_data=True, url_override=self._url
        )
        session = client._session
        self._connections = _noting_connections(session)
        # The client sets no time limit, and would retry by itself, with its own pauses: errors are raised before it
        # sees them.
        session.request = functools.partial(session.request, timeout=self._timeout)  # type: ignore[method-assign]
        session.hooks["response"].append(self._refuse)
        self._client = client
        return client

    def _refuse(self, response: "Response", **_: Any) -> None:
        """Any status but 200 is an error, including a redirection."""
        code = response.status_code
        if code == 200:
            self.date = response.headers.get("Date", "")
            return
        said = self._words(response)
        if code in (401, 403):
            raise NoAnswer(
                f"{self._host} rejects the keys of {self._keys.origin} (HTTP {code}{said})",
                denied=True,
            )
        if code in (408, 429) or code >= 500:
            raise _Again(f"answers HTTP {code}", _retry_after(response.headers.get("Retry-After", "")))
        raise NoAnswer(f"{self._host} answers HTTP {code}{said}")

    def _words(self, response: "Response") -> str:
        """Alpaca's own message about a refusal, without keys; pages of other servers are ignored."""
        try:
            message = response.json()["message"]
        except (ValueError, TypeError, LookupError):
            return ""
        line = " ".join(str(message).split())
        for secret in (self._keys.api_key, self._keys.secret_key):
            line = line.replace(secret, "***")
        return f": {line[:100]}"

    def _too_slow(self) -> _Again:
        return _Again(f"does not answer within {self._timeout:g}s")

    def _explained(self, error: Exception) -> Exception:
        """The meaning of an exception, whose own text may contain secrets."""
        from requests import exceptions

        if isinstance(error, (NoAnswer, _Again)):
            return error
        self.close()
        if isinstance(error, exceptions.Timeout):
            return self._too_slow()
        for kind, is_passing, words in (
            (exceptions.SSLError, False, "has a certificate that is not trusted"),
            (exceptions.ProxyError, True, "cannot be reached: the proxy does not answer"),
            (exceptions.ChunkedEncodingError, True, "closed the connection in the middle of its answer"),
            (exceptions.ConnectionError, True, "cannot be reached, or closes the connection"),
            (exceptions.JSONDecodeError, False, "does not answer with JSON"),
        ):
            if isinstance(error, kind):
                return _Again(words) if is_passing else NoAnswer(f"{self._host} {words}")
        return NoAnswer(f"{self._host} gives no valid answer ({type(error).__name__})")


def _retry_after(header: str) -> float:
    """The seconds that an answer asks to wait; zero if it does not."""
    if header.strip().isdecimal():
        return float(header)
    return max(0.0, seconds_until(header, dt.datetime.now(dt.UTC)))


def _noting_connections(session: Any) -> list[Any]:
    """A list that receives every connection of a session, including those in use."""
    made: list[Any] = []

    def noting(pool: Any) -> Any:
        def connect(connection: Any) -> None:
            made.append(connection)
            pool.ConnectionCls.connect(connection)

        noted = type("Connection", (pool.ConnectionCls,), {"connect": connect})
        return type(pool.__name__, (pool,), {"ConnectionCls": noted})

    for adapter in session.adapters.values():
        manager: Any = getattr(adapter, "poolmanager", None)
        if manager is not None:
            classes = manager.pool_classes_by_scheme
            manager.pool_classes_by_scheme = {scheme: noting(one) for scheme, one in classes.items()}
    return made


def _cut(connections: list[Any]) -> None:
    """Cut them: a thread that still reads from one gets an error."""
    for connection in connections:
        with suppress(OSError, AttributeError):  # not connected
            connection.sock.shutdown(socket.SHUT_RDWR)
