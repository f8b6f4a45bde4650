"""Compares the images of a run and of its revert, to find whether every row was restored."""

from sqlalchemy.engine import Connection

from datafixes.audit.history import ask
from datafixes.audit.images import TableOfRun, tables_of_run
from datafixes.audit.wording import counted
from datafixes.declaration.recorded import Fix
from datafixes.script import literal
from datafixes.script.tables import LEDGER, NEWEST_FIRST


def compare_with_revert(connection: Connection, fix: Fix, run: int) -> tuple[bool, str]:
    """Compare the rows before a run with those after its revert.

    Args:
        connection: the database of both.
        fix: the declaration.
        run: the reverted run.

    Returns:
        whether every row was restored, bit for bit, and the result in words.
    """
    schema = fix.schema_of_audit
    if ask(connection, f"SELECT to_regclass({literal.text(literal.qualified(schema, LEDGER))}) IS NULL")[0][
        0
    ]:
        return False, "its downgrade() drops the ledger, so the restored rows cannot be compared"
    reverts = ask(
        connection,
        f"SELECT run_id FROM {literal.qualified(schema, LEDGER)} WHERE reverts_run = {run} ORDER BY {NEWEST_FIRST} LIMIT 1",
    )
    if not reverts:
        return False, f"its downgrade() does not revert {fix.name}"
    [(revert,)] = reverts
    rows = 0
    for table, declared in zip(tables_of_run(connection, schema, run), fix.tables, strict=True):
        kept = [name for name in table.columns if name not in declared.housekeeping]
        if different := _different(connection, table, kept, (run, revert)):
            return False, f"its downgrade() does not restore {table.target}: {different} images differ"
        rows += table.changed
    return True, f"its downgrade() was run and restored {counted(rows, 'row')}, bit for bit"


def _different(connection: Connection, table: TableOfRun, columns: list[str], runs: tuple[int, int]) -> int:
    """The number of images that only one of the two has."""
    sides = [
        f"SELECT ROW({', '.join(f'i.{literal.name(column)}' for column in columns)})::text FROM {table.audit} AS i"
        f" WHERE i.audit_run_id = {run} AND i.audit_image = '{image}'"
        for run, image in zip(runs, ("before", "after"), strict=True)
    ]
    one, other = sides
    [(count,)] = ask(
        connection,
        f"SELECT count(*) FROM (({one} EXCEPT ALL {other}) UNION ALL ({other} EXCEPT ALL {one})) AS d",
    )
    return int(count)
