"""What every command gets from the main options: the project, its settings and its database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from datafixes.project import Project


@dataclass(frozen=True)
class Where:
    """Which project: the configuration file, its section, and ``-x`` options."""

    config: str | None
    section: str
    flags: tuple[str, ...]

    def project(self) -> Project:
        """Read the configuration.

        Raises:
            DatafixError: there is none, or a setting means nothing.
        """
        from datafixes.project import Project  # Alembic takes its time, and --help does not need it

        return Project.read(self.config, self.section, self.flags)


pass_where = click.make_pass_decorator(Where)
"""Gives a command the :class:`Where` of the main options as its first argument."""
