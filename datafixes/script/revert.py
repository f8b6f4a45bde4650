"""The script that reverts a run, from its images and the ledger's record of the fix."""

import textwrap
from collections.abc import Mapping, Sequence

from datafixes.declaration.expressions import Value
from datafixes.declaration.fix import DataFix
from datafixes.declaration.recalled import RecalledFix
from datafixes.declaration.recorded import Fix
from datafixes.script import literal
from datafixes.script.context import Context, declared, run_facts
from datafixes.script.frame import Limits, Script, frame
from datafixes.script.masking import without_values

ENGINE = (
    "recall.sql",
    "revert.sql",
    "conflicts.sql",
    "batches_revert.sql",
    "datafix_check_nothing_else",
    "datafix_close",
    "datafix_constraints",
    "datafix_fail",
    "datafix_watch",
)
"""The functions of every revert: the same in all of their scripts."""

_BLOCK = """
DECLARE
    fix      jsonb;
    one      jsonb;     -- one of its tables
    restored bigint;
BEGIN
    -- One fix at a time; only at this revision. A run is taken back at once; a run in batches, batch by batch.
    FOR fix IN SELECT * FROM pg_temp.datafix_begin_revert({declaration},
        {version_table}) LOOP
{opening}
        CONTINUE WHEN fix IS NULL;

{chosen}{steps}
        PERFORM pg_temp.datafix_end_part(fix, restored);
    END LOOP;
END
"""

OPENING = """\
-- Applied and not yet reverted; images and tables are unchanged. The facts of the fix come from the ledger.
-- NULL: the run changed nothing, so there is nothing to restore; or all of its batches are taken back.
fix := pg_temp.datafix_open_revert(fix, {version_table});"""

STEPS = """\
-- Lock the rows, and compare each column before the fix, after the fix and now: later changes by others must
-- not be lost.
fix := pg_temp.datafix_compare(fix);
FOR one IN SELECT * FROM pg_temp.datafix_tables(fix) LOOP
    EXECUTE pg_temp.datafix_prepare_identity(one, 'then');
    EXECUTE pg_temp.datafix_prepare_identity(one, 'now');
END LOOP;

-- From here on, every change in any table counts as the revert's.
PERFORM pg_temp.datafix_watch();
-- A key alone does not identify a row: a row that was inserted since with one of these keys is another row.
FOR one IN SELECT * FROM pg_temp.datafix_tables(fix) LOOP
    EXECUTE pg_temp.datafix_fill_identity(one, 'then');
    EXECUTE pg_temp.datafix_fill_identity(one, 'now');
    PERFORM pg_temp.datafix_mark_others(one);
END LOOP;
PERFORM pg_temp.datafix_settle_conflicts(fix);
PERFORM pg_temp.datafix_check_nulls(fix);

-- Copy the rows before the change: a revert writes images like any other run, so that it can be reverted too.
fix := pg_temp.datafix_copy_restored(fix, 'before');

-- Delete inserted rows, restore updated rows and insert deleted rows again, in one statement, because
-- PostgreSQL checks foreign keys at the end of a statement.
EXECUTE pg_temp.datafix_restore_sql(fix) INTO restored;

-- Checks: deferred constraints hold, the restored rows are copied, and every value is restored.
EXECUTE pg_temp.datafix_constraints(fix, 'IMMEDIATE');
EXECUTE pg_temp.datafix_constraints(fix, 'DEFERRED');
fix := pg_temp.datafix_copy_restored(fix, 'after');
PERFORM pg_temp.datafix_check_restored(fix, restored);
-- No other rows changed: changes by triggers elsewhere have no copy.
PERFORM pg_temp.datafix_check_nothing_else(fix);
PERFORM pg_temp.datafix_close(fix, 'reverted', restored);"""
"""The lines that take back a run, whose facts are in ``fix``."""

_CHOSEN = """\
        -- Only the chosen rows.
        PERFORM pg_temp.datafix_choose_rows(fix);

"""


def revert_script(fix: Fix, context: Context, limits: Limits) -> Script:
    """The whole script that reverts a run of a fix: guards, comparison, copy, restoration, checks, ledger.

    Of a run in batches, it reverts all that are still in force, and ends the run that takes them back.
    """
    version_table = context.version_table_oid
    block = _BLOCK.format(
        chosen="" if context.chosen is None else _CHOSEN,
        declaration=facts(fix, context),
        version_table=version_table,
        opening=textwrap.indent(OPENING.format(version_table=version_table), " " * 8),
        steps=textwrap.indent(STEPS, " " * 8),
    )
    block = without_values(block, context.masks)
    return frame(title_of(fix, context), f"revert {fix.name}", block, limits, *ENGINE)


def title_of(fix: Fix, context: Context) -> str:
    """The title of a script that reverts a fix, and why."""
    kind = "" if isinstance(fix, DataFix) else "recorded "
    title = f"{kind}datafix {fix.name}: revert" + (
        f", revision {context.revision}" if context.revision else ""
    )
    return f"{title}\n{context.reason or fix.reason}".rstrip()


def facts(fix: Fix, context: Context) -> str:
    """The facts of a revert, for the engine."""
    fuse = f"revert {fix.name}"
    known = run_facts(fix, context, fuse) if isinstance(fix, RecalledFix) else declared(fix, context, fuse)
    known |= {"change": "revert", "set": [], "on_conflict": context.on_conflict}
    if context.overruled:
        known["overruled"] = dict(context.overruled)
    if context.reason:
        known["reverted_because"] = context.reason
    if context.by_name:
        known["by_name"] = True
    if context.undoes:
        known["undoes"] = context.undoes
    if context.takes_back:
        known["takes_back"] = True
    if context.chosen is not None:
        known["rows_chosen"] = _as_text(context.chosen)
        known["chosen"] = {table: _as_sql(keys) for table, keys in context.chosen.items()}
    return literal.json_body(known, "fix")


def _as_sql(keys: Sequence[tuple[Value, ...]]) -> str:
    return ", ".join(f"({', '.join(literal.value(part) for part in key)})" for key in keys)


def _as_text(chosen: Mapping[str, Sequence[tuple[Value, ...]]]) -> str:
    keys = {table: ", ".join("/".join(map(str, key)) for key in keys) for table, keys in chosen.items()}
    return next(iter(keys.values())) if len(keys) == 1 else "; ".join(f"{t}: {k}" for t, k in keys.items())
