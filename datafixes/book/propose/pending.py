"""Pending revisions, and the rows of the book that they will change, which are not proposed again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datafixes.book.positions.symbols import NoSymbol, Symbol, parse_symbol
from datafixes.declaration.fix import DataFix, Insert
from datafixes.declaration.project_fixes import FixOfRevision
from datafixes.errors import DatafixError

_OPERATION = "_datafix("
"""Names of the operations that run or revert a fix."""

Held = tuple[str, Symbol | str]
"""An account and an instrument; a text if that is not a symbol."""


@dataclass(frozen=True)
class Pending:
    """The changes of pending revisions.

    Attributes:
        rows: by id of a row of the book, the revision.
        inserted: by account and symbol of a new row, the revision.
        paths: by revision that declares such a fix, its file.
        waiting: every pending revision that runs or reverts a fix, the oldest first.
    """

    rows: Mapping[int, str] = field(default_factory=dict)
    inserted: Mapping[Held, str] = field(default_factory=dict)
    paths: Mapping[str, Path] = field(default_factory=dict)
    waiting: tuple[str, ...] = ()


def pending_of(
    scripts: Any, fixes: Iterable[FixOfRevision], book: tuple[str, str], at: Collection[str]
) -> Pending:
    """The changes of the book by pending revisions.

    Args:
        scripts: Alembic's ScriptDirectory.
        fixes: every fix of the project.
        book: the schema and the name of the table.
        at: the database's revisions.

    Raises:
        DatafixError: the database is at a revision that the project does not have.
    """
    ran = _below(scripts, at)
    rows: dict[int, str] = {}
    inserted: dict[Held, str] = {}
    paths: dict[str, Path] = {}
    for one in fixes:
        if one.revision in ran:
            continue
        ids, held = _changed(one, book)
        rows |= dict.fromkeys(ids, one.revision)
        inserted |= dict.fromkeys(held, one.revision)
        paths[one.revision] = one.path
    above = [one for one in scripts.walk_revisions() if one.revision not in ran]
    waiting = [one.revision for one in above if one.revision in paths or _OPERATION in _source(one.path)]
    return Pending(rows, inserted, paths, tuple(reversed(waiting)))


def _source(path: str) -> str:
    return Path(path).read_text("utf-8", errors="replace")


def _below(scripts: Any, at: Collection[str]) -> set[str]:
    """These revisions and all their ancestors."""
    known = {script.revision: script for script in scripts.walk_revisions()}
    found: set[str] = set()
    # Another project may have a version table in the same database.
    waiting = [revision for revision in at if revision in known]
    if at and not waiting:
        raise DatafixError(
            f"The database is at revision {', '.join(sorted(at))}, which this project does not have.",
            hint="Update the project's files first; a new revision would not fit the database.",
        )
    while waiting:
        revision = waiting.pop()
        if revision not in found:
            found.add(revision)
            waiting += [*_all(known[revision].down_revision), *_all(known[revision].dependencies)]
    return found


def _all(revisions: str | Iterable[str] | None) -> list[str]:
    if revisions is None:
        return []
    return [revisions] if isinstance(revisions, str) else list(revisions)


def _changed(one: FixOfRevision, book: tuple[str, str]) -> tuple[set[int], set[Held]]:
    """The rows of the book that a fix names, and the positions that it inserts."""
    fix = one.fix
    if isinstance(fix, DataFix) and isinstance(fix.change, Insert):
        if (fix.change.schema, fix.change.table) != book:
            return set(), set()
        return set(), {_held(row) for row in fix.change.rows}
    ids: set[int] = set()
    for table in fix.tables:
        if (table.schema, table.table) != book or table.key_columns != ("id",):
            continue
        keys = (
            [key for key, _ in fix.rows.expected()]
            if isinstance(fix, DataFix)
            else [key for _, key, _ in table.named()]
        )
        ids |= {key[0] for key in keys if isinstance(key[0], int)}
    return ids, set()


def _held(row: Mapping[str, Any]) -> Held:
    written = row.get("option_symbol")
    text = str(row.get("ticker") if written is None else written)
    try:
        return str(row.get("account_name")), parse_symbol(text)
    except NoSymbol:
        return str(row.get("account_name")), text
