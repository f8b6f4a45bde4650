"""In which images somebody appears, for people and for programs. No value is shown."""

from collections.abc import Sequence
from typing import Any

from datafixes.audit.finding import Found
from datafixes.audit.wording import counted, moment
from datafixes.report.document import Document, Grid, Section


def document(table: str, found: Sequence[Found]) -> Document:
    """For people."""
    images, runs = sum(one.images for one in found), len({one.run_id for one in found})
    summary = (
        f"{counted(images, 'image')} in {counted(runs, 'run')}." if found else "No image meets the condition."
    )
    columns = ("run", "fix", "finished", "audit table", "images", "rows", "columns with values", "redacted")
    rows = tuple(
        (
            str(one.run_id), one.fix, moment(one.finished_at), one.audit_table, str(one.images), str(one.rows),
            ", ".join(one.values), ", ".join(one.redacted),
        )
        for one in found
    )  # fmt: skip
    sections = (Section("Runs", grids=(Grid("", columns, rows, "none"),)),) if found else ()
    return Document(f"Copies of rows of {table}", summary, sections=sections)


def as_json(table: str, found: Sequence[Found]) -> dict[str, Any]:
    """As JSON of the kind ``find-in-audit``."""
    return {
        "version": 1,
        "kind": "find-in-audit",
        "table": table,
        "images": sum(one.images for one in found),
        "runs": [
            {**vars(one), "finished_at": one.finished_at.isoformat() if one.finished_at else None}
            for one in found
        ],
    }
