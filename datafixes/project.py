"""An Alembic project for the commands: its settings, revisions, fixes and database."""

from __future__ import annotations

import argparse
import configparser
import inspect
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from datafixes.audit.images import PINNED
from datafixes.database.connection import open_connection
from datafixes.database.location import locate
from datafixes.declaration.project_fixes import FixOfRevision, fixes_of, where_raised, wrong_declaration
from datafixes.errors import DatafixError
from datafixes.running.execution import failure
from datafixes.running.operation import KNOWN, settings_of
from datafixes.settings import URL_OPTION, Settings

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


CHOSEN = "datafixes.database"
"""The key under which Alembic's configuration keeps the name of the database, of a project that has several."""

OTHER_ENVIRONMENT = (
    f"Run datafixes where the project's packages are installed; this is {sys.executable}. "
    "A package of the project's own is found through prepend_sys_path in alembic.ini."
)
"""What to do if env.py or a revision imports a module that is missing."""


class Project:
    """An Alembic project.

    Attributes:
        config: Alembic's configuration, with or without a file.
        settings: the settings, as a run of Alembic would have them.
    """

    def __init__(self, config: Config, settings: Settings) -> None:
        self.config = config
        self.settings = settings

    @classmethod
    def read(
        cls,
        file: str | None = None,
        section: str = "alembic",
        flags: tuple[str, ...] = (),
        scripts: str | None = None,
    ) -> Project:
        """Read the configuration as Alembic does.

        Args:
            file: the ini file or pyproject.toml; by default ``alembic.ini`` and ``pyproject.toml``, if they exist.
            section: the section of the ini file; of several databases, the one of a database.
            flags: ``name=value``, as after ``alembic -x``.
            scripts: the directory of env.py, if the file does not name it, as with Flask-Migrate.

        Raises:
            DatafixError: the file does not exist, or a setting is invalid.
        """
        if file is not None and not Path(file).is_file():
            raise DatafixError(f"{file} does not exist.", hint="Name Alembic's configuration with -c FILE.")
        if scripts is not None:
            if not Path(scripts, "env.py").is_file():
                raise DatafixError(
                    f"{scripts} has no env.py.", hint="Name the directory of env.py with -d DIR."
                )
            inside = Path(scripts, "alembic.ini")
            file = file or (str(inside) if inside.is_file() and not Path("alembic.ini").is_file() else None)
        config = _config(file, section, flags)
        if _is_of_a_database(config, section):
            config = _config(file, "alembic", flags)
            url = (config.get_section(section, {}) or {})[URL_OPTION]
            config.attributes |= {CHOSEN: section, KNOWN: {"url": (url, f"alembic.ini [{section}]")}}
        if scripts is not None:
            config.set_main_option("script_location", scripts.replace("%", "%%"))
        return cls.of(config, flags)

    @classmethod
    def of(cls, config: Config, flags: tuple[str, ...] = ()) -> Project:
        """The project of a configuration that somebody else has read.

        Raises:
            DatafixError: a setting is invalid.
        """
        pairs = {name: value for name, _, value in (flag.partition("=") for flag in flags)}
        return cls(config, settings_of(config, pairs))

    @property
    def directory(self) -> Path:
        """The directory of the configuration, or else the current directory."""
        file = self.config.config_file_name
        return Path(file).resolve().parent if file and Path(file).exists() else Path.cwd()

    @cached_property
    def scripts(self) -> ScriptDirectory:
        """The revisions.

        Raises:
            DatafixError: there is no Alembic project here, or its revisions cannot be read.
        """
        try:
            _name_folders(self.config)
            found = ScriptDirectory.from_config(self.config)
            roots = _prepended(self.config)
            found.version_locations = [
                str(folder_of(one, roots, "version_locations")) for one in found.version_locations or ()
            ]
            return found
        except CommandError as error:
            raise DatafixError(
                f"No Alembic project found: {error}",
                hint="Change to the directory of alembic.ini, or name the file with -c FILE, or the directory of "
                "env.py with -d DIR.",
            ) from None
        except (ValueError, configparser.Error) as error:
            raise DatafixError(f"The configuration cannot be read: {' '.join(str(error).split())}") from None

    def heads(self) -> list[str]:
        """The heads of the chain; every revision file is read for it.

        Raises:
            DatafixError: there is no project here, or one of its revisions cannot be read.
        """
        try:
            return list(self.scripts.get_heads())
        except Exception as error:
            if wrong := wrong_declaration(error):
                raise wrong from error
            if isinstance(error, DatafixError):
                raise
            raise unreadable(error) from error

    def fixes(self) -> list[FixOfRevision]:
        """Every fix that a revision declares, from base to head."""
        self.heads()
        return fixes_of(self.scripts)

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection to the project's database, with no transaction begun.

        Raises:
            DatafixError: no database is configured, or it does not answer.
        """
        with open_connection(locate(self.settings), self.settings) as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection in a read-only transaction, with settings that make the text of values the same everywhere.

        Raises:
            DatafixError: no database is configured, or it does not answer, or a query takes too long.
        """
        with self._transaction("SET TRANSACTION READ ONLY", PINNED) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection in a transaction that is committed: for a flag in the ledger.

        Raises:
            DatafixError: as for :meth:`reading`.
        """
        with self._transaction("SET TRANSACTION READ WRITE") as connection:
            yield connection
            connection.commit()

    @contextmanager
    def _transaction(self, mode: str, more: Sequence[str] = ()) -> Iterator[Connection]:
        with self.connection() as connection:
            statements = (
                mode,
                f"SET LOCAL lock_timeout = '{self.settings.lock_timeout}'",
                f"SET LOCAL statement_timeout = '{self.settings.statement_timeout}'",
                *more,
            )
            try:
                for statement in statements:
                    connection.exec_driver_sql(statement)
                yield connection
            except DBAPIError as error:
                raise failure(error, "the query") from error


def _is_of_a_database(config: Config, section: str) -> bool:
    """Whether a section has the URL of a database and no more, as in Alembic's multidb."""
    options = config.get_section(section, {}) or {}
    return section != "alembic" and URL_OPTION in options and "script_location" not in options


def _name_folders(config: Config) -> None:
    """Write the folder into the configuration where it names a package: Alembic would import that package."""
    option = getattr(
        config, "get_alembic_option", config.get_main_option
    )  # Alembic 1.16 and newer read pyproject.toml
    location = option("script_location")
    if location is not None:
        folder = folder_of(location, _prepended(config), "script_location")
        if folder != location:
            config.set_main_option("script_location", str(folder).replace("%", "%%"))


def _prepended(config: Config) -> list[str]:
    listed = getattr(config, "get_prepend_sys_paths_list", None)  # Alembic 1.16 and newer
    paths = listed() if listed else (config.get_main_option("prepend_sys_path") or "").split()
    return [str(Path(path).resolve()) for path in paths or ()]


def folder_of(location: str, roots: Sequence[str], option: str) -> str:
    """A location of Alembic's as a path: ``package.module:path`` is looked up, and nothing is imported.

    Raises:
        DatafixError: there is no such package, or it has no such folder.
    """
    if os.path.isabs(location) or ":" not in location:
        return location
    name, *path = location.split(":")
    top, *inner = name.split(".")
    spec = PathFinder.find_spec(top, [*roots, *sys.path]) or find_spec(top)
    for root in (spec.submodule_search_locations or ()) if spec is not None else ():
        folder = Path(root, *inner, *path)
        if folder.exists():
            return str(folder.resolve())
    what = (
        f"no package {top} was found"
        if spec is None
        else f"its folder {'/'.join((*inner, *path))} was not found"
    )
    raise DatafixError(
        f"{option} = {location}: {what}.",
        hint='Set prepend_sys_path to the directory that holds the package: "."',
    )


def unreadable(error: Exception) -> DatafixError:
    """The error of a revision file whose own code fails while it is loaded."""
    place = where_raised(error)
    if isinstance(error, KeyError) and not place:  # Alembic's own
        return DatafixError(
            f"The revisions cannot be read: {error.args[0]}, the parent of one of them, is not there.",
            hint="Restore its file, or name its folder in version_locations: datafixes check counts those beside them.",
        )
    words = " ".join(f"{place}{': ' if place else ''}{type(error).__name__}: {error}".split())
    hint = "Correct the file: Alembic cannot load it either."
    if isinstance(error, ModuleNotFoundError):
        hint = OTHER_ENVIRONMENT
    return DatafixError(f"The revisions cannot be read: {words}", hint=hint)


def _config(file: str | None, section: str, flags: tuple[str, ...]) -> Config:
    options = argparse.Namespace(
        x=list(flags) or None, config=file, name=section, raiseerr=False, quiet=False
    )
    toml = file if file and file.endswith(".toml") else "pyproject.toml"
    ini = file if file and file != toml else "alembic.ini"
    # Queries of the ledger need no project: DATABASE_URL alone may name the database.
    given = ini if Path(ini).is_file() else None
    if "toml_file" in inspect.signature(Config).parameters:  # Alembic 1.16 and newer
        return Config(
            given, toml_file=toml if Path(toml).is_file() else None, ini_section=section, cmd_opts=options
        )
    return Config(given, ini_section=section, cmd_opts=options)
