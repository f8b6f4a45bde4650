-- What blocks a revert: rows that somebody has changed, removed, taken or referred to since.

-- The rows as the fix left them, in the target's own types and collations: what the author's expressions can read.
CREATE OR REPLACE FUNCTION pg_temp.datafix_keep_left(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_nestloop = off AS $engine$
BEGIN
    PERFORM pg_temp.datafix_make(pg_temp.datafix_sql(fix, format($sql$
        CREATE TEMP TABLE datafix_left_{{n}} ON COMMIT DROP AS SELECT %s FROM %s AS t WITH NO DATA
    $sql$, pg_temp.datafix_each(fix -> 'images', 't.%1$I'), fix ->> 'target')));
    EXECUTE pg_temp.datafix_sql(fix, format($sql$
        INSERT INTO pg_temp.datafix_left_{{n}}
        SELECT %s FROM %s
    $sql$, pg_temp.datafix_as_left(fix, fix -> 'images', '%1$I%4$s'), pg_temp.datafix_after_images(fix)));
END
$engine$;

-- The identities of a row, each under its name.
CREATE OR REPLACE FUNCTION pg_temp.datafix_identities(fix jsonb)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT string_agg(format(E'(%s\n) AS %I', i.sql, i.name), ', ' ORDER BY i.n)
      FROM ROWS FROM (jsonb_array_elements_text(fix -> 'identity_sql'), jsonb_array_elements_text(fix -> 'identity'))
           WITH ORDINALITY AS i (sql, name, n)
$engine$;

-- What tells the rows apart is evaluated on the rows as the fix left them ("then"), and as they are ("now"). These
-- two functions return the statements that make the tables for that, and that fill them. The statements hold the
-- author's SQL: they run in the revert's own block, under the caller's settings. Where nothing tells the rows apart,
-- they do nothing.
CREATE OR REPLACE FUNCTION pg_temp.datafix_prepare_identity(fix jsonb, moment text)
RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    IF fix -> 'identity' = '[]' THEN
        RETURN 'SELECT';
    ELSIF moment = 'then' THEN
        PERFORM pg_temp.datafix_keep_left(fix);
    END IF;
    RETURN pg_temp.datafix_sql(fix, format(
        'CREATE TEMP TABLE datafix_%s_{{n}} ON COMMIT DROP AS SELECT {{target.key}}, %s FROM %s WITH NO DATA',
        moment, pg_temp.datafix_identities(fix), fix ->> 'target'));
END
$engine$;

CREATE OR REPLACE FUNCTION pg_temp.datafix_fill_identity(fix jsonb, moment text)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT CASE WHEN fix -> 'identity' = '[]' THEN 'SELECT'
                ELSE pg_temp.datafix_sql(fix, format(
                    'INSERT INTO pg_temp.datafix_%s_{{n}} SELECT {{target.key}}, %s FROM %s',
                    moment, pg_temp.datafix_identities(fix),
                    CASE moment
                        WHEN 'then' THEN format('pg_temp.datafix_left_{{n}} AS %s', fix ->> 'target_alias')
                        ELSE format('%s AS %s WHERE EXISTS (SELECT FROM pg_temp.datafix_pair_{{n}} AS datafix_pair '
                                    'WHERE {{datafix_pair.key = target.key}})', fix ->> 'rows',
                                    fix ->> 'target_alias') END)) END
$engine$;

-- Rows whose identity is not the one that the fix left: somebody else's, under the same key.
CREATE OR REPLACE FUNCTION pg_temp.datafix_mark_others(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    IF fix -> 'identity' = '[]' THEN
        RETURN;
    END IF;
    EXECUTE pg_temp.datafix_sql(fix, format($sql$
        UPDATE pg_temp.datafix_restore_{{n}} AS r SET datafix_state = 'taken', datafix_action = NULL
          FROM pg_temp.datafix_then_{{n}} AS was JOIN pg_temp.datafix_now_{{n}} AS has ON {{was.key = has.key}}
         WHERE {{r.key = has.key}} AND r.datafix_state <> 'already back' AND (%s)
    $sql$, pg_temp.datafix_other_identity(fix, pg_temp.datafix_sql(fix, 'pg_temp.datafix_now_{{n}}')::regclass,
                                          'was', 'has')));
END
$engine$;

-- A row that is not under its key may be under another one, because somebody changed the key. A row that has all of its
-- other values, or those of another unique key, is taken for it, unless the last image of the key says that a later run
-- deleted the row. datafix_moved_N holds the keys then and now.
CREATE OR REPLACE FUNCTION pg_temp.datafix_mark_moved(fix jsonb)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET timezone = 'UTC'
SET extra_float_digits = 1 SET bytea_output = 'hex' SET lc_monetary = 'C' SET array_nulls = on SET xmloption = 'content'
AS $engine$
DECLARE
    others jsonb := (SELECT jsonb_agg(c)
                       FROM jsonb_array_elements(fix -> 'compared') AS c
                      WHERE NOT (c -> 'generated')::boolean AND NOT fix -> 'key' ? (c ->> 'name'));
    same   record;
    missed boolean;
BEGIN
    EXECUTE pg_temp.datafix_sql(fix, 'SELECT EXISTS (SELECT FROM pg_temp.datafix_restore_{{n}} AS r '
                                     'WHERE NOT r.datafix_present AND NOT r.datafix_deleted)') INTO missed;
    IF NOT missed THEN
        RETURN;
    END IF;
    PERFORM pg_temp.datafix_make(pg_temp.datafix_sql(fix, format($sql$
        CREATE TEMP TABLE datafix_moved_{{n}} ON COMMIT DROP AS
        SELECT {{t.key}}, ''::text AS datafix_text FROM %s AS t WITH NO DATA
    $sql$, fix ->> 'target')));
    FOR same IN
        SELECT others AS columns, 1 AS least WHERE others IS NOT NULL
        UNION
        SELECT jsonb_agg(c ORDER BY (c -> 'position')::int), i.indnkeyatts
          FROM pg_index AS i JOIN jsonb_array_elements(others) AS c ON (c -> 'position')::int = ANY (i.indkey::int[])
         WHERE i.indrelid = (fix ->> 'target_oid')::oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
         GROUP BY i.indexrelid, i.indnkeyatts, i.indnatts
        HAVING count(*) = i.indnatts
    LOOP
        EXECUTE pg_temp.datafix_sql(fix, format($sql$
            INSERT INTO pg_temp.datafix_moved_{{n}}
            SELECT {{was.key}}, {{t.shown}}
              FROM (SELECT {{p.key}}, ROW(%1$s)::text AS datafix_text
                      FROM pg_temp.datafix_restore_{{n}} AS r
                      JOIN pg_temp.datafix_pair_{{n}} AS p ON {{p.key = r.key}}
                      JOIN %4$s AS a ON a.audit_id = p.datafix_after AND a.audit_run_id = %6$s
                      LEFT JOIN %4$s AS b ON b.audit_id = p.datafix_before AND b.audit_run_id = %6$s
                     WHERE NOT r.datafix_present AND num_nonnulls(%1$s) >= %2$s AND NOT EXISTS (
                           SELECT FROM %4$s AS i
                            WHERE {{i.key = p.key}} AND i.audit_run_id > a.audit_run_id AND i.audit_image = 'before'
                              AND NOT EXISTS (SELECT FROM %4$s AS newer
                                               WHERE {{newer.key = p.key}}
                                                 AND (newer.audit_run_id > i.audit_run_id
                                                      OR newer.audit_run_id = i.audit_run_id
                                                         AND newer.audit_image = 'after')))) AS was
              JOIN %5$s AS t ON ROW(%3$s)::text = was.datafix_text
             WHERE NOT EXISTS (SELECT FROM pg_temp.datafix_restore_{{n}} AS own WHERE {{own.key = t.key}})
        $sql$, pg_temp.datafix_as_left(fix, same.columns), same.least,
            pg_temp.datafix_each(same.columns, 't.%1$I%3$s'), fix ->> 'copies', fix ->> 'rows',
            fix ->> 'from_run'));
    END LOOP;
    EXECUTE pg_temp.datafix_sql(fix, $sql$
        UPDATE pg_temp.datafix_restore_{{n}} AS r SET datafix_state = 'moved', datafix_action = NULL
          FROM pg_temp.datafix_moved_{{n}} AS was WHERE {{r.key = was.key}}
    $sql$);
END
$engine$;

-- Any conflict refuses the whole revert, unless the author or the operator chose by name: skip leaves such rows
-- alone, overwrite restores rows that changed since. Nothing overwrites a row that is gone, moved, taken or referred
-- to.
CREATE OR REPLACE FUNCTION pg_temp.datafix_settle_conflicts(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    policy text := fix ->> 'on_conflict';
    one    jsonb;
    part   record;
    total  bigint[] := '{0,0,0,0}';     -- rows, overwritten, in conflict, already back
    places text;
    which  text;
    by_image boolean := false;
BEGIN
    IF policy = 'overwrite' THEN
        FOR one IN SELECT * FROM pg_temp.datafix_tables(fix) LOOP
            EXECUTE pg_temp.datafix_sql(one, $sql$
                UPDATE pg_temp.datafix_restore_{{n}}
                   SET datafix_state = 'overwritten',
                       datafix_action = CASE WHEN datafix_inserted THEN 'delete' ELSE 'update' END
                 WHERE datafix_state = 'changed since'
            $sql$);
        END LOOP;
    END IF;
    LOOP        -- a row that is left alone keeps values that other rows would need
        PERFORM pg_temp.datafix_mark_referenced(fix);
        EXIT WHEN pg_temp.datafix_mark_taken(fix) = 0;
    END LOOP;
    FOR one IN SELECT * FROM pg_temp.datafix_tables(fix) LOOP
        EXECUTE pg_temp.datafix_sql(one, $sql$
            SELECT count(*) AS rows,
                   count(*) FILTER (WHERE r.datafix_state = 'overwritten') AS forced,
                   count(*) FILTER (WHERE r.datafix_state = ANY ('{changed since,gone,moved,taken,referenced}'))
                   AS standing,
                   count(*) FILTER (WHERE r.datafix_state = 'already back') AS back
              FROM {{counted}} AS r
        $sql$) INTO part;
        part.rows := part.rows + coalesce((one -> 'left_alone')::bigint, 0);
        part.standing := part.standing + coalesce((one -> 'left_alone')::bigint, 0);
        total := ARRAY[total[1] + part.rows, total[2] + part.forced, total[3] + part.standing, total[4] + part.back];
        IF part.standing > 0 THEN
            places := concat_ws(' and ', places, one ->> 'target');
            -- it is unknown which row this was before: the row that would be inserted again may exist already
            by_image := by_image OR one -> 'key' = '[]';
        END IF;
    END LOOP;
    IF total[3] > 0 AND (policy <> 'skip' OR by_image) THEN
        PERFORM pg_temp.datafix_list_conflicts(fix);
        SELECT string_agg(DISTINCT key || ' ' || conflict, ', ') INTO which FROM pg_temp.datafix_conflict;
        PERFORM pg_temp.datafix_refuse_conflicts(fix, total[3], total[1], places, which,
            E'\n' || pg_temp.datafix_conflict_table(total[3]), by_image);
    END IF;
    EXECUTE format('UPDATE %s SET rows_found = $1, rows_overwritten = $2, rows_skipped = $3, rows_already = $4 '
                   'WHERE run_id = $5', fix ->> 'ledger')
      USING total[1], total[2], total[3], total[4], (fix -> 'run')::bigint;
END
$engine$;

-- Refuses a revert because of rows in conflict: how many, of how many, of which tables, and which.
CREATE OR REPLACE FUNCTION pg_temp.datafix_refuse_conflicts(fix jsonb, standing bigint, rows bigint, places text,
    which text, detail text DEFAULT NULL, by_image boolean DEFAULT false)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    kept text := CASE WHEN fix ? 'taken' AND fix ? 'in_batches'
                      THEN format('What run %s took back stays.', fix ->> 'part_of') ELSE 'Nothing was changed.' END;
BEGIN
    PERFORM pg_temp.datafix_refuse_fix(fix, 'DF009',
        format('%s of %s rows of %s cannot be restored: %s', standing, rows, places, left(which, 300)),
        detail => detail,
        hint => kept || CASE WHEN by_image
            THEN ' Rows without a key cannot be skipped: it is unknown which row they were before. Set them to what '
                 'the fix left, and revert again.'
            ELSE format(' Look at these rows. Then set their values back by hand, or choose: '
                        'alembic -x on_conflict=%1$s:skip %2$s ... leaves them alone%3$s',
                        fix ->> 'fix', CASE WHEN fix ? 'takes_back' THEN 'upgrade' ELSE 'downgrade' END,
                        CASE WHEN strpos(which, 'changed since') > 0
                             THEN format(', -x on_conflict=%s:overwrite restores them anyway', fix ->> 'fix')
                             ELSE '' END) END);
END
$engine$;

-- Rows that refer to rows which the revert would delete, or to values that it would change and the reference would
-- follow; unless the revert deletes those rows too, or makes them refer to something else.
CREATE OR REPLACE FUNCTION pg_temp.datafix_mark_referenced(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    pair      record;
    one       jsonb;
    reference pg_constraint;
    marked    bigint;
    found_now bigint;
BEGIN
    IF pg_temp.datafix_table(fix, 1) ? 'citus' THEN
        PERFORM pg_temp.datafix_check_followers(pg_temp.datafix_table(fix, 1));
        RETURN;
    END IF;
    LOOP        -- until no more are found: a row that stays may refer to another one
        marked := 0;
        FOR pair IN
            SELECT t AS one, c AS reference
              FROM pg_temp.datafix_tables(fix) AS t
             CROSS JOIN LATERAL pg_temp.datafix_references((t ->> 'target_oid')::oid) AS c
             -- a row without a key is deleted and inserted again: a reference without an action does not notice
             WHERE t -> 'key' <> '[]' OR c.confdeltype <> 'a'
        LOOP
            one := pair.one;
            reference := pair.reference;
            EXECUTE pg_temp.datafix_sql(one, format($sql$
                UPDATE pg_temp.datafix_restore_{{n}} AS r SET datafix_state = 'referenced', datafix_action = NULL
                 WHERE (r.datafix_action = 'delete' %1$s) AND EXISTS (
                       SELECT FROM %2$s AS child JOIN %3$s AS t ON %4$s
                        WHERE %8$s
                          AND (r.datafix_action <> 'update' OR record_image_ne(ROW(%5$s), ROW(%6$s))) %7$s %9$s)
            $sql$,
                CASE WHEN reference.confupdtype IN ('c', 'n', 'd') AND EXISTS (
                          SELECT FROM pg_attribute AS a
                           WHERE a.attrelid = reference.confrelid AND a.attnum = ANY (reference.confkey)
                             AND one -> 'written' @> jsonb_build_array(jsonb_build_object('name', a.attname)))
                     THEN 'OR r.datafix_action = ''update''' ELSE '' END
                -- these notice when a row is deleted and inserted again
                || CASE WHEN reference.confdeltype IN ('c', 'n', 'd', 'r')
                        THEN 'OR r.datafix_action = ''replace''' ELSE '' END,
                reference.conrelid::regclass, one ->> 'target', pg_temp.datafix_reference(reference),
                pg_temp.datafix_referred_columns(reference, one, 'r'),
                pg_temp.datafix_referred_columns(reference, one, 't'),
                coalesce((SELECT pg_temp.datafix_let_go(child, reference)
                            FROM pg_temp.datafix_tables(fix) AS child
                           WHERE (child ->> 'target_oid')::oid = reference.conrelid), ''),
                CASE WHEN one -> 'key' <> '[]' THEN '{{r.key = t.key}}'
                     ELSE 'r.datafix_leaf = t.tableoid AND r.datafix_place = t.ctid' END,
                -- another row that is restored has the value that they refer to
                CASE WHEN reference.confdeltype = 'a'
                          AND pg_temp.datafix_referred_columns(reference, one, 'r') <> 'NULL'
                     THEN format('AND NOT EXISTS (SELECT FROM pg_temp.datafix_restore_{{n}} AS heir '
                                 'WHERE heir.datafix_action IN (''insert'', ''update'', ''replace'') AND %s)',
                                 pg_temp.datafix_reference(reference, 'child', 'heir')) ELSE '' END));
            GET DIAGNOSTICS found_now = ROW_COUNT;
            marked := marked + found_now;
        END LOOP;
        EXIT WHEN marked = 0;
    END LOOP;
END
$engine$;

-- The condition that "child", a row of one of the fix's own tables, still refers to "t" after the revert.
CREATE OR REPLACE FUNCTION pg_temp.datafix_let_go(fix jsonb, reference pg_constraint)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT pg_temp.datafix_sql(fix, format($sql$
        AND NOT EXISTS (SELECT FROM pg_temp.datafix_restore_{{n}} AS own
                         WHERE %s AND (own.datafix_action = 'delete'%s))
        $sql$,
        CASE WHEN fix -> 'key' <> '[]' THEN '{{own.key = child.key}}'
             ELSE 'own.datafix_leaf = child.tableoid AND own.datafix_place = child.ctid' END,
        CASE WHEN (SELECT bool_and(fix -> 'staged' @> jsonb_build_array(jsonb_build_object('name', a.attname)))
                     FROM pg_attribute AS a
                    WHERE a.attrelid = reference.conrelid AND a.attnum = ANY (reference.conkey))
             THEN format(' OR own.datafix_action = ANY (''{update,replace}'') AND (%s) IS NOT TRUE',
                         pg_temp.datafix_reference(reference, 'own')) ELSE '' END))
$engine$;

-- The columns that a reference points at, qualified, as far as they are kept; generated ones cannot be written.
CREATE OR REPLACE FUNCTION pg_temp.datafix_referred_columns(reference pg_constraint, fix jsonb, qualifier text)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT coalesce(string_agg(format('%s.%I', qualifier, a.attname), ', ' ORDER BY a.attnum), 'NULL')
      FROM pg_attribute AS a
     WHERE a.attrelid = reference.confrelid AND a.attnum = ANY (reference.confkey) AND a.attgenerated = ''
       AND fix -> 'staged' @> jsonb_build_array(jsonb_build_object('name', a.attname))
$engine$;

-- What must be unique in a table. For each such index: the condition that its entries "n" and "t" are the same, the
-- expressions of an entry, and which rows have one. PostgreSQL itself checks those that read columns that are not
-- kept.
CREATE OR REPLACE FUNCTION pg_temp.datafix_unique_entries(fix jsonb)
RETURNS TABLE (at_once boolean, entry text, condition text, same text)
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT i.indimmediate,
           string_agg(format('(%s)%s%s AS datafix_entry_%s',
                             coalesce(generated.expression, pg_get_indexdef(i.indexrelid, k, false)),
                             pg_temp.datafix_to_base(e.atttypid),
                             pg_temp.datafix_collate(i.indcollation[k - 1], h.attcollation), k), ', ' ORDER BY k),
           coalesce(pg_get_expr(i.indpred, i.indrelid), 'true'),
           string_agg(format(CASE WHEN (to_jsonb(i) -> 'indnullsnotdistinct')::boolean
                                  THEN '(n.%1$I OPERATOR(%2$I.%3$s) t.%1$I OR n.%1$I IS NULL AND t.%1$I IS NULL)'
                                  ELSE 'n.%1$I OPERATOR(%2$I.%3$s) t.%1$I' END,
                             'datafix_entry_' || k, ns.nspname, o.oprname), ' AND ' ORDER BY k)
      FROM pg_index AS i CROSS JOIN LATERAL generate_series(1, i.indnkeyatts) AS k
      LEFT JOIN pg_constraint AS x ON x.conindid = i.indexrelid AND x.conrelid = i.indrelid AND x.conexclop IS NOT NULL
      JOIN pg_attribute AS e ON e.attrelid = i.indexrelid AND e.attnum = k
      LEFT JOIN pg_attribute AS h ON h.attrelid = i.indrelid AND h.attnum = i.indkey[k - 1]
      LEFT JOIN LATERAL (     -- what is generated is not kept: it is generated here as there
           SELECT pg_get_expr(d.adbin, d.adrelid) AS expression
             FROM pg_attribute AS a JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
            WHERE a.attrelid = i.indrelid AND a.attnum = i.indkey[k - 1] AND a.attgenerated <> '') AS generated ON true
      JOIN pg_opclass AS opc ON opc.oid = i.indclass[k - 1]
      LEFT JOIN pg_amop AS amop ON x.oid IS NULL AND amop.amopfamily = opc.opcfamily AND amop.amopstrategy = 3
                               AND amop.amoplefttype = opc.opcintype AND amop.amoprighttype = opc.opcintype
      JOIN pg_operator AS o ON o.oid = coalesce(x.conexclop[k], amop.amopopr)
      JOIN pg_namespace AS ns ON ns.oid = o.oprnamespace
      CROSS JOIN LATERAL (
           SELECT array_agg(a.attname::text) AS names
             FROM pg_attribute AS a
            WHERE a.attrelid = i.indrelid AND a.attnum > 0
              AND NOT (a.attgenerated <> '' AND a.attnum = ANY (i.indkey))
              AND (a.attnum = ANY (i.indkey)
                   OR a.attnum IN (SELECT d.refobjsubid
                                     FROM pg_depend AS d
                                    WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
                                      AND d.refobjid = i.indrelid))) AS reads
     WHERE i.indrelid = (fix ->> 'target_oid')::oid AND (i.indisunique OR x.oid IS NOT NULL) AND i.indisvalid
       AND NOT coalesce(to_jsonb(reads.names), '[null]') <@ (fix -> 'key')
       AND coalesce(to_jsonb(reads.names), '[]') <@ (SELECT jsonb_agg(c -> 'name')
                                                       FROM jsonb_array_elements(fix -> 'staged') AS c)
     GROUP BY i.indexrelid, i.indrelid, i.indimmediate, i.indpred
$engine$;

-- Rows of the target that hold now what is unique in a row to be restored, and will still hold it afterwards. Where
-- the row that holds it is restored itself and gives it up, the restored row is deleted and inserted again, because
-- unique values are checked row by row. Returns how many rows were marked.
CREATE OR REPLACE FUNCTION pg_temp.datafix_mark_taken(fix jsonb)
RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    one    jsonb;
    u      record;
    marked bigint := 0;
    more   bigint;
    held   text;
BEGIN
    FOR one IN SELECT * FROM pg_temp.datafix_tables(fix) LOOP
        CONTINUE WHEN one -> 'key' = '[]' OR one ? 'citus';     -- Citus refuses a value that is taken
        FOR u IN SELECT * FROM pg_temp.datafix_unique_entries(one) LOOP
            -- entries as they are (t), and as the restored rows will have them (n)
            held := format($sql$
                UPDATE pg_temp.datafix_restore_{{n}} AS r SET %%s
                  FROM (SELECT {{r.key}}, r.datafix_action, %1$s
                          FROM pg_temp.datafix_restore_{{n}} AS r
                         WHERE r.datafix_action IS NOT NULL AND (%2$s)) AS n
                 WHERE {{n.key = r.key}} AND r.datafix_action = ANY (%%L) AND EXISTS (
                       SELECT FROM (SELECT {{t.key}}, %1$s FROM %3$s AS t WHERE %2$s) AS t
                         LEFT JOIN pg_temp.datafix_restore_{{n}} AS other
                                ON {{other.key = t.key}} AND other.datafix_action IS NOT NULL
                        WHERE %4$s AND NOT ({{t.key = n.key}}) AND %%s)
            $sql$, replace(u.entry, '%', '%%'), replace(u.condition, '%', '%%'), replace(one ->> 'target', '%', '%%'),
                replace(u.same, '%', '%%'));
            EXECUTE pg_temp.datafix_sql(one, format(held,
                'datafix_state = ''taken'', datafix_action = NULL', '{insert,update,replace}', format($sql$
                    (other.datafix_action IS NULL OR other.datafix_action IN ('update', 'replace') AND EXISTS (
                         SELECT FROM (SELECT {{s.key}}, %s
                                        FROM pg_temp.datafix_restore_{{n}} AS s
                                       WHERE s.datafix_action IS NOT NULL AND (%s)) AS t
                          WHERE {{t.key = other.key}} AND %s))
                $sql$, u.entry, u.condition, u.same)));
            GET DIAGNOSTICS more = ROW_COUNT;
            marked := marked + more;
            IF u.at_once THEN
                EXECUTE pg_temp.datafix_sql(one, format(held, 'datafix_action = ''replace''', '{update}',
                    'other.datafix_action IN (''update'', ''replace'')'));
                GET DIAGNOSTICS more = ROW_COUNT;
                marked := marked + more;
            END IF;
        END LOOP;
    END LOOP;
    RETURN marked;
END
$engine$;

-- Puts the first twenty rows of each table in conflict into pg_temp.datafix_conflict, a line for each column: then
-- and now, and which fix came later.
CREATE OR REPLACE FUNCTION pg_temp.datafix_list_conflicts(fix jsonb)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET timezone = 'UTC'
SET extra_float_digits = 1 SET bytea_output = 'hex' SET lc_monetary = 'C' AS $engine$
DECLARE
    one      jsonb;
    compared jsonb;
    later    text;
    place    text;
BEGIN
    PERFORM pg_temp.datafix_make('CREATE TEMP TABLE datafix_conflict (key text, conflict text, "column" text, '
                                 'before text, "left" text, now text, later text) ON COMMIT DROP');
    FOR one IN SELECT * FROM pg_temp.datafix_tables(fix) LOOP
        place := CASE WHEN jsonb_array_length(fix -> 'tables') > 1 THEN format('%L || ', (one ->> 'target') || ' ')
                      ELSE '' END;
        IF one -> 'key' = '[]' THEN
            EXECUTE pg_temp.datafix_sql(one, format($sql$
                INSERT INTO pg_temp.datafix_conflict (key, conflict)
                SELECT %s left(ROW(%s)::text, 60), r.datafix_state
                  FROM pg_temp.datafix_restore_{{n}} AS r
                 WHERE r.datafix_state = 'gone'
                 LIMIT 20
            $sql$, place, pg_temp.datafix_each_shown(one, one -> 'writable', 'r.%1$I', '''(masked)''::text')));
            CONTINUE;
        END IF;
        -- where all rows were free, their images were not paired
        CONTINUE WHEN to_regclass(format('pg_temp.datafix_pair_%s', one ->> 'n')) IS NULL;
        IF to_regclass(format('pg_temp.datafix_moved_%s', one ->> 'n')) IS NOT NULL THEN
            EXECUTE pg_temp.datafix_sql(one, format($sql$
                INSERT INTO pg_temp.datafix_conflict (key, conflict, "column", before, "left", now)
                SELECT %s {{was.shown}}, 'moved', %L, CASE WHEN NOT r.datafix_inserted THEN {{was.shown}} END,
                       {{was.shown}}, string_agg(DISTINCT was.datafix_text, ', ')
                  FROM pg_temp.datafix_moved_{{n}} AS was
                  JOIN pg_temp.datafix_restore_{{n}} AS r ON {{r.key = was.key}}
                 GROUP BY {{was.key}}, r.datafix_inserted
                 LIMIT 20
            $sql$, place, (SELECT string_agg(k, '/') FROM jsonb_array_elements_text(one -> 'key') AS k)));
        END IF;
        compared := CASE WHEN one -> 'written' = '[]' THEN one -> 'compared' ELSE one -> 'written' END;
        -- a later fix did it only if it is still in force, and left the very value that is there now
        later := replace(format($later$
            (SELECT string_agg(DISTINCT run.fix || ' (run ' || run.run_id || ')', ', ')
               FROM %1$s AS i JOIN %2$s AS run ON run.run_id = i.audit_run_id
               LEFT JOIN %4$s AS noted ON noted.run_id = run.run_id AND noted.written_columns <> '{}'
              WHERE i.audit_run_id > %3$s AND i.audit_image = 'after' AND {{i.key = r.key}} AND run.outcome = 'applied'
                AND NOT EXISTS (SELECT FROM %2$s AS undone
                                 WHERE undone.reverts_run = run.run_id AND undone.outcome = 'reverted')
            $later$, one ->> 'copies', one ->> 'ledger', one ->> 'from_run', one ->> 'ledger_tables'),
            '%', '%%') || $later$
                AND coalesce(%1$L = ANY (noted.written_columns), true)      -- its image holds this column
                AND NOT record_image_ne(ROW(i.%1$I), ROW(t.%1$I%3$s))),
            r.datafix_state = 'changed since' AND record_image_ne(ROW(t.%1$I%3$s), ROW(a.%1$I))
                AND (b.audit_id IS NULL
                     OR record_image_ne(ROW(b.%1$I), ROW(a.%1$I)) AND record_image_ne(ROW(t.%1$I%3$s), ROW(b.%1$I))))
            $later$;
        EXECUTE pg_temp.datafix_sql(one, format($sql$
            INSERT INTO pg_temp.datafix_conflict
            SELECT %4$s {{r.shown}}, r.datafix_state, c.name, c.before, c.after, c.now, c.later
              FROM (SELECT *
                      FROM pg_temp.datafix_restore_{{n}} AS r
                     WHERE r.datafix_state IN ('changed since', 'gone', 'taken', 'referenced')
                     ORDER BY {{r.key}}
                     LIMIT 20) AS r
              JOIN pg_temp.datafix_pair_{{n}} AS p ON {{p.key = r.key}}
              LEFT JOIN %2$s AS t ON {{r.key = t.key}}
              %1$s
              LEFT JOIN LATERAL (VALUES %3$s) AS c (name, before, after, now, later, differs) ON c.differs
             ORDER BY {{r.key}}
        $sql$, pg_temp.datafix_images_of_pair(one), one ->> 'target',
            pg_temp.datafix_each_shown(one, compared, '(%1$L, b.%1$I::text, a.%1$I::text, t.%1$I::text, ' || later,
                '(%1$L, ''(masked)'', ''(masked)'', ''(masked)'', ' || later), place));
    END LOOP;
END
$engine$;

-- A value in that table: on one line, and cut where it is long.
CREATE OR REPLACE FUNCTION pg_temp.datafix_cell(value text)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT regexp_replace(replace(left(coalesce(value, 'NULL'), 40), chr(10), chr(92) || 'n'), '[[:cntrl:]]', '?', 'g')
$engine$;

-- The conflicts as a table for people.
CREATE OR REPLACE FUNCTION pg_temp.datafix_conflict_table(standing bigint)
RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    shown text;
BEGIN
    WITH line AS (
        SELECT 0 AS n, 'key' AS key, 'conflict' AS conflict, 'column' AS col, 'before' AS was,
               'left by the fix' AS fixed, 'now' AS now, '' AS later
        UNION ALL
        (SELECT row_number() OVER (), regexp_replace(c.key, '[[:cntrl:]]', '?', 'g'), c.conflict,
                coalesce(c."column", ''),
                CASE WHEN c."column" IS NULL THEN '' ELSE pg_temp.datafix_cell(c.before) END,
                CASE WHEN c."column" IS NULL THEN '' ELSE pg_temp.datafix_cell(c."left") END,
                CASE WHEN c."column" IS NULL THEN '' ELSE pg_temp.datafix_cell(c.now) END,
                coalesce('by ' || c.later, '')
           FROM pg_temp.datafix_conflict AS c LIMIT 60)
    ), width AS (
        SELECT max(length(key)) AS key, max(length(conflict)) AS conflict, max(length(col)) AS col,
               max(length(was)) AS was, max(length(fixed)) AS fixed, max(length(now)) AS now FROM line
    )
    SELECT string_agg(rtrim(concat_ws('  ', rpad(l.key, w.key), rpad(l.conflict, w.conflict), rpad(l.col, w.col),
                                      rpad(l.was, w.was), rpad(l.fixed, w.fixed), rpad(l.now, w.now), l.later)),
                      E'\n' ORDER BY l.n)
      INTO shown FROM line AS l CROSS JOIN width AS w;
    RETURN shown || CASE WHEN standing > 20 THEN format(E'\n... and %s more rows', standing - 20) ELSE '' END;
END
$engine$;
