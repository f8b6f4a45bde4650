"""Finds fixes at or below the database's revision that did not run: somebody stamped past them."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from datafixes.audit.history import ask, ledger_schemas
from datafixes.declaration.project_fixes import FixOfRevision
from datafixes.script.literal import qualified, text
from datafixes.script.tables import LEDGER, NEWEST_FIRST, NOT_A_PART

_IN_PARTS = {"running": "is half done, and has not ended", "taken_back": "was taken back before it had ended"}


@dataclass(frozen=True)
class StampedPast:
    """A fix at or below the database's revision that is neither in force nor declined.

    Attributes:
        fix: its name.
        revision: the revision that declares it.
        why: its state in the ledger, in words.
        remedy: what to do.
    """

    fix: str
    revision: str
    why: str
    remedy: str


def stamped_past(
    connection: Connection, fixes: Iterable[FixOfRevision], below: Collection[str]
) -> list[StampedPast]:
    """The fixes that were stamped past.

    Args:
        connection: the ledger's database.
        fixes: the project's fixes.
        below: the revisions at or below the database's.
    """
    ledgers = ledger_schemas(connection)
    found: dict[str, StampedPast] = {}
    names: set[str] = set()
    for one in fixes:
        if one.fix.name in names:  # declared again, by a revision that reverts it
            continue
        names.add(one.fix.name)
        if one.revision in below and (why := _why(connection, one, ledgers)):
            remedy = _remedy(one, has_ledger=one.fix.schema_of_audit in ledgers)
            found[one.fix.name] = StampedPast(one.fix.name, one.revision, why, remedy)
    return list(found.values())


def _remedy(one: FixOfRevision, *, has_ledger: bool) -> str:
    below = " ".join(one.below) or "base"
    if not has_ledger:  # its creation was stamped past too, and nothing can be recorded without it
        return (
            f"The schema {one.fix.schema_of_audit} has no ledger: if no later revision has run, alembic stamp the "
            f"parent of the revision that creates the audit table {one.fix.tables[0].audit}; then alembic upgrade "
            f"{one.revision}. Otherwise create the table and apply the fix in new revisions."
        )
    return (
        f"If no later revision has run: alembic stamp {below}; then alembic upgrade {one.revision}, or decline it: "
        f"alembic -x decline='{one.fix.name}: WHY' upgrade {one.revision}. Otherwise apply it in a new revision."
    )


def _why(connection: Connection, one: FixOfRevision, ledgers: list[str]) -> str:
    schema = one.fix.schema_of_audit
    last = (
        ask(
            connection,
            f"SELECT run_id, direction, revision, outcome FROM {qualified(schema, LEDGER)} AS r"
            f" WHERE fix = {text(one.fix.name)} AND {NOT_A_PART} ORDER BY outcome IN ('started', 'failed'), {NEWEST_FIRST} LIMIT 1",
        )
        if schema in ledgers
        else []
    )
    if not last:
        return "the ledger has no run of it"
    [(run, direction, revision, outcome)] = last
    if outcome in ("started", "failed"):
        return f"run {run} of it failed, and none succeeded"
    if outcome in _IN_PARTS:
        return f"run {run} of it {_IN_PARTS[outcome]}"
    # A later revision may have reverted it on purpose; its own downgrade would have moved the version.
    if direction == "revert" and revision == one.revision:
        return f"run {run}, its downgrade, reverted it"
    return ""
