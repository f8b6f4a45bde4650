"""Pending revisions: the rows that they will change, which are not proposed again, and whether they can run."""

import shlex
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datafixes.audit.changes import View
from datafixes.audit.wording import named
from datafixes.book.positions.symbols import NoSymbol, Symbol, parse_symbol
from datafixes.book.rows.source import lambda_of
from datafixes.book.settings import BookSettings
from datafixes.declaration.fix import DataFix, Insert
from datafixes.declaration.project_fixes import FixOfRevision, revisions_below
from datafixes.errors import DatafixError
from datafixes.plan.making import make_plan
from datafixes.plan.planned import Refusal
from datafixes.plan.wish import Wish
from datafixes.project import Project
from datafixes.running.execution import limits_of

_OPERATION = "_datafix("
"""Names of the operations that run or revert a fix."""

# Errors of the environment prove nothing about the fix: a lock or a serialization failure, a cancelled statement or a
# server shutdown, missing privileges, a read-only server, a lost connection.
_PASSING = ("55P03", "40", "57", "42501", "25006", "08", "53")


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
    ran = revisions_below(scripts, at)
    if at and not ran:
        raise DatafixError(
            f"The database is at revision {', '.join(sorted(at))}, which this project does not have.",
            hint="Update the project's files first; a new revision would not fit the database.",
        )
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
    waiting = [
        one.revision
        for one in above
        if one.revision in paths or _OPERATION in Path(one.path).read_text("utf-8", errors="replace")
    ]
    return Pending(rows, inserted, paths, tuple(reversed(waiting)))


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


def check_pending_runs(project: Project, pending: Pending, target: str, say: Callable[[str], None]) -> None:
    """Run the pending revisions, roll them back, and refuse if one of them cannot run.

    Args:
        project: its revisions and its database.
        pending: the pending revisions.
        target: the parent of the new revision, or ``heads``.
        say: takes a line of progress.

    Raises:
        DatafixError: one of them cannot run, or cannot be tried. The message says which, why, and how to continue.
    """
    if not pending.waiting:
        return
    waiting = named("revision", pending.waiting)
    if function := lambda_of(BookSettings.of(project.settings)):
        raise DatafixError(
            f"Nothing was written: pending {waiting} cannot be tried through the Lambda {function}.",
            hint="Propose from a machine that reaches the database itself, or run it first: alembic upgrade head",
        )
    say(f"Trying pending {waiting}; it is rolled back.")
    view = View(masks=project.settings.mask)
    plan = make_plan(project.config, Wish(target, view=view, limits=limits_of(project.settings)))
    if plan.refusal is not None:
        raise _refused(project, plan.refusal)
    if (ending := plan.unplannable) is not None:
        raise DatafixError(
            f"Nothing was written: pending revision {ending.revision} cannot be tried: {ending.message}",
            hint=f"Upgrade to {ending.after}: alembic upgrade {ending.after}. Then propose again.",
        )


def _refused(project: Project, refusal: Refusal) -> DatafixError:
    """The refusal, and how to continue."""
    fixes = [one for one in project.fixes() if one.revision == refusal.revision]
    named = [one for one in fixes if one.fix.name in refusal.message] or fixes
    if not named or refusal.sqlstate.startswith(_PASSING):
        return DatafixError(
            f"Nothing was written: pending revision {refusal.revision} could not be tried: {refusal.message}",
            detail=refusal.detail,
            hint=refusal.hint,
        )
    one = max(named, key=lambda one: len(one.fix.name))
    name, why = one.fix.name, refusal.message.removeprefix(f"datafix {one.fix.name}: ")
    decline = shlex.quote(f"{name}: WHY")
    return DatafixError(
        f"Nothing was written: pending fix {name} (revision {one.revision}) cannot run in this database: {why}",
        detail=refusal.detail,
        hint=f"If no database has applied it, correct or delete {one.path}; or decline it for this database: alembic"
        f" -x decline={decline} upgrade head. Then propose again.",
    )
