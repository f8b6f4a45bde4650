"""The draft of a declared fix: one change of one table."""

from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from datafixes.audit.changes import View
from datafixes.audit.wording import counted
from datafixes.declaration.batches import MANY_ROWS, Batches
from datafixes.declaration.expressions import Value, sql
from datafixes.declaration.fix import DataFix, Delete, Update
from datafixes.declaration.rows import Rows
from datafixes.drafting.copies import copies_of
from datafixes.drafting.given_values import values_given
from datafixes.drafting.python_values import value_of
from datafixes.drafting.survey import (
    MOST_NAMED,
    RowsSeen,
    TableSeen,
    identities_of,
    key_of,
    rows_seen,
    see_as_a_run,
    table_seen,
)
from datafixes.drafting.wish import Draft, Wish, bound, looked_at
from datafixes.errors import DatafixError, sqlstate
from datafixes.project import Project
from datafixes.running.execution import failure
from datafixes.running.recording import check_statement
from datafixes.script import literal
from datafixes.script.parameters import verbatim

_DENIED = "42501"


def declared_draft(project: Project, wish: Wish) -> Draft:
    """Draft a fix from a table and the rows that a condition finds.

    Raises:
        DatafixError: no such table, column or row; or PostgreSQL does not accept the change.
    """
    check_statement(wish.where, "the condition")
    hides = View(masks=project.settings.mask).hides
    with project.reading() as connection:
        see_as_a_run(connection)
        table = table_seen(connection, wish.schema, wish.table)
        values = values_given(connection, table, wish.sets, wish.expressions)
        wanted = [name.strip() for name in (wish.key or "").split(",") if name.strip()]
        key = key_of(table, wanted, values)
        label = f"{table.schema}.{table.name}"
        masked = {column.name for column in table.columns if hides(label, column.name)}
        identities = identities_of(table, {*key, *values, *masked})
        rows = rows_seen(connection, table, key, wish.where, identities)
        if masked.intersection(key):
            rows = RowsSeen(rows.count)
        _check_change(connection, table, values, wish.where)
        copies = copies_of(connection, project, table, wish.audit)
        looked = looked_at(connection, project)
    if not rows.count and not wish.force:
        raise _no_row(table, wish.where)
    change: Update | Delete = (
        Delete(table.name, where=wish.where, schema=table.schema)
        if wish.delete
        else Update(table.name, set=values, where=wish.where, schema=table.schema)
    )
    fix = DataFix(
        name=wish.name or "",
        reason=wish.reason or "",
        change=change,
        rows=_rows(table, key, rows, wish.at_most),
        audit=copies.name,
        audit_schema="" if copies.schema == table.schema else copies.schema,
        batches=Batches() if rows.count > MANY_ROWS else None,
    )
    return Draft(fix, ((table, copies),), (*looked, _told(table, key, rows, wish.at_most)))


def _no_row(table: TableSeen, where: str) -> DatafixError:
    return DatafixError(
        f"No row of {table.schema}.{table.name} matches {where!r}, so nothing was written.",
        hint="A fix names the rows that it was written for. With --force it expects one row, for you to fill in.",
    )


def _rows(table: TableSeen, key: tuple[str, ...], rows: RowsSeen, at_most: int | None) -> Rows:
    named: str | tuple[str, ...] = key[0] if len(key) == 1 else key
    if at_most is not None:
        return Rows(key=named, expect=bound(at_most, rows.count, f"{table.schema}.{table.name}"))
    if not rows.keys:
        return Rows(key=named, expect=max(rows.count, 1))
    kinds = [table.column(name).kind for name in key]
    keys: list[Any] = [
        tuple(value_of(kind, text) for kind, text in zip(kinds, one, strict=True)) for one in rows.keys
    ]
    keys = [one[0] if len(key) == 1 else one for one in keys]
    identity = rows.identity
    if identity is None:
        return Rows(key=named, expect=keys)
    values = [value_of(identity.kind, text) for text in rows.identities]
    return Rows(
        key=named, identity={identity.name: identity.sql}, expect=dict(zip(keys, values, strict=True))
    )


def _told(table: TableSeen, key: tuple[str, ...], rows: RowsSeen, at_most: int | None) -> str:
    words = [f"{table.schema}.{table.name}: {counted(rows.count, 'row')} found"]
    words.append(f"key {', '.join(key)}")
    if at_most is not None:
        words.append(f"accepted are at most {at_most}")
    elif rows.identity is not None:
        words.append(f"identity {rows.identity.name}")
    elif rows.keys:
        words.append("no column identifies the rows to people: add an identity if you know one")
    elif rows.count > MOST_NAMED:
        words.append(f"more than {MOST_NAMED}, so only their number is written")
    elif not rows.count:
        words.append("fill in which ones: expect={key: identity}")
    if rows.count > MANY_ROWS:
        words.append("so many rows are changed in batches, each committed by itself")
    return "; ".join(words)


def _check_change(
    connection: Connection, table: TableSeen, values: dict[str, Value | sql], where: str
) -> None:
    """Let PostgreSQL check the change without running it."""
    if not values:
        return
    pairs = ", ".join(f"{table.column(name).sql} = {literal.value(value)}" for name, value in values.items())
    statement = f"UPDATE {table.sql} SET {pairs} WHERE ({where}\n)"
    check_statement(statement, "the change")
    savepoint = connection.begin_nested()
    try:
        connection.exec_driver_sql(verbatim(connection, f"EXPLAIN {statement}"))
    except DBAPIError as error:
        # A role that may only read can still draft a fix for others to run.
        if sqlstate(error) != _DENIED:
            raise failure(error, "the change") from None
    finally:
        savepoint.rollback()
