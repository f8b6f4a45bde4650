-- The fix. The line that calls it stands below, behind the engine.
CREATE OR REPLACE PROCEDURE pg_temp.datafix_run() LANGUAGE plpgsql AS $datafix$
DECLARE
    fix     jsonb;     -- the engine's facts: this run, the table, its columns and its key
    copied  bigint;
    changed bigint;
    after   bigint;
BEGIN
    -- One fix at a time; only at this revision; the table can be copied; the fix is not in force.
    fix := pg_temp.datafix_open($fix${
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
        "upgrading": true,
        "after": ["014"],
        "version_table": "public.alembic_version",
        "application": "commit 3f2a",
        "engine": "0.2.0",
        "fuse": "apply close_phantom_positions",
        "fingerprint": "33669a363bae519758f48973e05fae597a2a88b6f89b03454a2ed22520279698",
        "change": "update",
        "set": ["status", "close_reason", "closed_at", "exit_price", "current_pnl_dollars", "current_pnl_percent"],
        "tolerance": 0,
        "already_at_most": 7,
        "required": false,
        "times_without_zone": []
    }$fix$,
        pg_catalog.to_regclass('public.alembic_version'));

    -- The rows that this fix was written for.
    EXECUTE pg_temp.datafix_sql(fix, $sql$
        CREATE TEMP TABLE datafix_expected ON COMMIT DROP AS
        SELECT {{target.key}}, (coalesce(option_symbol, ticker)) AS symbol
          FROM public.active_positions WITH NO DATA
    $sql$);
    INSERT INTO pg_temp.datafix_expected VALUES
        (13, 'NOW'),
        (16, 'QCOM'),
        (19, 'SPY'),
        (21, 'ORCL260213C00155000'),
        (24, 'CRM260227P00200000'),
        (32, 'NOW260220P00110000'),
        (33, 'QCOM260220P00145000');

    -- The plain values that it sets, in the columns' own types, for a comparison at the end.
    EXECUTE pg_temp.datafix_sql(fix, $sql$
        CREATE TEMP TABLE datafix_wanted ON COMMIT DROP AS
        SELECT status, close_reason, current_pnl_dollars, current_pnl_percent
          FROM public.active_positions WITH NO DATA
    $sql$);
    INSERT INTO pg_temp.datafix_wanted (status, close_reason, current_pnl_dollars, current_pnl_percent)
    VALUES ('closed', 'manual_reconciliation', 0, 0);

    PERFORM pg_temp.datafix_prepare_captured(fix);
    EXECUTE pg_temp.datafix_sql(fix, $sql$
        CREATE TEMP TABLE datafix_actual ON COMMIT DROP AS
        SELECT {{target.key}}, (coalesce(option_symbol, ticker)) AS symbol, true AS datafix_matches,
               true AS datafix_already
          FROM public.active_positions WITH NO DATA
    $sql$);
    -- From here on, every change in any table counts as the fix's.
    PERFORM pg_temp.datafix_watch();

    -- Lock and copy the rows in one statement: exactly the copied rows will be changed.
    copied := pg_temp.datafix_copy(pg_temp.datafix_sql(fix, $sql$
        INSERT INTO public.position_reconciliation_audit ({{columns}}, audit_run_id, audit_image)
        SELECT {{target.columns}}, {{run}}, 'before'
          FROM public.active_positions
         {{where_expected}}
           AND (status IN ('open', 'closing'))
           AND (status = 'closed') IS NOT TRUE
         {{locked}}
    $sql$));
    fix := pg_temp.datafix_note_captured(fix, copied);

    -- The rows with the expected keys. Either these are exactly the expected rows, or nothing is changed; if none
    -- of them exists, the fix is not applicable in this database.
    EXECUTE pg_temp.datafix_sql(fix, $sql$
        INSERT INTO pg_temp.datafix_actual
        SELECT {{target.key}},
               (coalesce(option_symbol, ticker)),
               (status IN ('open', 'closing')) IS TRUE,
               (status = 'closed') IS TRUE
          FROM public.active_positions
         WHERE {{expected}}
    $sql$);
    IF NOT pg_temp.datafix_found_the_rows(fix) THEN
        RETURN;
    END IF;

    -- The change, on the copied rows only.
    PERFORM pg_temp.datafix_check_cascades(fix);
    EXECUTE pg_temp.datafix_sql(fix, $sql$
        UPDATE public.active_positions
           SET status = 'closed',
               close_reason = 'manual_reconciliation',
               closed_at = (now() AT TIME ZONE 'UTC'),
               exit_price = (entry_price),
               current_pnl_dollars = 0,
               current_pnl_percent = 0
         WHERE {{captured}}
    $sql$);
    GET DIAGNOSTICS changed = ROW_COUNT;
    PERFORM pg_temp.datafix_check_changed(fix, copied, changed);

    -- Checks: deferred constraints hold; what was written is copied into the audit table, and is as declared.
    EXECUTE pg_temp.datafix_constraints(fix, 'IMMEDIATE');
    EXECUTE pg_temp.datafix_constraints(fix, 'DEFERRED');
    after := pg_temp.datafix_copy(pg_temp.datafix_sql(fix, $sql$
        INSERT INTO public.position_reconciliation_audit ({{left}}, audit_run_id, audit_image)
        SELECT {{target.left}}, {{run}}, 'after'
          FROM public.active_positions
         {{where_captured}}
    $sql$));
    PERFORM pg_temp.datafix_check_after(fix, changed, after);
    -- No other rows changed: changes by triggers elsewhere have no copy.
    PERFORM pg_temp.datafix_check_nothing_else(fix);
    PERFORM pg_temp.datafix_check_wanted(fix);
    EXECUTE pg_temp.datafix_sql(fix, $sql$
        SELECT pg_catalog.count(*) FROM public.active_positions
         WHERE {{captured}}
           AND (exit_price = entry_price) IS NOT TRUE
    $sql$) INTO after;
    PERFORM pg_temp.datafix_check_ensured(fix, after, 'exit_price = entry_price');
    PERFORM pg_temp.datafix_close(fix, 'applied', changed);
END
$datafix$;
