"""How a plan ends before its target: where the upgrade would be refused, or where the plan cannot go on."""

import re
from collections.abc import Collection, Sequence

from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from datafixes.errors import DatafixError
from datafixes.plan.planned import PlannedStep, Refusal, Unplannable, target_after
from datafixes.plan.rollback_only import NEVER_COMMITTED, WouldCommit
from datafixes.plan.uncommitted import Commit, is_of_autocommit_block
from datafixes.plan.wish import Wish
from datafixes.running.execution import failure
from datafixes.running.operation import DatafixFailed

_DROPS_COPIES = (
    "If autogenerate wrote it, remove the operations on {} from the revision: reverts of fixes need that table. "
    "To find why autogenerate wrote it: datafixes doctor"
)
_IN_ONE = (
    "env.py lets the upgrade run all revisions in one transaction, too. Upgrade to {after} first: {command}. "
    "Or pass transaction_per_migration=True to context.configure()."
)


def error_of(error: BaseException, what: str, copies: Collection[str], *, masked: bool) -> DatafixError:
    """What a revision raised, in one line.

    Args:
        error: what it raised.
        what: the subject: ``revision b``, ``its downgrade()``.
        copies: the names of audit tables and ledgers; for these, PostgreSQL's own hint would be DROP ... CASCADE.
        masked: columns are masked.
    """
    if isinstance(error, DatafixFailed):
        return error.error
    if is_of_autocommit_block(error) or NEVER_COMMITTED in str(error):
        return DatafixError(f"{what} commits by itself, and a plan commits nothing")
    if isinstance(error, WouldCommit):
        return DatafixError(error.message.replace("This plan: its body", what))
    if isinstance(error, DatafixError):
        return error
    if isinstance(error, CommandError):
        return DatafixError(" ".join(str(error).split()))
    if not isinstance(error, DBAPIError):
        return DatafixError(f"{what}: {type(error).__name__}: {' '.join(str(error).split())}")
    failed = failure(error, what, masked=masked)
    words = (error.statement or "").split()
    name = words[-1].rpartition(".")[2].strip('"') if words[:2] == ["DROP", "TABLE"] else ""
    if name in copies:
        failed.hint = _DROPS_COPIES.format(name)
    return failed


def refused(revision: str, error: DatafixError) -> Refusal:
    """Where the upgrade fails."""
    return Refusal(revision, error.message, error.hint, error.detail, getattr(error, "sqlstate", ""))


def ended(
    revision: str, error: DatafixError, lacking: Commit, steps: Sequence[PlannedStep], wish: Wish
) -> Refusal | Unplannable:
    """How a plan ends at a revision that fails for lack of a commit.

    Args:
        revision: the revision.
        error: what it raised.
        lacking: the commit that it needs.
        steps: those that the plan has run.
        wish: what was to be planned.
    """
    down, count = wish.downgrade, len(steps) + (lacking == "its own")
    target = target_after([*steps, PlannedStep(revision, "", ())][:count], down=down)
    after = revision if lacking == "its own" else steps[-1].revision
    command = " ".join(["alembic", *wish.flags, "downgrade" if down else "upgrade", target])
    if lacking == "of others, refused":
        error.hint = _IN_ONE.format(after=after, command=command)
        return refused(revision, error)
    rest = " ".join(["datafixes plan", *["--downgrade"] * down, *[wish.revision] * (wish.revision != "head")])
    if not re.fullmatch(
        r"(?:[^@]*@)?[+-]\d+", wish.revision
    ):  # a relative target would be counted from there
        command = f"{command} && {rest}"
    to = f"Downgrade {count} revisions" if down else f"Upgrade to {after}"
    hint = f"{to}, and plan the rest from there: {command}"
    return Unplannable(revision, after, error.message, hint, getattr(error, "sqlstate", ""))
