"""Alpaca as the broker: one conversation per account, and only consistent answers are accepted."""

import datetime as dt
import time
from collections.abc import Callable, Collection, Sequence
from ipaddress import ip_address
from typing import TypeVar
from urllib.parse import urlsplit

from datafixes.book.broker.alpaca_answers import apart, contradiction, read_account, read_positions
from datafixes.book.broker.alpaca_client import Session, check_installed
from datafixes.book.broker.alpaca_orders import (
    closing_fills,
    filled_since,
    in_flight,
    read_orders,
    symbols_of_fills,
)
from datafixes.book.broker.credentials import Keys, NoKeys, read_keys
from datafixes.book.broker.protocol import NoAnswer, aware
from datafixes.book.positions.position import NOT_IN_SETTINGS, Answer, Fill, Known, Unknown
from datafixes.book.positions.symbols import Symbol, ignored_of
from datafixes.book.settings import BookSettings
from datafixes.errors import SettingError
from datafixes.settings.values import masked

T = TypeVar("T")

_URLS = {"paper": "https://paper-api.alpaca.markets", "live": "https://api.alpaca.markets"}
_LONGEST_ORDER = dt.timedelta(days=91)
"""Orders are found by the day of submission, and may be filled up to 90 days later."""
_AT_ONCE = 100
"""The number of symbols in one request, whose URL contains them."""
_LOOKS = 2
"""The number of attempts to read an account with inconsistent answers."""


class AlpacaBroker:
    """The accounts of the settings at Alpaca.

    Keys are read once for each account; again after a refusal.
    """

    def __init__(self, settings: BookSettings, *, sleep: Callable[[float], None] = time.sleep) -> None:
        check_installed()
        self._settings = settings
        self._url = _url(settings)
        self._ignored = ignored_of(settings)
        self._sleep = sleep
        self._keys: dict[str, Keys] = {}

    def positions(self, account: str, *, since: dt.datetime) -> Answer:
        """See `Broker.positions`."""
        return self._asked(account, lambda session: self._read(account, session, aware(since)))

    def fills(
        self, account: str, symbols: Collection[Symbol], *, after: dt.datetime
    ) -> Sequence[Fill] | Unknown:
        """See `Broker.fills`."""
        names = sorted(map(str, symbols))
        begin = aware(after) - _LONGEST_ORDER

        def read(session: Session) -> list[Fill]:
            parts = (names[start : start + _AT_ONCE] for start in range(0, len(names), _AT_ONCE))
            rows = [row for part in parts for row in session.orders("closed", begin, part)]
            return closing_fills(read_orders(rows, self._ignored.get(account, ())), symbols, aware(after))

        return self._asked(account, read)

    def _asked(self, account: str, question: Callable[[Session], T]) -> T | Unknown:
        """The answer to a question, in a conversation of its own."""
        if account not in self._settings.broker_accounts:
            return NOT_IN_SETTINGS
        secret = self._settings.broker_accounts[account]
        try:
            keys = self._keys.get(account) or read_keys(self._settings.engine, secret)
        except NoKeys as error:
            return Unknown(error.one_line())
        self._keys[account] = keys
        session = Session(self._url, keys, self._settings.broker_timeout.seconds, sleep=self._sleep)
        try:
            return question(session)
        except NoAnswer as error:
            if error.denied:
                self._keys.pop(account, None)
            return error.of(account)
        finally:
            session.close()

    def _read(self, account: str, session: Session, since: dt.datetime) -> Answer:
        why, ignored = "", self._ignored.get(account, frozenset())
        for _ in range(_LOOKS):
            about, keys = read_account(session.account()), self._keys[account]
            proven = bool(keys.account_number)
            if proven and keys.account_number != about.number:
                raise NoAnswer(
                    f"{keys.origin} opens account {about.shown}, but names …{keys.account_number[-4:]}"
                )
            # In this order, so that no change in between is missed: an order that ends after the first request is in
            # flight, and one that is filled before the last request was filled recently.
            orders = read_orders(session.orders("open"), ignored)
            listed = read_positions(session.positions(), ignored)
            closed = read_orders(session.orders("closed", since), ignored)
            filled = symbols_of_fills(session.fills(since), ignored)
            read_at = dt.datetime.now(dt.UTC)
            if skew := apart(session.date, read_at):
                raise NoAnswer(
                    f"this machine's clock and Alpaca's differ by {skew}, so recent fills cannot be identified"
                )
            if why := contradiction(about, listed):
                continue  # something may have been bought or sold between the two answers
            positions = [one.position for one in listed if one.position]
            return Known(
                positions,
                in_flight(orders, positions),
                filled_since([*orders, *closed], since) | filled,
                read_at,
                f"Alpaca {urlsplit(self._url).netloc}, account {about.shown}"
                + (", the one that its secret names" if proven else ""),
                identity=about.number,
                proven=proven,
                left_out={one.instrument: one.ignored for one in listed if one.ignored},
            )
        raise NoAnswer(why)


def _url(settings: BookSettings) -> str:
    """Alpaca's URL."""
    given = settings.broker_url
    if given in _URLS:
        return _URLS[given]
    parts = urlsplit(given)
    origin = settings.origins.get("broker_url", "")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
        raise SettingError(f"broker_url is {masked(given)!r} ({origin}): write paper, live, or a URL")
    if parts.scheme == "http" and not _is_this_machine(parts.hostname):
        raise SettingError(f"broker_url is {given!r} ({origin}): http would send the keys unencrypted")
    return given.rstrip("/").removesuffix("/v2")


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
