"""What a broker is asked: two questions. Whoever can answer them can stand beside Alpaca."""

import datetime as dt
from collections.abc import Collection, Sequence
from typing import Protocol

from datafixes.book.positions.position import Answer, Fill, Unknown
from datafixes.book.positions.symbols import Symbol


class Broker(Protocol):
    """Knows which positions are held, in which account."""

    def positions(self, account: str, *, since: dt.datetime) -> Answer:
        """All positions of one account, or why they are not known; never raises for the broker's faults.

        Args:
            account: the account's name, as the book and the settings have it.
            since: symbols of which something was filled since then are told apart (`Known.closed_lately`).
        """

    def fills(
        self, account: str, symbols: Collection[Symbol], *, after: dt.datetime
    ) -> Sequence[Fill] | Unknown:
        """What orders did in these symbols since then, oldest first, or why that is not known.

        What is known to have opened a position is left out. The rest may have closed one: a sale closes a long
        position, a purchase a short one.
        """


class NoAnswer(Exception):
    """An account did not answer fully and plausibly. It becomes an `Unknown`, and never leaves this room.

    Attributes:
        why: what went wrong, in one line, with no secret in it.
        denied: the broker does not accept the keys.
        instrument: the one instrument that is the reason, or an empty string.
    """

    def __init__(self, why: str, *, denied: bool = False, instrument: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.denied = denied
        self.instrument = instrument

    def of(self, account: str) -> Unknown:
        """The answer of an account; where one instrument is the reason, with the setting that leaves it out."""
        if not self.instrument:
            return Unknown(self.why)
        return Unknown(f"{self.why} (to leave it out: broker_ignore={account}:{self.instrument})")


def aware(moment: dt.datetime) -> dt.datetime:
    """A moment with a zone; without one it is UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
