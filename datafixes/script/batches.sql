-- A fix in batches. It is one run in the ledger, "running" until its last transaction. Each batch is a transaction and
-- a run of its own, part of that one: with every guard, its images, its digest and its own revert. Ranges of keys share
-- the table among workers: a batch locks the row of its range, so whoever comes meanwhile takes another one, and a
-- worker that was killed holds nothing. Where a batch ends is written in its own transaction.

-- The run in batches of a fix that has not ended; NULL where there is none. Where one is taken back that was half
-- applied, the one that takes it back.
CREATE OR REPLACE FUNCTION pg_temp.datafix_running(fix jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    running jsonb;
BEGIN
    IF pg_temp.datafix_relation(fix ->> 'audit_schema', 'datafix_range') IS NOT NULL THEN
        EXECUTE format($sql$
            SELECT to_jsonb(r) FROM %s AS r WHERE r.fix = %L AND r.outcome = 'running'
             ORDER BY r.direction = 'revert' DESC, r.started_at DESC LIMIT 1
        $sql$, fix ->> 'ledger', fix ->> 'fix') INTO running;
    END IF;
    RETURN running;
END
$engine$;

-- The columns of the key in the order of its unique index, with their types and collations. Batches follow that order,
-- so there must be one, in one direction.
CREATE OR REPLACE FUNCTION pg_temp.datafix_key_order(fix jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $engine$
DECLARE
    ordered jsonb;
    index   record;
BEGIN
    SELECT i.* INTO index
      FROM pg_temp.datafix_unique_keys((fix ->> 'target_oid')::oid) AS k
      JOIN pg_index AS i ON i.indexrelid = k.index
      JOIN pg_class AS c ON c.oid = i.indexrelid
      JOIN pg_am AS am ON am.oid = c.relam AND am.amname = 'btree'
     WHERE to_jsonb(k.key) @> (fix -> 'key') AND to_jsonb(k.key) <@ (fix -> 'key')
       AND NOT EXISTS (SELECT FROM pg_opclass AS o WHERE o.oid = ANY (i.indclass) AND NOT o.opcdefault)
       -- bit 1: descending
       AND (SELECT count(DISTINCT i.indoption[n] & 1) = 1 FROM generate_series(0, i.indnkeyatts - 1) AS n)
     ORDER BY i.indisprimary DESC, i.indexrelid
     LIMIT 1;
    IF index IS NULL THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF005',
            format('no index gives the rows of %s in one order of its key (%s), so they cannot be changed in batches',
                   fix ->> 'target', (SELECT string_agg(k, ', ') FROM jsonb_array_elements_text(fix -> 'key') AS k)),
            hint => 'Nothing was changed. Choose a key with a btree index of the default operators, with all of its '
                    'columns in the same direction, or leave batches out.');
    END IF;
    SELECT jsonb_agg(jsonb_build_object(
               'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
               'collate', pg_temp.datafix_collate(index.indcollation[n], a.attcollation),
               'collation_version', pg_collation_actual_version(nullif(index.indcollation[n], 0))) ORDER BY n)
      INTO ordered
      FROM generate_series(0, index.indnkeyatts - 1) AS n
      JOIN pg_attribute AS a ON a.attrelid = index.indrelid AND a.attnum = index.indkey[n];
    RETURN ordered;
END
$engine$;

-- The order of a key, for people: (name text COLLATE "x", version 153.80; id bigint)
CREATE OR REPLACE FUNCTION pg_temp.datafix_shown_order(key_order jsonb)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT format('(%s)', string_agg(concat(k ->> 'name', ' ', k ->> 'type', k ->> 'collate',
                                            ', version ' || (k ->> 'collation_version')), '; ' ORDER BY n))
      FROM jsonb_array_elements(key_order) WITH ORDINALITY AS _ (k, n)
$engine$;

-- What can go wrong in batches only: refused before the first of them.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_in_batches(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    problem text;
BEGIN
    SELECT p.problem INTO problem
      FROM (SELECT 1, format('it writes %I, which the unique index %s reads: values that move from row to row collide '
                             'between two batches', a.attname, i.indexrelid::regclass)
              FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid
             WHERE i.indrelid = (fix ->> 'target_oid')::oid AND (i.indisunique OR i.indisexclusion)
               AND fix -> 'set' ? a.attname::text
               AND (a.attnum = ANY (i.indkey)
                    OR a.attnum IN (SELECT d.refobjsubid FROM pg_depend AS d
                                     WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
                                       AND d.refobjid = i.indrelid AND d.refobjsubid > 0))
            UNION ALL
            SELECT 2, format('rows of %s refer to rows of the same table (%s), which another batch may delete',
                             fix ->> 'target', c.conname)
              FROM pg_constraint AS c
             WHERE fix ->> 'change' = 'delete' AND c.contype = 'f' AND c.conrelid = (fix ->> 'target_oid')::oid
               AND c.confrelid = c.conrelid
            UNION ALL
            SELECT 3, format('the deferred constraint trigger %I of %s may look at all rows at once', t.tgname,
                             fix ->> 'target')
              FROM pg_trigger AS t
             WHERE t.tgrelid IN (SELECT pg_temp.datafix_tree((fix ->> 'target_oid')::oid)) AND NOT t.tgisinternal
               AND t.tgdeferrable AND (fix -> 'fire_triggers')::boolean) AS p (n, problem)
     ORDER BY p.n, p.problem LIMIT 1;
    IF problem IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF021', problem,
            hint => 'Nothing was changed. Leave batches out: one transaction changes all rows at once.');
    END IF;
END
$engine$;

-- Whether a replica is further behind than the fix allows: "replica NAME is 80 MB behind"; NULL where none is. One
-- that does not tell how far it is counts as behind.
CREATE OR REPLACE FUNCTION pg_temp.datafix_lagging(batches jsonb)
RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    lagging text;
BEGIN
    IF batches ? 'max_lag' THEN
        -- who receives WAL without replaying it, for an archive, is as far as it has written
        SELECT format('replica %s %s', coalesce(nullif(r.application_name, ''), format('of pid %s', r.pid)),
                      coalesce('is ' || pg_size_pretty(r.behind) || ' behind', 'does not tell how far it is'))
          INTO lagging
          FROM (SELECT pid, application_name,
                       pg_wal_lsn_diff(pg_current_wal_lsn(), coalesce(replay_lsn, flush_lsn)) AS behind
                  FROM pg_stat_replication WHERE state IS DISTINCT FROM 'backup') AS r
         WHERE (r.behind > pg_size_bytes(batches ->> 'max_lag')) IS NOT FALSE
         ORDER BY r.behind DESC NULLS FIRST
         LIMIT 1;
    END IF;
    RETURN lagging;
END
$engine$;

-- What a session allows a statement or a transaction must be enough for a batch and its engine. Other limits are set
-- for each batch; a statement cannot change its own.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_limits(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    short record;
BEGIN
    SELECT l.name, current_setting('datafixes.' || l.name, true) AS value, l.least INTO short
      FROM (VALUES ('statement_timeout', '2s'), ('transaction_timeout', '1s')) AS l (name, least)
     WHERE nullif(nullif(current_setting('datafixes.' || l.name, true), ''), '0')::interval < l.least::interval;
    IF FOUND THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF021',
            format('%s = %s of this session is too short for batches, which need %s', short.name, short.value,
                   short.least),
            hint => format('Nothing was changed. For one run: PGOPTIONS=''-c %1$s=0'' alembic ...; behind a pooler, '
                           'ALTER ROLE ... SET %1$s.', short.name));
    END IF;
END
$engine$;

-- Whoever is to wait for replicas must be able to see how far they are.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_lag(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    IF fix -> 'batches' ? 'max_lag' AND NOT pg_has_role('pg_read_all_stats', 'USAGE') THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF021',
            format('max_lag=%s cannot be kept: the role %s does not see how far replicas are',
                   fix -> 'batches' ->> 'max_lag', current_user),
            hint => format('Nothing was changed. Let a superuser run: GRANT pg_monitor TO %I; or leave max_lag out.',
                           current_user));
    END IF;
END
$engine$;

-- The columns of the key of the target, in the order and the collations of its index.
CREATE OR REPLACE FUNCTION pg_temp.datafix_order_by(fix jsonb)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT string_agg(format('%s.%I%s', fix ->> 'target_alias', k ->> 'name', k ->> 'collate'), ', ' ORDER BY n)
      FROM jsonb_array_elements(fix -> 'key_order') WITH ORDINALITY AS _ (k, n)
$engine$;

-- The facts of a fix whose rows come in the opposite order.
CREATE OR REPLACE FUNCTION pg_temp.datafix_downwards(fix jsonb)
RETURNS jsonb LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT fix || jsonb_build_object('order', string_agg(
               format('%s.%I%s DESC', fix ->> 'target_alias', k ->> 'name', k ->> 'collate'), ', ' ORDER BY n))
      FROM jsonb_array_elements(fix -> 'key_order') WITH ORDINALITY AS _ (k, n)
$engine$;

-- Creates the table for keys that were found, datafix_next. Returns the facts with the order of batches.
CREATE OR REPLACE FUNCTION pg_temp.datafix_prepare_next(fix jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    IF to_regclass('pg_temp.datafix_next') IS NOT NULL THEN     -- of a batch before, in a plan
        PERFORM pg_temp.datafix_make('DROP TABLE pg_temp.datafix_next');
    END IF;
    PERFORM pg_temp.datafix_make(pg_temp.datafix_sql(fix, format(
        'CREATE TEMP TABLE datafix_next ON COMMIT DROP AS SELECT {{t.key}} FROM %s AS t WITH NO DATA',
        fix ->> 'target')));
    RETURN fix || jsonb_build_object('order', pg_temp.datafix_order_by(fix));
END
$engine$;

-- The first of the keys in datafix_next, in the order of the facts, as an array of texts that tell every value apart.
CREATE OR REPLACE FUNCTION pg_temp.datafix_next_key(fix jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    key text[];
BEGIN
    EXECUTE pg_temp.datafix_sql(fix, format('SELECT %s FROM pg_temp.datafix_next AS %s ORDER BY {{order}} LIMIT 1',
        pg_temp.datafix_key_as_text(fix, fix ->> 'target_alias'), fix ->> 'target_alias')) INTO key;
    RETURN to_jsonb(key);
END
$engine$;

-- The literal for a key that is kept as text, in the types and collations of the key's index; NULL for no key.
CREATE OR REPLACE FUNCTION pg_temp.datafix_key_literal(key_order jsonb, key jsonb)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT 'ROW(' || string_agg(format('CAST(%L AS %s)%s', key ->> (n - 1)::integer, k ->> 'type', k ->> 'collate'),
                                ', ' ORDER BY n) || ')'
      FROM jsonb_array_elements(key_order) WITH ORDINALITY AS _ (k, n)
     WHERE jsonb_typeof(key) = 'array'
$engine$;

-- The condition that a row's key is above one key and up to another; NULL stands for no bound.
CREATE OR REPLACE FUNCTION pg_temp.datafix_between(fix jsonb, above jsonb, up_to jsonb)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT coalesce(nullif(concat_ws(E'\n           AND ',
               columns || ' > ' || pg_temp.datafix_key_literal(fix -> 'key_order', above),
               columns || ' <= ' || pg_temp.datafix_key_literal(fix -> 'key_order', up_to)), ''),
               'true')
      FROM (SELECT 'ROW(' || pg_temp.datafix_order_by(fix) || ')') AS _ (columns)
$engine$;

-- Begins a fix in batches, or goes on with it. Returns the facts with which its rows are counted; NULL where it goes
-- on, or where nothing is to be done in batches.
CREATE OR REPLACE FUNCTION pg_temp.datafix_open_batches(declared jsonb, version_table regclass)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    fix     jsonb := pg_temp.datafix_in_ledger(declared || '{"direction": "apply", "in_batches": true}',
                                               declared ->> 'audit_schema');
    running jsonb;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('datafixes fix', 0));
    PERFORM pg_temp.datafix_check_lag(fix);
    running := pg_temp.datafix_running(fix);
    IF running IS NULL THEN
        fix := pg_temp.datafix_begin(fix, version_table);
        fix := pg_temp.datafix_table(fix, 1) || jsonb_build_object('tables', fix -> 'tables');
        RETURN pg_temp.datafix_prepare_next(fix || jsonb_build_object('key_order', pg_temp.datafix_key_order(fix)));
    END IF;
    fix := pg_temp.datafix_check_revision(fix, version_table);
    IF running ->> 'direction' <> 'apply' THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF021',
            format('run %s is taking it back in batches and has not ended', running ->> 'run_id'),
            hint => format('Nothing was changed. Let that run end first: alembic -x undo=%s upgrade head',
                           fix ->> 'fix'));
    ELSIF running ->> 'fingerprint' <> fix ->> 'fingerprint' THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF003',
            format('run %s has applied a part of it, and its declaration has changed since: fingerprint %s there, %s '
                   'here', running ->> 'run_id', left(running ->> 'fingerprint', 12), left(fix ->> 'fingerprint', 12)),
            hint => format('Nothing was changed. Restore the declaration, or take that part back: '
                           'alembic -x undo=%s upgrade head', fix ->> 'fix'));
    END IF;
    fix := pg_temp.datafix_table(fix, 1) || jsonb_build_object('tables', fix -> 'tables');
    fix := pg_temp.datafix_check_target(fix);
    PERFORM pg_temp.datafix_check_limits(fix);
    IF running -> 'declaration' -> 'batches' -> 'key_order' <> pg_temp.datafix_key_order(fix) THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF021',
            format('the order of its key has changed since run %s began: %s then, %s now', running ->> 'run_id',
                   pg_temp.datafix_shown_order(running -> 'declaration' -> 'batches' -> 'key_order'),
                   pg_temp.datafix_shown_order(pg_temp.datafix_key_order(fix))),
            hint => format('Nothing was changed. What was done so far can be taken back: alembic -x undo=%s upgrade '
                           'head', fix ->> 'fix'));
    END IF;
    EXECUTE format($sql$
        UPDATE %s SET wish = NULL, declaration = jsonb_set(declaration, '{batches}', declaration -> 'batches' || $2)
         WHERE run_id = $1
    $sql$, fix ->> 'ledger') USING (running -> 'run_id')::bigint, fix -> 'batches';
    PERFORM set_config('datafixes.told', format('datafix %s: goes on with run %s', fix ->> 'fix',
                                                running ->> 'run_id'), true);
    RETURN NULL;
END
$engine$;

-- The rows have been counted, and datafix_next holds the first and the last of their keys: their number is as expected,
-- or nothing is changed. The run is opened, and its ranges noted. Where one batch is enough for all rows, the fix is an
-- ordinary one.
CREATE OR REPLACE FUNCTION pg_temp.datafix_begin_batches(fix jsonb, counted bigint)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    IF counted <= (fix -> 'batches' -> 'rows')::bigint THEN
        RETURN;
    END IF;
    PERFORM pg_temp.datafix_check_limits(fix);
    PERFORM pg_temp.datafix_check_in_batches(fix);
    PERFORM pg_temp.datafix_check_number(fix, counted);
    fix := pg_temp.datafix_open_run(fix || '{"in_parts": true}');
    fix := pg_temp.datafix_table(fix, 1) || jsonb_build_object('tables', fix -> 'tables');
    EXECUTE format($sql$
        UPDATE %s SET outcome = 'running', rows_found = $1,
                      declaration = declaration || jsonb_build_object('batches', $2)
         WHERE run_id = $3
    $sql$, fix ->> 'ledger') USING counted, fix -> 'batches' || jsonb_build_object('key_order', fix -> 'key_order',
        'bounds', jsonb_build_array(pg_temp.datafix_next_key(fix),
                                    pg_temp.datafix_next_key(pg_temp.datafix_downwards(fix)))),
        (fix -> 'run')::bigint;
    PERFORM pg_temp.datafix_make_ranges(fix, counted);
    PERFORM set_config('datafixes.told', format('datafix %s: run %s begins, %s rows in batches of %s',
        fix ->> 'fix', fix ->> 'run', counted, fix -> 'batches' ->> 'rows'), true);
END
$engine$;

-- Cuts the table into ranges of keys, eight for each worker, by a sample of its rows. They need not be equal: whoever
-- is done with one takes another. On Citus, most have fewer rows than a batch: of a longer one, every shard would send
-- as many keys as a batch has, to find where it ends.
CREATE OR REPLACE FUNCTION pg_temp.datafix_make_ranges(fix jsonb, counted bigint)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    wanted bigint  := greatest(8 * coalesce((fix -> 'batches' -> 'workers')::integer, 1),
                               CASE WHEN fix ? 'citus' THEN counted * 3 / 2 / (fix -> 'batches' -> 'rows')::bigint END);
    pages  bigint  := pg_temp.datafix_bytes(fix) / current_setting('block_size')::integer;
BEGIN
    TRUNCATE pg_temp.datafix_next;
    EXECUTE pg_temp.datafix_sql(fix, format('INSERT INTO pg_temp.datafix_next SELECT {{target.key}} FROM %s%s',
        fix ->> 'target',
        CASE WHEN pages > 2000 THEN format(' TABLESAMPLE SYSTEM (%s)', least(100, round(100.0 * 1000 / pages, 4)))
             ELSE '' END));
    EXECUTE pg_temp.datafix_sql(fix, format($sql$
        WITH sample AS (
            SELECT %1$s AS key, ntile(%2$s::integer) OVER (ORDER BY {{order}}) AS n,
                   row_number() OVER (ORDER BY {{order}}) AS nth
              FROM pg_temp.datafix_next AS %3$s),
        bound AS (
            SELECT DISTINCT ON (n) key, n FROM sample ORDER BY n, nth DESC),
        inner_bound AS (
            SELECT key, row_number() OVER (ORDER BY n) AS n FROM bound WHERE n < (SELECT max(n) FROM bound))
        INSERT INTO %4$s (run_id, n, above, up_to)
        SELECT {{run}}, n, (SELECT b.key FROM inner_bound AS b WHERE b.n = s.n - 1),
               (SELECT b.key FROM inner_bound AS b WHERE b.n = s.n)
          FROM generate_series(1, (SELECT count(*) FROM inner_bound) + 1) AS s (n)
    $sql$, pg_temp.datafix_key_as_text(fix, fix ->> 'target_alias'), wanted, fix ->> 'target_alias',
        format('%I.datafix_range', fix ->> 'audit_schema')));
END
$engine$;

-- The key of a row as an array of texts that tell every value apart.
CREATE OR REPLACE FUNCTION pg_temp.datafix_key_as_text(fix jsonb, alias text)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT 'ARRAY[' || string_agg(format('pg_temp.datafix_text(%s.%I)', alias, k ->> 'name'), ', ' ORDER BY n) || ']'
      FROM jsonb_array_elements(fix -> 'key_order') WITH ORDINALITY AS _ (k, n)
$engine$;

-- Takes a range that nobody works on, and locks its row until the batch ends. Returns the facts of the batch, without a
-- range where none is left.
CREATE OR REPLACE FUNCTION pg_temp.datafix_take_range(declared jsonb, version_table regclass, batch jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    fix     jsonb := pg_temp.datafix_in_ledger(declared || '{"direction": "apply", "in_batches": true}',
                                               declared ->> 'audit_schema');
    is_first boolean := NOT batch ? 'rows';      -- of a statement that makes batches
    running jsonb;
    taken   record;
BEGIN
    -- whoever opens, ends or takes back a run holds this lock, so what is read from here on stays
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('datafixes fix', 0));
    running := pg_temp.datafix_running(fix);
    -- before PostgreSQL 18, a null of JSON cannot be cast to a number
    batch := jsonb_strip_nulls(jsonb_build_object('batches', running -> 'declaration' -> 'batches'))
             || batch || '{"left": false, "waits": false}';
    IF running IS NOT NULL AND is_first THEN
        batch := batch || jsonb_build_object('rows', pg_temp.datafix_first_size(fix, running, batch));
    END IF;
    fix := fix || jsonb_build_object('batch', batch);
    IF running IS NULL OR running ->> 'fingerprint' <> fix ->> 'fingerprint' OR running ->> 'direction' <> 'apply'
       OR running ->> 'wish' = 'stop' THEN
        RETURN fix;
    END IF;
    fix := pg_temp.datafix_name_session(fix, running);
    IF running ->> 'wish' = 'pause' OR pg_temp.datafix_lagging(batch -> 'batches') IS NOT NULL THEN
        RETURN jsonb_set(fix, '{batch}', fix -> 'batch' || '{"left": true, "waits": true, "changed": 0}');
    END IF;
    EXECUTE format($sql$
        SELECT g.n, to_jsonb(coalesce(g.reached, g.above)) AS above, to_jsonb(g.up_to) AS up_to
          FROM %I.datafix_range AS g
         WHERE g.run_id = $1 AND NOT g.done
         ORDER BY g.worker IS DISTINCT FROM $2, g.worker IS NOT NULL, g.n    -- its own, one that nobody has begun
         LIMIT 1
           FOR UPDATE SKIP LOCKED
    $sql$, fix ->> 'audit_schema') INTO taken USING (running -> 'run_id')::bigint, batch ->> 'worker';
    IF taken IS NULL THEN
        RETURN fix;
    END IF;
    fix := pg_temp.datafix_begin(jsonb_set(fix, '{batch,left}', 'true')
                                 || jsonb_build_object('part_of', running -> 'run_id'), version_table);
    IF is_first THEN
        PERFORM pg_temp.datafix_check_sequences(fix);
    END IF;
    fix := pg_temp.datafix_table(fix, 1) || jsonb_build_object('tables', fix -> 'tables',
        'key_order', running -> 'declaration' -> 'batches' -> 'key_order',
        'taken', jsonb_build_object('n', taken.n, 'above', taken.above, 'up_to', taken.up_to));
    RETURN pg_temp.datafix_prepare_next(fix || jsonb_build_object(
        'range', pg_temp.datafix_between(fix, taken.above, taken.up_to), 'size', batch -> 'rows'));
END
$engine$;

-- Names the session for pg_stat_activity, "datafixes FIX, run 12": who follows the run finds its workers by it. The
-- statement that makes batches gets the name in the facts of the batch, for the time between two of them.
CREATE OR REPLACE FUNCTION pg_temp.datafix_name_session(fix jsonb, running jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    name text := format('datafixes %s, run %s', left(fix ->> 'fix', 30), running ->> 'run_id');
BEGIN
    PERFORM set_config('application_name', concat_ws(', ', name, 'reverts run ' || (running ->> 'reverts_run')), true);
    RETURN jsonb_set(fix, '{batch,name}', to_jsonb(name));
END
$engine$;

-- How long a batch should take, in seconds: at most a quarter of what the statement may take that makes batches.
CREATE OR REPLACE FUNCTION pg_temp.datafix_target(batches jsonb)
RETURNS numeric LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT least(coalesce((batches -> 'target')::numeric, 1),
                 extract(epoch FROM nullif(current_setting('statement_timeout')::interval, interval '0')) / 4)
$engine$;

-- Below so many rows a batch is not made smaller because it takes long: what it costs without any row may be what does.
CREATE OR REPLACE FUNCTION pg_temp.datafix_least_size(most bigint)
RETURNS bigint LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT greatest(1, most / 100)
$engine$;

-- How many rows the first batch of a statement has: as many as declared, or, where one of the last batches took more
-- than half of its target time, as many as fit into that at their speed. After errors, less.
CREATE OR REPLACE FUNCTION pg_temp.datafix_first_size(fix jsonb, running jsonb, batch jsonb)
RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    most    bigint  := (batch -> 'batches' -> 'rows')::bigint;
    target  numeric := pg_temp.datafix_target(batch -> 'batches');
    fitting numeric;
BEGIN
    EXECUTE format($sql$
        SELECT greatest($3, sum(p.rows_changed) * $2 / sum(p.seconds))
          FROM (SELECT rows_changed, extract(epoch FROM finished_at - started_at) AS seconds FROM %s
                 WHERE part_of = $1 AND rows_changed > 0 ORDER BY run_id DESC LIMIT 4) AS p
        HAVING max(p.seconds) > $2 / 2
    $sql$, fix ->> 'ledger') INTO fitting
      USING (running -> 'run_id')::bigint, target, pg_temp.datafix_least_size(most);
    RETURN greatest(least(most, fitting::bigint) >> coalesce((batch -> 'attempts')::integer, 0), 1);
END
$engine$;

-- datafix_next holds the keys of the rows that come next: the batch ends with the last of them, or with its range.
-- Returns the facts with the range of the batch; opens its run where there is something to change.
CREATE OR REPLACE FUNCTION pg_temp.datafix_open_batch(fix jsonb, counted bigint)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    is_last boolean := counted < (fix -> 'size')::bigint;
    up_to   jsonb   := CASE WHEN is_last THEN fix -> 'taken' -> 'up_to'
                            ELSE pg_temp.datafix_next_key(pg_temp.datafix_downwards(fix)) END;
BEGIN
    fix := fix || jsonb_build_object('taken', fix -> 'taken' || jsonb_build_object('reached', up_to, 'done', is_last));
    IF counted = 0 THEN
        RETURN fix;
    END IF;
    fix := fix || jsonb_build_object('range', pg_temp.datafix_between(fix, fix -> 'taken' -> 'above', up_to));
    fix := pg_temp.datafix_open_run(fix - 'rows_expected');
    RETURN pg_temp.datafix_table(fix, 1) || jsonb_build_object('tables', fix -> 'tables');
END
$engine$;

-- Notes how many rows the batch has copied. Returns whether there is something to change.
CREATE OR REPLACE FUNCTION pg_temp.datafix_found_in_batch(fix jsonb, copied bigint)
RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    EXECUTE format('UPDATE %s SET rows_found = $1, rows_already = 0 WHERE run_id = $2', fix ->> 'ledger')
      USING copied, (fix -> 'run')::bigint;
    IF copied = 0 THEN      -- others changed the rows while the batch waited for them
        PERFORM pg_temp.datafix_close(fix, 'not_applicable');
    END IF;
    RETURN copied > 0;
END
$engine$;

-- After the change the condition is false: otherwise a row whose key somebody moves ahead would be changed twice.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_no_longer(fix jsonb, matching bigint, condition text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    IF matching > 0 THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF021',
            format('%s of the changed rows of %s still meet its condition, so a later batch could change them again: '
                   '%s', matching, fix ->> 'target', condition),
            hint => 'Write a condition that is false after the change, or say that no key ever moves: '
                    'Batches(keys_move=False).');
    END IF;
END
$engine$;

-- Ends the batch: all rows up to its last key are done. Returns what the next batch needs to know.
CREATE OR REPLACE FUNCTION pg_temp.datafix_end_batch(fix jsonb, changed bigint)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    taken jsonb := fix -> 'taken';
BEGIN
    EXECUTE format($sql$
        UPDATE %I.datafix_range AS g
           SET reached = CASE WHEN jsonb_typeof($1 -> 'reached') = 'array'
                              THEN ARRAY(SELECT jsonb_array_elements_text($1 -> 'reached')) END,
               done = ($1 -> 'done')::boolean, batches = g.batches + ($3 > 0)::integer,
               rows_changed = g.rows_changed + $3, worker = $4, beat = clock_timestamp()
         WHERE g.run_id = $2 AND g.n = ($1 -> 'n')::integer
    $sql$, fix ->> 'audit_schema')
      USING taken, (fix -> 'part_of')::bigint, changed, fix -> 'batch' ->> 'worker';
    RETURN fix -> 'batch' || jsonb_build_object('changed', changed);
END
$engine$;

-- Opens the last transaction. Where the fix ran in batches, every range is done, and what it still changes is one more
-- part of its run; else it is an ordinary fix.
CREATE OR REPLACE FUNCTION pg_temp.datafix_open_last(declared jsonb, version_table regclass)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    fix     jsonb := pg_temp.datafix_in_ledger(declared || '{"direction": "apply"}', declared ->> 'audit_schema');
    running jsonb;
    missing bigint;
BEGIN
    PERFORM pg_temp.datafix_check_fuse(fix);
    PERFORM pg_advisory_xact_lock(hashtextextended('datafixes fix', 0));
    running := pg_temp.datafix_running(fix);
    IF running IS NULL OR running ->> 'direction' <> 'apply' OR running ->> 'fingerprint' <> fix ->> 'fingerprint' THEN
        RETURN pg_temp.datafix_open(declared, version_table) || '{"range": "true"}';
    END IF;
    EXECUTE format('SELECT count(*) FROM %I.datafix_range WHERE run_id = $1 AND NOT done', fix ->> 'audit_schema')
       INTO missing USING (running -> 'run_id')::bigint;
    IF missing > 0 THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF021',
            format('%s ranges of run %s are not done yet', missing, running ->> 'run_id'),
            hint => 'What is done stays. Run the migration again: it goes on from there.');
    END IF;
    fix := pg_temp.datafix_begin(fix || jsonb_build_object('part_of', running -> 'run_id',
        'batches', fix -> 'batches' || (running -> 'declaration' -> 'batches')), version_table);
    fix := pg_temp.datafix_table(fix, 1) || jsonb_build_object('tables', fix -> 'tables');
    PERFORM pg_temp.datafix_make(pg_temp.datafix_sql(fix, format(
        'CREATE TEMP TABLE datafix_late ON COMMIT DROP AS SELECT {{t.key}} FROM %s AS t WITH NO DATA',
        fix ->> 'target')));
    RETURN fix;
END
$engine$;

-- Takes the keys of rows that the run has changed out of datafix_late. Returns their number.
CREATE OR REPLACE FUNCTION pg_temp.datafix_leave_changed(fix jsonb)
RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_nestloop = off AS $engine$
DECLARE
    columns text := (SELECT string_agg(quote_ident(k ->> 'name'), ', ' ORDER BY n)
                       FROM jsonb_array_elements(fix -> 'key_columns') WITH ORDINALITY AS _ (k, n));
    runs    bigint[];
    changed bigint := 0;
BEGIN
    IF EXISTS (SELECT FROM pg_temp.datafix_late) THEN       -- else no copy needs to be read
        EXECUTE format('SELECT array_agg(r.run_id) FROM %s AS r WHERE r.part_of = $1', fix ->> 'ledger')
           INTO runs USING (fix -> 'part_of')::bigint;
        PERFORM pg_temp.datafix_make(pg_temp.datafix_sql(fix, format(
            'CREATE TEMP TABLE datafix_again ON COMMIT DROP AS SELECT {{t.key}} FROM %s AS t WITH NO DATA',
            fix ->> 'target')));
        EXECUTE pg_temp.datafix_sql(fix, format($sql$
            INSERT INTO pg_temp.datafix_again
            SELECT {{c.key}} FROM (SELECT %s FROM %s AS i WHERE i.audit_run_id = ANY (%L::bigint[])) AS c (%s)
             WHERE %s
        $sql$, pg_temp.datafix_typed_key(fix, 'i'), fix ->> 'audit', runs, columns,
            pg_temp.datafix_among(fix, 'c', 'pg_temp.datafix_late')));
        EXECUTE pg_temp.datafix_sql(fix, 'DELETE FROM pg_temp.datafix_late AS l USING pg_temp.datafix_again AS c '
                                         'WHERE {{c.key = l.key}}');
        GET DIAGNOSTICS changed = ROW_COUNT;
    END IF;
    RETURN changed;
END
$engine$;

-- datafix_late holds the keys of the rows that meet the condition although all batches are done: they began to do so
-- behind the batches. Opens the part of the run that changes them; ends the run and returns NULL where nothing is to be
-- changed. A row that the run has changed, and that meets the condition again, was set back by somebody: it stays so.
CREATE OR REPLACE FUNCTION pg_temp.datafix_take_late(fix jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    policy text := fix -> 'batches' ->> 'stragglers';
    again  bigint;
    late   bigint;
BEGIN
    again := pg_temp.datafix_leave_changed(fix);
    SELECT count(*) INTO late FROM pg_temp.datafix_late;
    fix := fix || jsonb_build_object('told', concat(
        CASE WHEN late > 0 AND policy = 'report' THEN format(', %s rows met its condition later: left alone', late)
             WHEN late > 0 THEN format(', %s rows met its condition later: changed, too', late) END,
        CASE WHEN again > 0 THEN format(', %s rows that it had changed meet it again: left alone', again) END));
    IF late > 0 AND (policy = 'refuse' OR policy = 'sweep' AND late > 10 * (fix -> 'batches' -> 'rows')::bigint) THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF021',
            format('all batches of run %s are done, and %s rows of %s began to meet its condition meanwhile',
                   fix ->> 'part_of', late, fix ->> 'target'),
            hint => format('The version was not moved, and what is done stays. Find who writes such rows, and run it '
                           'again; or take the fix back: alembic -x undo=%s upgrade head', fix ->> 'fix'));
    ELSIF late = 0 OR policy = 'report' THEN
        PERFORM pg_temp.datafix_close_batches(fix);
        RETURN NULL;
    END IF;
    fix := pg_temp.datafix_open_run(fix - 'rows_expected');
    fix := pg_temp.datafix_table(fix, 1) || jsonb_build_object('tables', fix -> 'tables');
    RETURN fix || jsonb_build_object('range', pg_temp.datafix_among(fix, fix ->> 'target_alias',
                                                                    'pg_temp.datafix_late'));
END
$engine$;

-- Ends a fix in batches: its line in the ledger sums up its batches. Does nothing where there were none.
CREATE OR REPLACE FUNCTION pg_temp.datafix_close_batches(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    IF fix ? 'part_of' THEN
        fix := (fix || jsonb_build_object('run', fix -> 'part_of')) - 'part_of';
        EXECUTE format($sql$
            UPDATE %s SET declaration = jsonb_set(declaration, '{batches,told}', to_jsonb($1)) WHERE run_id = $2
        $sql$, fix ->> 'ledger') USING coalesce(fix ->> 'told', ''), (fix -> 'run')::bigint;
        PERFORM pg_temp.datafix_end_run(fix, 'applied', pg_temp.datafix_sum_up(fix), coalesce(fix ->> 'told', ''));
    END IF;
END
$engine$;

-- Sums up the batches of a run: its line in the ledger, and those of its tables.
CREATE OR REPLACE FUNCTION pg_temp.datafix_sum_up(fix jsonb)
RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    changed bigint;
BEGIN
    EXECUTE format($sql$
        UPDATE %1$s AS t
           SET rows_inserted = part.inserted, rows_updated = part.updated, rows_deleted = part.deleted,
               images = part.images, images_digest = part.digest
          FROM (SELECT p.position, sum(p.rows_inserted) AS inserted, sum(p.rows_updated) AS updated,
                       sum(p.rows_deleted) AS deleted, sum(p.images) AS images, sum(p.images_digest) AS digest
                  FROM %1$s AS p JOIN %2$s AS r ON r.run_id = p.run_id
                 WHERE r.part_of = $1
                 GROUP BY p.position) AS part
         WHERE t.run_id = $1 AND t.position = part.position
    $sql$, fix ->> 'ledger_tables', fix ->> 'ledger') USING (fix -> 'run')::bigint;
    EXECUTE format($sql$
        UPDATE %1$s AS r
           SET rows_already = part.already, rows_skipped = part.skipped, rows_overwritten = part.overwritten
          FROM (SELECT coalesce(sum(p.rows_already), 0) AS already, sum(p.rows_skipped) AS skipped,
                       sum(p.rows_overwritten) AS overwritten
                  FROM %1$s AS p WHERE p.part_of = $1) AS part
         WHERE r.run_id = $1
     RETURNING (SELECT coalesce(sum(p.rows_changed), 0) FROM %1$s AS p WHERE p.part_of = $1)
    $sql$, fix ->> 'ledger') INTO changed USING (fix -> 'run')::bigint;
    RETURN changed;
END
$engine$;

-- What comes after a batch, whether it succeeded or met an error. A lock that was not available, or a deadlock, lets
-- the batch be tried again, with half of the rows; and the next one has so many rows as fit into its target time. The
-- statement's time limit counts as such an error, once: a Ctrl-C looks the same, but may come at any time.
CREATE OR REPLACE FUNCTION pg_temp.datafix_after_batch(batch jsonb, took interval, code text)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    rows     bigint  := (batch -> 'rows')::bigint;
    most     bigint  := (batch -> 'batches' -> 'rows')::bigint;
    target   numeric := pg_temp.datafix_target(batch -> 'batches');
    seconds  numeric := greatest(extract(epoch FROM took), 0.001);
    attempts integer := coalesce((batch -> 'attempts')::integer, 0);
    pause    numeric := coalesce((batch -> 'batches' -> 'pause')::numeric, 0);
    expired  boolean := coalesce(code = '57014' AND NOT batch ? 'expired' AND clock_timestamp() - statement_timestamp()
                            > 0.9 * nullif(current_setting('statement_timeout')::interval, interval '0'), false);
BEGIN
    IF (batch -> 'waits')::boolean THEN     -- for a replica, or while it is paused
        pause := greatest(pause, 0.5);
    END IF;
    IF code IS NULL THEN
        attempts := 0;
        IF (batch -> 'changed')::bigint >= rows OR seconds > target THEN
            rows := least(most, greatest(least(rows, pg_temp.datafix_least_size(most)), rows / 2,
                                         least(rows * 2, (rows * target / seconds)::bigint)));
        END IF;
    ELSIF (code IN ('55P03', '40P01', '40001') OR expired) AND attempts < 10 THEN
        attempts := attempts + 1;
        rows := CASE WHEN rows > 1 THEN rows / 2 ELSE rows END;
        pause := greatest(pause, 0.1 * 2 ^ least(attempts, 5));
    ELSE
        RETURN batch || '{"goes_on": false, "slices": 0}';
    END IF;
    RETURN batch || jsonb_strip_nulls(jsonb_build_object('rows', rows, 'expired', nullif(expired, false)))
           || jsonb_build_object('attempts', attempts, 'slices', ceil(pause * 10)::integer,
                                 'goes_on', coalesce((batch -> 'left')::boolean, code IS NOT NULL));
END
$engine$;
