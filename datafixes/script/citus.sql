-- Tables of Citus. The rows of a distributed table are in shards, on other servers. A coordinator neither locks them
-- one by one in a large statement, nor counts what changes there, nor joins them with tables of this session in any
-- place of a statement. So a fix of such a table
--   locks the table (SHARE ROW EXCLUSIVE), or, where they are few, its rows one by one;
--   finds its rows by a list of keys, which Citus sends to the shards;
--   in a revert, reads them once into a table of this session, datafix_rows_N, and compares them there;
--   restores rows by one statement for each kind of change.
-- All else is as with any other table. The ledger is on the coordinator, and so are the copies, unless they lie beside
-- their rows: see datafix_can_lie_beside.

-- What Citus makes of a table: distributed, by the hash of a column, which is a part of every unique key; reference;
-- local; single-shard. NULL for any other table. The setting is for tests, and lets any table go this way.
CREATE OR REPLACE FUNCTION pg_temp.datafix_citus(relation oid)
RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    known jsonb;
    kind  text;
BEGIN
    IF current_setting('datafixes.as_on_citus', true) IN ('on', 'beside') THEN
        RETURN 'local';
    ELSIF to_regclass('pg_catalog.pg_dist_partition') IS NULL THEN
        RETURN NULL;
    END IF;
    EXECUTE 'SELECT to_jsonb(p) FROM pg_catalog.pg_dist_partition AS p WHERE p.logicalrelid::oid = $1'
       INTO known USING relation;
    kind := CASE WHEN known IS NULL THEN NULL
                 WHEN known ->> 'partmethod' = 'h' AND known ? 'partkey' THEN 'distributed'
                 WHEN known ->> 'repmodel' = 't' THEN 'reference'
                 WHEN known ->> 'partmethod' = 'n' AND known ->> 'colocationid' = '0' THEN 'local'
                 WHEN known ->> 'partmethod' = 'n' AND known ? 'colocationid' THEN 'single-shard'
                 ELSE 'unknown' END;
    RETURN kind;
END
$engine$;

-- How the rows of a table are spread over servers: which tables lie beside it ("with"), and by which column ("by"), of
-- whose hash each shard has a range ("from"). NULL for any other table. The setting is for tests, and lets any table go
-- this way.
CREATE OR REPLACE FUNCTION pg_temp.datafix_spread(relation oid)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    spread jsonb;
BEGIN
    IF current_setting('datafixes.as_on_citus', true) = 'beside' THEN
        RETURN '{"with": 0, "by": null}';
    ELSIF pg_temp.datafix_citus(relation) IN ('distributed', 'single-shard') THEN
        EXECUTE $sql$
            SELECT jsonb_build_object('with', p.colocationid, 'by', CASE WHEN p.partmethod = 'h'
                                      THEN column_to_column_name(p.logicalrelid, p.partkey) END,
                       'from', (SELECT array_agg(s.shardminvalue::integer ORDER BY s.shardminvalue::integer)::text
                                  FROM pg_catalog.pg_dist_shard AS s WHERE s.logicalrelid = p.logicalrelid))
              FROM pg_catalog.pg_dist_partition AS p WHERE p.logicalrelid::oid = $1
        $sql$ INTO spread USING relation;
        -- Citus hashes with the function of the type, which can be called on workers, as its own cannot
        spread := spread || jsonb_build_object('hash', (
            SELECT format('%I.%I', n.nspname, f.proname)
              FROM pg_attribute AS a
              JOIN pg_opclass AS o ON o.opcdefault AND o.opcintype = CASE a.atttypid WHEN 'varchar'::regtype
                                                                       THEN 'text'::regtype ELSE a.atttypid END
              JOIN pg_am AS m ON m.oid = o.opcmethod AND m.amname = 'hash'
              JOIN pg_amproc AS p ON p.amprocfamily = o.opcfamily AND p.amprocnum = 1
                                 AND p.amproclefttype = o.opcintype AND p.amprocrighttype = o.opcintype
              JOIN pg_proc AS f ON f.oid = p.amproc
              JOIN pg_namespace AS n ON n.oid = f.pronamespace
             WHERE a.attrelid = relation AND a.attname = spread ->> 'by'));
    END IF;
    RETURN spread;
END
$engine$;

-- Whether an audit table can lie beside its target: the column by which that is distributed is kept in its own type,
-- and values of it that are equal are the same.
CREATE OR REPLACE FUNCTION pg_temp.datafix_can_lie_beside(target oid, columns jsonb)
RETURNS boolean LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT coalesce((SELECT spread.by IS NULL OR EXISTS (
               SELECT FROM jsonb_array_elements(columns) AS c
                 JOIN pg_attribute AS a ON a.attrelid = target AND a.attname = spread.by
                 LEFT JOIN pg_collation AS l ON l.oid = a.attcollation
                WHERE c ->> 'name' = spread.by AND c ->> 'type' = c ->> 'kept' AND spread.hash IS NOT NULL
                  AND coalesce(l.collisdeterministic, true))
      FROM (SELECT s ->> 'by', s ->> 'hash'
              FROM pg_temp.datafix_spread(target) AS s WHERE s IS NOT NULL) AS spread (by, hash)), false)
$engine$;

-- Puts an audit table beside its target: the images of a row are in the same shard as the row. No trigger guards it.
CREATE OR REPLACE FUNCTION pg_temp.datafix_put_beside(target regclass, audit regclass)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    IF to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL THEN
        EXECUTE 'SELECT create_distributed_table($1, $2, colocate_with => $3)'
          USING audit, pg_temp.datafix_spread(target) ->> 'by', target::text;
    END IF;
END
$engine$;

-- The bytes of the rows of a table, with those of its partitions, or of its shards on other servers.
CREATE OR REPLACE FUNCTION pg_temp.datafix_bytes(fix jsonb)
RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    bytes bigint;
BEGIN
    IF fix ? 'citus' AND to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL THEN
        EXECUTE 'SELECT citus_relation_size($1)' INTO bytes USING (fix ->> 'target_oid')::oid::regclass;
    ELSE
        SELECT sum(pg_relation_size(oid)) INTO bytes
          FROM pg_temp.datafix_tree((fix ->> 'target_oid')::oid) AS _ (oid);
    END IF;
    RETURN bytes;
END
$engine$;

-- Refuses what needs triggers, or the numbers of a sequence: an audit table beside a distributed table has none.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_on_one_server(audit oid, label text, so text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    IF pg_temp.datafix_spread(audit) IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse('DF004',
            format('audit table %s is distributed over the servers of a Citus cluster: %s', label, so),
            hint => 'Nothing was changed. What somebody changes there, "datafixes verify-audit" finds.');
    END IF;
END
$engine$;

-- The number of an image beside its row, by the place of the row in its shard, which no sequence has to give: of one
-- run, no two images have the same. Rows after each other have numbers after each other.
CREATE OR REPLACE FUNCTION pg_temp.datafix_number(fix jsonb, alias text, image integer)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT format('pg_catalog.int8or(pg_catalog.int8shl(%s, 44), pg_catalog.int8or(pg_catalog.int8shl('
                  '(%s.ctid::pg_catalog.text::pg_catalog.point)[0]::pg_catalog.int8, 12), pg_catalog.int8or('
                  'pg_catalog.int8shl((%2$s.ctid::pg_catalog.text::pg_catalog.point)[1]::pg_catalog.int8, 1), %s)))',
                  shard, alias, image)
      FROM (SELECT CASE WHEN fix -> 'beside' ->> 'by' IS NULL THEN '0'
                        ELSE format('pg_catalog.width_bucket(%s(%s.%I), %L::pg_catalog.int4[])',
                                    fix -> 'beside' ->> 'hash', alias, fix -> 'beside' ->> 'by',
                                    fix -> 'beside' ->> 'from') END) AS _ (shard)
$engine$;

-- The target is a table of Citus: what cannot be fixed there is refused, each for its own reason. "target" is the
-- table, "label" its name.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_citus(fix jsonb, target pg_class, label text)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    kind    text := pg_temp.datafix_citus(target.oid);
    problem text;
    advice  text;
BEGIN
    IF kind IS NULL THEN
        RETURN fix;
    END IF;
    SELECT p.problem, p.advice INTO problem, advice FROM (VALUES
        (kind = 'unknown',
         'is a table of Citus, distributed in a way that is not known here', 'Distribute it by the hash of a column.'),
        (target.relkind = 'p',
         'is a table of Citus that is partitioned, too', 'Fix its partitions, each by a fix of its own.'),
        (fix ->> 'change' = 'record',
         'is a table of Citus, and a fix of it cannot be recorded: what changes on other servers fires no trigger here',
         'Declare the fix instead: DataFix, with Update, Delete or Insert.'),
        (EXISTS (SELECT FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'D' AND tgrelid = target.oid),
         'is a table of Citus with triggers, and what they change on other servers would not be found',
         'Disable them for the fix (ALTER TABLE ... DISABLE TRIGGER).')
        ) AS p (applies, problem, advice)
     WHERE p.applies LIMIT 1;
    IF problem IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF004', format('%s %s', label, problem),
                                           hint => 'Nothing was changed. ' || advice);
    END IF;
    IF to_regclass('pg_catalog.pg_dist_local_group') IS NOT NULL THEN
        PERFORM pg_temp.datafix_check_coordinator('datafix ' || (fix ->> 'fix'), label);
        PERFORM pg_temp.datafix_tell_workers();
        IF NOT (fix ? 'in_batches' AND fix ? 'part_of') THEN    -- a batch looks once, when it has the lock
            PERFORM pg_temp.datafix_check_in_doubt(fix);
        END IF;
        -- Citus changes no reference table after a statement that read tables which refer to it, shard beside shard
        IF kind = 'reference' THEN
            PERFORM set_config('citus.multi_shard_modify_mode', 'sequential', true)
               FROM pg_temp.datafix_references(target.oid) LIMIT 1;
        END IF;
    END IF;
    RETURN fix || jsonb_build_object('citus', kind);
END
$engine$;

-- The ledger, the copies, and the lock for one fix at a time are on the coordinator. "subject": whose message this is.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_coordinator(subject text, label text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    here integer := 0;
BEGIN
    IF to_regclass('pg_catalog.pg_dist_local_group') IS NOT NULL THEN
        EXECUTE 'SELECT groupid FROM pg_catalog.pg_dist_local_group' INTO here;
    END IF;
    IF here <> 0 THEN
        PERFORM pg_temp.datafix_refuse('DF014',
            format('%s: this server is a worker of Citus, and %s is fixed through the coordinator', subject, label),
            hint => 'Nothing was changed. Connect to the coordinator: the ledger and the copies are there.');
    END IF;
END
$engine$;

-- Transactions that were prepared on several servers, and of which it is not known there whether they are committed. A
-- commit of a moment ago looks the same, so what is found is looked at again. "unknown": a server did not answer.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_in_doubt(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    look  text := $sql$
        SELECT jsonb_object_agg(concat_ws(' ', place.name, one), one) FILTER (WHERE one IS NOT NULL),
               string_agg(DISTINCT place.name || ': ' || answer.result, '; ') FILTER (WHERE NOT answer.success)
          FROM pg_catalog.run_command_on_all_nodes($q$
                   SELECT string_agg(gid, chr(10)) FROM pg_catalog.pg_prepared_xacts
                    WHERE gid LIKE 'citus\_%' AND database = current_database() $q$) AS answer
          JOIN (SELECT nodeid, nodename || ':' || nodeport FROM pg_catalog.pg_dist_node) AS place (id, name)
            ON place.id = answer.nodeid
          LEFT JOIN LATERAL unnest(string_to_array(CASE WHEN answer.success THEN answer.result END, chr(10))) AS one
            ON true
    $sql$;
    found_first jsonb;
    found_again jsonb;
    unknown     text;
    which       text;
BEGIN
    IF to_regclass('pg_catalog.pg_dist_node') IS NULL THEN
        RETURN;
    END IF;
    EXECUTE look INTO found_first, unknown;
    IF found_first IS NOT NULL AND unknown IS NULL THEN
        PERFORM pg_sleep(1);
        EXECUTE look INTO found_again, unknown;
    END IF;
    IF unknown IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF014',
            format('a server of this Citus cluster does not answer, and may hold transactions in doubt: %s', unknown),
            hint => 'Nothing was changed. Try again when all servers are up: '
                    'SELECT * FROM citus_check_cluster_node_health()');
    END IF;
    SELECT string_agg(key, ', ' ORDER BY key) INTO which
      FROM jsonb_object_keys(found_again) AS key WHERE found_first ? key;
    IF which IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF014',
            format('transactions of this Citus cluster are in doubt, and a part of what they changed is not to be seen '
                   'yet: %s', left(which, 300)),
            hint => format('Nothing was changed. The maintenance daemon of Citus ends them within %s; at once: SELECT '
                           'recover_prepared_transactions(). If they stay: is a server down, or one of them of another '
                           'coordinator? SELECT * FROM pg_prepared_xacts',
                           coalesce(current_setting('citus.recover_2pc_interval', true), 'a minute')));
    END IF;
END
$engine$;

-- On the workers, this transaction wrote to shards of these tables only. What a trigger or a foreign key changes there,
-- the coordinator does not see; the locks tell that it may have.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_shards(fix jsonb, known oid[])
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    written text;
BEGIN
    IF to_regclass('pg_catalog.pg_dist_shard') IS NULL
       OR NOT jsonb_path_exists(fix, '$.tables[*].citus') THEN
        RETURN;
    END IF;
    EXECUTE $sql$
        SELECT string_agg(format('%s on %s:%s', coalesce(one, 'unknown, because it does not answer'), answer.nodename,
                                 answer.nodeport), ', ' ORDER BY one)
          FROM pg_catalog.run_command_on_workers(format($q$
                   SELECT string_agg(DISTINCT concat(quote_ident(nullif(n.nspname, 'public')) || '.',
                                                     quote_ident(c.relname)), chr(10))
                     FROM pg_catalog.get_all_active_transactions() AS a
                     JOIN pg_catalog.pg_locks AS l ON l.pid = a.process_id AND l.mode = 'RowExclusiveLock'
                     JOIN pg_catalog.pg_class AS c ON c.oid = l.relation AND c.relkind IN ('r', 'f')
                     JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname !~ '^pg_'
                    WHERE a.global_pid = %s $q$, pg_catalog.citus_backend_gpid())) AS answer
          LEFT JOIN LATERAL unnest(string_to_array(CASE WHEN answer.success THEN answer.result END, chr(10))) AS one
            ON true
         WHERE (one IS NOT NULL OR NOT answer.success)
           AND (one IN (SELECT pg_catalog.shard_name(s.logicalrelid, s.shardid) FROM pg_catalog.pg_dist_shard AS s
                         WHERE s.logicalrelid::oid = ANY ($1)
                        UNION ALL
                        SELECT concat(quote_ident(nullif(n.nspname, 'public')) || '.', quote_ident(c.relname))
                          FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
                         WHERE c.oid = ANY ($1))) IS NOT TRUE
    $sql$ INTO written USING known;
    IF written IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF015',
            format('rows of other tables may have changed too, on the workers of Citus, which do not count changes: %s',
                   left(written, 500)),
            hint => 'Nothing was changed. Is there a trigger on a shard? Disable it for the fix. A table that the '
                    'coordinator knows can also be allowed to differ: may_differ=[...].');
    END IF;
END
$engine$;

-- The workers take the settings of this transaction: time limits, and what the meaning or the text of a value depends
-- on. Citus sends SET LOCAL, and no set_config; and the whole string that it is a part of, so each is a string of its
-- own. Dates get their ISO form, here too, until the transaction ends: as text they go from server to server.
CREATE OR REPLACE FUNCTION pg_temp.datafix_tell_workers()
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    one record;
BEGIN
    PERFORM set_config('citus.propagate_set_commands', 'local', true);
    FOR one IN
        SELECT name, CASE name WHEN 'datestyle' THEN regexp_replace(current_setting(name), '^\w+', 'ISO')
                               ELSE current_setting(name) END AS value
          FROM unnest(ARRAY['lock_timeout', 'statement_timeout', 'datestyle', 'intervalstyle', 'timezone',
                            'extra_float_digits', 'bytea_output', 'lc_monetary', 'xmloption', 'array_nulls', 'jit',
                            'enable_nestloop', 'enable_seqscan']) AS name
    LOOP
        EXECUTE format('SET LOCAL %I = %s', one.name,
                       CASE WHEN one.name = 'datestyle' THEN one.value ELSE quote_literal(one.value) END);
    END LOOP;
END
$engine$;

-- The same, and no nested loops, until they are told again: a worker has no statistics yet of the images of a run.
CREATE OR REPLACE FUNCTION pg_temp.datafix_tell_no_loops()
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_nestloop = off AS $engine$
BEGIN
    PERFORM pg_temp.datafix_tell_workers();
END
$engine$;

-- The condition that the rows "alias" are among those whose keys a table holds: for each row, that there is its key;
-- where the rows are on other servers, a list of the keys, which these can take along; where they are many, and their
-- copies lie beside them, that there is a copy.
CREATE OR REPLACE FUNCTION pg_temp.datafix_among(fix jsonb, alias text, keys text, condition text DEFAULT 'true')
RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    name   text := CASE WHEN keys ~ '^[(]' THEN 'datafix_restore' ELSE regexp_replace(keys, '^.*\.', '') END;
    equals text;
BEGIN
    IF fix ? 'many' AND name = 'datafix_captured' THEN
        RETURN pg_temp.datafix_sql(fix, format('EXISTS (SELECT FROM %s AS %s WHERE %2$s.audit_run_id = {{run}} '
                                               'AND %2$s.audit_image = ''before'' AND {{%2$s.key = %3$s.key}})',
                                               fix ->> 'audit', name, alias));
    ELSIF NOT fix ? 'citus' THEN
        RETURN pg_temp.datafix_sql(fix, format('EXISTS (SELECT FROM %s AS %s WHERE {{%2$s.key = %3$s.key}})',
                                               keys, name, alias));
    END IF;
    SELECT CASE WHEN count(*) = 1 THEN min(e) ELSE 'OPERATOR(pg_catalog.=)' END INTO equals
      FROM (SELECT DISTINCT k ->> 'equals' AS e FROM jsonb_array_elements(fix -> 'key_columns') AS k) AS _;
    RETURN pg_temp.datafix_sql(fix, format('({{%s.key}}) %s ANY (SELECT {{%s.key}} FROM %s AS %3$s WHERE %5$s)',
                                           alias, equals, name, keys, condition));
END
$engine$;

-- The WHERE clause, right behind the name of the table, for the copy of these rows. Citus does not copy rows by a list
-- of keys where the copy gets a number from a sequence: there it is a join.
CREATE OR REPLACE FUNCTION pg_temp.datafix_where_among(fix jsonb, keys text)
RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    IF fix ? 'many' OR NOT fix ? 'citus' THEN
        RETURN 'WHERE ' || pg_temp.datafix_among(fix, 'target', keys);
    END IF;
    RETURN (SELECT format('JOIN (SELECT DISTINCT %s FROM %s AS k) AS datafix_keys ON %s WHERE true',
                          string_agg(format('k.%I AS datafix_key_%s', k ->> 'name', n), ', ' ORDER BY n), keys,
                          string_agg(format('%s.%I%s %s datafix_keys.datafix_key_%s%s%s', fix ->> 'target_alias',
                                            k ->> 'name', k ->> 'base', k ->> 'equals', n, k ->> 'base',
                                            k ->> 'collate'),
                                     ' AND ' ORDER BY n))
              FROM jsonb_array_elements(fix -> 'key_columns') WITH ORDINALITY AS _ (k, n));
END
$engine$;

-- Nobody else changes the rows of these keys until the fix ends; without keys, any row of the table. Up to a hundred
-- rows are locked one by one, in the order of their keys, and others go on writing to the rest.
CREATE OR REPLACE FUNCTION pg_temp.datafix_lock_there(fix jsonb, keys text DEFAULT NULL)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    total    bigint;
    children text;
    tests    text;
    one      text;
BEGIN
    IF keys IS NOT NULL THEN
        EXECUTE format('SELECT count(*) FROM %s AS k', keys) INTO total;
    END IF;
    IF total IS NULL OR total > 100 THEN
        -- a lock of its table keeps nobody from referring to a row, so rows that could go along are locked, too
        SELECT string_agg(DISTINCT r.conrelid::regclass::text, ', ') INTO children
          FROM pg_temp.datafix_references((fix ->> 'target_oid')::oid) AS r
         WHERE fix ->> 'change' <> 'update' AND r.confdeltype IN ('c', 'n', 'd')
            OR fix ->> 'change' <> 'delete' AND fix ->> 'lock' = 'UPDATE' AND r.confupdtype IN ('c', 'n', 'd');
        EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', concat_ws(', ', fix ->> 'target', children));
        -- what was prepared before it does not hold this lock, but those of its rows
        PERFORM pg_temp.datafix_check_in_doubt(fix);
        RETURN;
    END IF;
    SELECT string_agg(format('format(%L, k.%I)', format('t.%s %s %%L::%s%s', replace(quote_ident(name), '%', '%%'),
                                                        k ->> 'equals', c ->> 'type', k ->> 'collate'), name), ', ')
      INTO tests
      FROM jsonb_array_elements(fix -> 'key_columns') AS k CROSS JOIN LATERAL (SELECT k ->> 'name') AS _ (name)
      JOIN jsonb_array_elements(fix -> 'columns') AS c ON c ->> 'name' = name;
    FOR one IN EXECUTE pg_temp.datafix_sql(fix, format(
        'SELECT concat_ws('' AND '', %s) FROM %s AS k ORDER BY {{k.key}}', tests, keys))
    LOOP
        EXECUTE pg_temp.datafix_sql(fix, format('SELECT 1 FROM %s AS t WHERE %s FOR {{lock}} OF t',
                                                fix ->> 'target', one));
    END LOOP;
END
$engine$;

-- Reads the rows of a run, as they are now, into datafix_rows_N: a revert compares them there.
CREATE OR REPLACE FUNCTION pg_temp.datafix_read_rows(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    IF NOT fix ? 'citus' OR fix ? 'restore' THEN
        RETURN;
    END IF;
    EXECUTE pg_temp.datafix_sql(fix, 'TRUNCATE pg_temp.datafix_rows_{{n}}');
    EXECUTE pg_temp.datafix_sql(fix, format('INSERT INTO pg_temp.datafix_rows_{{n}} SELECT t.* FROM %s AS t WHERE %s',
        fix ->> 'target', pg_temp.datafix_among(fix, 't', 'pg_temp.datafix_keys_{{n}}')));
    EXECUTE pg_temp.datafix_sql(fix, 'ANALYZE pg_temp.datafix_rows_{{n}}');
END
$engine$;

-- Where the copies lie beside the rows, and not all rows are restored there: the copies that a revert reads are read
-- once, those of the run and of later ones.
CREATE OR REPLACE FUNCTION pg_temp.datafix_fetch_images(fix jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    IF NOT fix ? 'beside' THEN
        RETURN fix;
    END IF;
    PERFORM pg_temp.datafix_make(pg_temp.datafix_sql(fix, format(
        'CREATE TEMP TABLE datafix_images_{{n}} ON COMMIT DROP AS SELECT i.* FROM %s AS i WITH NO DATA',
        fix ->> 'audit')));
    PERFORM pg_temp.datafix_tell_no_loops();
    EXECUTE pg_temp.datafix_sql(fix, format(
        'INSERT INTO pg_temp.datafix_images_{{n}} SELECT i.* FROM %1$s AS i WHERE i.audit_run_id >= %2$s '
        'AND EXISTS (SELECT FROM %1$s AS own WHERE own.audit_run_id = %2$s AND {{own.key = i.key}})',
        fix ->> 'audit', fix ->> 'from_run'));
    PERFORM pg_temp.datafix_tell_workers();
    EXECUTE pg_temp.datafix_sql(fix, 'ANALYZE pg_temp.datafix_images_{{n}}');
    RETURN fix || jsonb_build_object('copies', pg_temp.datafix_sql(fix, 'pg_temp.datafix_images_{{n}}'));
END
$engine$;

-- Rows that may be free, and their images beside them: if all of them are as the fix left them, copies those that it
-- updated, and returns the facts with the images that they are restored from.
CREATE OR REPLACE FUNCTION pg_temp.datafix_free_there(fix jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    wrote   bigint  := (fix -> 'noted' -> 'images')::bigint;
    deleted boolean := fix -> 'noted' -> 'rows_deleted' = fix -> 'noted' -> 'images';
    states  text    := CASE WHEN deleted THEN '''insert''::text AS datafix_action, ''deleted''::text AS datafix_state'
                            ELSE '''update''::text AS datafix_action, ''free''::text AS datafix_state' END;
    images  text    := format('(SELECT i.*, %s FROM %s AS i WHERE i.audit_run_id = %s AND i.audit_image = ''before'')',
                              states, fix ->> 'audit', fix ->> 'from_run');
    rows    bigint;
BEGIN
    PERFORM pg_temp.datafix_lock_there(fix);
    IF deleted THEN
        EXECUTE pg_temp.datafix_sql(fix, format('SELECT %s - count(*) FROM %s AS r JOIN %s AS t ON {{r.key = t.key}}',
                                                wrote, images, fix ->> 'target')) INTO rows;
    ELSE
        EXECUTE pg_temp.datafix_sql(fix, format($sql$
            INSERT INTO %s ({{columns}}, audit_run_id, audit_image)
            SELECT {{t.columns}}, {{run}}, 'before'
              FROM %s JOIN %s AS t ON {{b.key = t.key}}
             WHERE record_image_ne(ROW(%s), ROW(%s)) AND NOT record_image_ne(ROW(%s), ROW(%5$s))
        $sql$, fix ->> 'audit', pg_temp.datafix_both_images(fix), fix ->> 'target',
            pg_temp.datafix_each(fix -> 'written', 'b.%1$I'), pg_temp.datafix_each(fix -> 'written', 'a.%1$I'),
            pg_temp.datafix_each(fix -> 'written', 't.%1$I')));
        GET DIAGNOSTICS rows = ROW_COUNT;
    END IF;
    IF wrote = (CASE WHEN deleted THEN rows ELSE 2 * rows END) THEN
        RETURN fix || jsonb_build_object('restore', images, 'counted', format(
            '(SELECT %s FROM generate_series(1, %s))', states, rows));
    END IF;
    EXECUTE pg_temp.datafix_sql(fix, format('DELETE FROM %s WHERE audit_run_id = {{run}}', fix ->> 'audit'));
    RETURN fix;
END
$engine$;

-- Before a revert compares anything: the keys of the run that it takes back, the locks, and the rows. Returns the facts
-- with the table in which the rows are read from then on.
CREATE OR REPLACE FUNCTION pg_temp.datafix_fetch_rows(fix jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    IF NOT fix ? 'citus' THEN
        RETURN fix;
    ELSIF fix ? 'beside' AND (fix -> 'free')::boolean THEN
        fix := pg_temp.datafix_free_there(fix);
        IF fix ? 'restore' THEN
            RETURN fix;
        END IF;
        PERFORM pg_temp.datafix_make(pg_temp.datafix_sql(fix, 'DROP TABLE pg_temp.datafix_restore_{{n}}'));
        fix := pg_temp.datafix_fetch_images((fix - 'staged') || '{"free": false}');
        PERFORM pg_temp.datafix_pair_images(fix, (fix -> 'from_run')::bigint);
    END IF;
    PERFORM pg_temp.datafix_make(pg_temp.datafix_sql(fix, format(
        'CREATE TEMP TABLE datafix_keys_{{n}} ON COMMIT DROP AS SELECT {{t.key}} FROM %s AS t WITH NO DATA',
        fix ->> 'target')));
    PERFORM pg_temp.datafix_make(pg_temp.datafix_sql(fix, format(
        'CREATE TEMP TABLE datafix_rows_{{n}} ON COMMIT DROP AS SELECT t.* FROM %s AS t WITH NO DATA',
        fix ->> 'target')));
    EXECUTE pg_temp.datafix_sql(fix, format(
        'INSERT INTO pg_temp.datafix_keys_{{n}} SELECT DISTINCT %s FROM %s AS i WHERE i.audit_run_id = %s',
        pg_temp.datafix_typed_key(fix, 'i'), fix ->> 'copies', fix ->> 'from_run'));
    EXECUTE pg_temp.datafix_sql(fix, 'ANALYZE pg_temp.datafix_keys_{{n}}');
    PERFORM pg_temp.datafix_lock_there(fix, pg_temp.datafix_sql(fix, 'pg_temp.datafix_keys_{{n}}'));
    PERFORM pg_temp.datafix_read_rows(fix);
    RETURN fix || jsonb_build_object('rows', pg_temp.datafix_sql(fix, 'pg_temp.datafix_rows_{{n}}'));
END
$engine$;

-- Rows of other tables that refer to rows which the revert deletes, or to values that it changes, and which would go or
-- change along: the revert is refused. Where a reference has no action, Citus itself refuses.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_followers(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    reference pg_constraint;
    actions   text[];
    followers bigint;
BEGIN
    FOR reference IN SELECT * FROM pg_temp.datafix_references((fix ->> 'target_oid')::oid) LOOP
        actions := CASE WHEN reference.confdeltype IN ('c', 'n', 'd') THEN '{delete}'::text[] ELSE '{}' END
                   || CASE WHEN reference.confupdtype IN ('c', 'n', 'd') AND EXISTS (
                                SELECT FROM pg_attribute AS a
                                 WHERE a.attrelid = reference.confrelid AND a.attnum = ANY (reference.confkey)
                                   AND fix -> 'written' @> jsonb_build_array(jsonb_build_object('name', a.attname)))
                           THEN '{update}'::text[] ELSE '{}' END;
        CONTINUE WHEN actions = '{}';
        EXECUTE pg_temp.datafix_sql(fix, format('SELECT count(*) FROM %s AS child JOIN %s AS t ON %s WHERE %s',
            reference.conrelid::regclass, fix ->> 'target', pg_temp.datafix_reference(reference),
            pg_temp.datafix_among(fix, 't', pg_temp.datafix_sql(fix, '{{restore}}'),
                                  format('datafix_action = ANY (%L)', actions)))) INTO followers;
        IF followers > 0 THEN
            PERFORM pg_temp.datafix_refuse_fix(fix, 'DF009',
                format('%s rows of %s refer to rows of %s that the revert would delete or change (%s), and would be '
                       'changed or deleted with them',
                       followers, reference.conrelid::regclass, fix ->> 'target', reference.conname));
        END IF;
    END LOOP;
END
$engine$;

-- Restores the rows: deletes what was inserted, sets back what was changed, and inserts again what was deleted. Returns
-- the number of rows. "present" holds the kinds of change that there are.
CREATE OR REPLACE FUNCTION pg_temp.datafix_restore_there(fix jsonb, present jsonb)
RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    one      record;
    rows     bigint;
    restored bigint := 0;
BEGIN
    FOR one IN
        SELECT * FROM (VALUES
            ('delete', format('DELETE FROM %s AS t WHERE %s', fix ->> 'target',
                              pg_temp.datafix_among(fix, 't', pg_temp.datafix_sql(fix, '{{restore}}'),
                                                    'datafix_action = ''delete'''))),
            ('update', format('UPDATE %s AS t SET %s FROM (SELECT * FROM {{restore}} AS o '
                              'WHERE o.datafix_action = ''update'') AS r WHERE {{r.key = t.key}}', fix ->> 'target',
                              pg_temp.datafix_each(fix -> 'written', '%1$I = r.%1$I'))),
            ('insert', format('INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s '
                              'FROM {{restore}} AS r WHERE r.datafix_action = ''insert''',
                              fix ->> 'target', pg_temp.datafix_each(fix -> 'writable', '%1$I'),
                              pg_temp.datafix_each(fix -> 'writable', 'r.%1$I'))))
            AS kinds (action, statement)
         WHERE present ? kinds.action
    LOOP
        EXECUTE pg_temp.datafix_sql(fix, one.statement);
        GET DIAGNOSTICS rows = ROW_COUNT;
        restored := restored + rows;
    END LOOP;
    RETURN restored;
END
$engine$;
