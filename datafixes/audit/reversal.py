"""Whether a revert gave back what a run had changed: the images of both are compared."""

from sqlalchemy.engine import Connection

from datafixes.audit.history import ask
from datafixes.audit.images import TableOfRun, tables_of_run
from datafixes.declaration.recorded import Fix
from datafixes.script import literal
from datafixes.script.tables import LEDGER, NEWEST_FIRST


def compare_with_revert(connection: Connection, fix: Fix, run: int) -> tuple[bool, str]:
    """Compare what a run found with what its revert left.

    Args:
        connection: where both ran.
        fix: the declaration.
        run: the run that was taken back.

    Returns:
        whether every row is back, bit for bit, and that in words.
    """
    schema = fix.schema_of_audit
    if ask(connection, f"SELECT to_regclass({literal.text(literal.qualified(schema, LEDGER))}) IS NULL")[0][
        0
    ]:
        return False, "its downgrade() drops the ledger, so what it gave back cannot be compared"
    reverts = ask(
        connection,
        f"SELECT run_id FROM {literal.qualified(schema, LEDGER)} WHERE reverts_run = {run} ORDER BY {NEWEST_FIRST} LIMIT 1",
    )
    if not reverts:
        return False, f"its downgrade() does not take back what {fix.name} did"
    [(revert,)] = reverts
    rows = 0
    for table, declared in zip(tables_of_run(connection, schema, run), fix.tables, strict=True):
        kept = [name for name in table.columns if name not in declared.housekeeping]
        if different := _different(connection, table, kept, (run, revert)):
            return False, f"its downgrade() does not give {table.target} back: {different} images differ"
        rows += table.changed
    return True, f"its downgrade() was run, and gave {rows} row{'' if rows == 1 else 's'} back, bit for bit"


def _different(connection: Connection, table: TableOfRun, columns: list[str], runs: tuple[int, int]) -> int:
    """How many rows were not given back: images that only one of the two has."""
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
