"""The order of revisions, according to their files."""

import ast
from collections.abc import Iterable, Mapping
from functools import cached_property

from datafixes.check.finding import Finding
from datafixes.check.following import strings_of, values_of
from datafixes.check.module import Module

_LONGEST_ID = 32


def revision_of(module: Module) -> str:
    """The revision's id; empty if the file does not show it."""
    return next(iter(_ids(module, "revision")), "")


def id_findings(module: Module) -> list[Finding]:
    """Findings about the revision's id."""
    given = module.bindings.get(module.source.tree, {}).get("revision", [])
    if not given and "revision" not in module.imports:
        return [Finding("FIX102", module.source.shown, 1, 1, "The file has no revision id.", (1, 1))]
    name = revision_of(module)
    if len(name) > _LONGEST_ID:
        message = f"The revision id {name} has {len(name)} characters."
        return [module.finding("FIX103", given[0].value, message)]
    return []


def _ids(module: Module, name: str) -> list[str]:
    """The revisions that ``revision``, ``down_revision`` or ``depends_on`` names."""
    found: list[str] = []
    for binding in module.bindings.get(module.source.tree, {}).get(name, []):
        for value in values_of(module, binding.value):
            parts = value.elts if isinstance(value, ast.Tuple | ast.List | ast.Set) else [value]
            for part in parts:
                found += strings_of(module, part)
    return found


class Chain:
    """The revisions of a project, and their order.

    Attributes:
        by_revision: id -> revision.
    """

    def __init__(self, modules: Iterable[Module]) -> None:
        given = list(modules)
        self.by_revision = {revision_of(one): one for one in reversed(given) if revision_of(one)}
        self._below = {
            revision: tuple(dict.fromkeys([*_ids(one, "down_revision"), *_ids(one, "depends_on")]))
            for revision, one in self.by_revision.items()
        }

    def below(self, revision: str) -> frozenset[str]:
        """The ancestors of a revision."""
        return self._reached(revision, self._below)

    def above(self, revision: str) -> frozenset[str]:
        """The descendants of a revision."""
        return self._reached(revision, self._above)

    @cached_property
    def _above(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {revision: [] for revision in self._below}
        for revision, below in self._below.items():
            for one in below:
                if one in found:
                    found[one].append(revision)
        return {revision: tuple(above) for revision, above in found.items()}

    @staticmethod
    def _reached(revision: str, steps: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
        found: set[str] = set()
        waiting = list(steps.get(revision, ()))
        while waiting:
            one = waiting.pop()
            if one not in found and one in steps:
                found.add(one)
                waiting += steps[one]
        return frozenset(found - {revision})

    def ordered(self, modules: Iterable[Module]) -> list[Module]:
        """Revisions from base to head; where their order is open, in the order of file names."""
        places = self._places()
        return sorted(modules, key=lambda one: (places.get(revision_of(one), len(places)), one.source.shown))

    def _places(self) -> dict[str, int]:
        places: dict[str, int] = {}
        for revision in sorted(self._below):
            waiting = [(revision, iter(self._below[revision]))]
            entered = {revision}
            while waiting:
                one, rest = waiting[-1]
                below = next(
                    (b for b in rest if b in self._below and b not in places and b not in entered), None
                )
                if below is None:
                    places.setdefault(one, len(places))
                    waiting.pop()
                else:
                    entered.add(below)
                    waiting.append((below, iter(self._below[below])))
        return places
