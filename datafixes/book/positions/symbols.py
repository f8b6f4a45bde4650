"""Instruments: stocks, options by their OCC symbol, and those that an operator excludes from the comparison."""

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property, lru_cache
from typing import Literal

from datafixes.book.settings import BookSettings
from datafixes.errors import DatafixError

# The Options Clearing Corporation's form: a root of up to six characters, padded with spaces in the full form of 21 and
# not in the short one; the date; C or P; the strike in thousandths. An adjusted root ends in a digit (AAPL1).
_OPTION = re.compile(
    r"(?P<root>[A-Z][A-Z0-9]{0,5}) *(?P<date>\d{6})(?P<right>[CP])(?P<strike>\d{8})", re.ASCII
)
# A class of shares (BRK.B), a preferred series (BAC.PRB) or warrants (X.WS, X.WSA) follow a dot, a slash or a hyphen,
# normalized to a dot. Three other letters are a currency: BTC/USD is not a stock.
_STOCK = re.compile(r"(?P<root>[A-Z][A-Z0-9]{0,5})(?:[./-](?P<kind>[A-Z]{1,2}|PR[A-Z]|WS[A-Z]))?", re.ASCII)


class NoSymbol(DatafixError):
    """A text is neither a ticker nor an OCC option symbol."""


@dataclass(frozen=True, order=True)
class Stock:
    """A stock.

    Attributes:
        ticker: in the broker's form, with a class of shares after a dot.
    """

    ticker: str

    def __str__(self) -> str:
        return self.ticker


@dataclass(frozen=True, order=True)
class Option:
    """An option.

    Attributes:
        root: the root symbol; an adjusted one ends in a digit.
        expiry: the day on which it expires.
        right: ``C`` or ``P``.
        strike: the strike price, to the thousandth.
    """

    root: str
    expiry: dt.date
    right: Literal["C", "P"]
    strike: Decimal

    def __str__(self) -> str:
        return self._name

    def __hash__(self) -> int:
        return hash(self._name)

    @cached_property
    def _name(self) -> str:
        return f"{self.root}{self.expiry:%y%m%d}{self.right}{int(self.strike * 1000):08d}"


Symbol = Stock | Option


def may_be_renamed(one: Symbol, other: Symbol) -> bool:
    """Whether two symbols may be one instrument: an adjusted option (AAPL1 for AAPL), a class without a dot (BRKB)."""
    if isinstance(one, Option) and isinstance(other, Option):
        roots = {one.root.rstrip("0123456789"), other.root.rstrip("0123456789")}
        return len(roots) == 1 and (one.expiry, one.right) == (other.expiry, other.right)
    if isinstance(one, Stock) and isinstance(other, Stock):
        plain = {one.ticker.replace(".", ""), other.ticker.replace(".", "")}
        return len(plain) == 1 or one.ticker.partition(".")[0] == other.ticker.partition(".")[0]
    return False


@lru_cache(maxsize=65_536)  # the same in the book and at the broker
def parse_symbol(text: str) -> Symbol:
    """Read a ticker or an OCC option symbol, in its full or its short form.

    Raises:
        NoSymbol: it is neither, or its date is invalid.
    """
    plain = text.strip()
    # Checked before converting to capitals, because ß would become SS.
    plain = plain.upper() if plain.isascii() else ""
    if found := _OPTION.fullmatch(plain):
        try:
            year, month, day = (int(found["date"][at : at + 2]) for at in (0, 2, 4))
            expiry = dt.date(2000 + year, month, day)
        except ValueError:
            raise NoSymbol(f"{text!r} is not an option symbol: {found['date']} is not a date") from None
        if int(found["strike"]) == 0:
            raise NoSymbol(f"{text!r} is not an option symbol: its strike price is zero")
        right: Literal["C", "P"] = "C" if found["right"] == "C" else "P"
        return Option(found["root"], expiry, right, Decimal(found["strike"]) / 1000)
    if found := _STOCK.fullmatch(plain):
        return Stock(f"{found['root']}.{found['kind']}" if found["kind"] else found["root"])
    raise NoSymbol(f"{text!r} is neither a ticker nor an OCC option symbol such as CRM260227P00200000")


def instrument_of(text: str) -> str:
    """The normalized name of an instrument: its symbol, or else the broker's name."""
    try:
        return str(parse_symbol(text))
    except NoSymbol:
        return " ".join(text.split()).upper()


def ignored_of(settings: BookSettings) -> Mapping[str, frozenset[str]]:
    """By account, the instruments that are not compared.

    Raises:
        SettingError: broker_accounts has no such account.
    """
    settings.check_accounts("broker_ignore")
    found: dict[str, set[str]] = {}
    for account, instrument in settings.broker_ignore:
        found.setdefault(account, set()).add(instrument_of(instrument))
    return {account: frozenset(names) for account, names in found.items()}
