"""Groups of settings and commands beside the engine's own: an application that is built on it, such as the book."""

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
        title: what the application is about, as a heading goes on: "the trading book".
        settings: its settings, in the order in which they are shown.
        switch: the setting that says whether a project uses it: it does where some place has a value.
        commands: what each of its commands does, in the order in which they are used.
    """

    title: str
    settings: tuple[Setting, ...]
    switch: str
    commands: Mapping[str, str]

    def is_used(self, sources: Sources) -> bool:
        """Whether a project uses it, as its settings say."""
        return any(setting.name == self.switch and sources.first(setting)[0] for setting in self.settings)


def groups() -> tuple[list[Group], list[DatafixError]]:
    """The groups of all installed packages, and why others cannot be had."""
    found: list[Group] = []
    failures: list[DatafixError] = []
    for extension in extensions(ENTRY_POINTS):
        try:
            found.append(extension.load(Group))
        except DatafixError as error:
            failures.append(error)
    return found, failures


def options_of_groups(unknown: str) -> list[Setting] | None:
    """The settings of all groups; None: one of them cannot be had, and nobody knows whether the option is its own."""
    found, failures = groups()
    for failure in failures:
        _logger.warning("alembic.ini [datafixes] %s was not checked: %s", unknown, failure.message)
    return None if failures else [setting for group in found for setting in group.settings]
