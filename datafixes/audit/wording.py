"""Numbers, names and times in words, as they are shown everywhere."""

import datetime as dt
from collections.abc import Iterable
from typing import Any


def counted(number: int, what: str) -> str:
    """``1 row``, ``7 rows``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def counts(inserted: int, updated: int, deleted: int, *, none: str = "nothing") -> str:
    """``7 updated, 1 deleted``; `none` if all are zero."""
    numbers = {"inserted": inserted, "updated": updated, "deleted": deleted}
    return ", ".join(f"{number} {kind}" for kind, number in numbers.items() if number) or none


def named(what: str, names: Iterable[object]) -> str:
    """``row 16``, ``rows 16, 17``."""
    listed = [str(name) for name in names]
    return f"{what}{'' if len(listed) == 1 else 's'} {', '.join(listed)}"


def moment(time: dt.datetime | None) -> str:
    """A time in UTC, to the second; an empty string if there is none."""
    return "" if time is None else f"{time.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S} UTC"


def span(seconds: float) -> str:
    """A length of time in its largest unit: ``12 s``, ``41 min``, ``3 h``, ``2 days``."""
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


def place(url: Any) -> str:
    """Which database on which host, from SQLAlchemy's URL: without user and password."""
    return f"{url.database} at {url.host or url.query.get('host') or 'the local socket'}"
