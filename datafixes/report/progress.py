"""Fixes that run in batches and have not ended, for people and for programs."""

import datetime as dt
from typing import Any

from datafixes.audit.progress import Progress


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
