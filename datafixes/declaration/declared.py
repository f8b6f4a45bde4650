"""The fixes that the revisions of a project declare, found by name."""

import difflib
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datafixes.changes import View
from datafixes.declaration.fix import DataFix
from datafixes.declaration.recorded import Declared, Fix, RecordedFix
from datafixes.declaration.table import Table
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


def names_of_rows(fix: Fix, table: Table, view: View) -> dict[str, str]:
    """What people call the rows that a fix names: by key as text, the identity that it expects.

    Args:
        fix: the fix.
        table: one of its tables.
        view: what may be seen; where an identity or a key reads what may not, there are no names.
    """
    if not table.identity or hidden_identities(table, view) or _reads_hidden(table, table.key_columns, view):
        return {}
    named = fix.rows.expected() if isinstance(fix, DataFix) else ((key, of) for _, key, of in table.named())
    return {
        "/".join(str(part) for part in key): " ".join(str(part) for part in identity if part is not None)
        for key, identity in named
    }


def hidden_identities(table: Table, view: View) -> list[str]:
    """The names of those identities that are called like a masked column, or read one."""
    return [name for name, text in table.identity.items() if _reads_hidden(table, (name, text), view)]


def _reads_hidden(table: Table, texts: Iterable[str], view: View) -> bool:
    words = re.findall(r'"(?:[^"]|"")+"|\w+', " ".join(texts))
    return any(view.hides(f"{table.schema}.{table.table}", word) for word in words)
