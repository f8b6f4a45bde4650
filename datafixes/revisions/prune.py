"""The text of a revision that gives up old copies."""

import datetime as dt
from dataclasses import dataclass

from datafixes.revisions.placing import Place
from datafixes.revisions.revert import guarded
from datafixes.revisions.source import operation, quoted
from datafixes.revisions.text import Parts, revision_text


@dataclass(frozen=True)
class Retention:
    """Which copies a revision gives up.

    Attributes:
        table: the audit table.
        schema: its schema.
        older_than: the day before which the runs were finished, in UTC.
        keep: ``open`` or ``none``.
        reason: why.
    """

    table: str
    schema: str
    older_than: dt.date
    keep: str
    reason: str


def prune_revision(place: Place, retention: Retention, only: str = "") -> str:
    """The text of the revision.

    Args:
        place: its id and its parent.
        retention: which copies.
        only: the schema whose run does it, if env.py runs each revision for several.
    """
    day = retention.older_than.isoformat()
    arguments = [quoted(retention.table), f"older_than={quoted(day)}", f"keep={quoted(retention.keep)}"]
    if retention.reason:
        arguments.append(f"reason={quoted(retention.reason)}")
    if retention.schema != "public":
        arguments.append(f"audit_schema={quoted(retention.schema)}")
    call = operation("prune_audit", arguments)
    parts = Parts(
        f"Give up copies in {retention.table} of runs before {day}",
        up=guarded(call, only),
        down="    pass  # What was given up is gone.",
    )
    return revision_text(place, parts)
