"""The inputs of a proposal: the differences, the book's table, the broker's fills, pending revisions."""

import datetime as dt
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from datafixes.book.broker.protocol import Broker
from datafixes.book.compare.reconciling import Reconciliation
from datafixes.book.positions.position import Difference, Fill, Unknown
from datafixes.book.propose.closing import A_MOMENT
from datafixes.book.propose.conditions import Target, witness_of
from datafixes.book.propose.pending import Pending, pending_of
from datafixes.book.rows.book import OtherRow, read_others
from datafixes.book.rows.source import alembic_versions, book_columns, book_table, lambda_of
from datafixes.book.settings import BookSettings
from datafixes.drafting.copies import copies_of, planned_audit_tables
from datafixes.drafting.survey import see_as_a_run, table_seen
from datafixes.errors import DatafixError
from datafixes.project import Project


@dataclass(frozen=True)
class Findings:
    """The inputs of a proposal.

    Attributes:
        found: the comparison.
        kinds: the kinds of differences to propose.
        target: the book's table.
        fills: by account, the broker's fills in the symbols of its phantoms, or why they are unknown.
        pending: the changes of pending revisions.
        others: rows of the phantoms' symbols that are not open.
        account: the only account to propose for; empty for all.
        trusted: whether the operator vouches for all keys.
        witness: a condition that holds only in the database of this book; empty if there is none.
        revision: the id of the new revision, which becomes part of the fixes' names.
    """

    found: Reconciliation
    kinds: Collection[str]
    target: Target
    fills: Mapping[str, Sequence[Fill] | Unknown] = field(default_factory=dict)
    pending: Pending = field(default_factory=Pending)
    others: Sequence[OtherRow] = ()
    account: str = ""
    trusted: bool = False
    witness: str = ""
    revision: str = "0"


def gather(
    project: Project,
    broker: Broker,
    found: Reconciliation,
    kinds: Collection[str],
    say: Callable[[str], None],
) -> Findings:
    """The inputs of a proposal.

    Args:
        project: its revisions and its database.
        broker: is asked how the phantoms were closed.
        found: the comparison.
        kinds: the kinds of differences to propose.
        say: takes a warning.

    Raises:
        DatafixError: the book cannot be read, or has no audit table.
    """
    settings = BookSettings.of(project.settings)
    (schema, table), function = book_table(settings), lambda_of(settings)
    columns, at = book_columns(project), alembic_versions(project)
    if not columns:
        raise DatafixError(
            f"The columns of {schema}.{table} cannot be read.", hint="Is it a table of this database?"
        )
    pending = pending_of(project.scripts, project.fixes(), (schema, table), at)
    audit_schema, audit = _audit_table(project, schema, table, say)
    if function:
        say(
            f"The book was read through the Lambda {function}, which only answers SELECT: alembic upgrade needs the "
            "database itself."
        )
    target = Target(schema, table, columns, audit, audit_schema)
    fills, others = _closings(project, broker, found, say) if "phantom" in kinds else ({}, ())
    witness = witness_of(project, target) if "missing" in kinds else ""
    return Findings(found, kinds, target, fills, pending, others, witness=witness)


def _closings(
    project: Project, broker: Broker, found: Reconciliation, say: Callable[[str], None]
) -> tuple[Mapping[str, Sequence[Fill] | Unknown], Sequence[OtherRow]]:
    """The broker's fills in the symbols of the phantoms since they were opened, and rows of the book closed there."""
    rows = {row.id: row for row in found.book.rows}
    fills: dict[str, Sequence[Fill] | Unknown] = {}
    asked: list[Difference] = []
    since: list[dt.datetime] = []
    for account in found.answers:
        phantoms = [
            one for one in found.comparison.differences if one.kind == "phantom" and one.account == account
        ]
        opened = [time for one in phantoms for id_ in one.rows if (time := rows[id_].opened_at)]
        if not opened:
            continue
        answer = broker.fills(account, {one.symbol for one in phantoms}, after=min(opened))
        if isinstance(answer, Unknown):
            say(
                f"It is unknown how the phantoms of {account} were closed, so their exits are neutral: {answer.why}"
            )
        fills[account] = answer
        asked += phantoms
        since.append(min(opened))
    return fills, (
        read_others(project, {one.symbol for one in asked}, min(since) - A_MOMENT) if since else ()
    )


def _audit_table(project: Project, schema: str, table: str, say: Callable[[str], None]) -> tuple[str, str]:
    """The audit table: from the database, or if it cannot be reached, from the revisions."""
    if lambda_of(BookSettings.of(project.settings)):
        planned = [one for target, one in planned_audit_tables(project) if target == (schema, table)]
        copies = planned[-1] if planned else None
    else:
        with project.reading() as connection:
            see_as_a_run(connection)
            copies = copies_of(connection, project, table_seen(connection, schema, table), None)
    if copies is None or copies.state == "missing":
        raise DatafixError(
            f"{schema}.{table} has no audit table, and no revision creates one.",
            hint=f'Create it first, in a revision: op.create_audit_table("{table}", name="{table}_audit")',
        )
    if copies.state == "outgrown":
        say(
            f"{copies.schema}.{copies.name} lacks {', '.join(copies.missing)}: update it first with "
            f'op.update_audit_table("{table}", name="{copies.name}").'
        )
    return copies.schema, copies.name
