-- What the auditor queries: views on the ledger and on the images.

-- Copies are private: who may read the original may not read them, whatever the schema's default privileges grant.
CREATE OR REPLACE FUNCTION pg_temp.datafix_keep_private(relation regclass)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    other text;
BEGIN
    FOR other IN
        SELECT DISTINCT CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END
          FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS g
         WHERE c.oid = relation AND g.grantee <> c.relowner
    LOOP
        PERFORM pg_temp.datafix_make(format('REVOKE ALL ON %s FROM %s', relation, other));
    END LOOP;
END
$engine$;

-- For the auditor: one line for each changed column, as text. Needs a key that tells which two images are of one row.
-- An index leads from the key, as text, to all that ever happened to a row. It is a bloom filter for every 16 pages: to
-- enter each image into a btree would cost a run as much as to write the image.
CREATE OR REPLACE FUNCTION pg_temp.datafix_create_changes_view(target oid, columns jsonb, audit_schema text,
                                                               audit_table text)
RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    audit text   := format('%I.%I', audit_schema, audit_table);
    tables text  := format('%I.datafix_run_table', audit_schema);
    key   text[] := pg_temp.datafix_first_key(target);
    as_text text := (SELECT string_agg(format('{alias}%I::text', k), ' || ''/'' || ') FROM unnest(key) AS k);
    -- where the images are on several servers, those of one row are on one, by this column
    column_by text := pg_temp.datafix_spread(audit::regclass) ->> 'by';
    shown   text := '%1$s.%2$I::text';
    differs text := 'record_image_ne(ROW(one.%1$I), ROW(other.%1$I))';
BEGIN
    IF key IS NULL THEN
        RETURN false;
    END IF;
    IF EXISTS (SELECT FROM pg_attribute
                WHERE attrelid = audit::regclass AND attname = 'audit_redacted' AND NOT attisdropped) THEN
        shown := 'CASE WHEN %2$L = ANY (%1$s.audit_redacted) THEN ''(redacted)'' ELSE ' || shown || ' END';
        -- of two redacted values, only the ledger can tell whether they were different
        differs := '(' || differs || ' OR coalesce(%1$L = ANY (one.audit_redacted), false) '
                   '<> coalesce(%1$L = ANY (other.audit_redacted), false) '
                   'OR %1$L = ANY (one.audit_redacted) AND %1$L = ANY (noted.written_columns))';
    END IF;
    -- Which images are of one row is found by grouping and not by joining: without statistics, right after a large
    -- run, PostgreSQL would go through all images for each of them. Where the ledger knows what a run wrote, its
    -- after-images may hold no other columns.
    PERFORM pg_temp.datafix_make(format($sql$
        CREATE OR REPLACE VIEW %1$s AS
        SELECT pair.audit_run_id, coalesce(one.audit_id, other.audit_id) AS audit_id, pair.key,
               change.column_name, change.before, change.after,
               CASE WHEN one.audit_id IS NULL THEN 'inserted'
                    WHEN other.audit_id IS NULL THEN 'deleted'
                    ELSE 'updated' END AS change,
               %4$L::text AS target_table
          FROM (SELECT i.audit_run_id, %3$s AS key,
                       max(i.audit_id) FILTER (WHERE i.audit_image = 'before') AS one,
                       max(i.audit_id) FILTER (WHERE i.audit_image = 'after') AS other%9$s
                  FROM %2$s AS i
                 GROUP BY 1, 2%10$s) AS pair
          LEFT JOIN %2$s AS one
                 ON one.audit_id = pair.one AND one.audit_run_id = pair.audit_run_id AND %6$s = pair.key%11$s
          LEFT JOIN %2$s AS other
                 ON other.audit_id = pair.other AND other.audit_run_id = pair.audit_run_id AND %7$s = pair.key%12$s
          LEFT JOIN %8$s AS noted ON noted.run_id = pair.audit_run_id AND noted.written_columns <> '{}'
          CROSS JOIN LATERAL %5$s AS change (column_name, before, after, differs)
         WHERE change.differs AND (one.audit_id IS NOT NULL OR change.after IS NOT NULL)
    $sql$, format('%I.%I', audit_schema, audit_table || '_changes'), audit, replace(as_text, '{alias}', 'i.'),
        (SELECT format('%I.%I', n.nspname, c.relname)
           FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
          WHERE c.oid = target),
        (SELECT CASE WHEN column_by IS NULL
                     THEN format('(VALUES %s)', string_agg(format('(%L, %s, %s, %s)', name, one, other, changed),
                                                           ', ' ORDER BY position))
                     -- what a server of a cluster can do by itself
                     ELSE format('unnest(ARRAY[%s]::text[], ARRAY[%s]::text[], ARRAY[%s]::text[], ARRAY[%s]::bool[])',
                                 string_agg(quote_literal(name), ', ' ORDER BY position),
                                 string_agg(one, ', ' ORDER BY position), string_agg(other, ', ' ORDER BY position),
                                 string_agg(changed, ', ' ORDER BY position)) END
           FROM (SELECT c ->> 'name' AS name, (c -> 'position')::int AS position,
                        format(shown, 'one', c ->> 'name') AS one, format(shown, 'other', c ->> 'name') AS other,
                        format('one.audit_id IS NULL OR other.audit_id IS NULL OR ' || differs || '%2$s', c ->> 'name',
                               CASE WHEN (c -> 'generated')::boolean OR c ->> 'name' = ANY (key) THEN ''
                                    ELSE format(' AND coalesce(%L = ANY (noted.written_columns), true)',
                                                c ->> 'name') END) AS changed
                   FROM jsonb_array_elements(columns) AS c) AS cells),
        replace(as_text, '{alias}', 'one.'), replace(as_text, '{alias}', 'other.'), tables,
        ', i.' || quote_ident(column_by) || ' AS datafix_by', ', i.' || quote_ident(column_by),
        ' AND one.' || quote_ident(column_by) || ' = pair.datafix_by',
        ' AND other.' || quote_ident(column_by) || ' = pair.datafix_by'));
    -- Where the text of a key depends on no setting, and is no longer than an index can hold.
    IF NOT EXISTS (SELECT FROM jsonb_array_elements(columns) AS c
                    WHERE c ->> 'name' = ANY (key)
                      AND c ->> 'type' !~ '^(smallint|integer|bigint|uuid|text|boolean|'
                                          'character( varying)?([(][0-9]+[)])?)$')
       AND NOT EXISTS (SELECT FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
                        WHERE i.indrelid = audit::regclass AND c.relname = left(audit_table, 55) || '_key_idx') THEN
        PERFORM pg_temp.datafix_make(format(
            'CREATE INDEX %I ON %s USING brin ((%s) text_bloom_ops (n_distinct_per_range = 1200, '
            'false_positive_rate = 0.001)) WITH (pages_per_range = 16)',
            left(audit_table, 55) || '_key_idx', audit, replace(as_text, '{alias}', '')));
    END IF;
    RETURN true;
END
$engine$;

-- For the auditor: every run, newest first, with the run that took it back; and the fixes that are in force. The
-- order is by time: after a switchover, the numbers of runs may have started again from below. New columns come last:
-- the views are replaced in place, with the rights that others have on them.
CREATE OR REPLACE FUNCTION pg_temp.datafix_create_ledger_views(audit_schema text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    PERFORM pg_temp.datafix_make(replace($sql$
        CREATE OR REPLACE VIEW {schema}.datafix_history AS
        WITH RECURSIVE reverted AS (    -- a run, what took it back as a whole, what took that back, ...
            SELECT run_id, run_id AS last, 0 AS times FROM {schema}.datafix_run
            UNION ALL
            SELECT reverted.run_id, later.run_id, reverted.times + 1
              FROM reverted CROSS JOIN LATERAL (
                   SELECT r.run_id FROM {schema}.datafix_run AS r
                    WHERE r.reverts_run = reverted.last AND r.rows_chosen IS NULL
                      AND r.outcome IN ('reverted', 'not_applicable')
                    ORDER BY r.started_at DESC, r.run_id DESC LIMIT 1) AS later)
        SELECT run.run_id, run.fix, run.revision, run.direction, run.outcome,
               run.rows_expected, run.rows_found,
               -- of a run in batches, the rows of those that have ended
               CASE run.outcome WHEN 'running' THEN (SELECT sum(part.rows_changed) FROM {schema}.datafix_run AS part
                                                      WHERE part.part_of = run.run_id)::bigint
                                ELSE run.rows_changed END AS rows_changed,
               run.rows_already, run.rows_skipped, run.rows_overwritten, run.rows_chosen, run.reverts_run,
               -- an odd number of times: taken back, and not given back since
               CASE WHEN (SELECT max(times) FROM reverted WHERE reverted.run_id = run.run_id) % 2 = 1
                    THEN (SELECT last FROM reverted WHERE reverted.run_id = run.run_id AND times = 1) END
               AS reverted_by_run,
               ARRAY(SELECT t.target_table
                       FROM {schema}.datafix_run_table AS t
                      WHERE t.run_id = run.run_id
                      ORDER BY t.position) AS tables,
               run.applied_by, run.application, run.reason, run.started_at, run.finished_at, run.on_conflict,
               run.already, run.error, run.fingerprint, run.logged_in_as, run.engine, run.declined_because,
               (SELECT nullif(count(*), 0) FROM {schema}.datafix_run AS part
                 WHERE part.part_of = run.run_id AND part.rows_changed > 0) AS batches, run.wish
          FROM {schema}.datafix_run AS run
         WHERE run.part_of IS NULL
         ORDER BY run.started_at DESC, run.run_id DESC
    $sql$, '{schema}', quote_ident(audit_schema)));
    PERFORM pg_temp.datafix_make(replace($sql$
        CREATE OR REPLACE VIEW {schema}.datafix_open AS
        SELECT fix, run_id, revision, tables, rows_changed,
               (SELECT string_agg(part.rows_chosen, '; ' ORDER BY part.started_at, part.run_id)
                  FROM {schema}.datafix_history AS part
                 WHERE part.reverts_run = run.run_id AND part.rows_chosen IS NOT NULL
                   AND part.outcome = 'reverted' AND part.reverted_by_run IS NULL) AS rows_reverted,
               finished_at, applied_by, application, reason
          FROM {schema}.datafix_history AS run
         WHERE direction = 'apply' AND outcome = 'applied' AND reverted_by_run IS NULL
         ORDER BY started_at DESC, run_id DESC
    $sql$, '{schema}', quote_ident(audit_schema)));
    PERFORM pg_temp.datafix_make(format('COMMENT ON VIEW %I.datafix_history IS %L', audit_schema,
        'datafixes: all runs, newest first'));
    PERFORM pg_temp.datafix_make(format('COMMENT ON VIEW %I.datafix_open IS %L', audit_schema,
        'datafixes: the fixes that are in force, newest first'));
END
$engine$;

-- For the auditor: what each run changed (datafix_show), and what ever happened to a row (datafix_row), over all
-- audit tables of a schema.
CREATE OR REPLACE FUNCTION pg_temp.datafix_create_change_views(audit_schema text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    parts text;
BEGIN
    SELECT string_agg(format('SELECT audit_run_id AS run_id, target_table, key, change, column_name, before, after, '
                             'audit_id FROM %I.%I', audit_schema, c.relname),
                      E'\nUNION ALL ' ORDER BY c.relname)
      INTO parts FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE n.nspname = audit_schema AND c.relkind = 'v' AND c.relname LIKE '%\_changes'
       AND ARRAY['audit_run_id', 'audit_id', 'key', 'column_name', 'before', 'after', 'change', 'target_table']::name[]
           <@ ARRAY(SELECT a.attname FROM pg_attribute AS a WHERE a.attrelid = c.oid);
    PERFORM pg_temp.datafix_drop_change_views(audit_schema);
    IF parts IS NULL OR pg_temp.datafix_relation(audit_schema, 'datafix_run') IS NULL THEN
        RETURN;
    END IF;
    PERFORM pg_temp.datafix_make(format('CREATE VIEW %I.datafix_show AS %s', audit_schema, parts));
    PERFORM pg_temp.datafix_make(replace($sql$
        CREATE VIEW {schema}.datafix_row AS
        SELECT c.target_table, c.key, coalesce(r.part_of, r.run_id) AS run_id, r.finished_at, r.fix, r.direction,
               r.revision, c.change, c.column_name, c.before, c.after, r.applied_by, r.application, r.reason, c.audit_id
          FROM {schema}.datafix_show AS c JOIN {schema}.datafix_run AS r ON r.run_id = c.run_id
    $sql$, '{schema}', quote_ident(audit_schema)));
    PERFORM pg_temp.datafix_make(format('COMMENT ON VIEW %I.datafix_show IS %L', audit_schema,
        'datafixes: what each run changed, a line for each column of each row'));
    PERFORM pg_temp.datafix_make(format('COMMENT ON VIEW %I.datafix_row IS %L', audit_schema,
        'datafixes: what ever happened to a row, by table and key'));
    PERFORM pg_temp.datafix_keep_private(format('%I.datafix_show', audit_schema));
    PERFORM pg_temp.datafix_keep_private(format('%I.datafix_row', audit_schema));
END
$engine$;

-- Drops these views: they depend on every audit table of the schema.
CREATE OR REPLACE FUNCTION pg_temp.datafix_drop_change_views(audit_schema text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    PERFORM pg_temp.datafix_make(format('DROP VIEW IF EXISTS %1$I.datafix_row, %1$I.datafix_show', audit_schema));
END
$engine$;
