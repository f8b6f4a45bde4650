"""Runs a project's own migrations in this process, only on the database of a test."""

from __future__ import annotations

import contextlib
import io
import logging
import logging.config
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from alembic import command
from datafixes.errors import DatafixError
from datafixes.project import Project
from datafixes.running.operation import DatafixFailed
from datafixes.testing.databases import Database

_URL, _VARIABLE = "sqlalchemy.url", "DATABASE_URL"


class Migrations:
    """The migrations of a project.

    Args:
        file: Alembic's configuration.
        level: the level of their log.
    """

    def __init__(self, file: Path, level: int = logging.INFO) -> None:
        self._file = file
        self._level = level

    def scripts(self) -> ScriptDirectory:
        """The revisions.

        Raises:
            DatafixError: they cannot be read.
        """
        path = list(sys.path)
        try:
            with contextlib.chdir(self._file.parent):
                scripts = Project.read(str(self._file)).scripts
                scripts.get_heads()  # the files are loaded now, while their imports can be found
                return scripts
        finally:
            sys.path[:] = path

    def upgrade(self, database: Database, revision: str, *flags: str) -> None:
        """Run ``alembic upgrade``; flags are the values of ``-x``.

        Raises:
            DatafixError: a fix was refused, or Alembic failed.
        """
        self._run(database, lambda config: command.upgrade(config, revision), *flags)

    def downgrade(self, database: Database, revision: str, *flags: str) -> None:
        """Run ``alembic downgrade``; flags are the values of ``-x``.

        Raises:
            DatafixError: a fix was refused, or Alembic failed.
        """
        self._run(database, lambda config: command.downgrade(config, revision), *flags)

    def script(self, database: Database, revisions: str) -> str:
        """The output of ``alembic upgrade REVISIONS --sql``.

        Raises:
            DatafixError: no script can be made.
        """
        printed = io.StringIO()

        def work(config: Config) -> None:
            config.output_buffer = printed
            command.upgrade(config, revisions, sql=True)

        self._run(database, work)
        return printed.getvalue()

    def _run(self, database: Database, work: Callable[[Config], None], *flags: str) -> None:
        url = database.url.render_as_string(hide_password=False)
        config = Project.read(str(self._file), flags=(f"url={url}", *flags)).config
        own = config.get_main_option(_URL) or ""
        option = _with_driver_of(own, database.url)
        config.set_main_option(_URL, option.replace("%", "%%"))
        variable = _with_driver_of(os.environ.get(_VARIABLE, ""), database.url)
        with (
            contextlib.chdir(self._file.parent),
            _surroundings(variable, self._level),
            _on_no_other(database),
        ):
            try:
                work(config)
            except DatafixFailed as failed:
                raise failed.error from None
            except CommandError as error:
                raise DatafixError(str(error)) from error
            except SystemExit as ended:
                _tell(ended)


def _tell(ended: SystemExit) -> NoReturn:
    """Raised by an env.py instead of ending the process, if a script cannot be printed."""
    cause = ended.__context__
    if isinstance(cause, DatafixFailed):
        raise cause.error from None
    raise DatafixError(str(cause or ended.code)) from ended


def _with_driver_of(text: str, url: URL) -> str:
    """The database of a test, with the driver of the project's own URL."""
    try:
        driver = make_url(text).drivername if text else ""
    except (ArgumentError, ValueError):
        driver = ""
    if driver.startswith("postgresql+"):
        url = url.set(drivername=driver)
    return url.render_as_string(hide_password=False)


@contextlib.contextmanager
def _surroundings(url: str, log_level: int) -> Iterator[None]:
    """The environment for an env.py: this database, and none of the settings of the user who runs the tests.

    Its changes to logging and to the import path are prevented or undone, because other tests follow.
    """
    environment, path = dict(os.environ), list(sys.path)
    configure = logging.config.fileConfig, logging.config.dictConfig
    logger = logging.getLogger("alembic")
    level = logger.level
    for name in environment:
        if name.startswith("DATAFIXES_"):
            del os.environ[name]
    os.environ[_VARIABLE] = url
    logging.config.fileConfig = logging.config.dictConfig = _nothing
    logger.setLevel(log_level)
    try:
        yield
    finally:
        logger.setLevel(level)
        logging.config.fileConfig, logging.config.dictConfig = configure
        sys.path[:] = path
        os.environ.clear()
        os.environ.update(environment)


def _nothing(*_: Any, **__: Any) -> None:
    """Do not change logging."""


@contextlib.contextmanager
def _on_no_other(database: Database) -> Iterator[None]:
    """Refuse to migrate another database, whatever its origin, before a statement runs there."""
    configure = EnvironmentContext.configure

    def check_and_configure(
        self: EnvironmentContext, connection: Any = None, *more: Any, **options: Any
    ) -> None:
        if connection is not None and (found := _name_of(connection)) != database.name:
            raise DatafixError(
                f"env.py connects to the database {found} instead of the test's. Nothing was run there.",
                hint="Let env.py take the database from -x url, from config's sqlalchemy.url, or from DATABASE_URL, as "
                "datafixes.environment.run_migrations does.",
            )
        configure(self, connection, *more, **options)

    EnvironmentContext.configure = check_and_configure  # type: ignore[method-assign]
    try:
        yield
    finally:
        EnvironmentContext.configure = configure  # type: ignore[method-assign]


def _name_of(connection: Any) -> str:
    """The database of a connection, found without a statement, which would begin a transaction."""
    info = getattr(connection.connection.dbapi_connection, "info", None)
    return str(getattr(info, "dbname", None) or connection.engine.url.database)
