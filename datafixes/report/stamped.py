"""Fixes that were stamped past, for people."""

from collections.abc import Sequence

from datafixes.audit.stamped import StampedPast
from datafixes.report.document import Grid, Section


def section_of_stamped(stamped: Sequence[StampedPast]) -> Section:
    """The fixes that did not run, although the version table is past them."""
    rows = tuple((one.fix, one.revision, one.why) for one in stamped)
    return Section(
        "Stamped past",
        state="bad",
        grids=(Grid("", ("fix", "rev", "why"), rows, ""),),
        notes=("The database's revision is past these fixes, but they did not run. " + stamped[0].remedy,),
    )
