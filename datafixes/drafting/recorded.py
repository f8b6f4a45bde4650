"""Drafts a recorded fix: statements, and the tables that they change."""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy.engine import Connection

from datafixes.audit.changes import View
from datafixes.audit.wording import counts
from datafixes.declaration.recorded import RecordedFix
from datafixes.declaration.table import KINDS, Table
from datafixes.drafting.copies import copies_of, is_taken
from datafixes.drafting.rehearsal import Counts, Target, audit_schema_of, count_changes, recorded_changes
from datafixes.drafting.survey import TableSeen, see_as_a_run, table_seen
from datafixes.drafting.wish import OF_VERSIONS, Draft, Wish, bound, looked_at
from datafixes.errors import DatafixError
from datafixes.project import Project
from datafixes.running.recording import check_statement
from datafixes.script.tables import AUDIT_COLUMNS, LEDGER, LEDGER_TABLES

_COUNTED = "Only the owner of a table can record it: these are PostgreSQL's counts per statement."


def recorded_draft(project: Project, wish: Wish) -> Draft:
    """Run statements in a transaction that is rolled back, to find what they change.

    Raises:
        DatafixError: they fail, change nothing, or would be refused as a fix.
    """
    check_statement(wish.statements, "the statements")
    with project.connection() as connection:
        counted = count_changes(connection, project.settings, wish.statements)
    if not counted:
        raise DatafixError(
            "The statements change no row, so nothing was written.",
            hint="A fix changes rows; TRUNCATE and DDL do not count.",
        )
    with project.reading() as connection:
        see_as_a_run(connection)
        targets = _targets(connection, project, wish, counted)
        looked = looked_at(connection, project)
    tables = _recorded(project, wish, targets)
    notes = [] if tables is not None else [_COUNTED]
    tables = [target.counted for target in targets] if tables is None else tables
    found = [f"{one.schema}.{one.table}: {counts(*map(one.count, KINDS))}" for one in tables]
    if wish.at_most is not None:
        tables = [_bounded(table, wish.at_most) for table in tables]
    schema, schemas = targets[0].copies.schema, {table.schema for table in tables}
    fix = RecordedFix(
        name=wish.name or "",
        reason=wish.reason or "",
        tables=tables,
        audit_schema="" if schemas == {schema} else schema,
    )
    names = {(table.schema, table.table) for table in tables}
    kept = tuple((one.seen, one.copies) for one in targets if (one.seen.schema, one.seen.name) in names)
    return Draft(fix, kept, (*looked, *found, *notes))


def _targets(connection: Connection, project: Project, wish: Wish, counts: Sequence[Counts]) -> list[Target]:
    """The tables, with all copies in one schema, and each in an audit table of its own."""
    targets = []
    for one in counts:
        if not is_taken(connection, one.schema, one.table):
            raise DatafixError(
                f"The statements create the table {one.schema}.{one.table}; a fix only changes rows."
            )
        table = table_seen(connection, one.schema, one.table)
        _check_is_users(table)
        wanted = wish.audit if len(counts) == 1 else None
        targets.append(Target(table, copies_of(connection, project, table, wanted), one))
    schema = audit_schema_of(targets)
    names: set[str] = set()
    for place, target in enumerate(targets):
        copies = target.copies
        if copies.state == "missing":
            name = copies.name if copies.name not in names else f"{target.seen.schema}_{copies.name}"
            targets[place] = replace(target, copies=replace(copies, schema=schema, name=name))
        names.add(targets[place].copies.name)
    return targets


def _recorded(project: Project, wish: Wish, targets: Sequence[Target]) -> list[Table] | None:
    hides = View(masks=project.settings.mask).hides

    def hidden(table: TableSeen, column: str) -> bool:
        return hides(f"{table.schema}.{table.name}", column)

    with project.connection() as connection:
        return recorded_changes(connection, project.settings, wish.statements, targets, hidden)


def _bounded(table: Table, at_most: int) -> Table:
    """A table that names no rows, and has a bound for each kind of change that was found."""
    what = f"{table.schema}.{table.table}"
    bounds = {kind: bound(at_most, n, what) for kind in KINDS if (n := table.count(kind))}
    return Table(table.table, table.audit, table.schema, **bounds)  # type: ignore[arg-type]


def _check_is_users(table: TableSeen) -> None:
    """Refuse statements that write to tables of Alembic or of the engine."""
    names = {column.name for column in table.columns}
    if table.name in (LEDGER, LEDGER_TABLES) or names == OF_VERSIONS or names.issuperset(AUDIT_COLUMNS):
        raise DatafixError(f"The statements change {table.schema}.{table.name}, which a fix must not change.")
