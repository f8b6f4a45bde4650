"""The fixture ``datafix``: gives a test fixes by revision or name, each with its own database."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType

from datafixes.errors import DatafixError
from datafixes.testing.checks import Report
from datafixes.testing.course import check
from datafixes.testing.session import Session
from datafixes.testing.trial import Trial, with_notes


class Datafix:
    """Creates the databases of a test's fixes, and checks the fixes when the test has passed."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._trials: list[Trial] = []
        self._ends = ExitStack()

    def __enter__(self) -> Datafix:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._ends.close()

    def __call__(self, revision: str | None = None, *, name: str | None = None) -> Trial:
        """Get a fix, with its own database at the parent revision.

        Args:
            revision: the revision that declares the fix, in Alembic's notation: ``015``, its beginning, ``head``.
            name: the fix's name; required only if the revision declares several, or is not given.

        Raises:
            DatafixError: there is no such fix, or no database can be created.
        """
        __tracebackhide__ = True
        try:
            target = self._session.target(revision, name)
            template = self._session.below(target)
            trial = Trial(self._session, target, template, self._ends)
        except DatafixError as error:
            raise with_notes(error) from None
        self._trials.append(trial)
        return trial

    def check(self) -> list[Report]:
        """Check each fix of the test."""
        return [check(trial) for trial in self._trials]
