"""The fixes in force, and whether they can still be reverted, for people and for programs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datafixes.audit.history import OpenFix
from datafixes.audit.progress import Progress
from datafixes.report.document import Document, Grid, Section
from datafixes.report.progress import progress_as_json, section_of_running
from datafixes.report.runs import minute, run_as_json

_COMPARED = "The rows were compared with their images. To prove it, with all that a revert checks: datafixes open --try"


@dataclass(frozen=True)
class InForce:
    """A fix in force.

    Attributes:
        fix: the fix.
        can: whether it can still be reverted; None if that cannot be read.
        why: why not.
        given_up: when its copies were given up, and by which run; empty if they were not.
    """

    fix: OpenFix
    can: bool | None
    why: str
    given_up: str

    @property
    def is_stuck(self) -> bool:
        """Whether it should be possible to revert it, and is not: nobody decided so by giving its copies up."""
        return self.can is False and not self.given_up


def document_of_open(
    fixes: Sequence[InForce], *, compared: bool = False, running: Sequence[Progress] = ()
) -> Document:
    """The fixes in force; for each, whether it can still be reverted and why not.

    Args:
        fixes: the fixes.
        compared: rows were only compared with their images, and no revert was tried.
        running: the fixes in batches that have not ended, of which a part is in force.
    """
    columns = ("fix", "run", "rev", "finished (UTC)", "rows", "revertible")
    rows = tuple(
        (
            one.fix.fix, str(one.fix.run_id), one.fix.revision, minute(one.fix.finished_at), _still(one.fix),
            "given up" if one.given_up else {True: "yes", False: "no", None: "unknown"}[one.can],
        )
        for one in fixes
    )  # fmt: skip
    why = tuple(
        Section(f"Run {one.fix.run_id}, {one.fix.fix}", state="bad" if one.is_stuck else "", notes=(one.why,))
        for one in fixes
        if one.why
    )
    notes = (_COMPARED,) if compared and fixes else ()
    stuck = sum(one.is_stuck for one in fixes)
    label = "1 fix is in force" if len(fixes) == 1 else f"{len(fixes)} fixes are in force"
    return Document(
        "Open fixes",
        f"{label}; {stuck} of them cannot be reverted at present." if stuck else f"{label}.",
        "bad" if stuck else "good",
        sections=(
            Section("In force", grids=(Grid("", columns, rows, "none"),), notes=notes),
            *((section_of_running(running),) if running else ()),
            *why,
        ),
    )


def open_as_json(fixes: Sequence[InForce], *, tried: bool, running: Sequence[Progress]) -> dict[str, Any]:
    """The same for programs; `tried`: each revert was run, and rolled back."""
    return {
        "version": 1, "kind": "open",
        "fixes": [
            {
                **run_as_json(one.fix), "can_be_reverted": one.can, "tried": tried, "why": one.why,
                "copies_given_up": one.given_up,
            }
            for one in fixes
        ],
        "running": [progress_as_json(one) for one in running],
    }  # fmt: skip


def _still(fix: OpenFix) -> str:
    """How many rows are as the fix left them, as far as the ledger tells."""
    if not fix.rows_given_back:
        return str(fix.rows_changed)
    return f"{(fix.rows_changed or 0) - fix.rows_given_back} of {fix.rows_changed}"
