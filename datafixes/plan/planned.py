"""The contents of a plan: steps, runs, tables, rows; whether each run can be reverted; where it would fail."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from datafixes.audit.changes import Changes
from datafixes.audit.history import Run
from datafixes.audit.images import TableOfRun
from datafixes.audit.retention import GivenUp
from datafixes.audit.sequences import Behind
from datafixes.audit.stamped import StampedPast


@dataclass(frozen=True)
class PlannedTable:
    """The changes of a table.

    Attributes:
        of_run: the table and its counts.
        expected: how many rows the fix expects, in words.
        changes: its rows.
        acting: triggers and foreign keys that take effect, in words.
        names: readable names of the rows: by key, the identity that the fix expects.
        sequences: those that are behind the numbers that the fix inserts.
    """

    of_run: TableOfRun
    expected: str
    changes: Changes
    acting: tuple[str, ...]
    names: Mapping[str, str]
    sequences: tuple[Behind, ...] = ()


@dataclass(frozen=True)
class Reversal:
    """Whether a run can be reverted, found by reverting it.

    Attributes:
        proven: the downgrade restored every row, bit for bit.
        words: what was compared, or why it failed.
        detail: the evidence, if it needs more than a line.
        tried: it could be tried; a plan commits nothing, and some downgrades commit by themselves.
    """

    proven: bool
    words: str
    detail: str = ""
    tried: bool = True


@dataclass(frozen=True)
class PlannedBatches:
    """A fix in batches, of which the plan makes one; what it says of the others follows from that one.

    Attributes:
        rows: how many rows there are to change.
        done: how many of them an earlier upgrade, which was stopped, has changed.
        size: how many rows a batch changes at most.
        ranges: how many ranges of keys there are.
        workers: how many connections make batches.
        bounds: the first and the last key, each as text.
        tried: how many rows the tried batch changed.
        took: how long it took, in seconds.
        seconds: how long all of them may take.
        wal: how many bytes of WAL they may write.
        copies: how many bytes of copies, without indexes.
        reading: how the rows of a batch are read, in words.
        warnings: what makes each batch slow.
    """

    rows: int
    done: int
    size: int
    ranges: int
    workers: int
    bounds: tuple[str, str]
    tried: int
    took: float
    seconds: float
    wal: int
    copies: int
    reading: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def left(self) -> int:
        """How many rows are left to change."""
        return max(0, self.rows - self.done)

    @property
    def count(self) -> int:
        """About how many batches they make."""
        return -(-self.left // self.size)


@dataclass(frozen=True)
class PlannedRun:
    """A run of a fix.

    Attributes:
        run: the run, from the ledger.
        tables: the changes of each table.
        locks: the locks that it took.
        seconds: how long it ran.
        digest: the digest that the upgrade must have too.
        reversal: whether it can be reverted; None if that was not tried.
        reloaded: the fingerprint of the declaration at the second load, if it differs.
        batches: of a fix in batches, how many, and what one of them is like; the rows and the proof are of that one.
    """

    run: Run
    tables: tuple[PlannedTable, ...]
    locks: tuple[str, ...]
    seconds: float
    digest: str
    reversal: Reversal | None = None
    reloaded: str = ""
    batches: PlannedBatches | None = None

    @property
    def is_fine(self) -> bool:
        """Whether it can be reverted, as far as that can be tried, and will be the same in the upgrade."""
        return not self.reloaded and (
            self.reversal is None or self.reversal.proven or not self.reversal.tried
        )


@dataclass(frozen=True)
class PlannedStep:
    """A revision, its runs, the locks of its other statements, and the copies that it gives up or redacts."""

    revision: str
    title: str
    runs: tuple[PlannedRun, ...]
    locks: tuple[str, ...] = ()
    gives_up: tuple[GivenUp, ...] | None = None
    redacts: tuple[GivenUp, ...] | None = None


@dataclass(frozen=True)
class Refusal:
    """Where the upgrade or downgrade would fail, and why."""

    revision: str
    message: str
    hint: str = ""
    detail: str = ""
    sqlstate: str = ""


@dataclass(frozen=True)
class Unplannable:
    """Where the plan ends, because what follows needs a commit; the upgrade or downgrade does not fail there.

    Attributes:
        revision: the first that is not planned.
        after: the revision that must be committed first; the same one if it commits by itself.
        message: what failed in the plan.
        hint: how to go on, as a command.
        sqlstate: PostgreSQL's code, or an empty string.
    """

    revision: str
    after: str
    message: str
    hint: str
    sqlstate: str = ""


@dataclass(frozen=True)
class Plan:
    """A plan.

    Attributes:
        direction: ``upgrade`` or ``downgrade``.
        database: host and name.
        start: the database's revisions.
        target: the requested revision.
        steps: the revisions that run, in order.
        refusal: where it would fail, or None.
        unplannable: where the plan ends for lack of a commit, or None.
        name: what env.py calls this run, if it runs the migrations for several databases or schemas.
        stamped_past: fixes at or below the database's revision that never ran.
        flags: the operator's choices for single fixes, as options of a command.
    """

    direction: str
    database: str
    start: tuple[str, ...]
    target: str
    steps: tuple[PlannedStep, ...]
    refusal: Refusal | None
    stamped_past: tuple[StampedPast, ...] = ()
    flags: tuple[str, ...] = ()
    unplannable: Unplannable | None = None
    name: str = ""

    @property
    def reach(self) -> str:
        """The target of all that is planned."""
        down = self.direction == "downgrade"
        return self.target if self.unplannable is None else target_after(self.steps, down=down)

    @property
    def is_sound(self) -> bool:
        """Whether nothing would be refused, and every fix is the same at its next load and can be reverted."""
        return self.refusal is None and all(run.is_fine for run in self.runs)

    @property
    def is_whole(self) -> bool:
        """Whether all of it could be planned, and every downgrade tried."""
        reversals = [run.reversal for run in self.runs if run.reversal is not None]
        return self.unplannable is None and all(one.tried for one in reversals)

    @property
    def digest(self) -> str:
        """The value of ``alembic -x plan=``: the digests of all runs; empty without runs, or if they cannot be met."""
        return "" if any(run.reloaded for run in self.runs) else "-".join(run.digest for run in self.runs)

    @property
    def runs(self) -> list[PlannedRun]:
        """The runs of all steps."""
        return [run for step in self.steps for run in step.runs]


def target_after(steps: Sequence[PlannedStep], *, down: bool) -> str:
    """The target of the upgrade or downgrade that runs these steps, and no more."""
    return f"-{len(steps)}" if down else steps[-1].revision
