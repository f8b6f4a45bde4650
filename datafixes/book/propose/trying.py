"""Tries pending revisions before a proposal is based on them: one that cannot run would block all later ones."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING

from datafixes.audit.changes import View
from datafixes.audit.wording import named
from datafixes.book.rows.source import lambda_of
from datafixes.book.settings import BookSettings
from datafixes.errors import DatafixError
from datafixes.plan.making import make_plan
from datafixes.plan.wish import Wish
from datafixes.running.execution import limits_of

if TYPE_CHECKING:
    from datafixes.book.propose.pending import Pending
    from datafixes.plan.planned import Refusal
    from datafixes.project import Project

# Errors of the environment prove nothing about the fix: a lock or a serialization failure, a cancelled statement or a
# server shutdown, missing privileges, a read-only server, a lost connection.
_PASSING = ("55P03", "40", "57", "42501", "25006", "08", "53")


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
