"""Shared by the tests of a run: the project, the server, and a database at each starting revision."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType

from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from datafixes.declaration.project_fixes import FixOfRevision, fix_named, fixes_in, fixes_of, nearest
from datafixes.errors import DatafixError
from datafixes.project import Project
from datafixes.testing.databases import Database, Databases, words_of
from datafixes.testing.migrations import Migrations
from datafixes.testing.server import VARIABLE, running_server


@dataclass(frozen=True)
class Wishes:
    """The options.

    Attributes:
        root: pytest's root directory, for relative paths.
        config: Alembic's configuration.
        baseline: an SQL file that runs before the first migration, or empty.
        url: the value of ``--datafix-url``, or empty.
        url_in_ini: the URL in pytest's configuration, or empty.
        remote: whether the server may be on another machine.
    """

    root: Path
    config: str = "alembic.ini"
    baseline: str = ""
    url: str = ""
    url_in_ini: str = ""
    remote: bool = False


@dataclass(frozen=True)
class Target:
    """A tested fix, and its place in the chain of revisions.

    Attributes:
        of: the fix and the revision that declares it.
        below: the revision's parents and dependencies; empty for the first revision.
        parents: its parents, to which a downgrade leads.
    """

    of: FixOfRevision
    below: tuple[str, ...]
    parents: tuple[str, ...]


class Session:
    """Starts resources on demand, and ends them after the tests.

    Attributes:
        on_empty: by fix, its result on an empty database, checked once.
    """

    def __init__(self, wishes: Wishes) -> None:
        self._wishes = wishes
        self._ends = ExitStack()
        self._templates: dict[tuple[str, ...], Database] = {}
        # The environment at the beginning, because a test may change it for itself.
        self._environment: Mapping[str, str] = dict(os.environ)
        self.on_empty: dict[tuple[str, str], str] = {}

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._ends.close()

    def target(self, revision: str | None, name: str | None) -> Target:
        """Find a fix by its revision, by its name, or by both.

        Raises:
            DatafixError: there is none, or there are several; the message lists the existing ones.
        """
        if revision is None:
            if name is None:
                raise DatafixError("datafix() needs a revision, or name=NAME.")
            return self._place(fix_named(fixes_of(self._scripts), name))
        script = self._revision(revision)
        found = [FixOfRevision(script.revision, Path(script.path), fix) for fix in fixes_in(script.module)]
        if name is not None:
            return self._place(fix_named(found, name))
        if not found:
            others = ", ".join(f"{one.revision} ({one.fix.name})" for one in fixes_of(self._scripts)[-8:])
            raise DatafixError(
                f"Revision {script.revision} declares no fix.",
                hint=f"Revisions with fixes: {others}."
                if others
                else "Declare a fix at module level of a revision: fix = DataFix(...).",
            )
        if len(found) > 1:
            names = [one.fix.name for one in found]
            raise DatafixError(
                f"Revision {script.revision} declares {len(found)} fixes: {', '.join(names)}.",
                hint=f'Choose one: datafix("{script.revision}", name="{names[0]}").',
            )
        return self._place(found[0])

    def below(self, target: Target) -> Database:
        """A template database at the parent revision of a fix.

        Raises:
            DatafixError: it cannot be created; the message says why.
        """
        if target.below not in self._templates:
            self._templates[target.below] = self._migrated(target.below)
        return self._templates[target.below]

    @cached_property
    def migrations(self) -> Migrations:
        """Runs the project's migrations."""
        return Migrations(self._file)

    @cached_property
    def checking(self) -> Migrations:
        """The same for checks, whose log would hide that of the test."""
        return Migrations(self._file, logging.CRITICAL)

    @cached_property
    def databases(self) -> Databases:
        """The databases, on the requested server."""
        origin, url = self._named
        version = Project.read(str(self._file)).settings.embedded_version
        server = running_server(url, origin, version=version, remote=self._wishes.remote)
        return Databases(self._ends.enter_context(server))

    @property
    def _named(self) -> tuple[str, str]:
        """The origin of the server's URL, and the URL."""
        places = {
            "--datafix-url": self._wishes.url,
            f"environment {VARIABLE}": self._environment.get(VARIABLE, ""),
            "datafix_url in pytest's configuration": self._wishes.url_in_ini,
        }
        return next(((place, url) for place, url in places.items() if url.strip()), ("", ""))

    @cached_property
    def _file(self) -> Path:
        root, named = self._wishes.root, self._wishes.config
        if (root / named).is_file():
            return root / named
        toml = root / "pyproject.toml"
        if named == "alembic.ini" and toml.is_file() and "[tool.alembic]" in toml.read_text(encoding="utf-8"):
            return toml
        raise DatafixError(
            f"No Alembic project found: no {named} in {root}, pytest's root directory.",
            hint="Set its path in pytest's configuration: datafix_config = path/to/alembic.ini",
        )

    @cached_property
    def _scripts(self) -> ScriptDirectory:
        return self.migrations.scripts()

    def _revision(self, revision: str):  # type: ignore[no-untyped-def]
        known = [script.revision for script in self._scripts.walk_revisions()]
        try:
            script = self._scripts.get_revision(revision)
        except CommandError as error:
            words = " ".join(str(error).split())
            raise DatafixError(f"Revision {revision} not found: {words}.{nearest(revision, known)}") from None
        if script is None:
            raise DatafixError(f"Revision {revision} does not exist.{nearest(revision, known)}")
        return script

    def _place(self, of: FixOfRevision) -> Target:
        script = self._scripts.get_revision(of.revision)
        parents = _tuple(script.down_revision)
        return Target(of, (*parents, *_tuple(script.dependencies)), parents)

    def _migrated(self, revisions: tuple[str, ...]) -> Database:
        database = self._own()
        self._run_baseline(database)
        for revision in revisions:
            try:
                self.migrations.upgrade(database, revision)
            except (DatafixError, DBAPIError) as error:
                words = error.one_line() if isinstance(error, DatafixError) else words_of(error)
                raise DatafixError(
                    f"The migrations up to {revision} cannot run on an empty database: {words}",
                    hint="If they need objects that no migration creates, put them into an SQL file, and set it in "
                    "pytest's configuration: datafix_baseline = path/to/file.sql",
                ) from error
        return database

    def _run_baseline(self, database: Database) -> None:
        if not self._wishes.baseline:
            return
        file = self._wishes.root / self._wishes.baseline
        if not file.is_file():
            raise DatafixError(f"{file} does not exist (datafix_baseline in pytest's configuration).")
        try:
            database.run(file.read_text(encoding="utf-8"))
        except DBAPIError as error:
            words = words_of(error)
            raise DatafixError(
                f"{file} (datafix_baseline in pytest's configuration) fails: {words}"
            ) from error

    def _own(self) -> Database:
        database = self.databases.create()
        self._ends.callback(self.databases.drop, database)
        return database


def _tuple(names: str | tuple[str, ...] | list[str] | None) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names or ())
