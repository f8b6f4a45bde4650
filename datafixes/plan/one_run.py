"""One run of the migrations of an upgrade or downgrade, in a transaction that cannot be committed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError

from datafixes.audit.reversal import compare_with_revert
from datafixes.audit.stamped import StampedPast, stamped_past
from datafixes.audit.wording import place
from datafixes.declaration.project_fixes import fixes_of, of_run, revisions_below
from datafixes.declaration.reloaded import Reloading
from datafixes.errors import DatafixError
from datafixes.plan.collector import Collector
from datafixes.plan.ending import ended, error_of, refused
from datafixes.plan.planned import Plan, PlannedRun, PlannedStep, Refusal, Reversal, Unplannable
from datafixes.plan.uncommitted import Uncommitted
from datafixes.plan.wish import Wish
from datafixes.running.migration import schema_of_run
from datafixes.running.operation import DatafixFailed
from datafixes.script.tables import LEDGER, LEDGER_TABLES

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from sqlalchemy.engine import Connection


class NeedsBatches(DatafixError):
    """A plan cannot go on behind a fix in batches: it has made one of them, and rolled it back."""


@dataclass
class OneRun:
    """One run of the migrations by env.py, on one connection.

    Attributes:
        is_external: env.py itself has begun the transaction.
        name: the database or the schema, where env.py runs the migrations for several.
    """

    wish: Wish
    scripts: ScriptDirectory
    collector: Collector
    tell: Callable[[str], None]
    is_external: bool
    ends: ExitStack = field(default_factory=ExitStack)
    connection: Connection = field(init=False)
    uncommitted: Uncommitted = field(init=False)
    steps: list[PlannedStep] = field(default_factory=list)
    ending: Refusal | Unplannable | None = None
    start: tuple[str, ...] = ()
    database: str = ""
    running: str = ""
    stamped_past: tuple[StampedPast, ...] = ()
    reloading: Reloading = field(default_factory=lambda: Reloading(None))
    copies: frozenset[str] = frozenset((LEDGER, LEDGER_TABLES))
    name: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    def begin(self, connection: Connection, options: dict[str, Any]) -> None:
        """Watch a connection whose transaction cannot be committed.

        Args:
            connection: the connection.
            options: those of ``context.configure``, to which the run's own are added.
        """
        applied = options.pop("on_version_apply", None)
        theirs = applied if isinstance(applied, list | tuple) else [applied] if applied else []
        is_ours = any(getattr(call, "__module__", "") == "datafixes.environment" for call in theirs)
        each = bool(options.get("transaction_per_migration")) and not self.is_external
        self.connection = connection
        self.uncommitted = Uncommitted(connection, each, is_ours, self.is_external)
        self.ends.enter_context(self.uncommitted.watching())
        options |= {"transaction_per_migration": False, "on_version_apply": [*theirs, self.after_step]}

    def run(self, run_migrations: Callable[..., None], options: dict[str, Any]) -> None:
        """Run all steps, and note where they end."""
        self.options = options
        try:
            run_migrations(**options)
            if self.running and not self.uncommitted.each:
                self.commit()
        except (Exception, SystemExit) as error:
            if not self.running:  # an unknown revision, several heads; Alembic may not even read the version
                raise
            found = self.error_of(error, f"revision {self.running}")
            if lacking := "of others" if isinstance(error, NeedsBatches) else self.uncommitted.lacks(error):
                self.ending = ended(self.running, found, lacking, self.steps, self.wish)
            else:
                self.ending = refused(self.running, found)

    def error_of(self, error: BaseException, what: str) -> DatafixError:
        """What a revision raised, in one line."""
        return error_of(error, what, self.copies, masked=bool(self.wish.view.masks))

    def commit(self) -> None:
        """Do what the commit of the upgrade does.

        Raises:
            DatafixFailed: it fails, because a deferred constraint does not hold.
        """
        try:
            self.uncommitted.commit()
        except DBAPIError as error:
            raise DatafixFailed(self.error_of(error, f"revision {self.running}, at the commit")) from error

    def revisions(self, heads: Any, context: MigrationContext) -> Iterator[Any]:
        """The steps from the database's revision to the target."""
        self.start = tuple(heads or ())
        if context.connection is not None:
            self.database = place(context.connection.engine.url)
            below = revisions_below(self.scripts, self.start)
            # A role that may not read the ledger gets the fix's own error.
            with suppress(DatafixError, DBAPIError), context.connection.begin_nested():
                database = next(iter(self.options.values()), None)  # multidb: engine_name
                fixes = of_run(fixes_of(self.scripts), database, schema_of_run(context))
                self.stamped_past = tuple(stamped_past(context.connection, fixes, below))
        find = self.scripts._downgrade_revs if self.wish.downgrade else self.scripts._upgrade_revs
        steps = list(find(self.wish.revision, heads))
        if not self.wish.downgrade:
            self.load_again({step.info.up_revision_id for step in steps})
        for step in steps:
            self.running = step.info.up_revision_id or ""
            if self.collector.in_batches:
                raise NeedsBatches(
                    f"{self.collector.in_batches} changes its rows in batches, which are committed before it"
                )
            self.tell(f"{'Downgrading' if self.wish.downgrade else 'Upgrading to'} {self.running} ...")
            yield step

    def load_again(self, revisions: set[str | None]) -> None:
        """Start loading the revision files a second time, while the plan is made."""
        declared = fixes_of(self.scripts)
        paths = dict.fromkeys(str(one.path) for one in declared if one.revision in revisions)
        self.reloading = Reloading.begin(paths)

    def compare_loads(self) -> tuple[PlannedStep, ...]:
        """The steps, with the declarations that differ at the second load."""
        again = self.reloading.fingerprints()

        def compared(revision: str, run: PlannedRun) -> PlannedRun:
            script = self.scripts.get_revision(revision)
            found = again.get(str(script.path) if script is not None else "", {}).get(run.run.fix, "")
            return run if found in ("", run.run.fingerprint) else replace(run, reloaded=found)

        return tuple(
            replace(step, runs=tuple(compared(step.revision, run) for run in step.runs))
            for step in self.steps
        )

    def made(self) -> Plan:
        """The plan, when all of it has run."""
        return Plan(
            "downgrade" if self.wish.downgrade else "upgrade",
            self.database,
            self.start,
            self.wish.revision,
            self.compare_loads(),
            self.ending if isinstance(self.ending, Refusal) else None,
            self.stamped_past,
            self.wish.flags,
            self.ending if isinstance(self.ending, Unplannable) else None,
            self.name,
        )

    def after_step(self, ctx: MigrationContext, step: Any, **_: Any) -> None:
        """Called by Alembic when a revision has run."""
        script = self.scripts.get_revision(self.running)
        runs, self.collector.runs = self.collector.runs, []
        if self.uncommitted.each:
            self.commit()
        self.uncommitted.step_ended()
        if runs and step.is_upgrade and ctx.connection is not None and script is not None:
            runs = self._prove(ctx.connection, script.module, runs)
        title = (script.doc or "").split("\n")[0] if script is not None else ""
        locks = () if ctx.connection is None else self.collector.new_locks(ctx.connection)
        gives_up, self.collector.given_up = self.collector.given_up, None
        redacts, self.collector.erased = self.collector.erased, None
        self.steps.append(PlannedStep(self.running, title, tuple(runs), locks, gives_up, redacts))

    def _prove(self, connection: Connection, module: Any, runs: list[PlannedRun]) -> list[PlannedRun]:
        """Run the downgrade of the same revision, compare the restored rows, and roll that back.

        A fix in batches is proven already, by one batch.
        """
        if all(run.batches for run in runs):
            return runs
        self.tell(f"Reverting {', '.join(run.run.fix for run in runs)}, as a proof ...")
        self.collector.proving = []
        connection.exec_driver_sql("SAVEPOINT datafixes_proof")
        try:
            self.uncommitted.commit()
            module.downgrade(**self.options)  # multidb: engine_name
            self.uncommitted.commit()
        except (Exception, SystemExit) as error:
            found, lacks = (
                self.error_of(error, "its downgrade()"),
                self.uncommitted.lacks(error, is_proof=True),
            )
            reversal = Reversal(False, found.one_line(), found.detail, tried=not lacks)
            return [replace(run, reversal=reversal) for run in runs]
        else:
            return [replace(run, reversal=self._reversal(connection, run)) for run in runs]
        finally:
            connection.exec_driver_sql("ROLLBACK TO SAVEPOINT datafixes_proof")
            connection.exec_driver_sql("RELEASE SAVEPOINT datafixes_proof")
            self.collector.proving = None

    def _reversal(self, connection: Connection, planned: PlannedRun) -> Reversal:
        fix = self.collector.fixes[planned.run.run_id]
        if planned.run.outcome not in ("applied", "reverted"):
            return Reversal(True, "nothing was changed, so there is nothing to revert")
        return Reversal(*compare_with_revert(connection, fix, planned.run.run_id))
