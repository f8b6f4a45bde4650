-- The fix. The line that calls it stands below, behind the engine.
CREATE OR REPLACE PROCEDURE pg_temp.datafix_run() LANGUAGE plpgsql AS $datafix$
DECLARE
    fix      jsonb;
    one      jsonb;     -- one of its tables
    restored bigint;
BEGIN
    -- One fix at a time; only at this revision. A run is taken back at once; a run in batches, batch by batch.
    FOR fix IN SELECT * FROM pg_temp.datafix_begin_revert($fix${
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
        pg_catalog.to_regclass('public.alembic_version')) LOOP
        -- Applied and not yet reverted; images and tables are unchanged. The facts of the fix come from the ledger.
        -- NULL: the run changed nothing, so there is nothing to restore; or all of its batches are taken back.
        fix := pg_temp.datafix_open_revert(fix, pg_catalog.to_regclass('public.alembic_version'));
        CONTINUE WHEN fix IS NULL;

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
        PERFORM pg_temp.datafix_close(fix, 'reverted', restored);
        PERFORM pg_temp.datafix_end_part(fix, restored);
    END LOOP;
END
$datafix$;
