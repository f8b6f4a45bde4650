"""What a plan says of a fix in batches, of which it has made one."""

from typing import Any

from datafixes.audit.wording import counted
from datafixes.plan.planned import PlannedBatches
from datafixes.report.document import Fact

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def of_batches(batches: PlannedBatches) -> list[Fact]:
    """The facts."""
    done = f"; {batches.done:,} of {batches.rows:,} rows are done" if batches.done else ""
    by = f", by {batches.workers} workers" if batches.workers > 1 else ""
    first, last = batches.bounds
    return [
        Fact(
            "Batches",
            f"about {batches.count:,} of at most {counted(batches.size, 'row')}, in"
            f" {counted(batches.ranges, 'range')}{by}{done}; keys {first} to {last}",
        ),
        Fact(
            "One batch",
            f"was made and rolled back: {counted(batches.tried, 'row')} in {batches.took:.2f} s; the rows above are"
            " of it",
            below=True,
        ),
        Fact(
            "Estimate",
            f"{_seconds(batches.seconds)}, {_bytes(batches.wal)} of WAL, {_bytes(batches.copies)} of copies without"
            " their indexes, if all batches are like that one",
            below=True,
        ),
        *([Fact("Reads", batches.reading, below=True)] if batches.reading else []),
        *(Fact("Slow", warning, "attention") for warning in batches.warnings),
    ]


def batches_as_json(batches: PlannedBatches) -> dict[str, Any]:
    """The same for programs; times in seconds, sizes in bytes."""
    return {**vars(batches), "bounds": list(batches.bounds), "warnings": list(batches.warnings),
            "count": batches.count, "took": round(batches.took, 3), "seconds": round(batches.seconds, 1)}  # fmt: skip


def _seconds(seconds: float) -> str:
    if seconds < 100:
        return f"about {max(1, round(seconds))} s"
    return f"about {round(seconds / 60)} min" if seconds < 6000 else f"about {seconds / 3600:.1f} h"


def _bytes(size: float) -> str:
    for unit in _UNITS[:-1]:
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} {_UNITS[-1]}"
