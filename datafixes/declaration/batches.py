"""How a fix of many rows is cut into batches."""

import re
from dataclasses import dataclass
from typing import Literal

from datafixes.errors import DeclarationError
from datafixes.settings.values import MOST_ROWS, Duration

_MOST_WORKERS = 8
_SIZE = re.compile(r"[1-9]\d{0,8} ?(kB|MB|GB)", re.ASCII)
_STRAGGLERS = ("sweep", "report", "refuse")


MANY_ROWS = 100_000
"""More rows than this are better changed in batches."""


@dataclass(frozen=True)
class Batches:
    """Change the rows in batches, each in a transaction of its own, with copies, guards and proof.

    Where one batch is enough for all rows, the fix is one transaction, as without batches.

    Args:
        rows: how many rows a batch changes at most. It becomes smaller when a lock is not available, or when a batch
            takes longer than ``target``.
        target: how long a batch should take, such as ``"1s"``: so long it holds the locks of its rows.
        pause: how long to wait between two batches, such as ``"200ms"``.
        max_lag: how far a replica may be behind, in bytes of WAL such as ``"64MB"``: while one is further behind, no
            batch begins. Needs the rights of ``pg_monitor``. Default: replicas are not looked at.
        workers: how many connections change batches side by side, 1 to 8.
        stragglers: what happens to rows that began to meet the condition behind the batches: the last transaction
            changes them, too (``"sweep"``), or they are told (``"report"``), or the fix does not end (``"refuse"``).
            Rows that it had changed, and that somebody set back, are told and left alone.
        keys_move: whether somebody may change the key of a row while the fix runs. Then the condition must be false
            after the change, which is checked: else a row whose key moves ahead would be changed twice.
    """

    rows: int = 10_000
    target: str = "1s"
    pause: str = "0"
    max_lag: str | None = None
    workers: int = 1
    stragglers: Literal["sweep", "report", "refuse"] = "sweep"
    keys_move: bool = True

    def __post_init__(self) -> None:
        for name, most in (("rows", MOST_ROWS), ("workers", _MOST_WORKERS)):
            number = getattr(self, name)
            if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= most:
                raise DeclarationError(f"Batches: {name}={number!r}; it is a number from 1 to {most:_}.")
        if self.stragglers not in _STRAGGLERS:
            raise DeclarationError(
                f"Batches: stragglers={self.stragglers!r}; it is {' or '.join(map(repr, _STRAGGLERS))}."
            )
        for name in ("target", "pause"):
            try:
                Duration.parse(getattr(self, name))
            except ValueError as error:
                raise DeclarationError(f"Batches: {name}={getattr(self, name)!r}: {error}") from None
        if self.max_lag is not None and not _SIZE.fullmatch(str(self.max_lag)):
            raise DeclarationError(
                f"Batches: max_lag={self.max_lag!r}: write a number and a unit (kB, MB, GB) such as 64MB."
            )

    @property
    def facts(self) -> dict[str, object]:
        """What the engine knows of them; times in seconds."""
        return {
            "rows": self.rows,
            "target": Duration.parse(self.target).seconds,
            "pause": Duration.parse(self.pause).seconds,
            "workers": self.workers,
            "stragglers": self.stragglers,
            "keys_move": self.keys_move,
            **({"max_lag": self.max_lag} if self.max_lag else {}),
        }
