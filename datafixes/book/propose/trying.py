"""Tries what has not run yet before anything is built on it: a revision that cannot run stops all that come after."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING

from datafixes.audit.changes import View
from datafixes.book.rows.source import lambda_of
from datafixes.book.settings import BookSettings
from datafixes.errors import DatafixError
from datafixes.plan.making import Wish, make_plan
from datafixes.running.execution import limits_of

if TYPE_CHECKING:
    from datafixes.book.propose.pending import Pending
    from datafixes.plan.planned import Refusal
    from datafixes.project import Project

# Who is in the way, how long it takes, and which role it is say nothing about the fix: a lock or a serialization, a
# statement that was cancelled or a server that ends, privileges, a server that only reads, a lost connection.
_PASSING = ("55P03", "40", "57", "42501", "25006", "08", "53")


def check_pending_runs(project: Project, pending: Pending, target: str, say: Callable[[str], None]) -> None:
    """Run the revisions that have not run yet, keep nothing, and refuse where one of them cannot.

    Args:
        project: its revisions and its database.
        pending: what has not run.
        target: the revision that something is to be built on, or ``heads``.
        say: takes a line for whoever waits.

    Raises:
        DatafixError: one of them cannot run, or nobody can try it. It says which, why, and what goes on.
    """
    if not pending.waiting:
        return
    waiting = f"revision{'' if len(pending.waiting) == 1 else 's'} {', '.join(pending.waiting)}"
    if function := lambda_of(BookSettings.of(project.settings)):
        raise DatafixError(
            f"Nothing was written: whether {waiting} can still run, which did not run yet, cannot be tried through "
            f"the Lambda {function}.",
            hint="Propose where the database itself can be reached, or run it first: alembic upgrade head",
        )
    say(f"Trying {waiting}, not run yet; nothing of it is kept.")
    view = View(masks=project.settings.mask)
    plan = make_plan(project.config, Wish(target, view=view, limits=limits_of(project.settings)))
    if plan.refusal is not None:
        raise _refused(project, plan.refusal)


def _refused(project: Project, refusal: Refusal) -> DatafixError:
    """What stands in the way, and the ways past it."""
    fixes = [one for one in project.fixes() if one.revision == refusal.revision]
    named = [one for one in fixes if one.fix.name in refusal.message] or fixes
    if not named or refusal.sqlstate.startswith(_PASSING):
        return DatafixError(
            f"Nothing was written: revision {refusal.revision} has not run in this database, and could not be tried: "
            f"{refusal.message}",
            detail=refusal.detail,
            hint=refusal.hint,
        )
    one = max(named, key=lambda one: len(one.fix.name))
    name, why = one.fix.name, refusal.message.removeprefix(f"datafix {one.fix.name}: ")
    decline = shlex.quote(f"{name}: WHY")
    return DatafixError(
        f"Nothing was written: {name} (revision {one.revision}) has not run in this database, and cannot: {why}",
        detail=refusal.detail,
        hint=f"Where it is applied nowhere, correct or delete {one.path}; or say that it is not to run here: alembic"
        f" -x decline={decline} upgrade head. Then propose again.",
    )
