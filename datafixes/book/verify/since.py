"""The last changes of the book and of the service: older lines of the log prove nothing."""

import datetime as dt
from dataclasses import dataclass


@dataclass(frozen=True)
class Since:
    """Two times, if known: by the database's clock, and by ECS's.

    Attributes:
        fixed_at: when the fix in force finished.
        deployed_at: when the running deployment was begun.
    """

    fixed_at: dt.datetime | None = None
    deployed_at: dt.datetime | None = None

    @property
    def milliseconds(self) -> float | None:
        """The later of the two."""
        known = [at for at in (self.fixed_at, self.deployed_at) if at is not None]
        return max(known).timestamp() * 1000 if known else None

    def limit(self, milliseconds: int) -> str | None:
        """The latest event that is newer than a line of that time, in words, or None.

        Clock differences are ignored: the message shows both times.
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
    """A time to the millisecond, for comparisons."""
    return f"{at.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3] + " UTC"


def moment_of(milliseconds: int) -> dt.datetime:
    """The time of an event of the log."""
    return dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC)
