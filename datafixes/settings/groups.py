"""Settings and commands of applications that are built on the engine, such as the book."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from datafixes.errors import DatafixError
from datafixes.settings.extensions import extensions
from datafixes.settings.setting import Setting, Sources

ENTRY_POINTS = "datafixes.settings"
"""The group of entry points that name a :class:`Group`."""

_logger = logging.getLogger("alembic.datafixes")


@dataclass(frozen=True)
class Group:
    """An application's settings and commands.

    Attributes:
        title: the subject of the application, for headings: "the trading book".
        settings: its settings, in display order.
        switch: a project uses the application if this setting has a value.
        commands: the description of each command, in the order in which they are used.
    """

    title: str
    settings: tuple[Setting, ...]
    switch: str
    commands: Mapping[str, str]

    def is_used(self, sources: Sources) -> bool:
        """Whether a project uses it, according to its settings."""
        return any(setting.name == self.switch and sources.first(setting)[0] for setting in self.settings)


def groups() -> tuple[list[Group], list[DatafixError]]:
    """The groups of all installed packages, and why others cannot be loaded."""
    found: list[Group] = []
    failures: list[DatafixError] = []
    for extension in extensions(ENTRY_POINTS):
        try:
            found.append(extension.load(Group))
        except DatafixError as error:
            failures.append(error)
    return found, failures


def options_of_groups(unknown: str) -> list[Setting] | None:
    """The settings of all groups; None: a group cannot be loaded, so an unknown option may be its own."""
    found, failures = groups()
    for failure in failures:
        _logger.warning("alembic.ini [datafixes] %s was not checked: %s", unknown, failure.message)
    return None if failures else [setting for group in found for setting in group.settings]
