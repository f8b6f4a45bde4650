"""The scripts with which a plan tries one batch of a fix, in its transaction, which is rolled back."""

from dataclasses import replace

from datafixes.declaration.fix import DataFix
from datafixes.script import literal
from datafixes.script.apply import condition, facts
from datafixes.script.batched import ENGINE, NEXT_KEYS, batch_procedure
from datafixes.script.context import Context
from datafixes.script.engine import called_by
from datafixes.script.frame import Limits, Script, finished, frame
from datafixes.script.layout import run
from datafixes.script.masking import without_values

EXPLAINED = "datafixes.explained"
"""The setting in which the script of :func:`reading_script` leaves how the rows of a batch are read, as JSON."""
WAL = "datafixes.wal"
"""The setting in which that of :func:`one_batch_script` leaves how many bytes of WAL were written meanwhile."""

_BY = '{"worker": "plan"}'

_READING = f"EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF, FORMAT JSON)\n{NEXT_KEYS}"

_ONE_BATCH = """
DECLARE
    batch jsonb  := '{by}';
    start pg_lsn := pg_catalog.pg_current_wal_insert_lsn();
BEGIN
    -- The first batch in which a row changes.
    LOOP
        CALL pg_temp.datafix_batch(batch);
        EXIT WHEN NOT CAST(batch ->> 'left' AS bool) OR CAST(batch ->> 'changed' AS bigint) > 0;
    END LOOP;
    PERFORM pg_catalog.set_config('{wal}', CAST(pg_catalog.pg_wal_lsn_diff(
                pg_catalog.pg_current_wal_insert_lsn(), start) AS text), true);
    {finished}
END
"""


def reading_script(fix: DataFix, context: Context, limits: Limits) -> Script:
    """Reads the rows of a batch, and notes how PostgreSQL does that."""
    table = literal.qualified(fix.change.schema, fix.change.table)
    fuse = f"open {fix.name}"
    block = "\n".join(
        [
            "",
            "DECLARE",
            "    fix jsonb;",
            "    how json;",
            "BEGIN",
            f"    fix := pg_temp.datafix_take_range({facts(fix, context)},\n        {context.version_table_oid},"
            f" '{_BY}');",
            "    IF fix ? 'range' AND NOT fix ? 'citus' THEN     -- Citus does not explain all of its tables",
            "    " + run("EXECUTE", _READING.format(table=table, condition=condition(fix))) + " INTO how;",
            f"        PERFORM pg_catalog.set_config('{EXPLAINED}', CAST(how AS text), true);",
            "    END IF;",
            f"    {finished(fuse)}",
            "END",
            "",
        ]
    )
    block = without_values(block, context.masks)
    return frame(f"datafix {fix.name}: how a batch is read", fuse, block, limits, "batches.sql", *ENGINE)


def one_batch_script(fix: DataFix, context: Context, limits: Limits) -> Script:
    """Makes the first batch in which a row changes."""
    fuse, own = f"open {fix.name}", batch_procedure(fix, context)
    block = _ONE_BATCH.format(by=_BY, wal=WAL, finished=finished(fuse))
    roots = ("batches.sql", *ENGINE, *sorted(called_by(own)))
    script = frame(f"datafix {fix.name}: one batch", fuse, block, limits, *roots)
    return replace(script, own=(own, *script.own))
