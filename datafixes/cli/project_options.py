"""The main options, for every command: the project, its settings and its database."""

from __future__ import annotations

import configparser
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from datafixes.errors import SettingError
from datafixes.settings.setting import Sources
from datafixes.settings.toml import options_of

if TYPE_CHECKING:
    from datafixes.project import Project


@dataclass(frozen=True)
class Where:
    """The project: the configuration file, its section, ``-x`` options, and the directory of env.py.

    Attributes:
        elsewhere: reads the project from another place than a file, as for Flask-Migrate.
    """

    config: str | None
    section: str
    flags: tuple[str, ...]
    scripts: str | None = None
    elsewhere: Callable[[Where], Project | None] | None = None

    def project(self) -> Project:
        """Read the configuration.

        Raises:
            DatafixError: there is none, or a setting is invalid.
        """
        from datafixes.project import Project  # Alembic is slow to import, and --help does not need it

        found = self.elsewhere(self) if self.elsewhere is not None else None
        return found or Project.read(self.config, self.section, self.flags, self.scripts)

    def sources(self) -> Sources:
        """The origins of settings that can be read without Alembic: for ``--help``."""
        pairs = (flag.partition("=") for flag in self.flags)
        ini, toml = _options(self.config)
        return Sources({name: value for name, _, value in pairs}, os.environ, ini, toml=toml)


def _options(config: str | None) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """[datafixes] of alembic.ini, [tool.datafixes] of pyproject.toml; errors are ignored, so that ``--help`` works."""
    is_toml = config is not None and config.endswith(".toml")
    ini: Mapping[str, str] = {}
    toml: Mapping[str, str] = {}
    parser = configparser.ConfigParser(interpolation=None)
    with suppress(OSError, ValueError, KeyError, configparser.Error):
        parser.read_string(
            Path(config if config and not is_toml else "alembic.ini").read_text(encoding="utf-8")
        )
        ini = dict(parser["datafixes"])
    with suppress(SettingError):
        toml = options_of(Path(config if config and is_toml else "pyproject.toml"))
    return ini, toml


pass_where = click.make_pass_decorator(Where)
"""Gives a command the :class:`Where` of the main options as its first argument."""


def place_options(command: Any) -> Any:
    """Options of a command that writes a revision, as ``alembic revision`` has them: its id, parent and folder."""
    options = (
        click.option("--rev-id", metavar="ID", help="Id of the revision."),
        click.option("--head", metavar="REVISION", help="Parent, if there are several heads."),
        click.option("--version-path", metavar="PATH", help="Folder, if there are several."),
    )
    for option in reversed(options):
        command = option(command)
    return command
