"""The scripts that take back a run in batches.

As for a fix in batches (:mod:`datafixes.script.batched`), the first one opens the run in a transaction of its own, and
one statement is repeated until no batch is left. The last transaction is that of the ordinary script
(:mod:`datafixes.script.revert`), which also moves the version.
"""

import textwrap

from datafixes.declaration.recorded import Fix
from datafixes.script.batched import repeated
from datafixes.script.context import Context
from datafixes.script.frame import Limits, Script, finished, frame, procedure
from datafixes.script.masking import without_values
from datafixes.script.revert import ENGINE, OPENING, STEPS, facts, title_of

_OPEN = """
BEGIN
    -- Only at this revision; applied in batches and not yet reverted. Look at all rows first, without a lock: where others
    -- have changed some since, nothing is taken back.
    PERFORM pg_temp.datafix_begin_parts({declaration},
        {version_table});
    {finished}
END
"""

_BATCH = """
DECLARE
    fix      jsonb;
    one      jsonb;     -- one of its tables
    restored bigint;
BEGIN
    -- A batch of the run that is still in force, and that nobody else takes back now.
    fix := pg_temp.datafix_take_part({declaration}, batch);
    batch := fix OPERATOR(pg_catalog.->) 'batch';
    IF NOT fix OPERATOR(pg_catalog.?) 'taken' THEN
        RETURN;
    END IF;

{opening}

{steps}
    batch := pg_temp.datafix_end_part(fix, restored);
END
"""


def opening_of_revert(fix: Fix, context: Context, limits: Limits) -> Script:
    """The script that opens the revert of a run in batches, or goes on with it; of another run, it does nothing."""
    block = _OPEN.format(
        declaration=facts(fix, context),
        version_table=context.version_table_oid,
        finished=finished(f"revert {fix.name}"),
    )
    block = without_values(block, context.masks)
    return frame(title_of(fix, context), f"revert {fix.name}", block, limits, *ENGINE)


def work_of_revert(fix: Fix, context: Context, limits: Limits) -> str:
    """The statement that takes back batches for a few seconds. It is sent again until none is left."""
    block = _BATCH.format(
        declaration=facts(fix, context),
        opening=textwrap.indent(OPENING.format(version_table=context.version_table_oid), " " * 4),
        steps=textwrap.indent(STEPS, " " * 4),
    )
    block = without_values(block, context.masks)
    return repeated(fix, procedure("datafix_batch", block, "INOUT batch jsonb"), limits, ENGINE)
