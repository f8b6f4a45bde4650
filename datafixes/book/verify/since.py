"""What happened last to the book and to the service: lines of the log from before that say nothing about now."""

import datetime as dt
from dataclasses import dataclass


@dataclass(frozen=True)
class Since:
    """Two moments, where they are known: the database's clock, and ECS's.

    Attributes:
        fixed_at: when the fix in force finished.
        deployed_at: when the deployment that runs was begun.
    """

    fixed_at: dt.datetime | None = None
    deployed_at: dt.datetime | None = None

    @property
    def milliseconds(self) -> float | None:
        """The later of the two."""
        known = [at for at in (self.fixed_at, self.deployed_at) if at is not None]
        return max(known).timestamp() * 1000 if known else None

    def limit(self, milliseconds: int) -> str | None:
        """What a line of that time is older than, the latest of it, or None.

        No difference between clocks is allowed for: whoever reads sees both times.
        """
        known = [
            (at, what)
            for at, what in ((self.fixed_at, "the fix"), (self.deployed_at, "the deployment"))
            if at is not None
        ]
        if not known:
            return None
        at, what = max(known)
        return f"{what}, of {moment(at)}" if milliseconds <= at.timestamp() * 1000 else None


def moment(at: dt.datetime) -> str:
    """A time in full, for where two of them are compared."""
    return f"{at.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3] + " UTC"


def moment_of(milliseconds: int) -> dt.datetime:
    """The time of an event of the log."""
    return dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC)
