"""The fixes that the revisions of a project declare, found by name."""

import difflib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datafixes.declaration.fix import DataFix
from datafixes.declaration.recorded import Declared, RecordedFix
from datafixes.errors import DatafixError


@dataclass(frozen=True)
class FixOfRevision:
    """A fix and the revision that declares it, with what that one stands on."""

    revision: str
    path: Path
    fix: Declared
    below: tuple[str, ...] = ()


def fixes_of(scripts: Any) -> list[FixOfRevision]:
    """Every fix that a revision declares at its top, by itself or in a list, from base to head.

    Args:
        scripts: Alembic's ScriptDirectory.
    """
    revisions = reversed(list(scripts.walk_revisions()))
    return [
        FixOfRevision(one.revision, Path(one.path), fix, tuple(one._versioned_down_revisions))
        for one in revisions
        for fix in fixes_in(one.module)
    ]


def revisions_below(scripts: Any, at: Collection[str]) -> frozenset[str]:
    """The revisions at which a database is, and all below; those that this project does not know lead nowhere.

    Args:
        scripts: Alembic's ScriptDirectory.
        at: what the version table holds.
    """
    known = {one.revision for one in scripts.walk_revisions()}
    heads = tuple(one for one in at if one in known)
    return (
        frozenset(one.revision for one in scripts.iterate_revisions(heads, "base")) if heads else frozenset()
    )


def fixes_in(module: object) -> Iterator[Declared]:
    """The fixes that a module holds."""
    seen: list[Declared] = []
    for value in vars(module).values():
        for one in value if isinstance(value, list | tuple) else (value,):
            if isinstance(one, DataFix | RecordedFix) and not any(one is fix for fix in seen):
                seen.append(one)
                yield one


def fix_named(fixes: list[FixOfRevision], name: str) -> FixOfRevision:
    """The one fix of a name; where several revisions declare the very same, the first.

    Raises:
        DatafixError: there is none, with the nearest names; or there are several.
    """
    found = [one for one in fixes if one.fix.name == name]
    if len({one.fix.fingerprint for one in found}) == 1:
        return found[0]
    if found:
        places = ", ".join(one.revision for one in found)
        raise DatafixError(f"The fix {name} is declared by several revisions: {places}.", hint="Rename one.")
    raise DatafixError(f"No revision declares a fix {name}.{nearest(name, (one.fix.name for one in fixes))}")


def nearest(name: str, known: Iterator[str] | list[str]) -> str:
    """`` Did you mean ...?`` with up to three names that look alike; or else which there are."""
    names = sorted(set(known))
    if near := difflib.get_close_matches(name, names, n=3, cutoff=0.5):
        return f" Did you mean {' or '.join(near)}?"
    if not names:
        return " There are none."
    return f" There are: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}."
