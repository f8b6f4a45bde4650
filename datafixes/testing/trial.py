"""One fix in one test: seed rows, apply the fix, and query the result."""

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

CHECKS = ("up-down-up", "stopped", "offline", "foreign-write", "empty")
"""The automatic checks, by their names for ``without``."""


class Trial:
    """A fix, with its own database at the parent revision.

    Attributes:
        fix: the declaration.
        revision: the revision that declares it.
        database: the database of the test.
        seeded: a copy of it from right before the fix was applied; None before.
        refused: the refusal of the fix in the test, if any.
        left_out: the checks to leave out, each with its reason.
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
        """The URL of the test's database, for code of the application."""
        return self.database.url.render_as_string(hide_password=False)

    def seed(self, *given: str | Path) -> None:
        """Write the rows for the fix, before it is applied.

        Args:
            given: SQL, or the path of an SQL file; each in its own transaction.

        Raises:
            DatafixError: a statement fails; the message shows which one.
        """
        __tracebackhide__ = True
        if self.seeded is not None:
            raise DatafixError("seed() must come before apply(). For later writes use fix.execute(...).")
        self._write(given)

    def execute(self, *given: str | Path) -> None:
        """Run any SQL on the database of the test, at any time, as another session.

        Raises:
            DatafixError: a statement fails; the message shows which one.
        """
        __tracebackhide__ = True
        self._write(given)

    def apply(self) -> Run:
        """Run ``alembic upgrade`` to the revision of the fix.

        Returns:
            The run from the ledger: ``outcome``, ``rows_found``, ``rows_changed``, ``rows_already``, ...

        Raises:
            DatafixError: the fix was refused; its class says why, such as RowsNotAsExpected.
        """
        __tracebackhide__ = True
        try:
            if self.seeded is None:
                self.seeded = self.copy(self.database)
            self.session.migrations.upgrade(self.database, self.revision)
            self.refused = None
        except DatafixError as error:
            self.refused, self.seeded = error, None
            raise with_notes(error) from None
        return self.run_in(self.database)

    def revert(self, on_conflict: str = "") -> Run | None:
        """Run ``alembic downgrade`` to the parent revision.

        Args:
            on_conflict: ``skip`` or ``overwrite``, as in ``alembic -x on_conflict=FIX:skip``.

        Returns:
            The run from the ledger; None if the downgrade dropped the ledger.

        Raises:
            DatafixError: it was refused, for example with Conflicts.
        """
        __tracebackhide__ = True
        flags = [f"on_conflict={self.fix.name}:{on_conflict}"] if on_conflict else []
        try:
            self.session.migrations.downgrade(self.database, self.down_to, *flags)
        except DatafixError as error:
            raise with_notes(error) from None
        return self.run_in(self.database) if self.has_ledger(self.database) else None

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query on the database of the test. The query is sent verbatim."""
        return self.database.rows(query)

    def without(self, *checks: str, because: str) -> None:
        """Leave out checks that would run after the test.

        Args:
            checks: ``up-down-up``, ``stopped``, ``offline``, ``foreign-write``, ``empty``.
            because: the reason, which is shown with the results.

        Raises:
            DatafixError: there is no such check, or no reason.
        """
        __tracebackhide__ = True
        for check in checks:
            if check not in CHECKS:
                raise DatafixError(f"Unknown check {check}.{nearest(check, list(CHECKS))}")
        if not because.strip():
            raise DatafixError("A check is left out without a reason: add because='...'.")
        self.left_out |= dict.fromkeys(checks, because)

    @property
    def down_to(self) -> str:
        """The target of a downgrade."""
        return self.target.parents[0] if self.target.parents else "base"

    def pristine(self) -> Database:
        """The database before the fix, for checks; the test's own if the test did not apply the fix."""
        return self.seeded or self.database

    def copy(self, database: Database) -> Database:
        """A copy that is dropped after the test."""
        copy = self.session.databases.create(database)
        self._ends.callback(self.session.databases.drop, copy)
        return copy

    def run_in(self, database: Database) -> Run:
        """The newest run of the fix.

        Raises:
            DatafixError: the ledger has none, because the migration does not run its fix.
        """
        schema = self.fix.schema_of_audit
        with database.connect() as connection:
            last = last_run(connection, schema, self.fix.name) if self.has_ledger(database) else None
            if last is None:
                raise DatafixError(
                    f"Revision {self.revision} ran, but did not run its fix {self.fix.name}.",
                    hint="Its upgrade() needs op.apply_datafix(fix) or op.record_datafix(fix).",
                )
            return run_of(connection, schema, last.run_id)

    def has_ledger(self, database: Database) -> bool:
        """Whether the ledger exists."""
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
        hint = (
            "The SQL is sent to the server, not to psql: backslash commands and COPY FROM stdin do not work."
        )
    return with_notes(DatafixError(f"{which} fails: {words_of(error)}", detail=statement, hint=hint))


def with_notes(error: DatafixError) -> DatafixError:
    """The error with its detail and hint as notes, which pytest shows, and without its traceback."""
    notes: Mapping[str, str] = {"": error.detail, "hint: ": error.hint}
    if not getattr(error, "__notes__", None):
        for what, note in notes.items():
            if note:
                error.add_note(f"{what}{note}")
    return error.with_traceback(None)
