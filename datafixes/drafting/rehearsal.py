"""Finds what SQL changes, by running it in a transaction that is rolled back and cannot be committed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError

from datafixes.audit.history import ask, last_run
from datafixes.audit.images import PINNED, TableOfRun, tables_of_run
from datafixes.declaration.recorded import RecordedFix
from datafixes.declaration.table import Table
from datafixes.drafting.python_values import value_of
from datafixes.drafting.survey import MOST_NAMED, Column, TableSeen, identities_of
from datafixes.errors import DatafixError, Refused
from datafixes.plan.rollback_only import rollback_only
from datafixes.running.execution import Attempts, execute, failure, limits_of
from datafixes.script.context import Context
from datafixes.script.parameters import verbatim
from datafixes.script.record import recording
from datafixes.script.tables import AuditTable, create_script, update_script

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from datafixes.drafting.copies import Copies
    from datafixes.settings import Settings

_NAME = "rehearsal.of.a.fix.that.is.not.written.yet"
_ANY_NUMBER = 2**40
_DENIED = "42501"

_COUNTS = """
WITH counted AS (
    SELECT coalesce(pg_catalog.pg_partition_root(t.oid), t.oid) AS root,
           pg_catalog.pg_stat_get_xact_tuples_inserted(t.oid) AS inserted,
           pg_catalog.pg_stat_get_xact_tuples_updated(t.oid) AS updated,
           pg_catalog.pg_stat_get_xact_tuples_deleted(t.oid) AS deleted
      FROM pg_catalog.pg_class AS t WHERE t.relkind IN ('r', 'm') AND t.relpersistence <> 't'
)
SELECT n.nspname, c.relname, sum(k.inserted)::bigint, sum(k.updated)::bigint, sum(k.deleted)::bigint
  FROM counted AS k JOIN pg_catalog.pg_class AS c ON c.oid = k.root
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND k.inserted + k.updated + k.deleted > 0
 GROUP BY n.nspname, c.relname ORDER BY n.nspname, c.relname
"""

_OWNED = """
SELECT bool_and(pg_catalog.pg_has_role(c.relowner, 'USAGE')) FROM pg_catalog.pg_class AS c WHERE c.oid IN ({oids})
"""


@dataclass(frozen=True)
class Counts:
    """The rows that statements inserted, updated and deleted in a table, counted per statement."""

    schema: str
    table: str
    inserted: int
    updated: int
    deleted: int


def count_changes(connection: Connection, settings: Settings, statements: str) -> list[Counts]:
    """Run SQL, roll it back, and return which tables it changed, by PostgreSQL's counts.

    Raises:
        DatafixError: it fails, or ends the transaction.
    """
    with rollback_only(connection, limits_of(settings)):
        _run(connection, statements, masked=bool(settings.mask))
        return [Counts(*row) for row in ask(connection, _COUNTS)]


def _run(connection: Connection, statements: str, *, masked: bool) -> None:
    try:
        connection.exec_driver_sql(verbatim(connection, statements))
        # Effects deferred to the commit count too.
        connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")
    except DBAPIError as error:
        raise failure(error, "the statements", masked=masked) from None


@dataclass(frozen=True)
class Target:
    """A table that statements change, and its audit table."""

    seen: TableSeen
    copies: Copies
    counts: Counts

    @property
    def counted(self) -> Table:
        """The table of a recorded fix, with PostgreSQL's own counts."""
        return Table(
            self.seen.name,
            self.copies.name,
            schema=self.seen.schema,
            inserted=self.counts.inserted,
            updated=self.counts.updated,
            deleted=self.counts.deleted,
        )


def recorded_changes(
    connection: Connection,
    settings: Settings,
    statements: str,
    targets: Sequence[Target],
    hidden: Callable[[TableSeen, str], bool],
) -> list[Table] | None:
    """Record what SQL changes as a fix would, roll it back, and return the tables as a fix declares them.

    Args:
        connection: a connection with no transaction begun; it has none afterwards.
        settings: the time-outs.
        statements: the SQL.
        targets: the tables that it changes.
        hidden: whether a column of a table is masked.

    Returns:
        the tables, or None if this role may not record them.

    Raises:
        DatafixError: such a fix would be refused.
    """
    fix = _any_change(targets)
    with rollback_only(connection, limits_of(settings)):
        owned = _OWNED.format(oids=", ".join(str(one.seen.oid) for one in targets))
        if not ask(connection, owned)[0][0]:
            return None
        try:
            return _recorded(connection, settings, statements, _Rehearsed(fix, targets, hidden))
        except Refused as error:
            if error.sqlstate == _DENIED:  # no right to create audit tables, for example
                return None
            raise DatafixError(
                f"As a recorded fix it would be refused: {_without_name(error)}", hint=error.hint
            ) from None


def _any_change(targets: Sequence[Target]) -> RecordedFix:
    """A fix that accepts any change in these tables."""
    schemas, audit_schema = {target.seen.schema for target in targets}, audit_schema_of(targets)
    return RecordedFix(
        name=_NAME,
        reason="It is tried.",
        tables=[
            Table(one.seen.name, one.copies.name, schema=one.seen.schema, updated=1, tolerance=_ANY_NUMBER)
            for one in targets
        ],
        audit_schema="" if schemas == {audit_schema} else audit_schema,
    )


def audit_schema_of(targets: Sequence[Target]) -> str:
    """The schema of the audit tables, which must be the same for all.

    Raises:
        DatafixError: it differs.
    """
    found = sorted({target.copies.schema for target in targets if target.copies.state != "missing"})
    if len(found) > 1:
        raise DatafixError(
            f"The audit tables of these tables are in several schemas, {', '.join(found)}, but a fix has one ledger.",
            hint="Split the statements into several fixes.",
        )
    return found[0] if found else targets[0].seen.schema


def _without_name(error: DatafixError) -> str:
    return error.message.replace(f"datafix {_NAME}: ", "").replace(_NAME, "the fix")


@dataclass(frozen=True)
class _Rehearsed:
    """A rehearsal: the fix, its tables, and which of their columns must not be named."""

    fix: RecordedFix
    targets: Sequence[Target]
    hidden: Callable[[TableSeen, str], bool]


def _recorded(connection: Connection, settings: Settings, statements: str, what: _Rehearsed) -> list[Table]:
    fix, targets, hidden = what.fix, what.targets, what.hidden
    limits, once, schema = limits_of(settings), Attempts(1, 0), fix.schema_of_audit
    for target in targets:
        table = AuditTable(target.seen.name, target.copies.name, target.seen.schema, schema)
        if target.copies.state in ("missing", "planned"):
            execute(connection, create_script(table, limits), "audit table", once)
        elif target.copies.state == "outgrown":
            execute(connection, update_script(table, limits), "audit table", once)
    scripts = recording(fix, Context(masks=settings.mask), limits)
    execute(connection, scripts.opening, f"datafix {fix.name}", once)
    try:
        connection.exec_driver_sql(verbatim(connection, statements))
    except DBAPIError as error:
        raise failure(error, f"datafix {fix.name}", masked=bool(settings.mask)) from None
    execute(connection, scripts.closing, f"datafix {fix.name}", once)
    for statement in PINNED:
        connection.exec_driver_sql(statement)
    run = last_run(connection, schema, fix.name)
    if run is None or run.outcome != "applied":
        raise DatafixError("The statements change no row in total: they undo each other's changes.")
    noted = tables_of_run(connection, schema, run.run_id)
    return [
        _table(connection, run.run_id, target, of_run, hidden)
        for target, of_run in zip(targets, noted, strict=True)
        if of_run.changed
    ]


def _table(
    connection: Connection,
    run: int,
    target: Target,
    noted: TableOfRun,
    hidden: Callable[[TableSeen, str], bool],
) -> Table:
    """A table as a fix declares it: rows that existed before are named if there are few."""
    seen, named = target.seen, noted.updated + noted.deleted
    table = Table(
        seen.name, target.copies.name, seen.schema, (), noted.inserted, noted.updated, noted.deleted
    )
    if not noted.key or not 0 < named <= MOST_NAMED or any(hidden(seen, name) for name in noted.key):
        return table
    masked = [column.name for column in seen.columns if hidden(seen, column.name)]
    identities = identities_of(seen, (*noted.key, *masked))
    rows = ask(connection, _named(seen, noted, identities, run))
    keys = [seen.column(name) for name in noted.key]
    place = next(
        (n for n in range(len(identities)) if all(row[1 + len(keys) + n] is not None for row in rows)), None
    )
    found: dict[str, dict[Any, Any]] = {"updated": {}, "deleted": {}}
    for stays, *values in rows:
        key = tuple(value_of(c.kind, text) for c, text in zip(keys, values, strict=False))
        identity = None if place is None else value_of(identities[place].kind, values[len(keys) + place])
        found["updated" if stays else "deleted"][key[0] if len(key) == 1 else key] = identity
    updated, deleted = (
        (rows if place is not None else list(rows)) or 0 for rows in (found["updated"], found["deleted"])
    )
    return replace(
        table,
        key=noted.key[0] if len(noted.key) == 1 else noted.key,
        identity={} if place is None else {identities[place].name: identities[place].sql},
        updated=updated,
        deleted=deleted,
    )


def _named(seen: TableSeen, noted: TableOfRun, identities: Collection[Column], run: int) -> str:
    keys = [seen.column(name).sql for name in noted.key]
    same = " AND ".join(f"a.{key} IS NOT DISTINCT FROM b.{key}" for key in keys)
    columns = ", ".join(f"CAST(b.{name} AS text)" for name in (*keys, *(one.sql for one in identities)))
    order = ", ".join(f"b.{key}" for key in keys)
    images = f"{noted.audit} AS {{}} WHERE {{}}.audit_run_id = {run} AND {{}}.audit_image = "
    return (
        f"SELECT EXISTS (SELECT FROM {images.format('a', 'a', 'a')}'after' AND {same}), {columns}"
        f" FROM {images.format('b', 'b', 'b')}'before' ORDER BY {order}"
    )
