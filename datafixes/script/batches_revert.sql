-- A run in batches is taken back in batches. The revert is one run in the ledger, "running" until its last transaction;
-- each batch is reverted by a run of its own, part of that one, with its own images and its own proof. A line in
-- datafix_range stands for each batch: whoever takes it back locks that line, so whoever comes meanwhile takes another.

-- Begins a revert. Returns the facts of each run that is to be taken back: the one run, or the batches of it that are
-- still in force, newest first. Then, the last facts end the run that takes back the batches.
CREATE OR REPLACE FUNCTION pg_temp.datafix_begin_revert(declared jsonb, version_table regclass)
RETURNS SETOF jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    fix   jsonb := pg_temp.datafix_begin(declared || '{"direction": "revert"}', version_table);
    whole jsonb := pg_temp.datafix_open_parts(fix);
BEGIN
    IF whole IS NULL THEN
        RETURN NEXT fix;
        RETURN;
    END IF;
    RETURN QUERY EXECUTE format($sql$
        SELECT $1 || jsonb_build_object('direction', 'revert', 'of_run', g.reverts_run, 'part_of', g.run_id,
                                        'taken', g.n)
          FROM %I.datafix_range AS g
         WHERE g.run_id = $2 AND NOT g.done
         ORDER BY g.n
    $sql$, whole ->> 'audit_schema') USING declared, (whole -> 'run')::bigint;
    RETURN NEXT whole || '{"ends": true}';
END
$engine$;

-- The same, in a transaction before the batches, which does not move the version.
CREATE OR REPLACE FUNCTION pg_temp.datafix_begin_parts(declared jsonb, version_table regclass)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    whole jsonb := pg_temp.datafix_open_parts(
        pg_temp.datafix_begin(declared || '{"direction": "revert", "in_batches": true}', version_table));
BEGIN
    IF whole IS NOT NULL THEN
        PERFORM pg_temp.datafix_check_limits(whole);
    END IF;
END
$engine$;

-- Opens the run that takes back a run in batches, or goes on with it. NULL where the run to revert had none.
CREATE OR REPLACE FUNCTION pg_temp.datafix_open_parts(fix jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    last    jsonb   := nullif(fix -> 'last', 'null');
    half    boolean := coalesce(last ->> 'outcome' = 'running', false);
    running jsonb   := pg_temp.datafix_running(fix);
    parts   boolean;
BEGIN
    IF fix ? 'takes_back' AND NOT half THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF010', 'it is not half applied, so there is nothing to take back',
            hint => 'Nothing was changed. Leave -x undo out.');
    ELSIF half AND NOT fix ? 'takes_back' THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF021',
            format('run %s has done a part of it, in batches, and has not ended', last ->> 'run_id'),
            hint => format('Nothing was changed. Let it end first, or take that part back: alembic -x undo=%s upgrade '
                           'head', fix ->> 'fix'));
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM %s AS p WHERE p.part_of = $1)', fix ->> 'ledger')
       INTO parts USING (last -> 'run_id')::bigint;
    IF NOT parts AND NOT half THEN
        RETURN NULL;
    ELSIF fix ? 'rows_chosen' THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF021',
            format('run %s changed its rows in batches, and some of them alone cannot be reverted', last ->> 'run_id'),
            hint => 'Nothing was changed. Revert the run as a whole, or correct these rows by a fix of their own.');
    ELSIF running ->> 'direction' = 'revert' THEN
        RETURN pg_temp.datafix_go_on_with_parts(fix, running);
    END IF;
    PERFORM pg_temp.datafix_check_revertible(fix);
    IF fix ->> 'on_conflict' = 'refuse' THEN
        PERFORM pg_temp.datafix_look_at_parts(fix);
    END IF;
    fix := pg_temp.datafix_open_run(fix || jsonb_build_object('reverts_run', last -> 'run_id', 'in_parts', true));
    EXECUTE format($sql$
        INSERT INTO %2$I.datafix_range (run_id, n, reverts_run)
        SELECT $1, row_number() OVER (ORDER BY p.started_at DESC, p.run_id DESC), p.run_id FROM %1$s AS p
         WHERE p.part_of = $2 AND p.outcome IN ('applied', 'reverted')
           AND pg_temp.datafix_undone_by($3, p.run_id) IS NULL
    $sql$, fix ->> 'ledger', fix ->> 'audit_schema')
      USING (fix -> 'run')::bigint, (last -> 'run_id')::bigint, fix;
    EXECUTE format($sql$
        UPDATE %1$s AS r
           SET outcome = 'running', declaration = r.declaration || jsonb_strip_nulls(jsonb_build_object('batches', $2)),
               rows_found = (SELECT coalesce(sum(p.rows_changed), 0) FROM %1$s AS p WHERE p.run_id IN (
                             SELECT g.reverts_run FROM %2$I.datafix_range AS g WHERE g.run_id = $1))
         WHERE r.run_id = $1
    $sql$, fix ->> 'ledger', fix ->> 'audit_schema')
      USING (fix -> 'run')::bigint, last -> 'declaration' -> 'batches';
    PERFORM set_config('datafixes.told', format('datafix %s: run %s begins to take back run %s, in batches',
        fix ->> 'fix', fix ->> 'run', last ->> 'run_id'), true);
    RETURN fix;
END
$engine$;

-- Goes on with a revert in batches that did not end. The operator may choose anew what happens to conflicts.
CREATE OR REPLACE FUNCTION pg_temp.datafix_go_on_with_parts(fix jsonb, running jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    IF running -> 'reverts_run' <> fix -> 'last' -> 'run_id' THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF021',
            format('run %s is taking back run %s in batches and has not ended', running ->> 'run_id',
                   running ->> 'reverts_run'),
            hint => 'Nothing was changed. Let that run end first.');
    END IF;
    EXECUTE format('UPDATE %s SET wish = NULL, on_conflict = $2 WHERE run_id = $1', fix ->> 'ledger')
      USING (running -> 'run_id')::bigint, fix ->> 'on_conflict';
    PERFORM set_config('datafixes.told', format('datafix %s: goes on with run %s, which takes back run %s',
        fix ->> 'fix', running ->> 'run_id', running ->> 'reverts_run'), true);
    RETURN fix || jsonb_build_object('run', running -> 'run_id', 'reverts_run', running -> 'reverts_run');
END
$engine$;

-- Looks at all rows of all batches, without a lock, before anything changes: a conflict in the last batch would
-- otherwise be found when all others are taken back. Others may write meanwhile, so each batch looks again, at more.
CREATE OR REPLACE FUNCTION pg_temp.datafix_look_at_parts(fix jsonb)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET timezone = 'UTC'
SET extra_float_digits = 1 SET bytea_output = 'hex' SET lc_monetary = 'C' SET array_nulls = on SET xmloption = 'content'
SET enable_nestloop = off
AS $engine$
DECLARE
    alike    record;     -- batches that wrote the same columns of the same table
    noted    jsonb;
    one      jsonb;
    look     text;
    standing bigint;
    which    text;
BEGIN
    FOR alike IN EXECUTE format($sql$
        SELECT t.position, min(t.run_id) AS run, array_agg(t.run_id) AS runs, sum(p.rows_changed) AS rows,
               CASE WHEN sum(t.rows_updated) > 0 THEN 'update' WHEN sum(t.rows_deleted) > 0 THEN 'delete'
                    ELSE 'insert' END AS kind
          FROM %s AS p JOIN %s AS t ON t.run_id = p.run_id
         WHERE p.part_of = $1 AND p.outcome IN ('applied', 'reverted')
           AND pg_temp.datafix_undone_by($2, p.run_id) IS NULL
         GROUP BY t.position, t.written_columns
         ORDER BY 1, 2
    $sql$, fix ->> 'ledger', fix ->> 'ledger_tables') USING (fix -> 'last' -> 'run_id')::bigint, fix
    LOOP
        EXECUTE format('SELECT to_jsonb(t) FROM %s AS t WHERE t.run_id = $1 AND t.position = $2',
                       fix ->> 'ledger_tables') INTO noted USING alike.run, alike.position;
        one := pg_temp.datafix_table(fix, alike.position) || jsonb_build_object('noted', noted,
            'from_run', format('ANY (%L::bigint[])', alike.runs));
        PERFORM pg_temp.datafix_check_shape(one, noted);
        look := pg_temp.datafix_standing(one, alike.kind);
        EXECUTE format('SELECT count(*) FROM (%s) AS row WHERE row.state IS NOT NULL', look) INTO standing;
        IF standing > 0 THEN
            EXECUTE format($sql$
                SELECT string_agg(row.key || ' ' || row.state, ', ')
                  FROM (SELECT * FROM (%s) AS row WHERE row.state IS NOT NULL LIMIT 20) AS row
            $sql$, look) INTO which;
            PERFORM pg_temp.datafix_refuse_conflicts(fix, standing, alike.rows::bigint, one ->> 'target', which);
        END IF;
    END LOOP;
END
$engine$;

-- The query for the rows of the runs "from_run", each with what stands in its way: what datafix_compare_by_key says of
-- it. All of these runs updated rows, or deleted rows, or inserted rows.
CREATE OR REPLACE FUNCTION pg_temp.datafix_standing(fix jsonb, kind text)
RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    names    jsonb := nullif(nullif(fix -> 'noted' -> 'written_columns', 'null'), '[]');
    compared jsonb := (SELECT jsonb_agg(c) FROM jsonb_array_elements(fix -> 'noted' -> 'shape' -> 'columns') AS c
                        WHERE NOT fix -> 'housekeeping' ? (c ->> 'name'));
    written  jsonb := (SELECT coalesce(jsonb_agg(c), '[]') FROM jsonb_array_elements(compared) AS c
                        WHERE NOT (c -> 'generated')::boolean AND (names IS NULL OR names ? (c ->> 'name')));
    now_row  text  := pg_temp.datafix_each(compared, 't.%1$I%3$s');
    undo     text  := 'record_image_ne(ROW(b.%1$I), ROW(a.%1$I)) AND record_image_ne(ROW(t.%1$I%3$s), ROW(b.%1$I))';
BEGIN
    IF kind = 'update' THEN
        RETURN pg_temp.datafix_sql(fix, format($sql$
            SELECT {{b.shown}} AS key,
                   CASE WHEN t.tableoid IS NULL THEN 'gone' WHEN %s THEN 'changed since' END AS state
              FROM %s LEFT JOIN %s AS t ON {{b.key = t.key}}
        $sql$, CASE WHEN fix ? 'unidentified'
                    THEN format('record_image_ne(ROW(%s), ROW(%s)) AND (%s)', now_row,
                                pg_temp.datafix_as_left(fix, compared), pg_temp.datafix_each(written, undo, ' OR '))
                    ELSE pg_temp.datafix_each(written, undo || ' AND record_image_ne(ROW(t.%1$I%3$s), ROW(a.%1$I))',
                                              ' OR ') END,
            pg_temp.datafix_both_images(fix), fix ->> 'target'));
    END IF;
    RETURN pg_temp.datafix_sql(fix, format($sql$
        SELECT {{i.shown}} AS key, CASE WHEN record_image_ne(ROW(%s), ROW(%s)) THEN %L END AS state
          FROM %s AS i JOIN %s AS t ON {{i.key = t.key}}
         WHERE i.audit_run_id = %s AND i.audit_image = %L
    $sql$, now_row, pg_temp.datafix_each(compared, 'i.%1$I'),
        CASE kind WHEN 'delete' THEN 'taken' ELSE 'changed since' END, fix ->> 'audit', fix ->> 'target',
        fix ->> 'from_run', CASE kind WHEN 'delete' THEN 'before' ELSE 'after' END));
END
$engine$;

-- Takes one of the batches that are still to be reverted, and locks its line until this transaction ends. Returns the
-- facts of its revert; without "taken", none is left for this worker.
CREATE OR REPLACE FUNCTION pg_temp.datafix_take_part(declared jsonb, batch jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    fix     jsonb;
    running jsonb;
    taken   record;
BEGIN
    -- whoever opens or ends a run holds this lock, so what is read from here on stays
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('datafixes fix', 0));
    fix := pg_temp.datafix_in_ledger(declared || '{"direction": "revert", "in_batches": true}',
                                     declared ->> 'audit_schema');
    running := pg_temp.datafix_running(fix);
    fix := fix || jsonb_build_object('batch', jsonb_strip_nulls(jsonb_build_object(
        'batches', running -> 'declaration' -> 'batches')) || batch || '{"left": false, "waits": false}');
    IF running ->> 'direction' IS DISTINCT FROM 'revert' OR running ->> 'wish' = 'stop' THEN
        RETURN fix;
    END IF;
    fix := pg_temp.datafix_name_session(fix || jsonb_build_object('run', running -> 'run_id'), running);
    -- A role that does not see replicas reverts without waiting for them.
    IF running ->> 'wish' = 'pause' OR pg_has_role('pg_read_all_stats', 'USAGE')
                                       AND pg_temp.datafix_lagging(fix -> 'batch' -> 'batches') IS NOT NULL THEN
        RETURN jsonb_set(fix, '{batch}', fix -> 'batch' || '{"left": true, "waits": true, "changed": 0}');
    END IF;
    EXECUTE format($sql$
        SELECT g.n, g.reverts_run FROM %I.datafix_range AS g
         WHERE g.run_id = $1 AND NOT g.done
         ORDER BY g.n
         LIMIT 1
           FOR UPDATE SKIP LOCKED
    $sql$, fix ->> 'audit_schema') INTO taken USING (running -> 'run_id')::bigint;
    IF taken IS NULL THEN
        IF fix ? 'takes_back' THEN
            PERFORM pg_temp.datafix_end_taking_back(fix, running);
        END IF;
        RETURN fix;
    END IF;
    fix := jsonb_set(fix, '{batch,left}', 'true') || jsonb_build_object('taken', taken.n,
        'part_of', running -> 'run_id', 'of_run', taken.reverts_run);
    IF pg_temp.datafix_undone_by(fix, taken.reverts_run) IS NOT NULL THEN       -- somebody reverted it by its number
        PERFORM pg_temp.datafix_end_part(fix, 0);
        RETURN fix - 'taken';
    END IF;
    RETURN fix;
END
$engine$;

-- Notes that a batch is taken back. Returns what the next one needs to know; NULL where the run was no batch.
CREATE OR REPLACE FUNCTION pg_temp.datafix_end_part(fix jsonb, restored bigint)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    IF fix ? 'taken' THEN
        EXECUTE format($sql$
            UPDATE %I.datafix_range AS g
               SET done = true, batches = ($3 > 0)::integer, rows_changed = $3, worker = $4, beat = clock_timestamp()
             WHERE g.run_id = $1 AND g.n = $2
        $sql$, fix ->> 'audit_schema')
          USING (fix -> 'part_of')::bigint, (fix -> 'taken')::integer, restored, fix -> 'batch' ->> 'worker';
    END IF;
    RETURN fix -> 'batch' || jsonb_build_object('changed', restored);
END
$engine$;

-- Ends the run that took back all batches of another. That one was half applied, or has ended long ago.
CREATE OR REPLACE FUNCTION pg_temp.datafix_close_parts(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    last jsonb := fix -> 'last';
BEGIN
    IF last ->> 'outcome' = 'running' THEN
        EXECUTE format('UPDATE %s SET outcome = ''taken_back'', wish = NULL, rows_changed = $2, '
                       'finished_at = clock_timestamp() WHERE run_id = $1', fix ->> 'ledger')
          USING (last -> 'run_id')::bigint,
                pg_temp.datafix_sum_up(fix || jsonb_build_object('run', last -> 'run_id'));
    END IF;
    PERFORM pg_temp.datafix_end_run(fix, 'reverted', pg_temp.datafix_sum_up(fix));
END
$engine$;

-- Ends the run that takes back what was half applied, where no batch is left, and nobody else has just ended it. The
-- version has not moved, and does not.
CREATE OR REPLACE FUNCTION pg_temp.datafix_end_taking_back(fix jsonb, running jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    last jsonb;
BEGIN
    EXECUTE format($sql$
        SELECT to_jsonb(whole) FROM %1$s AS r JOIN %1$s AS whole ON whole.run_id = r.reverts_run
         WHERE r.run_id = $1 AND r.outcome = 'running'
           AND NOT EXISTS (SELECT FROM %2$I.datafix_range AS g WHERE g.run_id = r.run_id AND NOT g.done)
           FOR NO KEY UPDATE OF r
    $sql$, fix ->> 'ledger', fix ->> 'audit_schema') INTO last USING (running -> 'run_id')::bigint;
    IF last IS NOT NULL THEN
        PERFORM pg_temp.datafix_close_parts(fix || jsonb_build_object('last', last));
    END IF;
END
$engine$;
