"""How far a fix in batches is that has not ended, in facts and in words."""

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass

from datafixes.audit.wording import counted, span

_BAR, _COLUMNS = 20, 60
_A_MOMENT = 15.0
"""Between two batches no worker is seen. After so many seconds without one, nobody works."""


@dataclass(frozen=True)
class Progress:
    """How far a run in batches is that has not ended.

    Attributes:
        run_id: its number.
        fix: its fix.
        revision: the revision that it belongs to.
        direction: ``apply`` or ``revert``.
        wish: what an operator wants of it: ``pause``, ``stop`` or None.
        rows_total: how many rows there were when it began.
        rows_done: how many rows are changed.
        batches: how many batches are done.
        batch_rows: how many rows a batch changes at most.
        batch_size: how many rows the last batches changed at most; None if no batch ended.
        pause: the seconds between two batches of a worker.
        ranges_left: how many ranges of keys are not done.
        applied_by: the role that runs it.
        application: who and what runs it.
        started_at: when it began.
        idle: the seconds since its last batch ended, or since it began.
        workers: the backends that work on it at this moment, or wait, as far as they can be seen.
        waiting: how many of them wait, between two batches, while it is paused, or for a replica.
        lag: how many bytes of WAL the last replica is behind; None if none is seen.
        waits: which replica is further behind than the fix allows, and how far; None if none is.
        rows_per_second: its speed in the last minute; None if no batch ended.
    """

    run_id: int
    fix: str
    revision: str | None
    direction: str
    wish: str | None
    rows_total: int
    rows_done: int
    batches: int
    batch_rows: int
    batch_size: int | None
    pause: float
    ranges_left: int
    applied_by: str
    application: str | None
    started_at: dt.datetime
    idle: float
    workers: Sequence[int]
    waiting: int
    lag: int | None
    waits: str | None
    rows_per_second: float | None

    @property
    def rows_left(self) -> int:
        """How many rows are to do; they may have become more since they were counted."""
        return max(0, self.rows_total - self.rows_done) if self.ranges_left else 0

    @property
    def batches_total(self) -> int:
        """How many batches it will be, by the size of those that are done."""
        size = self.rows_done / self.batches if self.batches and self.rows_done else self.batch_rows
        return self.batches + math.ceil(self.rows_left / max(1, size))

    @property
    def seconds_left(self) -> float | None:
        """How long it will take at this speed; None if that is unknown."""
        if not self.is_alive or self.wish or not self.rows_per_second:
            return None
        return self.rows_left / self.rows_per_second

    @property
    def is_alive(self) -> bool:
        """Whether somebody works on it, or has done so a moment ago."""
        return bool(self.workers) or self.idle < _A_MOMENT + self.pause

    @property
    def ways_on(self) -> str:
        """How it goes on, and how it is taken back, as commands."""
        if self.direction == "revert":
            return f"The command that began it goes on with it (revision {self.revision})"
        return (
            f"To go on with it: alembic upgrade {self.revision}. "
            f"To take it back: alembic -x undo={self.fix} upgrade head"
        )

    @property
    def done(self) -> str:
        """``41 of ~120 batches, 410,000 of 1,198,221 rows``."""
        total = f"{self.batches_total:,}" if not self.ranges_left else f"~{self.batches_total:,}"
        return f"{self.batches:,} of {total} batches, {self.rows_done:,} of {self.rows_total:,} rows"

    @property
    def life(self) -> str:
        """``2 workers, last progress 12 s ago``; ``no worker since 41 min``."""
        if not self.is_alive:
            return f"no worker since {span(self.idle)}"
        seen = f"{counted(len(self.workers), 'worker')}, " if self.workers else ""
        return f"{seen}last progress {span(self.idle)} ago"

    @property
    def state(self) -> str:
        """In one word or two, what it does: a run that died does not look like one that lives, or waits."""
        if self.wish == "stop":
            return "stopping" if self.workers else "stopped"
        if not self.is_alive:
            return "half applied" if self.direction == "apply" else "half reverted"
        if self.wish == "pause":
            return "pausing" if len(self.workers) > self.waiting else "paused"
        if self.waits:
            return "waiting"
        return "running" if self.direction == "apply" else "reverting"

    def line(self, width: int = 0) -> str:
        """How far it is, on one line.

        Args:
            width: draw a bar, and leave out what does not fit into so many columns.
        """
        share = min(1.0, self.rows_done / self.rows_total) if self.rows_total else 0.0
        speed = f"{self.rows_per_second:,.0f} rows/s" if self.rows_per_second and self.is_alive else ""
        left = "" if self.seconds_left is None else f"about {span(self.seconds_left)} left"
        size = f"batches of {self.batch_size or self.batch_rows:,}"
        if self.waits:
            lag = f"waits: {self.waits}"
        else:
            lag = "" if self.lag is None else f"replica {self.lag / 1024**2:,.1f} MB behind"
        if not width:
            parts = [self.done, speed, left, lag, size, f"run {self.run_id}"]
            parts.insert(3 if self.is_alive else 0, self.life)
            return ", ".join([f"{self.fix}: {self.state}", *filter(None, parts)])
        bar = _BAR if width >= 2 * _COLUMNS else _BAR // 2
        full = round(share * bar)
        found = f"{self.fix}: {self.state} [{'#' * full}{'.' * (bar - full)}] {share:.0%}"
        rows = f"{self.rows_done:,} of {self.rows_total:,} rows"
        for part in filter(
            None, [self.life if not self.is_alive else rows, speed, left, lag, size, self.life]
        ):
            if len(found) + 2 + len(part) <= width:
                found += f", {part}"
        return found[:width]
