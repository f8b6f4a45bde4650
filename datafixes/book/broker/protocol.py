"""The interface of a broker: two queries, and what its implementations share."""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol

from datafixes.book.positions.position import Answer, Fill, Unknown, exact
from datafixes.book.positions.symbols import Symbol


class Broker(Protocol):
    """A source of the positions of accounts."""

    def positions(self, account: str, *, since: dt.datetime) -> Answer:
        """All positions of one account, or why they are unknown; never raises for the broker's faults.

        Args:
            account: the account's name in the book and the settings.
            since: symbols with fills since then are marked (`Known.closed_lately`).
        """

    def fills(
        self, account: str, symbols: Collection[Symbol], *, after: dt.datetime
    ) -> Sequence[Fill] | Unknown:
        """The fills of these symbols since then, oldest first, or why they are unknown.

        Fills that are known to have opened a position are left out. The others may have closed one: a sale closes a
        long position, a purchase a short one.
        """


class NoAnswer(Exception):
    """An account did not answer fully and plausibly. It becomes an `Unknown` within this package.

    Attributes:
        why: what went wrong, in one line, without secrets.
        denied: whether the broker rejects the keys.
        instrument: the single instrument that is the reason, or an empty string.
    """

    def __init__(self, why: str, *, denied: bool = False, instrument: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.denied = denied
        self.instrument = instrument

    def of(self, account: str) -> Unknown:
        """The answer of an account; if a single instrument is the reason, with the setting that excludes it."""
        if not self.instrument:
            return Unknown(self.why)
        return Unknown(f"{self.why} (to exclude it: broker_ignore={account}:{self.instrument})")


def aware(moment: dt.datetime) -> dt.datetime:
    """A time with a zone; UTC if it has none."""
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def number(row: Mapping[str, Any], name: str, about: str = "") -> Decimal:
    """A required exact number, which is usually text."""
    value = row.get(name)
    found = exact(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else None
    if found is None:
        raise NoAnswer(f"{name}{about and f' of {about}'} is {repr(value)[:40]}: not a number")
    return found


def moment(row: Mapping[str, Any], name: str) -> dt.datetime:
    """A required time; UTC if it has no zone."""
    try:
        return aware(dt.datetime.fromisoformat(str(row.get(name))))
    except ValueError:
        words = "not a date and time such as 2026-02-13T15:04:05Z"
        raise NoAnswer(f"{name} is {str(row.get(name))[:40]!r}: {words}") from None
