"""What is to be planned."""

from dataclasses import dataclass, field

from datafixes.audit.changes import View
from datafixes.script.frame import Limits


@dataclass(frozen=True)
class Wish:
    """What to plan.

    Attributes:
        revision: the target, in Alembic's notation: ``head``, ``+1``, ``015``.
        downgrade: downgrade instead of upgrade.
        view: how much of the rows to keep for the report.
        limits: how long any statement may wait for a lock, and how long it may take.
        flags: the operator's choices for single fixes, as options of a command.
    """

    revision: str = "head"
    downgrade: bool = False
    view: View = field(default_factory=View)
    limits: Limits = field(default_factory=Limits)
    flags: tuple[str, ...] = ()
