"""Compares the images of a run and of its revert, to find whether every row was restored."""

from sqlalchemy.engine import Connection

from datafixes.audit.history import ask
from datafixes.audit.images import TableOfRun, tables_of_run
from datafixes.audit.wording import counted
from datafixes.declaration.recorded import Fix
from datafixes.script import literal
from datafixes.script.tables import LEDGER, NEWEST_FIRST


def compare_with_revert(
    connection: Connection, fix: Fix, run: int, what: str = "its downgrade()"
) -> tuple[bool, str]:
    """Compare the rows before a run with those after its revert.

    Args:
        connection: the database of both.
        fix: the declaration.
        run: the reverted run.
        what: what reverted it, in words.

    Returns:
        whether every row was restored, bit for bit, and the result in words.
    """
    schema = fix.schema_of_audit
    if ask(connection, f"SELECT to_regclass({literal.text(literal.qualified(schema, LEDGER))}) IS NULL")[0][
        0
    ]:
        return False, f"{what} drops the ledger, so the restored rows cannot be compared"
    reverts = ask(
        connection,
        f"SELECT run_id FROM {literal.qualified(schema, LEDGER)} WHERE reverts_run = {run} ORDER BY {NEWEST_FIRST} LIMIT 1",
    )
    if not reverts:
        return False, f"{what} does not revert {fix.name}"
    [(revert,)] = reverts
    rows = 0
    tables = zip(
        tables_of_run(connection, schema, run),
        tables_of_run(connection, schema, revert),
        fix.tables,
        strict=True,
    )
    for table, restored, declared in tables:
        kept = [name for name in table.columns if name not in declared.housekeeping]
        has = _as_left(restored, [*table.key, *(name for name in kept if name not in table.key)])
        if different := _different(connection, table, kept, (_images(table, "before"), has)):
            return False, f"{what} does not restore {counted(different, 'row')} of {table.target}"
        rows += table.changed
    return True, f"{what} was run and restored {counted(rows, 'row')}, bit for bit"


def _images(table: TableOfRun, image: str) -> str:
    return f"(SELECT * FROM {table.audit} WHERE {table.images(image)})"


def _as_left(table: TableOfRun, columns: list[str]) -> str:
    """The rows as a run left them, with all columns."""
    before, after = _images(table, "before"), _images(table, "after")
    if table.left is None:
        return after
    whole = ", ".join(table.as_left(name, "b", "a") for name in columns)
    same = " AND ".join(
        f"b.{column} = a.{column}" for column in ("audit_run_id", *map(literal.name, table.key))
    )
    return f"(SELECT {whole} FROM {before} AS b JOIN {after} AS a ON {same})"


def _different(connection: Connection, table: TableOfRun, columns: list[str], images: tuple[str, str]) -> int:
    """The number of rows whose image before the run and after its revert are not the same."""
    was, has = images
    if table.key:
        one, other = (
            ", ".join(f"{alias}.{literal.name(column)}" for column in columns) for alias in ("was", "has")
        )
        query = (
            f"SELECT count(*) FILTER (WHERE record_image_ne(ROW({one}), ROW({other}))) FROM {was} AS was FULL JOIN {has} AS has"
            f" USING ({literal.names(table.key)})"
        )
        [(count,)] = ask(connection, query)
        return int(count)
    one, other = (f"SELECT ROW({literal.names(columns)})::text FROM {source} AS i" for source in (was, has))
    [(count,)] = ask(
        connection,
        f"SELECT count(*) FROM (({one} EXCEPT ALL {other}) UNION ALL ({other} EXCEPT ALL {one})) AS d",
    )
    return int(count)
