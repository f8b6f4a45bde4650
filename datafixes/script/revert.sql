-- What a revert needs besides. It works from the images alone, whatever kind of change made them:
--   a before- and an after-image   the fix changed the row: what it wrote goes back
--   a before-image only            the fix deleted the row: it is inserted again
--   an after-image only            the fix inserted the row: it is deleted
-- pg_temp.datafix_restore holds one line for each of these rows: its key, the values to restore, its state, the action.

-- Opens the run that takes back the last run of this fix. NULL where that run changed nothing.
CREATE OR REPLACE FUNCTION pg_temp.datafix_open_revert(declared jsonb, version_table regclass)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    fix  jsonb := pg_temp.datafix_begin(declared || '{"direction": "revert"}', version_table);
    last jsonb := pg_temp.datafix_last_run(fix);
BEGIN
    IF last IS NULL OR last ->> 'direction' = 'revert' THEN
        PERFORM pg_temp.datafix_refuse('DF010', format('datafix %s: there is nothing to revert: %s', fix ->> 'fix',
            coalesce('run ' || (last ->> 'run_id') || ' reverted it at ' || (last ->> 'finished_at'), 'the ledger has no run of it')), NULL,
            format('Look: SELECT * FROM %s ORDER BY run_id; if alembic_version was set by hand, set it back with alembic stamp.', fix ->> 'ledger'));
    END IF;
    fix := pg_temp.datafix_open_run(fix || jsonb_build_object('reverts_run', last -> 'run_id'));
    IF last ->> 'outcome' <> 'applied' THEN
        PERFORM pg_temp.datafix_close(fix, 'not_applicable');
        RETURN NULL;
    END IF;
    IF last ->> 'fingerprint' <> fix ->> 'fingerprint' THEN
        PERFORM pg_temp.datafix_refuse('DF003', format('datafix %s: the revision was edited after it ran: run %s has the fingerprint %s, this file %s',
            fix ->> 'fix', last ->> 'run_id', left(last ->> 'fingerprint', 12), left(fix ->> 'fingerprint', 12)), NULL,
            'Nothing was changed. Revert with the file that was applied.');
    END IF;
    PERFORM pg_temp.datafix_check_shape(fix, last);
    PERFORM pg_temp.datafix_check_images(fix, last);
    fix := fix || jsonb_build_object('from_run', last -> 'run_id', 'images', last -> 'shape' -> 'columns');
    PERFORM pg_temp.datafix_pair_images(fix);
    RETURN pg_temp.datafix_written(fix, last);
END
$engine$;

-- The table is still the one that the fix changed: every column that was copied is there, in its type.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_shape(fix jsonb, last jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    problems text;
BEGIN
    SELECT string_agg(CASE
               WHEN renamed ->> 'name' IS NOT NULL THEN format('%I is called %I now', was ->> 'name', renamed ->> 'name')
               WHEN has IS NULL THEN format('%I is gone', was ->> 'name')
               WHEN has ->> 'made_of' IS DISTINCT FROM was ->> 'made_of' THEN format('the type %s of %I was %s and is %s', was ->> 'type', was ->> 'name', was ->> 'made_of', has ->> 'made_of')
               WHEN has -> 'position' <> was -> 'position' THEN format('%I is another column than it was', was ->> 'name')
               ELSE format('%I was %s and is %s', was ->> 'name', was ->> 'type', has ->> 'type') END, '; ' ORDER BY (was -> 'position')::int)
      INTO problems
      FROM jsonb_array_elements(last -> 'shape' -> 'columns') AS was
      LEFT JOIN jsonb_array_elements(fix -> 'columns') AS has ON has ->> 'name' = was ->> 'name'
      LEFT JOIN jsonb_array_elements(fix -> 'columns') AS renamed ON has IS NULL AND renamed -> 'position' = was -> 'position'
     WHERE has ->> 'type' IS DISTINCT FROM was ->> 'type' OR has -> 'generated' IS DISTINCT FROM was -> 'generated'
        OR has ->> 'made_of' IS DISTINCT FROM was ->> 'made_of'
        -- columns are numbered anew where the database was restored from a dump
        OR last -> 'shape' -> 'target' = fix -> 'target_oid' AND has -> 'position' <> was -> 'position';
    -- A table that was dropped and made again has another oid; so has everything in a database that was restored from
    -- a dump, the ledger included.
    IF problems IS NULL AND last -> 'shape' -> 'target' <> fix -> 'target_oid'
       AND last -> 'shape' -> 'ledger' = to_jsonb((fix ->> 'ledger')::regclass::oid::bigint) THEN
        problems := 'the table was dropped and made again';
    END IF;
    IF problems IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse('DF012', format('datafix %s: %s has another shape than when the fix ran: %s', fix ->> 'fix', fix ->> 'target', problems),
            NULL, 'Nothing was changed. Downgrade the migration that changed the table first.');
    END IF;
END
$engine$;

-- The images are the ones that the run wrote.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_images(fix jsonb, last jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    kept record;
BEGIN
    SELECT * INTO kept FROM pg_temp.datafix_digest(fix ->> 'audit', last -> 'shape' -> 'columns', (last -> 'run_id')::bigint);
    IF kept.images <> (last -> 'images')::bigint OR kept.digest IS DISTINCT FROM (last -> 'images_digest')::numeric THEN
        PERFORM pg_temp.datafix_refuse('DF011', format('datafix %s: the images of run %s in %s are not the ones it wrote: %s images, digest %s; the ledger says %s, %s',
            fix ->> 'fix', last ->> 'run_id', fix ->> 'audit', kept.images, coalesce(kept.digest::text, '-'), last ->> 'images', last ->> 'images_digest'), NULL,
            'Nothing was changed. Somebody wrote to the audit table: find out what, before anything is restored from it.');
    END IF;
END
$engine$;

-- Which image is of which row: one line for each row of the run that is taken back, by key, with the numbers of its
-- images. Everything else joins on these numbers, and the planner knows how many they are.
CREATE OR REPLACE FUNCTION pg_temp.datafix_pair_images(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    EXECUTE pg_temp.datafix_sql(fix, format(
        'CREATE TEMP TABLE datafix_pair ON COMMIT DROP AS SELECT {{t.key}}, NULL::bigint AS datafix_before, NULL::bigint AS datafix_after FROM %s AS t WITH NO DATA',
        fix ->> 'target'));
    EXECUTE format($sql$
        INSERT INTO pg_temp.datafix_pair
        SELECT %1$s, max(i.audit_id) FILTER (WHERE i.audit_image = 'before'), max(i.audit_id) FILTER (WHERE i.audit_image = 'after')
          FROM %2$s AS i WHERE i.audit_run_id = %3$s GROUP BY %1$s
    $sql$, pg_temp.datafix_typed_key(fix, 'i'), fix ->> 'audit', fix ->> 'from_run');
    ANALYZE pg_temp.datafix_pair;
END
$engine$;

-- The columns that the fix wrote: the ones it set, or, where triggers had a hand in it, all that differ in any row.
CREATE OR REPLACE FUNCTION pg_temp.datafix_written(fix jsonb, last jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    written jsonb := last -> 'written_columns';
BEGIN
    IF jsonb_typeof(written) <> 'array' THEN
        EXECUTE pg_temp.datafix_sql(fix, format($sql$
            SELECT coalesce(jsonb_agg(name), '[]') FROM (
                SELECT unnest(ARRAY[%s]) AS name, unnest(ARRAY[%s]) AS differs
                  FROM pg_temp.datafix_pair AS p JOIN %s AS b ON b.audit_id = p.datafix_before JOIN %s AS a ON a.audit_id = p.datafix_after) AS _ WHERE differs
        $sql$, (SELECT string_agg(quote_literal(c ->> 'name'), ', ') FROM jsonb_array_elements(fix -> 'images') AS c WHERE NOT (c -> 'generated')::boolean),
            (SELECT string_agg(format('bool_or(record_image_ne(ROW(b.%1$I), ROW(a.%1$I)))', c ->> 'name'), ', ')
               FROM jsonb_array_elements(fix -> 'images') AS c WHERE NOT (c -> 'generated')::boolean),
            fix ->> 'audit', fix ->> 'audit')) INTO written;
    END IF;
    RETURN fix || jsonb_build_object('written', written);
END
$engine$;

-- A list over columns: the pattern is filled in with the column's name, its type and how it is cast to the kept type.
CREATE OR REPLACE FUNCTION pg_temp.datafix_each(columns jsonb, pattern text, separator text DEFAULT ', ')
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT string_agg(format(pattern, c ->> 'name', c ->> 'type', CASE WHEN c ->> 'type' = c ->> 'kept' THEN '' ELSE '::' || (c ->> 'kept') END,
                             CASE WHEN c ->> 'type' = c ->> 'kept' THEN '' ELSE '::' || (c ->> 'type') END), separator
                      ORDER BY (c -> 'position')::int)
      FROM jsonb_array_elements(columns) AS c
$engine$;

-- Locks the rows as they are now and compares every column three ways: as the fix found it (b), as the fix left it (a),
-- as it is (t). Columns that the fix did not write keep what others wrote since.
CREATE OR REPLACE FUNCTION pg_temp.datafix_compare(fix jsonb)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET timezone = 'UTC' SET extra_float_digits = 1
SET bytea_output = 'hex' SET lc_monetary = 'C' SET array_nulls = on SET xmloption = 'content' AS $engine$
DECLARE
    images   jsonb := fix -> 'images';
    writable jsonb := (SELECT jsonb_agg(c) FROM jsonb_array_elements(images) AS c WHERE NOT (c -> 'generated')::boolean);
    written  jsonb := (SELECT jsonb_agg(c) FROM jsonb_array_elements(writable) AS c WHERE fix -> 'written' ? (c ->> 'name'));
    staged   jsonb := pg_temp.datafix_columns_to_stage(fix, writable);
    names    text  := pg_temp.datafix_each(staged, '%1$I');
    now_row  text  := 'ROW(' || pg_temp.datafix_each(images, 't.%1$I%3$s') || ')';
    b_row    text  := 'ROW(' || pg_temp.datafix_each(images, 'b.%1$I') || ')';
    a_row    text  := 'ROW(' || pg_temp.datafix_each(images, 'a.%1$I') || ')';
    to_undo  text  := 'record_image_ne(ROW(b.%1$I), ROW(a.%1$I)) AND record_image_ne(ROW(t.%1$I%3$s), ROW(b.%1$I))';
    pairs    text  := format('LEFT JOIN %1$s AS b ON b.audit_id = p.datafix_before LEFT JOIN %1$s AS a ON a.audit_id = p.datafix_after', fix ->> 'audit');
BEGIN
    EXECUTE format('CREATE TEMP TABLE datafix_restore ON COMMIT DROP AS SELECT %s, NULL::text AS datafix_state, NULL::text AS datafix_action FROM %s AS t WITH NO DATA',
        pg_temp.datafix_each(staged, 't.%1$I'), fix ->> 'target');
    -- rows that are there
    EXECUTE pg_temp.datafix_sql(fix, format($sql$
        INSERT INTO pg_temp.datafix_restore (%s, datafix_state)
        SELECT %s,
               CASE WHEN p.datafix_before IS NULL THEN CASE WHEN record_image_ne(%s, %s) THEN 'changed since' ELSE 'inserted' END
                    WHEN p.datafix_after IS NULL THEN CASE WHEN record_image_ne(%s, %s) THEN 'taken' ELSE 'already back' END
                    WHEN NOT (%s) THEN 'already back'
                    WHEN NOT record_image_ne(%s, %s) THEN 'unchanged'
                    WHEN %s THEN 'changed since'
                    ELSE 'drifted' END
          FROM pg_temp.datafix_pair AS p JOIN %s AS t ON {{p.key = t.key}} %s
         ORDER BY {{t.key}} FOR %s OF t
    $sql$, names,
        (SELECT string_agg(CASE WHEN NOT fix -> 'written' ? (c ->> 'name') THEN format('t.%I', c ->> 'name')
                    ELSE pg_temp.datafix_each(jsonb_build_array(c), 'CASE WHEN b.audit_id IS NOT NULL AND a.audit_id IS NOT NULL AND record_image_ne(ROW(b.%1$I), ROW(a.%1$I)) THEN b.%1$I%4$s ELSE t.%1$I END') END,
                    ', ' ORDER BY (c -> 'position')::int) FROM jsonb_array_elements(staged) AS c),
        now_row, a_row, now_row, b_row,
        coalesce(pg_temp.datafix_each(written, to_undo, ' OR '), 'false'), now_row, a_row,
        coalesce(pg_temp.datafix_each(written, to_undo || ' AND record_image_ne(ROW(t.%1$I%3$s), ROW(a.%1$I))', ' OR '), 'false'),
        fix ->> 'target', pairs, pg_temp.datafix_lock_to_restore(fix)));
    -- rows that are not: all that are not listed yet, so that none is missed which somebody removes and adds again meanwhile
    EXECUTE pg_temp.datafix_sql(fix, format($sql$
        INSERT INTO pg_temp.datafix_restore (%s, datafix_state)
        SELECT %s,
               CASE WHEN t.tableoid IS NOT NULL THEN 'changed since'
                    WHEN p.datafix_before IS NULL THEN 'already back'
                    WHEN p.datafix_after IS NULL THEN 'deleted'
                    ELSE 'gone' END
          FROM pg_temp.datafix_pair AS p %s LEFT JOIN %s AS t ON {{p.key = t.key}}
         WHERE NOT EXISTS (SELECT FROM pg_temp.datafix_restore AS r WHERE {{p.key = r.key}})
    $sql$, names, pg_temp.datafix_each(staged, 'CASE WHEN b.audit_id IS NULL THEN a.%1$I%4$s ELSE b.%1$I%4$s END'), pairs, fix ->> 'target'));
    UPDATE pg_temp.datafix_restore SET datafix_action = CASE datafix_state
        WHEN 'unchanged' THEN 'update' WHEN 'drifted' THEN 'update' WHEN 'inserted' THEN 'delete' WHEN 'deleted' THEN 'insert' END;
    ANALYZE pg_temp.datafix_restore;
    RETURN fix || jsonb_build_object('writable', writable, 'staged', staged, 'written', coalesce(written, '[]'));
END
$engine$;

-- The columns that the restored rows are compared in afterwards: all of them where a trigger may have a hand in it, or
-- rows are inserted again; else the key, what the fix wrote and what is unique.
CREATE OR REPLACE FUNCTION pg_temp.datafix_columns_to_stage(fix jsonb, writable jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    target oid := (fix ->> 'target_oid')::oid;
BEGIN
    IF EXISTS (SELECT FROM pg_trigger WHERE NOT tgisinternal AND (tgrelid = target OR tgrelid IN (SELECT relid FROM pg_partition_tree(target))))
       OR EXISTS (SELECT FROM pg_temp.datafix_pair AS p WHERE p.datafix_after IS NULL) THEN
        RETURN writable;
    END IF;
    RETURN (SELECT jsonb_agg(c) FROM jsonb_array_elements(writable) AS c
             WHERE fix -> 'key' ? (c ->> 'name') OR fix -> 'written' ? (c ->> 'name')
                -- by name: the images' positions are those of the database in which the fix ran
                OR c ->> 'name' IN (SELECT a.attname FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = target AND a.attnum = ANY (i.indkey)
                                     WHERE i.indrelid = target AND i.indisunique));
END
$engine$;

-- Rows that will be deleted, or whose unique values change, need the stronger lock (C20).
CREATE OR REPLACE FUNCTION pg_temp.datafix_lock_to_restore(fix jsonb)
RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    RETURN CASE WHEN EXISTS (SELECT FROM pg_temp.datafix_pair AS p WHERE p.datafix_before IS NULL)
                  OR EXISTS (SELECT FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
                              WHERE i.indrelid = (fix ->> 'target_oid')::oid AND i.indisunique AND fix -> 'written' ? a.attname::text)
                THEN 'UPDATE' ELSE 'NO KEY UPDATE' END;
END
$engine$;

-- Rows of other tables, or other rows of this one, that refer to rows which the revert would delete, or to values that it
-- would change and the reference would follow.
CREATE OR REPLACE FUNCTION pg_temp.datafix_mark_referenced(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    reference pg_constraint;
    marked    bigint;
    found_now bigint;
BEGIN
    LOOP        -- until no more are found: a row that stays may refer to another one
        marked := 0;
        FOR reference IN
            SELECT c.* FROM pg_constraint AS c WHERE c.contype = 'f' AND c.confrelid = (fix ->> 'target_oid')::oid
               AND (EXISTS (SELECT FROM pg_temp.datafix_restore AS _ WHERE _.datafix_action = 'delete')
                    OR c.confupdtype IN ('c', 'n', 'd') AND EXISTS (
                        SELECT FROM pg_attribute AS a WHERE a.attrelid = c.confrelid AND a.attnum = ANY (c.confkey) AND fix -> 'written' @> jsonb_build_array(jsonb_build_object('name', a.attname))))
               AND NOT EXISTS (SELECT FROM pg_constraint AS parent WHERE parent.oid = c.conparentid AND parent.confrelid = c.confrelid)
        LOOP
            EXECUTE pg_temp.datafix_sql(fix, format($sql$
                UPDATE pg_temp.datafix_restore AS r SET datafix_state = 'referenced', datafix_action = NULL
                 WHERE r.datafix_action IN ('delete', 'update') AND EXISTS (
                       SELECT FROM %1$s AS child JOIN %2$s AS t ON %3$s
                        WHERE {{r.key = t.key}} AND (r.datafix_action = 'delete' OR record_image_ne(ROW(%4$s), ROW(%5$s))) %6$s)
            $sql$, reference.conrelid::regclass, fix ->> 'target', pg_temp.datafix_reference(reference),
                pg_temp.datafix_referred_columns(reference, 'r'), pg_temp.datafix_referred_columns(reference, 't'),
                CASE WHEN reference.conrelid = reference.confrelid
                     THEN 'AND NOT EXISTS (SELECT FROM pg_temp.datafix_restore AS other WHERE other.datafix_action = ''delete'' AND {{other.key = child.key}})' ELSE '' END));
            GET DIAGNOSTICS found_now = ROW_COUNT;
            marked := marked + found_now;
        END LOOP;
        EXIT WHEN marked = 0;
    END LOOP;
END
$engine$;

-- The columns that a reference points at, qualified; generated ones cannot be written.
CREATE OR REPLACE FUNCTION pg_temp.datafix_referred_columns(reference pg_constraint, qualifier text)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT string_agg(format('%s.%I', qualifier, a.attname), ', ' ORDER BY a.attnum)
      FROM pg_attribute AS a WHERE a.attrelid = reference.confrelid AND a.attnum = ANY (reference.confkey) AND a.attgenerated = ''
$engine$;

-- Rows of the target that hold now what is unique in a row to be restored.
CREATE OR REPLACE FUNCTION pg_temp.datafix_mark_taken(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    same text;
BEGIN
    FOR same IN
        SELECT string_agg(format('t.%1$I OPERATOR(%2$I.%3$s) r.%1$I', a.attname, n.nspname, o.oprname), ' AND ')
          FROM pg_index AS i CROSS JOIN generate_series(0, i.indnkeyatts - 1) AS k
          JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k]
          JOIN pg_opclass AS opc ON opc.oid = i.indclass[k]
          JOIN pg_amop AS amop ON amop.amopfamily = opc.opcfamily AND amop.amopstrategy = 3
                              AND amop.amoplefttype = opc.opcintype AND amop.amoprighttype = opc.opcintype
          JOIN pg_operator AS o ON o.oid = amop.amopopr JOIN pg_namespace AS n ON n.oid = o.oprnamespace
         WHERE i.indrelid = (fix ->> 'target_oid')::oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
         GROUP BY i.indexrelid, i.indnkeyatts
        HAVING bool_and(a.attgenerated = '') AND count(*) = i.indnkeyatts AND NOT bool_and(fix -> 'key' ? a.attname::text)
           AND (bool_or(fix -> 'written' @> jsonb_build_array(jsonb_build_object('name', a.attname)))
                OR EXISTS (SELECT FROM pg_temp.datafix_restore AS _ WHERE _.datafix_action = 'insert'))
    LOOP
        -- a row that is restored itself may be about to give the value up: that is for the index to say
        EXECUTE pg_temp.datafix_sql(fix, format($sql$
            UPDATE pg_temp.datafix_restore AS r SET datafix_state = 'taken', datafix_action = NULL
             WHERE r.datafix_action IN ('insert', 'update') AND EXISTS (SELECT FROM %s AS t WHERE %s AND NOT ({{t.key = r.key}})
                   AND NOT EXISTS (SELECT FROM pg_temp.datafix_restore AS other WHERE other.datafix_action IS NOT NULL AND {{other.key = t.key}}))
        $sql$, fix ->> 'target', same));
    END LOOP;
END
$engine$;

-- Puts the first twenty rows in conflict into pg_temp.datafix_conflict, a line for each column: then and now, and which
-- fix came later.
CREATE OR REPLACE FUNCTION pg_temp.datafix_list_conflicts(fix jsonb)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET timezone = 'UTC' SET extra_float_digits = 1
SET bytea_output = 'hex' SET lc_monetary = 'C' AS $engine$
DECLARE
    compared jsonb := CASE WHEN fix -> 'written' = '[]' THEN fix -> 'writable' ELSE fix -> 'written' END;
    -- a later fix did it only if it is still in force, and left the very value that stands there now
    later    text  := replace(format('(SELECT string_agg(DISTINCT run.fix || '' (run '' || run.run_id || '')'', '', '') FROM %1$s AS i JOIN %2$s AS run ON run.run_id = i.audit_run_id '
        'WHERE i.audit_run_id > %3$s AND i.audit_image = ''after'' AND {{i.key = r.key}} AND run.outcome = ''applied'' '
        'AND NOT EXISTS (SELECT FROM %2$s AS undone WHERE undone.reverts_run = run.run_id AND undone.outcome = ''reverted'') ', fix ->> 'audit', fix ->> 'ledger', fix ->> 'from_run'), '%', '%%');
BEGIN
    CREATE TEMP TABLE datafix_conflict (key text, conflict text, "column" text, before text, "left" text, now text, later text) ON COMMIT DROP;
    EXECUTE pg_temp.datafix_sql(fix, format($sql$
        INSERT INTO pg_temp.datafix_conflict
        SELECT concat_ws('/', {{r.key}}), r.datafix_state, c.name, c.before, c.after, c.now, c.later
          FROM (SELECT * FROM pg_temp.datafix_restore AS r WHERE r.datafix_state IN ('changed since', 'gone', 'taken', 'referenced') ORDER BY {{r.key}} LIMIT 20) AS r
          JOIN pg_temp.datafix_pair AS p ON {{p.key = r.key}}
          LEFT JOIN %2$s AS t ON {{r.key = t.key}}
          LEFT JOIN %1$s AS b ON b.audit_id = p.datafix_before
          LEFT JOIN %1$s AS a ON a.audit_id = p.datafix_after
          LEFT JOIN LATERAL (VALUES %3$s) AS c (name, before, after, now, later, differs) ON c.differs
         ORDER BY {{r.key}}
    $sql$, fix ->> 'audit', fix ->> 'target',
        pg_temp.datafix_each(compared, '(%1$L, b.%1$I::text, a.%1$I::text, t.%1$I::text, ' || later || 'AND NOT record_image_ne(ROW(i.%1$I), ROW(t.%1$I%3$s))), r.datafix_state = ''changed since'' AND record_image_ne(ROW(t.%1$I%3$s), ROW(a.%1$I)) '
            'AND (b.audit_id IS NULL OR record_image_ne(ROW(b.%1$I), ROW(a.%1$I)) AND record_image_ne(ROW(t.%1$I%3$s), ROW(b.%1$I))))')));
END
$engine$;

-- The conflicts as a table for people.
CREATE OR REPLACE FUNCTION pg_temp.datafix_conflict_table(standing bigint)
RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    shown text;
BEGIN
    WITH line AS (
        SELECT 0 AS n, 'key' AS key, 'conflict' AS conflict, 'column' AS col, 'before' AS was, 'left by the fix' AS fixed, 'now' AS now, '' AS later
        UNION ALL
        (SELECT row_number() OVER (), c.key, c.conflict, coalesce(c."column", ''),
                CASE WHEN c."column" IS NULL THEN '' ELSE left(coalesce(c.before, 'NULL'), 40) END,
                CASE WHEN c."column" IS NULL THEN '' ELSE left(coalesce(c."left", 'NULL'), 40) END,
                CASE WHEN c."column" IS NULL THEN '' ELSE left(coalesce(c.now, 'NULL'), 40) END, coalesce('by ' || c.later, '')
           FROM pg_temp.datafix_conflict AS c LIMIT 60)
    ), width AS (
        SELECT max(length(key)) AS key, max(length(conflict)) AS conflict, max(length(col)) AS col, max(length(was)) AS was,
               max(length(fixed)) AS fixed, max(length(now)) AS now FROM line
    )
    SELECT string_agg(rtrim(concat_ws('  ', rpad(l.key, w.key), rpad(l.conflict, w.conflict), rpad(l.col, w.col), rpad(l.was, w.was),
                                      rpad(l.fixed, w.fixed), rpad(l.now, w.now), l.later)), E'\n' ORDER BY l.n)
      INTO shown FROM line AS l CROSS JOIN width AS w;
    RETURN shown || CASE WHEN standing > 20 THEN format(E'\n... and %s more rows', standing - 20) ELSE '' END;
END
$engine$;

-- The rows as the fix left them, in the target's own types: what the author's expressions can read.
CREATE OR REPLACE FUNCTION pg_temp.datafix_keep_left(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    EXECUTE format('CREATE TEMP TABLE datafix_left ON COMMIT DROP AS SELECT %s FROM %s AS i WHERE i.audit_run_id = %s AND i.audit_image = ''after''',
        pg_temp.datafix_each(fix -> 'images', 'i.%1$I%4$s AS %1$I'), fix ->> 'audit', fix ->> 'from_run');
END
$engine$;

-- Rows whose identity is not the one that the fix left: somebody else's, under the same key.
CREATE OR REPLACE FUNCTION pg_temp.datafix_mark_others(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    EXECUTE pg_temp.datafix_sql(fix, format($sql$
        UPDATE pg_temp.datafix_restore AS r SET datafix_state = 'taken', datafix_action = NULL
          FROM pg_temp.datafix_then AS was JOIN pg_temp.datafix_now AS has ON {{was.key = has.key}}
         WHERE {{r.key = has.key}} AND r.datafix_state <> 'already back' AND (%s)
    $sql$, (SELECT string_agg(format('was.%1$I IS DISTINCT FROM has.%1$I', i), ' OR ') FROM jsonb_array_elements_text(fix -> 'identity') AS i)));
END
$engine$;

-- Any conflict refuses the whole revert, unless the author or the operator chose by name: skip leaves such rows alone,
-- overwrite restores rows that changed since. Nothing overwrites a row that is gone, taken or referred to.
CREATE OR REPLACE FUNCTION pg_temp.datafix_settle_conflicts(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    policy   text := fix ->> 'on_conflict';
    standing bigint;
    total    bigint := (SELECT count(*) FROM pg_temp.datafix_restore);
    which    text;
    forced   bigint;
BEGIN
    IF policy = 'overwrite' THEN
        -- the columns of datafix_restore are the target's: one of them may be called fix
        UPDATE pg_temp.datafix_restore SET datafix_state = 'overwritten',
               datafix_action = CASE WHEN datafix_settle_conflicts.fix -> 'written' = '[]' THEN 'delete' ELSE 'update' END
         WHERE datafix_state = 'changed since';
    END IF;
    PERFORM pg_temp.datafix_mark_referenced(fix);
    PERFORM pg_temp.datafix_mark_taken(fix);
    SELECT count(*) FILTER (WHERE r.datafix_state = 'overwritten'), count(*) FILTER (WHERE r.datafix_state IN ('changed since', 'gone', 'taken', 'referenced'))
      INTO forced, standing FROM pg_temp.datafix_restore AS r;
    IF standing > 0 AND policy <> 'skip' THEN
        PERFORM pg_temp.datafix_list_conflicts(fix);
        SELECT string_agg(DISTINCT key || ' ' || conflict, ', ') INTO which FROM pg_temp.datafix_conflict;
        PERFORM pg_temp.datafix_refuse('DF009', format('datafix %s: %s of %s rows of %s cannot be given back: %s', fix ->> 'fix', standing, total,
            fix ->> 'target', left(which, 300)), E'\n' || pg_temp.datafix_conflict_table(standing),
            format('Nothing was changed. Look at these rows; then set their values back by hand, or choose by name: alembic -x on_conflict=%1$s:skip downgrade ... '
                   'leaves them alone%2$s', fix ->> 'fix', CASE WHEN EXISTS (SELECT FROM pg_temp.datafix_conflict WHERE conflict = 'changed since')
                   THEN format(', -x on_conflict=%s:overwrite restores them all the same', fix ->> 'fix') ELSE '' END));
    END IF;
    EXECUTE format('UPDATE %s SET rows_found = $1, rows_already = (SELECT count(*) FROM pg_temp.datafix_restore WHERE datafix_state = ''already back''), '
        'rows_skipped = $2, rows_overwritten = $3 WHERE run_id = $4', fix ->> 'ledger') USING total, standing, forced, (fix -> 'run')::bigint;
END
$engine$;

-- The statement that restores: it runs in the revert's own block, because it fires the table's triggers.
CREATE OR REPLACE FUNCTION pg_temp.datafix_restore_sql(fix jsonb, action text)
RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_temp.datafix_restore AS r WHERE r.datafix_action = datafix_restore_sql.action) THEN
        RETURN format('SELECT FROM %s WHERE false', fix ->> 'target');
    ELSIF action = 'delete' THEN
        RETURN pg_temp.datafix_sql(fix, format($sql$
            DELETE FROM %s AS t USING pg_temp.datafix_restore AS r WHERE r.datafix_action OPERATOR(pg_catalog.=) 'delete' AND {{r.key = t.key}}
        $sql$, fix ->> 'target'));
    ELSIF action = 'update' THEN
        RETURN pg_temp.datafix_sql(fix, format($sql$
            UPDATE %s AS t SET %s FROM pg_temp.datafix_restore AS r WHERE r.datafix_action OPERATOR(pg_catalog.=) 'update' AND {{r.key = t.key}}
        $sql$, fix ->> 'target', pg_temp.datafix_each(fix -> 'written', '%1$I = r.%1$I')));
    END IF;
    RETURN format($sql$
        INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM pg_temp.datafix_restore AS r WHERE r.datafix_action OPERATOR(pg_catalog.=) 'insert'
    $sql$, fix ->> 'target', pg_temp.datafix_each(fix -> 'writable', '%1$I'), pg_temp.datafix_each(fix -> 'writable', 'r.%1$I'));
END
$engine$;

-- Every restored row has the restored values, bit for bit; what a trigger prevented is a refusal that names the column.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_restored(fix jsonb, restored bigint)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    planned bigint := (SELECT count(*) FROM pg_temp.datafix_restore WHERE datafix_action IS NOT NULL);
    proven  bigint;
    example text;
BEGIN
    EXECUTE pg_temp.datafix_sql(fix, format($sql$
        SELECT count(*) FILTER (WHERE (t.tableoid IS NULL) = (r.datafix_action = 'delete')),
               min(CASE WHEN r.datafix_action <> 'delete' AND record_image_ne(ROW(%s), ROW(%s)) THEN concat_ws('/', {{r.key}}) || ': ' || array_to_string(ARRAY[%s], ', ') END)
          FROM pg_temp.datafix_restore AS r LEFT JOIN %s AS t ON {{r.key = t.key}}
         WHERE r.datafix_action IS NOT NULL
    $sql$, pg_temp.datafix_each(fix -> 'staged', 'r.%1$I'), pg_temp.datafix_each(fix -> 'staged', 't.%1$I'),
        pg_temp.datafix_each(fix -> 'staged', 'CASE WHEN record_image_ne(ROW(r.%1$I), ROW(t.%1$I)) THEN %1$L || '' is '' || coalesce(t.%1$I::text, ''NULL'') || '', not '' || coalesce(r.%1$I::text, ''NULL'') END'),
        fix ->> 'target')) INTO proven, example;
    IF restored <> planned OR proven <> planned OR example IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse('DF012', format('datafix %s: a trigger of %s keeps values from being restored: %s', fix ->> 'fix', fix ->> 'target',
            coalesce(left(example, 300), format('%s of %s rows', planned - least(restored, proven), planned))), NULL,
            'Nothing was changed. Disable the trigger for the downgrade (ALTER TABLE ... DISABLE TRIGGER), and enable it afterwards. Triggers: ' || coalesce((SELECT string_agg(tgname, ', ') FROM pg_trigger
                WHERE tgrelid = (fix ->> 'target_oid')::oid AND NOT tgisinternal), 'none') || '.');
    END IF;
END
$engine$;
