"""What a plan says: steps, runs, tables, rows; whether each run can be taken back; where it would stop."""

from collections.abc import Mapping
from dataclasses import dataclass

from datafixes.audit.changes import Changes
from datafixes.audit.history import Run
from datafixes.audit.images import TableOfRun
from datafixes.audit.sequences import Behind
from datafixes.audit.stamped import StampedPast


@dataclass(frozen=True)
class PlannedTable:
    """What happens to a table.

    Attributes:
        of_run: the table and its counts.
        expected: how many rows the fix expects, in words.
        changes: its rows.
        acting: triggers and foreign keys that act, in words.
        names: what people call the rows: by key, the identity that the fix expects.
        sequences: those that stand behind numbers which the fix brings.
    """

    of_run: TableOfRun
    expected: str
    changes: Changes
    acting: tuple[str, ...]
    names: Mapping[str, str]
    sequences: tuple[Behind, ...] = ()


@dataclass(frozen=True)
class Reversal:
    """Whether a run can be taken back: proven by doing it.

    Attributes:
        proven: the downgrade gave every row back, bit for bit.
        words: what was compared, or what stands in the way.
        detail: the evidence, where it needs more than a line.
    """

    proven: bool
    words: str
    detail: str = ""


@dataclass(frozen=True)
class PlannedRun:
    """A run of a fix.

    Attributes:
        run: as the ledger had it.
        tables: what happens to each.
        locks: what it took.
        seconds: how long it ran.
        digest: what an upgrade that names it must have too.
        reversal: whether it can be taken back; None where that was not tried.
        reloaded: the fingerprint of the declaration at its next load, where it is another one.
    """

    run: Run
    tables: tuple[PlannedTable, ...]
    locks: tuple[str, ...]
    seconds: float
    digest: str
    reversal: Reversal | None = None
    reloaded: str = ""

    @property
    def is_fine(self) -> bool:
        """Whether it can be taken back, and will be the same in the upgrade."""
        return not self.reloaded and (self.reversal is None or self.reversal.proven)


@dataclass(frozen=True)
class PlannedStep:
    """A revision: what it is, the runs that it has, and the locks that its other statements took."""

    revision: str
    title: str
    runs: tuple[PlannedRun, ...]
    locks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refusal:
    """Where the upgrade or downgrade would stop, and why."""

    revision: str
    message: str
    hint: str = ""
    detail: str = ""
    sqlstate: str = ""


@dataclass(frozen=True)
class Plan:
    """All of it.

    Attributes:
        direction: ``upgrade`` or ``downgrade``.
        database: host and name.
        start: where the database is.
        target: the revision that was asked for.
        steps: what runs, in order.
        refusal: where it would stop, if it would.
        stamped_past: the fixes below that never ran here.
        flags: what the operator said of single fixes, as a command takes it.
    """

    direction: str
    database: str
    start: tuple[str, ...]
    target: str
    steps: tuple[PlannedStep, ...]
    refusal: Refusal | None
    stamped_past: tuple[StampedPast, ...] = ()
    flags: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """What ``alembic -x plan=`` takes: the digests of all runs; empty where there is none, or none can be met."""
        return "" if any(run.reloaded for run in self.runs) else "-".join(run.digest for run in self.runs)

    @property
    def runs(self) -> list[PlannedRun]:
        """The runs of all steps."""
        return [run for step in self.steps for run in step.runs]
