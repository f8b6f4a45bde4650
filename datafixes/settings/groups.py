"""Settings and commands of applications that are built on the engine, such as the book: found by entry points."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, EntryPoint, distributions
from typing import TypeVar

from datafixes.errors import DatafixError
from datafixes.settings.setting import Setting, Sources

T = TypeVar("T")


@dataclass(frozen=True)
class Extension:
    """An entry point of an installed package.

    Attributes:
        name: its name.
        distribution: the package.
        entry: the entry point.
    """

    name: str
    distribution: str
    entry: EntryPoint

    def load(self, kind: type[T]) -> T:
        """Import it.

        Args:
            kind: its expected type.

        Raises:
            DatafixError: it cannot be imported, or has another type; the message names the package.
        """
        try:
            found = self.entry.load()
        # A package may fail in any way while it is imported; that must not end another command.
        except (Exception, SystemExit) as error:
            raise self._broken(" ".join(f"{type(error).__name__}: {error}".split())) from error
        if not isinstance(found, kind):
            raise self._broken(f"{self.entry.value} is not a {kind.__module__}.{kind.__qualname__}")
        return found

    def _broken(self, why: str) -> DatafixError:
        return DatafixError(
            f"{self.name} ({self.entry.group}) of the package {self.distribution} cannot be loaded: {why}",
            hint=f"Install another version of {self.distribution}, or uninstall it.",
        )


@cache
def extensions(group: str) -> tuple[Extension, ...]:
    """The entry points of a group, the first of each name, in the order of ``sys.path``; not loaded."""
    found: dict[str, Extension] = {}
    for distribution in distributions():
        for entry in _entries(distribution, group):
            found.setdefault(entry.name, Extension(entry.name, distribution.name, entry))
    return tuple(found.values())


def _entries(distribution: Distribution, group: str) -> Iterator[EntryPoint]:
    try:
        # Most packages have none, and parsing all metadata is slow.
        if f"[{group}]" in (distribution.read_text("entry_points.txt") or ""):
            yield from (entry for entry in distribution.entry_points if entry.group == group)
    except Exception:  # a damaged installation
        return


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


def options_of_groups(place: str, unknown: str) -> list[Setting] | None:
    """The settings of all groups; None: a group cannot be loaded, so an unknown option may be its own."""
    found, failures = groups()
    for failure in failures:
        _logger.warning("%s %s was not checked: %s", place, unknown, failure.message)
    return None if failures else [setting for group in found for setting in group.settings]
