-- Retention: old copies are given up. That is a run of its own in the ledger. Its line names every run whose images
-- went, with their number and their old digest, and the triggers of the audit table let exactly these go.

-- What can be given up: each run with images in an audit table that was finished before a time; NULL where there is
-- none. "keep" is "open" or "none". A fix in force is kept with all runs that took back parts of it, or gave them back.
--   found   how many images it has there
--   images  how many it wrote, and their digest, as the ledger has it
CREATE OR REPLACE FUNCTION pg_temp.datafix_prunable(audit_schema text, audit_table text, older_than timestamptz,
                                                    keep text)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $engine$
DECLARE
    there jsonb;
    runs  jsonb;
BEGIN
    EXECUTE format('SELECT jsonb_agg(i) FROM (SELECT audit_run_id, count(*) AS found FROM %I.%I GROUP BY 1) AS i',
                   audit_schema, audit_table) INTO there;
    EXECUTE replace($sql$
        WITH RECURSIVE led_to AS (
            SELECT r.run_id, coalesce(r.part_of, r.run_id) AS origin
              FROM {schema}.datafix_run AS r WHERE r.reverts_run IS NULL
            UNION ALL
            SELECT r.run_id, led_to.origin
              FROM {schema}.datafix_run AS r JOIN led_to ON led_to.run_id = r.reverts_run)
        SELECT jsonb_agg(jsonb_build_object('run', r.run_id, 'fix', r.fix, 'finished_at', r.finished_at,
                                            'found', counted.found, 'images', wrote.images, 'digest', wrote.digest)
                         ORDER BY r.run_id)
          FROM jsonb_to_recordset($4) AS counted (audit_run_id bigint, found bigint)
          JOIN {schema}.datafix_run AS r ON r.run_id = counted.audit_run_id
          JOIN led_to ON led_to.run_id = r.run_id
         CROSS JOIN LATERAL (
               SELECT sum(t.images) AS images, sum(t.images_digest) AS digest
                 FROM {schema}.datafix_run_table AS t
                WHERE t.run_id = r.run_id AND (parse_ident(t.audit_table))[2] = $2) AS wrote
         WHERE r.finished_at < $1
           AND ($3 = 'none' OR led_to.origin NOT IN (SELECT o.run_id FROM {schema}.datafix_open AS o))
           AND NOT EXISTS (SELECT FROM {schema}.datafix_run AS whole     -- whose batches have not ended
                            WHERE whole.run_id IN (led_to.origin, r.part_of) AND whole.outcome = 'running')
    $sql$, '{schema}', quote_ident(audit_schema)) INTO runs USING older_than, audit_table, keep, there;
    RETURN runs;
END
$engine$;

-- Checks that the images of some runs in an audit table are those that the runs wrote: once they are gone, nobody can.
-- A run of which no image is left is none of these: it is not given up, and "datafixes verify-audit" still names it.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_before_pruning(known jsonb, audit_schema text, audit_table text,
                                                                runs jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    wrote jsonb;
    gone  text;
BEGIN
    FOR wrote IN EXECUTE format($sql$
        SELECT to_jsonb(t) FROM %I.datafix_run_table AS t
         WHERE t.run_id IN (SELECT (went -> 'run')::bigint FROM jsonb_array_elements($1) AS went)
           AND (parse_ident(t.audit_table))[2] = $2 AND t.images IS NOT NULL
         ORDER BY t.run_id
    $sql$, audit_schema) USING runs, audit_table LOOP
        SELECT string_agg(c ->> 'name', ', ') INTO gone FROM jsonb_array_elements(wrote -> 'shape' -> 'columns') AS c
         WHERE NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = (known ->> 'audit')::regclass
                             AND attname = c ->> 'name' AND NOT attisdropped);
        IF gone IS NOT NULL THEN
            PERFORM pg_temp.datafix_refuse_fix(known, 'DF011',
                format('the images of run %s in %s are not the ones it wrote: these columns are gone: %s',
                       wrote ->> 'run_id', known ->> 'audit', gone),
                hint => 'Nothing was changed. Compare with a backup.');
        END IF;
        PERFORM pg_temp.datafix_check_images(known, wrote);
    END LOOP;
END
$engine$;

-- Gives up what can be given up. "run" holds what the ledger notes of the run: revision, reason, application, engine.
CREATE OR REPLACE FUNCTION pg_temp.datafix_prune(audit_schema text, audit_table text, older_than timestamptz, keep text,
                                                 run jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $engine$
DECLARE
    audit  text := format('%I.%I', audit_schema, audit_table);
    ledger text := format('%I.datafix_run', audit_schema);
    known  jsonb := jsonb_build_object('fix', 'prune ' || audit_table, 'ledger', ledger);
    runs   jsonb;
    number bigint;
    gone   bigint;
BEGIN
    PERFORM pg_temp.datafix_check_is_audit_table(audit_schema, audit_table);
    PERFORM pg_temp.datafix_bring_ledger_forward(audit_schema);
    PERFORM pg_temp.datafix_check_sequence(known, ledger::regclass, 'run_id');
    runs := coalesce(pg_temp.datafix_prunable(audit_schema, audit_table, older_than, keep), '[]');
    PERFORM pg_temp.datafix_check_before_pruning(known || jsonb_build_object('audit', audit), audit_schema, audit_table,
                                                 runs);
    gone := (SELECT coalesce(sum((went -> 'found')::bigint), 0) FROM jsonb_array_elements(runs) AS went);
    -- The line is finished before anything goes, so that nobody can change it afterwards.
    EXECUTE format($sql$
        INSERT INTO %s (fix, revision, direction, outcome, rows_changed, reason, application, engine, finished_at,
                        declaration)
        VALUES ($1, $2 ->> 'revision', 'apply', 'pruned', 0, $2 ->> 'reason', nullif($2 ->> 'application', ''),
                $2 ->> 'engine', clock_timestamp(), jsonb_build_object('gives_up', jsonb_build_object(
                    'audit_table', $3, 'older_than', $4, 'keep', $5, 'images', $6, 'runs', $7)))
        RETURNING run_id
    $sql$, ledger) INTO number USING known ->> 'fix', run, audit_table, older_than, keep, gone, runs;
    IF gone > 0 THEN
        EXECUTE format('DELETE FROM %s WHERE audit_run_id = ANY ($1)', audit)
          USING ARRAY(SELECT (went -> 'run')::bigint FROM jsonb_array_elements(runs) AS went);
        GET DIAGNOSTICS gone = ROW_COUNT;
        IF gone <> (SELECT sum((went -> 'found')::bigint) FROM jsonb_array_elements(runs) AS went) THEN
            PERFORM pg_temp.datafix_refuse('DF011',
                format('audit table %s: somebody writes images of old runs to it: %s were there, and %s went', audit,
                       (SELECT sum((went -> 'found')::bigint) FROM jsonb_array_elements(runs) AS went), gone));
        END IF;
    END IF;
    PERFORM set_config('datafixes.told',
        format('audit table %s: copies of %s runs given up (%s images), run %s', audit, jsonb_array_length(runs), gone,
               number), true);
END
$engine$;

-- The runs, with the number and the day, that gave up copies of a run; NULL where all are there.
CREATE OR REPLACE FUNCTION pg_temp.datafix_given_up(fix jsonb, run bigint)
RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $engine$
DECLARE
    told text;
BEGIN
    EXECUTE format($sql$
        SELECT string_agg(format('copies in %%s given up on %%s by run %%s',
                                 r.declaration -> 'gives_up' ->> 'audit_table', r.finished_at::date, r.run_id),
                          ', ' ORDER BY r.run_id)
          FROM %1$s AS r
         WHERE r.outcome = 'pruned'
           AND EXISTS (SELECT FROM jsonb_array_elements(r.declaration -> 'gives_up' -> 'runs') AS went
                         JOIN %1$s AS gone ON gone.run_id = (went -> 'run')::bigint
                        WHERE $1 IN (gone.run_id, gone.part_of))
    $sql$, fix ->> 'ledger') INTO told USING run;
    RETURN told;
END
$engine$;
