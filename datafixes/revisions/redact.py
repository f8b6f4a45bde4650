"""The text of a revision that erases values in images."""

from dataclasses import dataclass

from datafixes.revisions.placing import Place
from datafixes.revisions.revert import guarded
from datafixes.revisions.source import operation, quoted
from datafixes.revisions.text import Parts, revision_text


@dataclass(frozen=True)
class Erasure:
    """Which values a revision erases.

    Attributes:
        table: the audit table.
        schema: its schema.
        where: which images, in SQL.
        columns: the columns.
        reason: why.
    """

    table: str
    schema: str
    where: str
    columns: tuple[str, ...]
    reason: str


def redact_revision(place: Place, erasure: Erasure, only: str = "") -> str:
    """The text of the revision.

    Args:
        place: its id and its parent.
        erasure: which values.
        only: the schema whose run does it, if env.py runs each revision for several.
    """
    columns = ", ".join(map(quoted, erasure.columns))
    arguments = [quoted(erasure.table), f"where={quoted(erasure.where)}", f"columns=[{columns}]"]
    arguments.append(f"reason={quoted(erasure.reason)}")
    if erasure.schema != "public":
        arguments.append(f"audit_schema={quoted(erasure.schema)}")
    call = operation("redact_audit", arguments)
    parts = Parts(
        f"Redact {', '.join(erasure.columns)} in {erasure.table}",
        up=guarded(call, only),
        down="    pass  # What was redacted is gone.",
    )
    return revision_text(place, parts)
