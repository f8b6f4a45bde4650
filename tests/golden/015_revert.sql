DO $datafix$
DECLARE
    fix      jsonb;
    done     bigint;
    restored bigint := 0;
BEGIN
    -- One fix at a time; this revision and no other; applied and not yet reverted; the images and the table are as
    -- they were. NULL: the fix changed nothing when it ran, so there is nothing to give back.
    fix := pg_temp.datafix_open_revert($fix${
        "fix": "close_phantom_positions",
        "reason": "Shorts that a wrong-symbol close had opened were closed by hand at Alpaca; the book was never told.",
        "target_schema": "public",
        "target_table": "active_positions",
        "audit_schema": "public",
        "audit_table": "position_reconciliation_audit",
        "key": ["id"],
        "rows_expected": 7,
        "revision": "015",
        "upgrading": false,
        "after": ["015"],
        "version_table": "public.alembic_version",
        "application": "commit 3f2a",
        "fingerprint": "9ef6382e6e2eb5b74a2221cadd2bce62164eeac4252d1ef0c12e95ba75c740e6",
        "change": "revert",
        "set": [],
        "identity": ["symbol"],
        "on_conflict": "refuse"
    }$fix$, pg_catalog.to_regclass('public.alembic_version'));
    IF fix IS NULL THEN
        RETURN;
    END IF;

    -- Lock the rows, and compare each column as the fix found it, as the fix left it and as it is now. Whoever changed
    -- a value since must not lose it.
    fix := pg_temp.datafix_compare(fix);
    -- A key alone is no proof of identity: a row that somebody put under one of these keys since is not ours (C31).
    PERFORM pg_temp.datafix_keep_left(fix);
    EXECUTE pg_temp.datafix_sql(fix, $sql$
        CREATE TEMP TABLE datafix_then ON COMMIT DROP AS SELECT {{target.key}}, (coalesce(option_symbol, ticker)
) AS symbol FROM pg_temp.datafix_left AS active_positions
    $sql$);
    EXECUTE pg_temp.datafix_sql(fix, $sql$
        CREATE TEMP TABLE datafix_now ON COMMIT DROP AS SELECT {{target.key}}, (coalesce(option_symbol, ticker)
) AS symbol FROM public.active_positions
         WHERE EXISTS (SELECT FROM pg_temp.datafix_pair AS datafix_pair WHERE {{datafix_pair.key = target.key}})
    $sql$);
    PERFORM pg_temp.datafix_mark_others(fix);
    PERFORM pg_temp.datafix_settle_conflicts(fix);

    -- Copy before the change: a revert adds images like any other run, so that it can be reverted too.
    PERFORM pg_temp.datafix_copy(pg_temp.datafix_sql(fix, $sql$
        INSERT INTO public.position_reconciliation_audit ({{columns}}, audit_run_id, audit_image)
        SELECT {{target.columns}}, {{run}}, 'before'
          FROM public.active_positions
         WHERE EXISTS (SELECT FROM pg_temp.datafix_restore AS datafix_restore
                        WHERE datafix_restore.datafix_action OPERATOR(pg_catalog.=) ANY (ARRAY['update', 'delete']) AND {{datafix_restore.key = target.key}})
         ORDER BY {{target.key}}
    $sql$));

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
    PERFORM pg_temp.datafix_copy(pg_temp.datafix_sql(fix, $sql$
        INSERT INTO public.position_reconciliation_audit ({{columns}}, audit_run_id, audit_image)
        SELECT {{target.columns}}, {{run}}, 'after'
          FROM public.active_positions
         WHERE EXISTS (SELECT FROM pg_temp.datafix_restore AS datafix_restore
                        WHERE datafix_restore.datafix_action OPERATOR(pg_catalog.=) ANY (ARRAY['update', 'insert']) AND {{datafix_restore.key = target.key}})
         ORDER BY {{target.key}}
    $sql$));
    PERFORM pg_temp.datafix_check_restored(fix, restored);
    PERFORM pg_temp.datafix_close(fix, 'reverted', restored);
END
$datafix$;
