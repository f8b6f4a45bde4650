"""The checks that run automatically after a test of a fix has passed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from sqlalchemy.exc import DBAPIError

from datafixes.audit.history import Run
from datafixes.declaration.fix import DataFix
from datafixes.errors import Conflicts, DatafixError
from datafixes.script.literal import qualified
from datafixes.script.tables import LEDGER
from datafixes.testing.checks import Failed, LeftOut, NothingToCheck, Report, Result
from datafixes.testing.contents import (
    Contents,
    contents_of,
    differences,
    sequences_of,
    set_sequences,
    varying,
)
from datafixes.testing.databases import Database
from datafixes.testing.foreign_write import ForeignWrite, write_to_row_of
from datafixes.testing.stopping import go_on, stopping
from datafixes.testing.trial import CHECKS, Trial

_LEAST = 3
"""So many rows make several batches, and after so many of them the fix is stopped."""

_NO_SCRIPT = "cannot become a script"


def check(trial: Trial) -> Report:
    """Run the checks of a fix, each on copies of the test's database from before the fix."""
    course, fix = _Course(trial), trial.fix
    in_batches = isinstance(fix, DataFix) and fix.batches is not None
    names = [name for name in CHECKS if in_batches or name != "stopped"]
    return Report(fix.name, trial.revision, tuple(course.result(name) for name in names))


@dataclass(frozen=True)
class _Upgraded:
    """A database on which the fix ran, and its contents before and after."""

    database: Database
    run: Run
    before: Contents
    after: Contents
    sequences: dict[str, tuple[int, bool]]


class _Course:
    """The checks of one fix in one test, and their shared state."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._migrations = trial.session.checking
        self._in_force: Database | None = None
        self._checks: dict[str, Callable[[], str]] = {
            "up-down-up": self._up_down_up,
            "stopped": self._stopped,
            "offline": self._offline,
            "foreign-write": self._foreign_write,
            "empty": self._empty,
        }

    def result(self, name: str) -> Result:
        """Run one check."""
        if name in self._trial.left_out:
            return Result(name, "left out", self._trial.left_out[name])
        try:
            if name != "empty":
                self._look_for_something_to_check()
            return Result(name, "passed", self._checks[name]())
        except NothingToCheck as nothing:
            return Result(name, "nothing to check", str(nothing))
        except LeftOut as left_out:
            return Result(name, "left out", str(left_out))
        except DatafixError as error:
            failed = Failed.by("the check cannot run", error)
        except Failed as error:
            failed = error
        return Result(name, "failed", failed.words, failed.evidence)

    def _look_for_something_to_check(self) -> None:
        if self._trial.refused is not None:
            raise NothingToCheck("the fix was refused in the test")
        if self._first.run.outcome != "not_applicable":
            return
        if not self._trial.prepared:
            raise LeftOut("nothing was seeded, and the fix is not applicable")
        raise Failed("the fix is not applicable to the seeded rows: none of its rows exists")

    def _up_down_up(self) -> str:
        first = self._first
        self._down(first.database)
        if lines := differences(first.before, contents_of(first.database)):
            raise Failed("the downgrade does not restore everything:", *lines)
        set_sequences(first.database, first.sequences)
        self._up(first.database, "the upgrade does not run again after the downgrade")
        self._in_force = first.database
        return ""

    def _stopped(self) -> str:
        """Stop after each of the first batches, take what is applied back in a copy, and let it go on at the end."""
        changed = self._first.run.rows_changed or 0
        if changed < _LEAST:
            raise LeftOut(f"it changes {changed} rows: {_LEAST} or more make several batches")
        fix, schema = self._trial.fix, self._trial.fix.schema_of_audit
        size = f"batches={fix.name}:{max(1, changed // _LEAST)}"
        database = self._trial.copy(self._trial.pristine())
        stops = 0
        with stopping(database, schema):
            while stops < _LEAST and not self._goes_to_its_end(database, size):
                stops += 1
                self._taken_back(self._trial.copy(database), size, f"after batch {stops}")
        if not stops:
            raise LeftOut("all of its rows were in one batch")
        try:
            self._migrations.upgrade(database, self._trial.revision, size)
        except (DatafixError, DBAPIError) as error:
            raise Failed.by(f"stopped {stops} times; then it does not go on", error) from error
        varies = varying(self._first.after, contents_of(self._applied()))
        if lines := differences(self._first.after, contents_of(database), varies):
            raise Failed(f"stopped {stops} times, it leaves other rows than at once:", *lines)
        return f"stopped {stops} times"

    def _goes_to_its_end(self, database: Database, size: str) -> bool:
        try:
            self._migrations.upgrade(database, self._trial.revision, size)
        except (DatafixError, DBAPIError) as error:
            if self._trial.run_in(database).outcome != "running":
                raise Failed.by("in small batches, the upgrade is refused", error) from error
            return False
        return True

    def _taken_back(self, database: Database, size: str, when: str) -> None:
        undo = f"undo={self._trial.fix.name}"
        go_on(database, self._trial.fix.schema_of_audit)
        told: Exception | None = None
        try:
            self._migrations.upgrade(database, self._trial.revision, size, undo)
        except (DatafixError, DBAPIError) as error:  # that is how it ends
            told = error
        if self._trial.run_in(database).outcome == "running":
            raise Failed.by(f"{when}, it cannot be taken back", told or DatafixError("nothing happened"))
        if lines := differences(self._first.before, contents_of(database)):
            raise Failed(f"{when}, taking it back does not restore everything:", *lines)

    def _offline(self) -> str:
        first, varies = self._first, varying(self._first.after, contents_of(self._applied()))
        if len(self._trial.target.below) > 1:
            raise LeftOut("a merge revision has no script of its own")
        # The last check on the seeded database uses it directly, because copying a database is slow.
        database = self._trial.pristine()
        script = self._script(database)
        try:
            database.run_as_psql(script)
        except DBAPIError as error:
            raise Failed.by("the script fails", error) from error
        if lines := differences(first.after, contents_of(database), varies):
            raise Failed("the script and the online run leave different rows:", *lines)
        run = self._trial.run_in(database)
        if (run.outcome, run.rows_changed) != (first.run.outcome, first.run.rows_changed):
            raise Failed(
                f"the script's run is {run.outcome}, {run.rows_changed} changed; "
                f"the online run's {first.run.outcome}, {first.run.rows_changed} changed"
            )
        words = varies.words()
        return f"not compared, because two online runs differ there: {words}" if words else ""

    def _script(self, database: Database) -> str:
        below = "".join(f"{revision}:" for revision in self._trial.target.below)
        try:
            return self._migrations.script(database, f"{below}{self._trial.revision}")
        except DatafixError as error:
            if _NO_SCRIPT in error.message:
                raise LeftOut(error.message) from None
            raise Failed.by("no script can be made", error) from error
        except Exception as error:  # a migration without a connection may raise anything
            raise Failed.by("no script can be made", error) from error

    def _foreign_write(self) -> str:
        database = self._applied()
        run = self._trial.run_in(database)
        write = write_to_row_of(database, self._trial.fix, self._with_images(database, run))
        if write is None:
            raise LeftOut(
                "the fix changed no row"
                if not run.rows_changed
                else "the tables accept no other value in the columns that the fix wrote"
            )
        before = contents_of(database)
        try:
            self._migrations.downgrade(database, self._trial.down_to)
        except Conflicts as conflict:
            return self._refused_well(conflict, write, differences(before, contents_of(database)))
        except Exception as error:
            raise Failed.by(f"{write.words}; then the downgrade fails for another reason", error) from error
        return self._went_on(database, write)

    def _with_images(self, database: Database, run: Run) -> int:
        """The run itself, or of a run in batches the last of them."""
        ledger = qualified(self._trial.fix.schema_of_audit, LEDGER)
        part = "to_jsonb(r) ->> 'part_of'"  # a ledger that has not been upgraded has no such column
        [(last,)] = database.rows(
            f"SELECT max(run_id) FROM {ledger} AS r WHERE {part} = '{run.run_id}' AND rows_changed > 0"
        )
        return int(last or run.run_id)

    def _refused_well(self, conflict: Conflicts, write: ForeignWrite, changed: list[str]) -> str:
        named = re.compile(rf"(?<!\w){re.escape(write.key)}(?!\w)")
        if not named.search(f"{conflict.message}\n{conflict.detail}"):
            raise Failed(
                f"{write.words}; the downgrade is refused, but does not name the row: {conflict.message}"
            )
        if changed:
            raise Failed(f"{write.words}; the downgrade is refused, but changed rows:", *changed)
        return write.words

    def _went_on(self, database: Database, write: ForeignWrite) -> str:
        """Judge a downgrade that succeeded despite a conflict: on request of its author, or it lost a write."""
        run = self._trial.run_in(database) if self._trial.has_ledger(database) else None
        if run is not None and run.direction == "revert" and run.rows_skipped:
            return f"{write.words}; the downgrade skips it"
        if run is not None and run.direction == "revert" and run.rows_overwritten:
            raise LeftOut("the downgrade overwrites later writes: on_conflict")
        raise Failed(f"{write.words}; the downgrade loses it without a refusal")

    def _empty(self) -> str:
        """Run once for each fix, because the empty database is the same in every test."""
        seen, fix = self._trial.session.on_empty, (self._trial.revision, self._trial.fix.name)
        if fix not in seen:
            seen[fix] = self._on_empty()
        return seen[fix]

    def _on_empty(self) -> str:
        fix = self._trial.fix
        required = fix.rows.required if isinstance(fix, DataFix) else fix.required
        database = self._trial.copy(self._trial.template)
        try:
            self._migrations.upgrade(database, self._trial.revision)
        except DatafixError as error:
            if required:
                return "refused, because of required=True"
            raise Failed.by("the upgrade is refused", error) from error
        except DBAPIError as error:
            raise Failed.by("the upgrade fails", error) from error
        run = self._trial.run_in(database)
        if run.outcome == "not_applicable" and required:
            raise Failed("the fix is required=True, but was not refused")
        self._down(database)
        return "" if run.outcome == "not_applicable" else f"{run.outcome}: {run.rows_changed} changed"

    @cached_property
    def _first(self) -> _Upgraded:
        database = self._trial.copy(self._trial.pristine())
        before, sequences = contents_of(database), sequences_of(database)
        run = self._up(database, "the upgrade is refused")
        return _Upgraded(database, run, before, contents_of(database), sequences)

    def _applied(self) -> Database:
        """A database on which the fix is in force, by another run than the first."""
        if self._in_force is None:
            database = self._trial.copy(self._trial.pristine())
            self._up(database, "the upgrade is refused")
            self._in_force = database
        return self._in_force

    def _up(self, database: Database, what: str) -> Run:
        try:
            self._migrations.upgrade(database, self._trial.revision)
            return self._trial.run_in(database)
        except (DatafixError, DBAPIError) as error:
            raise Failed.by(what, error) from error

    def _down(self, database: Database) -> None:
        try:
            self._migrations.downgrade(database, self._trial.down_to)
        except Exception as error:  # a missing downgrade() may raise anything
            raise Failed.by("the downgrade fails", error) from error
