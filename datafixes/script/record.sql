-- What a recorded fix needs. Statement triggers with transition tables note what really changes in the fix's tables,
-- whatever changes it: the fix's own statements, foreign keys, triggers. They live for this transaction only.

-- Opens the run, and begins to record.
CREATE OR REPLACE FUNCTION pg_temp.datafix_open_recording(declared jsonb, version_table regclass, surroundings jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    fix jsonb := pg_temp.datafix_begin(declared || '{"direction": "apply"}', version_table);
    one jsonb;
BEGIN
    PERFORM pg_temp.datafix_check_readers(fix);
    fix := pg_temp.datafix_open_run(fix);
    -- one line for each statement that changed rows of a table: how many images disappeared, and how many appeared
    PERFORM pg_temp.datafix_make('CREATE TEMP TABLE datafix_noted '
                                 '(n integer, gone bigint, come bigint) ON COMMIT DROP');
    FOR one IN SELECT * FROM pg_temp.datafix_tables(fix) LOOP
        PERFORM pg_temp.datafix_record(one);
    END LOOP;
    PERFORM pg_temp.datafix_make('CREATE TEMP TABLE datafix_recording '
                                 '(fix jsonb, surroundings jsonb, definition text) ON COMMIT DROP');
    -- for the message to a role that the statements set and did not reset
    PERFORM pg_temp.datafix_make('GRANT SELECT ON pg_temp.datafix_recording TO PUBLIC');
    INSERT INTO pg_temp.datafix_recording VALUES (fix, surroundings, pg_temp.datafix_definition(fix));
    PERFORM pg_temp.datafix_watch();
    RETURN fix;
END
$engine$;

-- The other transactions that hold a lock on the fix's tables, if only to read them, and have done so for some time.
CREATE OR REPLACE FUNCTION pg_temp.datafix_holders(fix jsonb, since interval)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT string_agg(DISTINCT CASE
               WHEN p.gid IS NOT NULL THEN format('prepared transaction %L', p.gid)
               ELSE format('pid %s, role %s, application %s, %s since %s%s', a.pid, a.usename,
                           coalesce(nullif(a.application_name, ''), '(unnamed)'), a.state,
                           to_char(a.xact_start, 'YYYY-MM-DD HH24:MI:SS TZ'),
                           CASE WHEN pg_backend_pid() = ANY (pg_blocking_pids(a.pid))
                                THEN ', which waits for this fix itself, to write' ELSE '' END) END, '; ')
      FROM pg_locks AS l
      LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid AND a.leader_pid IS NULL
      LEFT JOIN pg_locks AS x ON x.locktype = 'transactionid' AND x.virtualtransaction = l.virtualtransaction
                             AND x.pid IS NULL AND l.pid IS NULL
      LEFT JOIN pg_prepared_xacts AS p ON p.transaction = x.transactionid
     WHERE l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
       AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
       AND l.relation IN (SELECT pg_temp.datafix_tree((one ->> 'target_oid')::oid)
                            FROM jsonb_array_elements(fix -> 'tables') AS one)
       -- the start of others' transactions is shown to members of pg_read_all_stats only
       AND coalesce(p.prepared, a.xact_start) < clock_timestamp() - since
$engine$;

-- Before the work: refuses where a transaction that has been open for longer than lock_timeout has read the tables. If
-- it stays, the triggers cannot be dropped in the end, and the work is lost.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_readers(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    patience interval := nullif(current_setting('lock_timeout'), '0')::interval;     -- null: none is too long
    holders  text     := pg_temp.datafix_holders(fix, patience);
BEGIN
    IF holders IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, '55P03',
            format('a transaction that has been open for longer than lock_timeout reads its tables, which it needs '
                   'for itself in the end: %s', holders),
            hint => 'Nothing was changed. Try again later, or end that transaction.');
    END IF;
END
$engine$;

-- Asks for the tables for a moment only: who comes to read meanwhile queues behind this.
CREATE OR REPLACE FUNCTION pg_temp.datafix_lock_for_a_moment(tables text)
RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '200ms' AS $engine$
BEGIN
    EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', tables);
    RETURN true;
EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
    RETURN false;
END
$engine$;

-- Drops the triggers, the last step of all, for which nobody may read the tables. While somebody does, the lock is
-- asked for again and again, so that others get through in between. The work is kept meanwhile, for as long as ten
-- times lock_timeout.
CREATE OR REPLACE FUNCTION pg_temp.datafix_drop_triggers(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    tables   text        := (SELECT string_agg(one ->> 'target', ', ')
                               FROM jsonb_array_elements(fix -> 'tables') AS one);
    patience interval    := 10 * nullif(current_setting('lock_timeout'), '0')::interval;   -- null: no limit
    start    timestamptz := clock_timestamp();
    relation regclass;
    event    text;
BEGIN
    WHILE NOT pg_temp.datafix_lock_for_a_moment(tables) LOOP
        IF clock_timestamp() > start + patience THEN
            PERFORM pg_temp.datafix_refuse_fix(fix, '55P03',
                format('its statements ran, but somebody reads its tables, so that its triggers cannot be dropped: %s',
                       pg_temp.datafix_holders(fix, '0')),
                hint => format('Nothing was changed. Try again later. To keep readers out from the beginning, lock the '
                               'tables before the fix: LOCK TABLE %s', tables));
        END IF;
        PERFORM pg_sleep(0.8);
    END LOOP;
    FOR relation IN
        SELECT pg_temp.datafix_tree((one ->> 'target_oid')::oid)::regclass
          FROM jsonb_array_elements(fix -> 'tables') AS one
    LOOP
        FOREACH event IN ARRAY ARRAY['insert', 'update', 'delete', 'truncate'] LOOP
            PERFORM pg_temp.datafix_make(format('DROP TRIGGER %I ON %s', 'datafix_' || event, relation));
        END LOOP;
    END LOOP;
END
$engine$;

-- Begins to record one table: triggers on it, and on each of its partitions, which statements may name themselves.
CREATE OR REPLACE FUNCTION pg_temp.datafix_record(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    target   oid   := (fix ->> 'target_oid')::oid;
    -- Transition tables do not hold what is only generated when it is read.
    names    text  := (SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum)
                         FROM pg_attribute
                        WHERE attrelid = target AND attnum > 0 AND NOT attisdropped AND attgenerated <> 'v');
    relation regclass;
    event    text;
BEGIN
    IF NOT (SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = target) THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF004',
            format('%s belongs to %s, and only its owner can record what happens to it',
                   fix ->> 'target', (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = target)),
            hint => 'Run the migration as the owner, or declare the fix (DataFix), which needs only the right to '
                    'change rows.');
    END IF;
    PERFORM pg_temp.datafix_make(pg_temp.datafix_sql(fix, format(
        'CREATE TEMP TABLE datafix_seen_{{n}} (LIKE %s INCLUDING GENERATED, datafix_image text) ON COMMIT DROP',
        fix ->> 'target')));
    PERFORM pg_temp.datafix_make((
        SELECT coalesce(pg_temp.datafix_sql(fix, 'ALTER TABLE pg_temp.datafix_seen_{{n}} '
                            || string_agg(format('ALTER COLUMN %I DROP %s', attname, what), ', ')), 'SELECT')
          FROM pg_attribute
         CROSS JOIN LATERAL (SELECT 'NOT NULL' WHERE attnotnull
                             UNION ALL
                             SELECT 'EXPRESSION' WHERE attgenerated = 's') AS _ (what)
         WHERE attrelid = target AND attnum > 0 AND NOT attisdropped));
    FOR relation IN SELECT tree.oid::regclass FROM pg_temp.datafix_tree(target) AS tree (oid) LOOP
        FOREACH event IN ARRAY ARRAY['INSERT', 'UPDATE', 'DELETE'] LOOP
            PERFORM pg_temp.datafix_make(format(
                'CREATE TRIGGER %I AFTER %s ON %s REFERENCING %s FOR EACH STATEMENT '
                'EXECUTE FUNCTION pg_temp.datafix_note_rows(%L, %L, %L, %L)',
                'datafix_' || lower(event), event, relation,
                CASE event WHEN 'INSERT' THEN 'NEW TABLE AS datafix_new'
                           WHEN 'DELETE' THEN 'OLD TABLE AS datafix_old'
                           ELSE 'OLD TABLE AS datafix_old NEW TABLE AS datafix_new' END,
                fix ->> 'n', names, current_setting('session_replication_role'), fix ->> 'fix'));
        END LOOP;
        PERFORM pg_temp.datafix_make(format(
            'CREATE TRIGGER datafix_truncate BEFORE TRUNCATE ON %s FOR EACH STATEMENT '
            'EXECUTE FUNCTION pg_temp.datafix_refuse_truncate(%L)', relation, fix ->> 'fix'));
        FOREACH event IN ARRAY ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE'] LOOP
            -- whatever session_replication_role says
            PERFORM pg_temp.datafix_make(format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER %I',
                                                relation, 'datafix_' || lower(event)));
        END LOOP;
    END LOOP;
END
$engine$;

-- Notes the rows that a statement changed. SECURITY DEFINER, because a statement inside a function of another role
-- fires it too.
CREATE OR REPLACE FUNCTION pg_temp.datafix_note_rows()
RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    gone bigint := 0;
    come bigint := 0;
BEGIN
    IF current_setting('session_replication_role') <> TG_ARGV[2] THEN
        PERFORM pg_temp.datafix_refuse_fix(jsonb_build_object('fix', TG_ARGV[3]), 'DF014',
            format('its statements set session_replication_role to %s, which switches off triggers and foreign keys',
                   current_setting('session_replication_role')),
            hint => 'Nothing was changed. To keep the tables'' own triggers from firing: fire_triggers=False.');
    ELSIF to_regclass('pg_temp.datafix_recording') IS NULL THEN
        PERFORM pg_temp.datafix_refuse_fix(jsonb_build_object('fix', TG_ARGV[3]), 'DF014',
            format('one of its own checks changes rows of %s, after its statements', TG_RELID::regclass));
    END IF;
    IF TG_OP <> 'INSERT' THEN
        EXECUTE format('INSERT INTO pg_temp.datafix_seen_%1$s (%2$s, datafix_image) '
                       'SELECT %2$s, ''before'' FROM datafix_old', TG_ARGV[0], TG_ARGV[1]);
        GET DIAGNOSTICS gone = ROW_COUNT;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        EXECUTE format('INSERT INTO pg_temp.datafix_seen_%1$s (%2$s, datafix_image) '
                       'SELECT %2$s, ''after'' FROM datafix_new', TG_ARGV[0], TG_ARGV[1]);
        GET DIAGNOSTICS come = ROW_COUNT;
    END IF;
    IF gone > 0 OR come > 0 THEN
        INSERT INTO pg_temp.datafix_noted VALUES (TG_ARGV[0]::integer, gone, come);
    END IF;
    RETURN NULL;
END
$engine$;

-- Refuses TRUNCATE: no trigger sees the rows that it removes.
CREATE OR REPLACE FUNCTION pg_temp.datafix_refuse_truncate()
RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    PERFORM pg_temp.datafix_refuse_fix(jsonb_build_object('fix', TG_ARGV[0]), 'DF014',
        format('TRUNCATE of %s removes rows that no trigger sees, so they cannot be copied',
               TG_RELID::regclass),
        hint => 'Nothing was changed. Use DELETE.');
    RETURN NULL;
END
$engine$;

-- What a fix's statements must leave as they are, besides rows. It reads the session's own search_path: it pins none.
CREATE OR REPLACE FUNCTION pg_temp.datafix_surroundings()
RETURNS jsonb LANGUAGE sql AS $engine$
    SELECT pg_catalog.jsonb_object_agg(s, pg_catalog.current_setting(s))
           OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object('the current role', current_user)
      FROM pg_catalog.unnest(ARRAY['search_path', 'session_replication_role', 'row_security', 'track_counts',
                                   'session_authorization']) AS s
$engine$;

-- A text that differs after any DDL on the fix's tables: the rows of the catalog that define them, and their
-- versions.
CREATE OR REPLACE FUNCTION pg_temp.datafix_definition(fix jsonb)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    WITH tree AS (
        SELECT pg_temp.datafix_tree((one ->> 'target_oid')::oid) AS oid
          FROM jsonb_array_elements(fix -> 'tables') AS one)
    SELECT md5(string_agg(entry, ' ' ORDER BY entry))
      FROM (SELECT concat_ws('/', 'class', c.oid, c.xmin, c.ctid, c.relfilenode)
              FROM pg_class AS c JOIN tree USING (oid)
            UNION ALL
            SELECT concat_ws('/', 'attribute', a.attrelid, a.attnum, a.xmin, a.ctid)
              FROM pg_attribute AS a JOIN tree ON tree.oid = a.attrelid
            UNION ALL
            SELECT concat_ws('/', 'default', d.oid, d.xmin, d.ctid)
              FROM pg_attrdef AS d JOIN tree ON tree.oid = d.adrelid
            UNION ALL
            SELECT concat_ws('/', 'trigger', t.oid, t.xmin, t.ctid)
              FROM pg_trigger AS t JOIN tree ON tree.oid = t.tgrelid
            UNION ALL
            SELECT concat_ws('/', 'constraint', k.oid, k.xmin, k.ctid)
              FROM pg_constraint AS k JOIN tree ON tree.oid = k.conrelid
            UNION ALL
            SELECT concat_ws('/', 'index', i.indexrelid, i.xmin, i.ctid)
              FROM pg_index AS i JOIN tree ON tree.oid = i.indrelid
            UNION ALL
            SELECT concat_ws('/', 'policy', p.oid, p.xmin, p.ctid)
              FROM pg_policy AS p JOIN tree ON tree.oid = p.polrelid
            UNION ALL
            SELECT concat_ws('/', 'rule', r.oid, r.xmin, r.ctid)
              FROM pg_rewrite AS r JOIN tree ON tree.oid = r.ev_class) AS defined (entry)
$engine$;

-- The transaction is still the one in which the recording began.
CREATE OR REPLACE FUNCTION pg_temp.datafix_recorded(label text)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    IF to_regclass('pg_temp.datafix_recording') IS NULL THEN
        PERFORM pg_temp.datafix_refuse_fix(jsonb_build_object('fix', label), 'DF014',
            'the transaction in which it began has ended: its statements commit or roll back',
            hint => 'Nothing was changed. Remove the commit or rollback.');
    END IF;
    RETURN (SELECT r.fix FROM pg_temp.datafix_recording AS r);
END
$engine$;

-- The statement that checks the deferred constraints of the tables that are recorded, or defers them again.
CREATE OR REPLACE FUNCTION pg_temp.datafix_settle_recording(label text, mode text)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT pg_temp.datafix_constraints(pg_temp.datafix_recorded(label), mode)
$engine$;

-- Ends the recording: from here on, the triggers refuse. Refuses where the statements changed what a recording depends
-- on, or rows of other tables than those of the fix.
CREATE OR REPLACE FUNCTION pg_temp.datafix_stop_recording(label text, surroundings jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    was     record;
    problem text;
BEGIN
    SELECT * INTO STRICT was FROM pg_temp.datafix_recording;
    SELECT string_agg(format('%s was %s and is %s', s.key, s.value, surroundings ->> s.key), ', ' ORDER BY s.key)
      INTO problem
      FROM jsonb_each_text(was.surroundings) AS s
     WHERE s.value IS DISTINCT FROM surroundings ->> s.key;
    IF problem IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse_fix(was.fix, 'DF014',
            format('its statements change the session: %s', problem),
            hint => 'Nothing was changed. Name tables with their schema; a function can have a SET clause of its own.');
    ELSIF was.definition IS DISTINCT FROM pg_temp.datafix_definition(was.fix) THEN
        PERFORM pg_temp.datafix_refuse_fix(was.fix, 'DF014',
            format('its statements alter %s (DDL, or a trigger that is switched off and on)',
                   (SELECT string_agg(one ->> 'target', ' or ') FROM jsonb_array_elements(was.fix -> 'tables') AS one)),
            hint => 'Nothing was changed. DDL belongs before or after the fix; to keep triggers from firing: '
                    'fire_triggers=False.');
    END IF;
    PERFORM pg_temp.datafix_check_nothing_else(was.fix, besides => false);
    was.fix := was.fix || '{}';      -- a copy: the value itself may be stored in the table
    PERFORM pg_temp.datafix_make('DROP TABLE pg_temp.datafix_recording');
    RETURN was.fix;
END
$engine$;

-- Writes the images of a table: what was before and is not any more, and what is now and was not before. A row that
-- changed once has them noted, and they are written as they are, in pairs. Of a row that changed several times only the
-- first before and the last after remain: an image that one statement made and another one removed cancels out, in
-- whatever order they were noted.
CREATE OR REPLACE FUNCTION pg_temp.datafix_write_images(fix jsonb)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET timezone = 'UTC'
SET extra_float_digits = 1 SET bytea_output = 'hex' SET lc_monetary = 'C' SET array_nulls = on SET xmloption = 'content'
AS $engine$
DECLARE
    keyed  boolean := fix -> 'key' <> '[]';
    often  bigint  := 1;
BEGIN
    IF keyed THEN
        EXECUTE pg_temp.datafix_sql(fix, format('ANALYZE pg_temp.datafix_seen_{{n}} (%s)',
            (SELECT string_agg(quote_ident(k), ', ') FROM jsonb_array_elements_text(fix -> 'key') AS k)));
    END IF;
    PERFORM pg_temp.datafix_check_read_back(fix, 'pg_temp.datafix_seen_{{n}} AS t'
        || CASE WHEN keyed THEN ' LEFT JOIN pg_temp.datafix_seen_{{n}} AS o '
                                'ON {{o.key = t.key}} AND o.datafix_image <> t.datafix_image' ELSE '' END,
        CASE WHEN keyed THEN 't.datafix_image = ''before''' END);
    IF keyed THEN
        often := 0;
        -- A single statement changes a row once.
        IF (SELECT count(*) FROM pg_temp.datafix_noted AS d WHERE d.n = (fix -> 'n')::integer) > 1 THEN
            PERFORM pg_temp.datafix_make(pg_temp.datafix_sql(fix,
                'CREATE TEMP TABLE datafix_often_{{n}} ON COMMIT DROP AS '
                'SELECT {{s.key}} FROM pg_temp.datafix_seen_{{n}} AS s WITH NO DATA'));
            EXECUTE pg_temp.datafix_sql(fix, $sql$
                INSERT INTO pg_temp.datafix_often_{{n}}
                SELECT {{s.key}}
                  FROM pg_temp.datafix_seen_{{n}} AS s
                 GROUP BY {{s.key}}
                HAVING count(*) FILTER (WHERE s.datafix_image = 'before') > 1
                    OR count(*) FILTER (WHERE s.datafix_image = 'after') > 1
            $sql$);
            GET DIAGNOSTICS often = ROW_COUNT;
        END IF;
        BEGIN
            EXECUTE pg_temp.datafix_sql(fix, format($sql$
                INSERT INTO %1$s ({{columns}}, audit_run_id, audit_image)
                SELECT image.*
                  FROM (SELECT * FROM pg_temp.datafix_seen_{{n}} AS s WHERE s.datafix_image = 'before' %2$s) AS b
                  FULL JOIN (SELECT * FROM pg_temp.datafix_seen_{{n}} AS s WHERE s.datafix_image = 'after' %2$s) AS a
                         ON {{b.key = a.key}}
                 CROSS JOIN LATERAL (SELECT {{b.columns}}, {{run}}, 'before' WHERE b.datafix_image IS NOT NULL
                                     UNION ALL
                                     SELECT {{a.columns}}, {{run}}, 'after' WHERE a.datafix_image IS NOT NULL) AS image
                 WHERE b.datafix_image IS NULL OR a.datafix_image IS NULL OR record_image_ne(ROW(%3$s), ROW(%4$s))
            $sql$, fix ->> 'audit',
                CASE WHEN often > 0
                     THEN 'AND NOT EXISTS (SELECT FROM pg_temp.datafix_often_{{n}} AS o WHERE {{o.key = s.key}})'
                     ELSE '' END,
                pg_temp.datafix_each(fix -> 'columns', 'b.%1$I'), pg_temp.datafix_each(fix -> 'columns', 'a.%1$I')));
        EXCEPTION WHEN feature_not_supported THEN       -- no FULL JOIN by the operator of this key
            keyed := false;
            often := 1;
        END;
    END IF;
    IF often > 0 THEN
        EXECUTE pg_temp.datafix_sql(fix, format($sql$
            WITH sorted AS (
                SELECT s.*,
                       row_number() OVER by_image AS datafix_place,
                       record_image_ne(ROW(%2$s), lag(ROW(%2$s)) OVER by_image) IS NOT FALSE AS datafix_differs
                  FROM pg_temp.datafix_seen_{{n}} AS s %3$s
                WINDOW by_image AS (ORDER BY ROW(%2$s) USING OPERATOR(pg_catalog.*<))),
            grouped AS (
                SELECT s.*, count(*) FILTER (WHERE s.datafix_differs) OVER (ORDER BY s.datafix_place) AS datafix_group
                  FROM sorted AS s),
            balanced AS (
                SELECT s.*,
                       sum(CASE s.datafix_image WHEN 'before' THEN 1 ELSE -1 END) OVER (PARTITION BY s.datafix_group)
                       AS datafix_balance,
                       row_number() OVER (PARTITION BY s.datafix_group ORDER BY s.datafix_place) AS datafix_nth
                  FROM grouped AS s)
            INSERT INTO %1$s ({{columns}}, audit_run_id, audit_image)
            SELECT {{s.columns}}, {{run}}, CASE WHEN s.datafix_balance > 0 THEN 'before' ELSE 'after' END
              FROM balanced AS s WHERE s.datafix_nth <= abs(s.datafix_balance)
             ORDER BY s.datafix_balance < 0, s.datafix_place
        $sql$, fix ->> 'audit', pg_temp.datafix_each(fix -> 'columns', 's.%1$I'),
            CASE WHEN keyed THEN 'JOIN pg_temp.datafix_often_{{n}} AS o ON {{o.key = s.key}}' ELSE '' END));
    END IF;
    PERFORM pg_temp.datafix_pair_images(fix, (fix -> 'run')::bigint);
    PERFORM pg_temp.datafix_check_all_noted(fix);
END
$engine$;

-- Every change that PostgreSQL counted was noted. Where the counts differ (a savepoint may have rolled changes back),
-- the rows are as they were noted, and no row that this transaction wrote is missing from the notes.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_all_noted(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    counted record;
    noted   record;
    others  bigint;
BEGIN
    SELECT coalesce(sum(gone), 0) AS gone, coalesce(sum(come), 0) AS come INTO noted
      FROM pg_temp.datafix_noted WHERE n = (fix -> 'n')::integer;
    SELECT sum(now.updated + now.deleted - coalesce(was.updated + was.deleted, 0)) AS gone,
           sum(now.inserted + now.updated - coalesce(was.inserted + was.updated, 0)) AS come
      INTO counted
      FROM pg_temp.datafix_counts() AS now LEFT JOIN pg_temp.datafix_watched AS was USING (relation)
     WHERE now.relation IN (SELECT pg_temp.datafix_tree((fix ->> 'target_oid')::oid));
    IF fix -> 'key' = '[]' OR counted.gone = noted.gone AND counted.come = noted.come THEN
        RETURN;
    END IF;
    PERFORM pg_temp.datafix_check_after_images(fix);
    EXECUTE pg_temp.datafix_sql(fix, format($sql$
        SELECT count(*)
          FROM %s AS t
         WHERE t.cmin::text::bigint > (SELECT m.cmin::text::bigint FROM pg_temp.datafix_moment AS m)
           AND pg_temp.datafix_is_ours(t.xmin)
           AND NOT EXISTS (SELECT FROM pg_temp.datafix_seen_{{n}} AS s WHERE {{s.key = t.key}})
    $sql$, fix ->> 'target')) INTO others;
    IF others > 0 THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF008',
            format('%s rows of %s changed and were not recorded', others, fix ->> 'target'));
    END IF;
END
$engine$;

-- The rows are as the after-images show them: nothing bypassed the recording.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_after_images(fix jsonb)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET timezone = 'UTC'
SET extra_float_digits = 1 SET bytea_output = 'hex' SET lc_monetary = 'C' SET array_nulls = on SET xmloption = 'content'
AS $engine$
DECLARE
    amiss bigint;
    which text;
BEGIN
    IF fix -> 'key' = '[]' THEN
        RETURN;
    END IF;
    EXECUTE pg_temp.datafix_sql(fix, format($sql$
        SELECT count(*), min({{p.shown}})
          FROM pg_temp.datafix_pair_{{n}} AS p
          LEFT JOIN %1$s AS a ON a.audit_id = p.datafix_after AND a.audit_run_id = {{run}}
          LEFT JOIN %2$s AS t ON {{p.key = t.key}}
         WHERE (p.datafix_after IS NULL) <> (t.tableoid IS NULL)
            OR p.datafix_after IS NOT NULL AND record_image_ne(ROW(%3$s), ROW({{t.columns}}))
    $sql$, fix ->> 'audit', fix ->> 'target', pg_temp.datafix_each(fix -> 'columns', 'a.%1$I'))) INTO amiss, which;
    IF amiss > 0 THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF008',
            format('%s rows of %s are not as they were recorded; the first is %s', amiss, fix ->> 'target', which));
    END IF;
END
$engine$;

-- Whether the statements changed anything. Where they did not, and none of the rows that the fix names exists, it is
-- not applicable here; where one exists, it should have changed.
CREATE OR REPLACE FUNCTION pg_temp.datafix_changed_anything(fix jsonb)
RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    one     jsonb;
    changed bigint := 0;
    here    bigint;
    part    bigint;
BEGIN
    FOR one IN SELECT * FROM pg_temp.datafix_tables(fix) LOOP
        EXECUTE pg_temp.datafix_sql(one, 'SELECT count(*) FROM pg_temp.datafix_pair_{{n}}') INTO part;
        changed := changed + part;
    END LOOP;
    IF changed > 0 THEN
        RETURN true;
    END IF;
    FOR one IN SELECT * FROM pg_temp.datafix_tables(fix) LOOP
        IF (one -> 'named')::boolean THEN
            EXECUTE pg_temp.datafix_sql(one, format($sql$
                SELECT count(*)
                  FROM %s AS t
                 WHERE EXISTS (SELECT FROM pg_temp.datafix_expected_{{n}} AS e WHERE {{e.key = t.key}})
            $sql$, one ->> 'target')) INTO here;
            IF here > 0 THEN
                PERFORM pg_temp.datafix_refuse_fix(fix, 'DF007',
                    format('its statements changed nothing, though %s of the rows of %s that it names exist',
                           here, one ->> 'target'),
                    hint => pg_temp.datafix_ways_on(fix));
            END IF;
        END IF;
    END LOOP;
    IF (fix -> 'required')::boolean THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF007',
            format('its statements changed nothing, and %s%s rows were expected to change',
                   CASE WHEN fix ? 'at_most' THEN '1 to ' ELSE '' END, fix ->> 'rows_expected'),
            hint => pg_temp.datafix_ways_on(fix));
    END IF;
    EXECUTE format('UPDATE %s SET rows_found = 0 WHERE run_id = $1', fix ->> 'ledger') USING (fix -> 'run')::bigint;
    PERFORM pg_temp.datafix_close(fix, 'not_applicable');
    RETURN false;
END
$engine$;

-- As many rows of each table and kind as expected, or not more than the bound. Returns how many changed in all.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_counts(fix jsonb)
RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    one     jsonb;
    found   record;
    changed bigint := 0;
    wrong   text[] := '{}';
BEGIN
    FOR one IN SELECT * FROM pg_temp.datafix_tables(fix) LOOP
        EXECUTE pg_temp.datafix_sql(one, $sql$
            SELECT count(*) FILTER (WHERE datafix_before IS NULL) AS inserted,
                   count(*) FILTER (WHERE datafix_before IS NOT NULL AND datafix_after IS NOT NULL) AS updated,
                   count(*) FILTER (WHERE datafix_after IS NULL) AS deleted
              FROM pg_temp.datafix_pair_{{n}}
        $sql$) INTO found;
        PERFORM pg_temp.datafix_count(one, found.inserted, found.updated, found.deleted);
        changed := changed + found.inserted + found.updated + found.deleted;
        wrong := wrong || ARRAY(
            SELECT format('%s: %s %s, expected %s%s%s', one ->> 'target', kind.found, kind.name,
                          CASE WHEN one -> 'bounded' ? kind.name THEN 'at most ' ELSE '' END, one ->> kind.name,
                          CASE WHEN one -> 'tolerance' <> '0' THEN format(' (give or take %s)', one ->> 'tolerance')
                               ELSE '' END)
              FROM (VALUES ('inserted', found.inserted), ('updated', found.updated), ('deleted', found.deleted))
                   AS kind (name, found)
             WHERE CASE WHEN one -> 'bounded' ? kind.name THEN kind.found > (one -> kind.name)::bigint
                        ELSE abs(kind.found - (one -> kind.name)::bigint) > (one -> 'tolerance')::bigint END);
    END LOOP;
    IF wrong <> '{}' THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF007',
            format('row counts are not as expected: %s', array_to_string(wrong, '; ')),
            hint => pg_temp.datafix_ways_on(fix)
                    || coalesce((SELECT format('. %s has no key: there, an update counts as one row deleted and one '
                                               'inserted.', string_agg(t ->> 'target', ', '))
                                   FROM jsonb_array_elements(fix -> 'tables') AS t
                                  WHERE t -> 'key' = '[]'
                                 HAVING count(*) > 0), ''));
    END IF;
    EXECUTE format('UPDATE %s SET rows_found = $1 WHERE run_id = $2', fix ->> 'ledger')
      USING changed, (fix -> 'run')::bigint;
    RETURN changed;
END
$engine$;

-- The rows as they were, in the target's own types and collations: what the author's expressions can read.
CREATE OR REPLACE FUNCTION pg_temp.datafix_keep_found(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    PERFORM pg_temp.datafix_make(pg_temp.datafix_sql(fix, format($sql$
        CREATE TEMP TABLE datafix_found_{{n}} ON COMMIT DROP AS SELECT %s, '' AS datafix_kind FROM %s AS t WITH NO DATA
    $sql$, pg_temp.datafix_each(fix -> 'columns', 't.%1$I'), fix ->> 'target')));
    EXECUTE pg_temp.datafix_sql(fix, format($sql$
        INSERT INTO pg_temp.datafix_found_{{n}}
        SELECT %s, CASE WHEN p.datafix_after IS NULL THEN 'deleted' ELSE 'updated' END
          FROM pg_temp.datafix_pair_{{n}} AS p
          JOIN %s AS i ON i.audit_id = p.datafix_before AND i.audit_run_id = {{run}}
    $sql$, pg_temp.datafix_each(fix -> 'columns', 'i.%1$I%4$s'), fix ->> 'audit'));
END
$engine$;

-- The rows named one by one are the rows that changed, in the way that was expected. datafix_expected_N holds the
-- named ones, datafix_actual_N those that changed, with their identities.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_named(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    expected regclass := pg_temp.datafix_sql(fix, 'pg_temp.datafix_expected_{{n}}');
    differs  text     := coalesce(pg_temp.datafix_other_identity(fix, expected, 'e', 'a'), 'false');
    wrong    bigint;
    which    text;
BEGIN
    EXECUTE pg_temp.datafix_sql(fix, format($sql$
        WITH looked_at AS (
            SELECT CASE WHEN e.datafix_kind IS NULL THEN {{a.shown}} ELSE {{e.shown}} END AS key,
                   CASE WHEN a.datafix_kind IS NULL AND t.tableoid IS NULL THEN 'is missing'
                        WHEN a.datafix_kind IS NULL THEN 'was not ' || e.datafix_kind
                        WHEN e.datafix_kind IS NULL THEN 'was ' || a.datafix_kind || ', and is not named'
                        WHEN e.datafix_kind <> a.datafix_kind
                        THEN 'was ' || a.datafix_kind || ', not ' || e.datafix_kind
                        WHEN %1$s THEN %2$s END AS verdict
              FROM pg_temp.datafix_expected_{{n}} AS e
              FULL JOIN pg_temp.datafix_actual_{{n}} AS a ON {{e.key = a.key}}
              LEFT JOIN %3$s AS t ON {{e.key = t.key}}
             -- a kind that is expected by number names no rows
             WHERE e.datafix_kind IS NOT NULL OR a.datafix_kind = ANY (ARRAY(SELECT jsonb_array_elements_text($1))))
        SELECT count(*), string_agg(key || ' ' || verdict, '; ' ORDER BY key) FROM looked_at WHERE verdict IS NOT NULL
    $sql$, differs, pg_temp.datafix_difference(fix, expected), fix ->> 'target'))
       INTO wrong, which USING fix -> 'named_kinds';
    IF wrong > 0 THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF007',
            format('%s rows of %s are not as expected: %s',
                   wrong, fix ->> 'target',
                   CASE WHEN length(which) > 600 THEN left(which, 600) || ' ...' ELSE which END),
            hint => pg_temp.datafix_ways_on(fix));
    END IF;
END
$engine$;

-- The fix's own condition holds. NULL is no.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_condition(fix jsonb, holds boolean, condition text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    IF holds IS NOT TRUE THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF008',
            format('after its statements, this condition does not hold: %s', condition));
    END IF;
END
$engine$;
