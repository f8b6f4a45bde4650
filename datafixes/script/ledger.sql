-- The run in the ledger: opened before anything changes, and closed last.

-- The run that took a run back as a whole, unless it has been taken back itself.
CREATE OR REPLACE FUNCTION pg_temp.datafix_undone_by(fix jsonb, run bigint)
RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    later bigint;
BEGIN
    FOR later IN EXECUTE format($sql$
        SELECT r.run_id
          FROM %s AS r
         WHERE r.reverts_run = $1 AND r.fix = %L AND r.rows_chosen IS NULL
           AND r.outcome IN ('reverted', 'not_applicable')
         ORDER BY r.started_at DESC, r.run_id DESC
    $sql$, fix ->> 'ledger', fix ->> 'fix') USING run
    LOOP
        IF pg_temp.datafix_undone_by(fix, later) IS NULL THEN
            RETURN later;
        END IF;
    END LOOP;
    RETURN NULL;
END
$engine$;

-- The last application of a fix, as the ledger has it; NULL where there is none.
CREATE OR REPLACE FUNCTION pg_temp.datafix_last_application(fix jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    last jsonb;
BEGIN
    EXECUTE format($sql$
        SELECT to_jsonb(r)
          FROM %s AS r
         WHERE r.fix = %L AND r.direction = 'apply' AND r.outcome NOT IN ('started', 'failed')
           AND r.part_of IS NULL
         ORDER BY r.started_at DESC, r.run_id DESC
         LIMIT 1
    $sql$, fix ->> 'ledger', fix ->> 'fix') INTO last;
    RETURN last;
END
$engine$;

-- The last application of a fix. NULL where it is not in force. The ledger decides, and not alembic_version, which
-- "alembic stamp" can set to anything.
CREATE OR REPLACE FUNCTION pg_temp.datafix_in_force(fix jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    last jsonb := pg_temp.datafix_last_application(fix);
BEGIN
    RETURN CASE WHEN last ->> 'outcome' NOT IN ('not_applicable', 'declined')
                     AND pg_temp.datafix_undone_by(fix, (last -> 'run_id')::bigint) IS NULL THEN last END;
END
$engine$;

-- The run that a revert takes back. A downgrade takes back what the upgrade of its own revision did; an upgrade, what
-- the revision that it names did, or else the last application. Only an upgrade takes back what a downgrade did.
CREATE OR REPLACE FUNCTION pg_temp.datafix_run_to_revert(fix jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    of_revision text := coalesce(fix ->> 'undoes',
                                 CASE WHEN NOT (fix -> 'upgrading')::boolean THEN fix ->> 'revision' END);
    wanted      jsonb;
BEGIN
    IF fix ? 'of_run' THEN      -- by its number
        EXECUTE format($sql$SELECT to_jsonb(r) FROM %s AS r WHERE r.run_id = $1
                               AND r.outcome NOT IN ('started', 'failed')$sql$, fix ->> 'ledger')
           INTO wanted USING (fix -> 'of_run')::bigint;
        IF fix ? 'named' AND wanted ->> 'fix' <> fix ->> 'fix' THEN
            PERFORM pg_temp.datafix_refuse_fix(fix, 'DF010',
                format('run %s in %s is a run of %s: the numbers of runs differ between databases',
                       fix ->> 'of_run', fix ->> 'ledger', wanted ->> 'fix'),
                hint => 'Nothing was changed. Name its revision instead: op.revert_datafix(name, '
                        'revision=...).');
        END IF;
        RETURN wanted;
    END IF;
    EXECUTE format($sql$
        SELECT to_jsonb(r)
          FROM %1$s AS r
         WHERE r.fix = %2$L AND r.revision = $1 AND r.outcome NOT IN ('started', 'failed') AND r.part_of IS NULL
           AND NOT EXISTS (SELECT FROM %1$s AS own WHERE own.run_id = r.reverts_run AND own.revision = r.revision)
         -- where a revision reverted several parts: the newest that has not been taken back since
         ORDER BY pg_temp.datafix_undone_by($2, r.run_id) IS NOT NULL, r.started_at DESC, r.run_id DESC
         LIMIT 1
    $sql$, fix ->> 'ledger', fix ->> 'fix') INTO wanted USING of_revision, fix;
    -- Applied outside of Alembic, or by a revision that had another id. The downgrade of a revision that only names
    -- the fix did not apply it: it must not take back what another revision did.
    IF wanted IS NULL AND NOT fix ? 'undoes' AND ((fix -> 'upgrading')::boolean OR NOT fix ? 'by_name') THEN
        wanted := pg_temp.datafix_last_application(fix);
    END IF;
    RETURN wanted;
END
$engine$;

-- What the ledger keeps of a fix, so that a revert needs no file: its tables with their keys, their identities and
-- their housekeeping columns, which other tables may differ, and whether triggers fire.
CREATE OR REPLACE FUNCTION pg_temp.datafix_declaration(fix jsonb)
RETURNS jsonb LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT jsonb_build_object(
        'fire_triggers', fix -> 'fire_triggers',
        'other_tables', fix -> 'other_tables',
        'tables', (SELECT coalesce(jsonb_agg(jsonb_build_object(
                       'target_schema', t -> 'target_schema', 'target_table', t -> 'target_table',
                       'audit_table', t -> 'audit_table', 'key', t -> 'key', 'identity', t -> 'identity',
                       'identity_sql', t -> 'identity_sql', 'housekeeping', t -> 'housekeeping')
                       || CASE WHEN t ? 'without' THEN jsonb_build_object('without', t -> 'without') ELSE '{}' END
                       ORDER BY n), '[]')
                     FROM jsonb_array_elements(fix -> 'tables') WITH ORDINALITY AS _ (t, n)))
           || CASE WHEN fix ? 'at_most' THEN '{"at_most": true}' ELSE '{}' END::jsonb
           -- a run by 0.1: whatever takes its revert back knows no more than the revert did
           || CASE WHEN fix ? 'unidentified' THEN '{"unidentified": true}' ELSE '{}' END::jsonb
$engine$;

-- What a run writes, as the ledger notes it: the given columns, and all that are generated. NULL where others may write
-- too: only the images tell.
CREATE OR REPLACE FUNCTION pg_temp.datafix_with_generated(fix jsonb, names jsonb)
RETURNS jsonb LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT CASE WHEN names = '[]' THEN names ELSE names || coalesce(jsonb_agg(c -> 'name'), '[]') END
      FROM jsonb_array_elements(fix -> 'columns') AS c
     WHERE (c -> 'generated')::boolean
$engine$;

-- The columns that an after-image holds. Where the ledger knows what a run writes, these are enough, with every unique
-- key, since another fix may go by another one: in all others, the row is as in its before-image. The view of the
-- changes must know that too. Whatever it takes from every after-image is held: in a view of version 0.1, that is the
-- whole row.
CREATE OR REPLACE FUNCTION pg_temp.datafix_left(fix jsonb, written jsonb)
RETURNS jsonb LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT jsonb_agg(c)
      FROM jsonb_array_elements(fix -> 'columns') AS c
     WHERE coalesce(written, '[]') = '[]'
        OR EXISTS (SELECT FROM jsonb_array_elements_text(fix -> 'key') AS k WHERE written ? k)
        OR fix -> 'key' ? (c ->> 'name') OR written ? (c ->> 'name')
        OR EXISTS (SELECT FROM pg_temp.datafix_unique_keys((fix ->> 'target_oid')::oid) AS k
                    WHERE c ->> 'name' = ANY (k.key))
        OR coalesce(strpos((SELECT pg_get_viewdef(pg_temp.datafix_relation(fix ->> 'audit_schema',
                                                                           (fix ->> 'audit_table') || '_changes'))),
                           format('%L::text = ANY (noted.written_columns)', c ->> 'name')), 0) = 0
$engine$;

-- Opens the run in the ledger, with a line for each table.
CREATE OR REPLACE FUNCTION pg_temp.datafix_open_run(fix jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    run     bigint;
    one     jsonb;
    written jsonb;
BEGIN
    fix := pg_temp.datafix_whole(fix);
    EXECUTE format($sql$
        INSERT INTO %s (fix, revision, direction, outcome, rows_expected, reason, application, fingerprint, reverts_run,
                        on_conflict, rows_chosen, declined_because, engine, declaration, part_of)
        VALUES ($1 ->> 'fix', $1 ->> 'revision', $1 ->> 'direction', 'started', ($1 ->> 'rows_expected')::bigint,
                $1 ->> 'reason', nullif($1 ->> 'application', ''), $1 ->> 'fingerprint', ($1 -> 'reverts_run')::bigint,
                $1 ->> 'on_conflict', $1 ->> 'rows_chosen', $1 ->> 'declined_because', $1 ->> 'engine', $2,
                ($1 -> 'part_of')::bigint)
        RETURNING run_id
    $sql$, fix ->> 'ledger') INTO run USING fix, pg_temp.datafix_declaration(fix);
    fix := fix || jsonb_build_object('run', run);
    FOR one IN SELECT * FROM pg_temp.datafix_tables(fix) LOOP
        one := pg_temp.datafix_check_audit_columns(one);
        -- where triggers fire, only the images tell which columns changed
        written := CASE WHEN one ->> 'change' IN ('update', 'delete', 'insert')
                             AND NOT pg_temp.datafix_has_triggers(one)
                        THEN pg_temp.datafix_with_generated(one, one -> 'set') END;
        one := one || jsonb_build_object('left', pg_temp.datafix_left(one, written));
        fix := pg_temp.datafix_put(fix, (one -> 'n')::integer, one);
        EXECUTE format($sql$
            INSERT INTO %s (run_id, position, target_table, audit_table, key_columns, written_columns, shape)
            VALUES (($1 -> 'run')::bigint, ($1 -> 'n')::integer, $1 ->> 'target', $1 ->> 'audit',
                    ARRAY(SELECT jsonb_array_elements_text($1 -> 'key')),
                    CASE WHEN $2 IS NOT NULL THEN ARRAY(SELECT jsonb_array_elements_text($2)) END,
                    jsonb_build_object('target', $1 -> 'target_oid', 'ledger', ($1 ->> 'ledger')::regclass::oid::bigint,
                                       'columns', $1 -> 'columns', 'exact', true,
                                       'types', pg_temp.datafix_own_types(($1 ->> 'target_oid')::oid))
                    || CASE WHEN $1 ? 'beside' THEN jsonb_build_object('beside', $1 -> 'beside' -> 'by') ELSE '{}' END)
        $sql$, fix ->> 'ledger_tables') USING one, written;
    END LOOP;
    IF NOT fix ? 'in_parts' THEN    -- such a run changes nothing itself
        PERFORM pg_temp.datafix_prepare_watch(fix);
    END IF;
    RETURN fix;
END
$engine$;

-- Closes the run: writes the counts and digests of the images to the ledger. The script may put out the commit fuse.
CREATE OR REPLACE FUNCTION pg_temp.datafix_close(fix jsonb, outcome text, changed bigint DEFAULT 0)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    PERFORM pg_temp.datafix_switch_triggers_on(fix);
    IF changed > 0 THEN
        PERFORM pg_temp.datafix_summarize((one ->> 'audit')::regclass) FROM pg_temp.datafix_tables(fix) AS one;
    END IF;
    EXECUTE format('UPDATE %s AS t SET images = kept.images, images_digest = kept.digest, shape = t.shape || kept.noted'
        ' FROM pg_temp.datafix_tables($1) AS one CROSS JOIN LATERAL pg_temp.datafix_evidence(one) AS kept'
        ' WHERE t.run_id = (one -> ''run'')::bigint AND t.position = (one -> ''n'')::integer', fix ->> 'ledger_tables')
      USING fix;
    IF pg_temp.datafix_table(fix, 1) ? 'beside' THEN
        PERFORM pg_temp.datafix_tell_workers();     -- of the settings that this session has outside
    END IF;
    PERFORM pg_temp.datafix_end_run(fix, outcome, changed);
END
$engine$;

-- Writes the run's end to the ledger, removes its temporary tables, and guards the version.
CREATE OR REPLACE FUNCTION pg_temp.datafix_end_run(fix jsonb, outcome text, changed bigint, more text DEFAULT '')
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    EXECUTE format('UPDATE %s SET outcome = $1, rows_changed = $2, finished_at = clock_timestamp() WHERE run_id = $3',
                   fix ->> 'ledger')
      USING outcome, changed, (fix -> 'run')::bigint;
    PERFORM pg_temp.datafix_drop_temporary();
    IF fix ? 'part_of' THEN     -- the run that it is a part of ends with the version
        RETURN;
    ELSIF fix ? 'versions' THEN
        PERFORM pg_temp.datafix_guard_commit(fix);
    END IF;
    PERFORM set_config('datafixes.finished',
                       current_setting('datafixes.finished', true) || format('<%s>', fix ->> 'fuse'), true);
    PERFORM set_config('datafixes.told',
                       format('datafix %s: %s, %s rows changed, run %s%s%s',
                              fix ->> 'fix', outcome, changed, fix ->> 'run', more,
                              '; left out, because redacted: ' || (fix ->> 'left_out')), true);
END
$engine$;

-- Removes the temporary tables of a run: the next one in this session makes its own.
CREATE OR REPLACE FUNCTION pg_temp.datafix_drop_temporary()
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    leftover text;
BEGIN
    FOR leftover IN
        SELECT relname
          FROM pg_class
         WHERE relnamespace = pg_my_temp_schema() AND relkind = 'r' AND relname ~ '^datafix_'
    LOOP
        PERFORM pg_temp.datafix_make(format('DROP TABLE pg_temp.%I', leftover));
    END LOOP;
END
$engine$;

-- How many rows of a table the run inserted, updated and deleted.
CREATE OR REPLACE FUNCTION pg_temp.datafix_count(fix jsonb, inserted bigint, updated bigint, deleted bigint)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    EXECUTE format('UPDATE %s SET rows_inserted = $1, rows_updated = $2, rows_deleted = $3 '
                   'WHERE run_id = $4 AND position = $5', fix ->> 'ledger_tables')
      USING inserted, updated, deleted, (fix -> 'run')::bigint, (fix -> 'n')::integer;
END
$engine$;

-- From here on, a commit is refused unless the version has moved with the fix: otherwise the fix would be in force
-- while its revision is still to run. Only what is deferred runs at a commit, and nothing of it may outlive the
-- transaction, on a connection that others use too. The function of a trigger would stay. The rows of an exclusion
-- constraint are checked again at the commit, which calls the function in its expression. That function takes a row
-- of the temporary table, so it is dropped with the table. Two equal rows make PostgreSQL check again; the value that
-- the function returns then differs from both.
CREATE OR REPLACE FUNCTION pg_temp.datafix_guard_commit(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    IF to_regclass('pg_temp.datafixes_guard') IS NULL THEN
        PERFORM pg_temp.datafix_make_guard();
    END IF;
    SET CONSTRAINTS pg_temp.datafixes_moved DEFERRED;       -- whatever the migration said of ALL
    DELETE FROM pg_temp.datafixes_guard AS g WHERE g.fix = $1 ->> 'fix';
    INSERT INTO pg_temp.datafixes_guard
    SELECT $1 ->> 'fix', format('<%s>', $1 ->> 'fuse'), $1 ->> 'revision', ($1 ->> 'version_table_oid')::oid,
           $1 -> 'versions', NULL
      FROM generate_series(1, 2);
END
$engine$;

-- The guard's table, its constraint and their functions. Whatever role the transaction takes, it can read and write
-- them.
CREATE OR REPLACE FUNCTION pg_temp.datafix_make_guard()
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    PERFORM pg_temp.datafix_make('CREATE TEMP TABLE datafixes_guard (fix text, fuse text, revision text, '
                                 'version_table oid, versions jsonb, looked_at timestamptz) ON COMMIT DROP');
    -- SET CONSTRAINTS ALL IMMEDIATE checks early, and only once. A guard that was checked early is put back,
    -- deferred; a commit checks it again at the same moment.
    PERFORM pg_temp.datafix_make($make$
        CREATE FUNCTION pg_temp.datafixes_again(one pg_temp.datafixes_guard)
        RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $again$
        BEGIN
            SET CONSTRAINTS pg_temp.datafixes_moved DEFERRED;
            DELETE FROM pg_temp.datafixes_guard AS g WHERE g.fix = one.fix;
            PERFORM set_config('datafixes.guarding', 'on', true);
            INSERT INTO pg_temp.datafixes_guard
            SELECT one.fix, one.fuse, one.revision, one.version_table, one.versions, statement_timestamp()
              FROM generate_series(1, 2);
            PERFORM set_config('datafixes.guarding', '', true);
        END
        $again$
    $make$);
    PERFORM pg_temp.datafix_make($make$
        CREATE FUNCTION pg_temp.datafixes_moved(one pg_temp.datafixes_guard)
        RETURNS text LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $moved$
        DECLARE
            present text[];
        BEGIN
            IF current_setting('datafixes.guarding', true) = 'on'
               OR strpos(coalesce(current_setting('datafixes.finished', true), ''), one.fuse) = 0 THEN
                RETURN one.fix;     -- the two rows are being written
            ELSIF NOT EXISTS (SELECT FROM pg_class WHERE oid = one.version_table) THEN
                RETURN NULL;        -- a downgrade to base may drop it
            END IF;
            EXECUTE format('SELECT array_agg(version_num::text ORDER BY version_num) FROM %s',
                           one.version_table::regclass) INTO present;
            IF to_jsonb(coalesce(present, '{}')) <> one.versions THEN
                RETURN NULL;
            ELSIF one.looked_at IS DISTINCT FROM statement_timestamp() THEN
                PERFORM pg_temp.datafixes_again(one);
                RETURN NULL;
            END IF;
            RAISE EXCEPTION USING ERRCODE = 'DF014',
                MESSAGE = format('datafix %s: the transaction was to be committed before %s moved to or from '
                                 'revision %s', one.fix, one.version_table::regclass, one.revision),
                HINT = 'Nothing was changed. Remove what commits inside this migration (commit(), autocommit_block()), '
                    'or give the fix a migration of its own.';
        END
        $moved$
    $make$);
    PERFORM pg_temp.datafix_make('ALTER TABLE pg_temp.datafixes_guard ADD CONSTRAINT datafixes_moved '
                                 'EXCLUDE USING btree (pg_temp.datafixes_moved(datafixes_guard) WITH =) '
                                 'DEFERRABLE INITIALLY DEFERRED');
    PERFORM pg_temp.datafix_make('GRANT ALL ON pg_temp.datafixes_guard TO PUBLIC');
    PERFORM pg_temp.datafix_make('GRANT EXECUTE ON FUNCTION pg_temp.datafixes_moved(pg_temp.datafixes_guard), '
                                 'pg_temp.datafixes_again(pg_temp.datafixes_guard) TO PUBLIC');
END
$engine$;
