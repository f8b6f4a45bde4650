"""One fix in one test: rows are seeded, the fix is applied, and what it did can be asked for."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sqlalchemy.exc import DBAPIError

from datafixes.audit.history import Run, last_run, run_of
from datafixes.declaration.project_fixes import nearest
from datafixes.declaration.recorded import Declared
from datafixes.errors import DatafixError
from datafixes.testing.databases import Database, words_of
from datafixes.testing.session import Session, Target
from datafixes.testing.statements import failing_statement

CHECKS = ("up-down-up", "offline", "foreign-write", "empty")
"""The checks that run by themselves, by the names that ``without`` takes."""


class Trial:
    """A fix, and a database of its own that is at the revision below it.

    Attributes:
        fix: the declaration.
        revision: the revision that declares it.
        database: the database of the test.
        seeded: a copy of it, from right before the fix was applied; None before.
        refused: what the test saw refused, if it did.
        left_out: checks that are not to run, each with its reason.
        prepared: whether the test wrote anything before the fix was applied.
    """

    def __init__(self, session: Session, target: Target, template: Database, ends: ExitStack) -> None:
        self.session = session
        self.target = target
        self.template = template
        self.fix: Declared = target.of.fix
        self.revision = target.of.revision
        self.seeded: Database | None = None
        self.refused: DatafixError | None = None
        self.left_out: dict[str, str] = {}
        self.prepared = False
        self._ends = ends
        self.database = self.copy(template)

    @property
    def url(self) -> str:
        """The database of the test as a URL, for code of the application."""
        return self.database.url.render_as_string(hide_password=False)

    def seed(self, *given: str | Path) -> None:
        """Write the rows that the fix is for, before it is applied.

        Args:
            given: SQL, or the path of a file of it; each in a transaction of its own.

        Raises:
            DatafixError: a statement fails; the message shows which one.
        """
        __tracebackhide__ = True
        if self.seeded is not None:
            raise DatafixError("seed() comes before apply(). What others write afterwards: fix.execute(...).")
        self._write(given)

    def execute(self, *given: str | Path) -> None:
        """Run any SQL on the database of the test, at any time, as somebody else would.

        Raises:
            DatafixError: a statement fails; the message shows which one.
        """
        __tracebackhide__ = True
        self._write(given)

    def apply(self) -> Run:
        """Run ``alembic upgrade`` to the revision of the fix.

        Returns:
            The run, as the ledger has it: ``outcome``, ``rows_found``, ``rows_changed``, ``rows_already``, ...

        Raises:
            DatafixError: the fix was refused; it is of the kind that says why, such as RowsNotAsExpected.
        """
        __tracebackhide__ = True
        try:
            if self.seeded is None:
                self.seeded = self.copy(self.database)
            self.session.migrations.upgrade(self.database, self.revision)
            self.refused = None
        except DatafixError as error:
            self.refused, self.seeded = error, None
            raise told(error) from None
        return self.run_in(self.database)

    def revert(self, on_conflict: str = "") -> Run | None:
        """Run ``alembic downgrade`` to the revision below.

        Args:
            on_conflict: ``skip`` or ``overwrite``, as ``alembic -x on_conflict=FIX:skip`` would say.

        Returns:
            The run, as the ledger has it; None where the downgrade took the ledger along.

        Raises:
            DatafixError: it was refused, for example with Conflicts.
        """
        __tracebackhide__ = True
        flags = [f"on_conflict={self.fix.name}:{on_conflict}"] if on_conflict else []
        try:
            self.session.migrations.downgrade(self.database, self.down_to, *flags)
        except DatafixError as error:
            raise told(error) from None
        return self.run_in(self.database) if self.has_ledger(self.database) else None

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query, on the database of the test. The query is sent as it is written."""
        return self.database.rows(query)

    def without(self, *checks: str, because: str) -> None:
        """Leave checks out that would run when the test has passed.

        Args:
            checks: ``up-down-up``, ``offline``, ``foreign-write``, ``empty``.
            because: why; it is shown with the results.

        Raises:
            DatafixError: there is no such check, or no reason.
        """
        __tracebackhide__ = True
        for check in checks:
            if check not in CHECKS:
                raise DatafixError(f"There is no check {check}.{nearest(check, list(CHECKS))}")
        if not because.strip():
            raise DatafixError("Say why a check is left out: without(..., because='...').")
        self.left_out |= dict.fromkeys(checks, because)

    @property
    def down_to(self) -> str:
        """Where a downgrade leads."""
        return self.target.parents[0] if self.target.parents else "base"

    def pristine(self) -> Database:
        """The database as it is before the fix, for checks; the test's own, where the test did not apply the fix."""
        return self.seeded or self.database

    def copy(self, database: Database) -> Database:
        """A copy that ends with the test."""
        copy = self.session.databases.create(database)
        self._ends.callback(self.session.databases.drop, copy)
        return copy

    def run_in(self, database: Database) -> Run:
        """The newest run of the fix.

        Raises:
            DatafixError: the ledger has none: the migration does not run its fix.
        """
        schema = self.fix.schema_of_audit
        with database.connect() as connection:
            last = last_run(connection, schema, self.fix.name) if self.has_ledger(database) else None
            if last is None:
                raise DatafixError(
                    f"Revision {self.revision} ran, and did not run its fix {self.fix.name}.",
                    hint="Its upgrade() needs op.apply_datafix(fix) or op.record_datafix(fix).",
                )
            return run_of(connection, schema, last.run_id)

    def has_ledger(self, database: Database) -> bool:
        """Whether there is a ledger."""
        schema = self.fix.schema_of_audit.replace("'", "''")
        found = database.rows(
            "SELECT FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
            f" WHERE c.relname = 'datafix_run' AND n.nspname = '{schema}'"
        )
        return bool(found)

    def _write(self, given: tuple[str | Path, ...]) -> None:
        __tracebackhide__ = True
        self.prepared = self.prepared or self.seeded is None
        for one in given:
            text = one if isinstance(one, str) else one.read_text(encoding="utf-8")
            try:
                self.database.run(text)
            except DBAPIError as error:
                place = "" if isinstance(one, str) else f" of {one}"
                raise _not_written(self.database, text, place, error) from None


def _not_written(database: Database, text: str, place: str, error: DBAPIError) -> DatafixError:
    number, statement = failing_statement(database, text)
    which = f"statement {number}{place}" if number else f"the SQL{place}"
    hint = ""
    if any(line.startswith("\\") for line in text.splitlines()) or "COPY" in str(error.orig):
        hint = "It is sent to the server, not to psql: commands with a backslash and COPY FROM stdin do not work."
    return told(DatafixError(f"{which} fails: {words_of(error)}", detail=statement, hint=hint))


def told(error: DatafixError) -> DatafixError:
    """The error with its detail and its hint where pytest shows them, and without the way that led to it."""
    notes: Mapping[str, str] = {"": error.detail, "hint: ": error.hint}
    if not getattr(error, "__notes__", None):
        for what, note in notes.items():
            if note:
                error.add_note(f"{what}{note}")
    return error.with_traceback(None)
