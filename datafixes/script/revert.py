"""The script that takes a fix back: by its images, whatever they are images of."""

from datafixes.fix import DataFix
from datafixes.script import literal
from datafixes.script.context import Context, declared
from datafixes.script.frame import Limits, Script, frame

_BLOCK = """
DECLARE
    fix      jsonb;
    done     bigint;
    restored bigint := 0;
BEGIN
    -- One fix at a time; this revision and no other; applied and not yet reverted; the images and the table are as
    -- they were. NULL: the fix changed nothing when it ran, so there is nothing to give back.
    fix := pg_temp.datafix_open_revert({declaration}, {version_table});
    IF fix IS NULL THEN
        RETURN;
    END IF;

    -- Lock the rows, and compare each column as the fix found it, as the fix left it and as it is now. Whoever changed
    -- a value since must not lose it.
    fix := pg_temp.datafix_compare(fix);{identity}
    PERFORM pg_temp.datafix_settle_conflicts(fix);

    -- Copy before the change: a revert adds images like any other run, so that it can be reverted too.
    PERFORM pg_temp.datafix_copy(pg_temp.datafix_sql(fix, {copy_before}));

    -- Take back what was inserted, restore what was changed, insert again what was deleted.
    EXECUTE pg_temp.datafix_restore_sql(fix, 'delete');
    GET DIAGNOSTICS done = ROW_COUNT;
    restored := restored + done;
    EXECUTE pg_temp.datafix_restore_sql(fix, 'update');
    GET DIAGNOSTICS done = ROW_COUNT;
    restored := restored + done;
    EXECUTE pg_temp.datafix_restore_sql(fix, 'insert');
    GET DIAGNOSTICS done = ROW_COUNT;
    restored := restored + done;

    -- The proof: deferred constraints hold, the rows as they are now are copied, and every value is back.
    EXECUTE pg_temp.datafix_constraints(fix, 'IMMEDIATE');
    EXECUTE pg_temp.datafix_constraints(fix, 'DEFERRED');
    PERFORM pg_temp.datafix_copy(pg_temp.datafix_sql(fix, {copy_after}));
    PERFORM pg_temp.datafix_check_restored(fix, restored);
    PERFORM pg_temp.datafix_close(fix, 'reverted', restored);
END
"""

_COPY = """
        INSERT INTO {audit} ({{{{columns}}}}, audit_run_id, audit_image)
        SELECT {{{{target.columns}}}}, {{{{run}}}}, '{image}'
          FROM {table}
         WHERE EXISTS (SELECT FROM pg_temp.datafix_restore AS datafix_restore
                        WHERE datafix_restore.datafix_action OPERATOR(pg_catalog.=) ANY (ARRAY[{actions}]) AND {{{{datafix_restore.key = target.key}}}})
         ORDER BY {{{{target.key}}}}
    """


_IDENTITY = """
    -- A key alone is no proof of identity: a row that somebody put under one of these keys since is not ours (C31).
    PERFORM pg_temp.datafix_keep_left(fix);
    EXECUTE pg_temp.datafix_sql(fix, {then});
    EXECUTE pg_temp.datafix_sql(fix, {now});
    PERFORM pg_temp.datafix_mark_others(fix);"""


def revert_script(fix: DataFix, context: Context, limits: Limits) -> Script:
    """The script that reverts the last run of a fix, whole: guards, comparison, copy, restoration, proof, ledger."""
    facts = declared(fix, context) | {
        "change": "revert",
        "set": [],
        "identity": list(fix.rows.identity),
        "on_conflict": context.on_conflict,
    }
    block = _BLOCK.format(
        declaration=literal.json_body(facts, "fix"),
        version_table=context.version_table_oid,
        identity=_identity(fix) if fix.rows.identity else "",
        copy_before=_copy(fix, "before", "'update', 'delete'"),
        copy_after=_copy(fix, "after", "'update', 'insert'"),
    )
    title = f"datafix {fix.name}: revert" + (f", revision {context.revision}" if context.revision else "")
    return frame(f"{title}\n{fix.reason}", f"revert {fix.name}", block, limits)


def _copy(fix: DataFix, image: str, actions: str) -> str:
    audit = literal.qualified(fix.schema_of_audit, fix.audit)
    table = literal.qualified(fix.change.schema, fix.change.table)
    return literal.body(_COPY.format(audit=audit, table=table, image=image, actions=actions))


def _identity(fix: DataFix) -> str:
    """What tells the rows apart, evaluated on them as the fix left them and as they are."""
    table, alias = literal.qualified(fix.change.schema, fix.change.table), literal.name(fix.change.table)
    columns = ", ".join(
        [
            "{{target.key}}",
            *(f"({text}\n) AS {literal.name(name)}" for name, text in fix.rows.identity.items()),
        ]
    )
    select = "\n        CREATE TEMP TABLE datafix_{} ON COMMIT DROP AS SELECT {} FROM {}{}\n    "
    known = "\n         WHERE EXISTS (SELECT FROM pg_temp.datafix_pair AS datafix_pair WHERE {{datafix_pair.key = target.key}})"
    return _IDENTITY.format(
        then=literal.body(select.format("then", columns, f"pg_temp.datafix_left AS {alias}", "")),
        now=literal.body(select.format("now", columns, table, known)),
    )
