-- The fix. The line that calls it stands below, behind the engine.
CREATE OR REPLACE PROCEDURE pg_temp.datafix_run() LANGUAGE plpgsql AS $datafix$
DECLARE
    fix      jsonb;
    one      jsonb;     -- one of its tables
    restored bigint;
BEGIN
    -- One fix at a time; this revision and no other; applied and not yet reverted; the images and the tables are as
    -- they were. What the fix is, the ledger tells. NULL: it changed nothing when it ran, so there is nothing to give
    -- back.
    fix := pg_temp.datafix_open_revert($fix${
        "fix": "close_phantom_positions",
        "reason": "Shorts that a wrong-symbol close had opened were closed by hand at Alpaca; the book was never told.",
        "tables": [
            {"target_schema": "public", "target_table": "active_positions",
             "audit_table": "position_reconciliation_audit", "key": ["id"], "identity": ["symbol"],
             "identity_sql": ["coalesce(option_symbol, ticker)"], "housekeeping": []}
        ],
        "other_tables": [],
        "fire_triggers": true,
        "rows_expected": 7,
        "audit_schema": "public",
        "revision": "015",
        "upgrading": false,
        "after": ["015"],
        "version_table": "public.alembic_version",
        "application": "commit 3f2a",
        "engine": "0.2.0",
        "fuse": "revert close_phantom_positions",
        "fingerprint": "33669a363bae519758f48973e05fae597a2a88b6f89b03454a2ed22520279698",
        "change": "revert",
        "set": [],
        "on_conflict": "refuse"
    }$fix$,
        pg_catalog.to_regclass('public.alembic_version'));
    IF fix IS NULL THEN
        RETURN;
    END IF;

    -- Lock the rows, and compare each column as the fix found it, as the fix left it and as it is now. Whoever
    -- changed a value since must not lose it.
    fix := pg_temp.datafix_compare(fix);
    FOR one IN SELECT * FROM pg_temp.datafix_tables(fix) LOOP
        EXECUTE pg_temp.datafix_prepare_identity(one, 'then');
        EXECUTE pg_temp.datafix_prepare_identity(one, 'now');
    END LOOP;

    -- From here on, whatever changes anywhere is the revert's doing.
    PERFORM pg_temp.datafix_watch();
    -- A key alone is no proof of identity: a row that somebody put under one of these keys since is not ours.
    FOR one IN SELECT * FROM pg_temp.datafix_tables(fix) LOOP
        EXECUTE pg_temp.datafix_fill_identity(one, 'then');
        EXECUTE pg_temp.datafix_fill_identity(one, 'now');
        PERFORM pg_temp.datafix_mark_others(one);
    END LOOP;
    PERFORM pg_temp.datafix_settle_conflicts(fix);
    PERFORM pg_temp.datafix_check_nulls(fix);

    -- Copy before the change: a revert adds images like any other run, so that it can be reverted too.
    PERFORM pg_temp.datafix_copy_restored(fix, 'before');

    -- Delete what was inserted, restore what was changed, insert again what was deleted: in one statement, because
    -- PostgreSQL checks foreign keys at the end of a statement.
    EXECUTE pg_temp.datafix_restore_sql(fix) INTO restored;

    -- The proof: deferred constraints hold, the rows as they are now are copied, and every value is back.
    EXECUTE pg_temp.datafix_constraints(fix, 'IMMEDIATE');
    EXECUTE pg_temp.datafix_constraints(fix, 'DEFERRED');
    PERFORM pg_temp.datafix_copy_restored(fix, 'after');
    PERFORM pg_temp.datafix_check_restored(fix, restored);
    -- Whatever triggers did elsewhere has no copy.
    PERFORM pg_temp.datafix_check_nothing_else(fix);
    PERFORM pg_temp.datafix_close(fix, 'reverted', restored);
END
$datafix$;
