"""Entry points of other packages, found by name and loaded on use."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, EntryPoint, distributions
from typing import TypeVar

from datafixes.errors import DatafixError

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
