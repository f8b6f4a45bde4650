"""Fixes that run in batches and have not ended, for people and for programs."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

from datafixes.audit.progress import Progress
from datafixes.report.document import Section

_BESIDE = (
    "The version table does not tell that a part is in. Until it has ended, no other revision is to be upgraded or "
    "downgraded; run_migrations of datafixes.environment refuses them, and another env.py does not."
)


def section_of_running(running: Sequence[Progress]) -> Section:
    """How far they are, who works on them, and what to do if nobody does."""
    notes = [f"{_line(one)}, by {_who(one)}." for one in running]
    notes += [f"{one.ways_on}." for one in running if not one.is_alive]
    is_alive = all(one.is_alive for one in running)
    return Section("In batches", "good" if is_alive else "bad", notes=(*notes, _BESIDE))


def _line(one: Progress) -> str:
    return f"{one.fix} (run {one.run_id}): {one.state} {one.done}, {one.life}"


def _who(one: Progress) -> str:
    return f"{one.applied_by} ({one.application})" if one.application else one.applied_by


def progress_as_json(one: Progress) -> dict[str, Any]:
    """How far a fix is, with times in ISO 8601."""
    facts = {
        name: value.isoformat() if isinstance(value, dt.datetime) else value
        for name, value in vars(one).items()
    }
    more = {
        "state": one.state,
        "alive": one.is_alive,
        "batches_total": one.batches_total,
        "seconds_left": one.seconds_left,
        "workers": list(one.workers),
    }
    return {"version": 1, "kind": "progress", **facts, **more}
