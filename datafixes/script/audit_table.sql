-- Audit tables and the ledger: created and dropped by migrations.

-- The columns of a target, with the types in which its audit table keeps them, or will keep them. "own_types" names the
-- columns that are to be kept in their own type, and not as text.
CREATE OR REPLACE FUNCTION pg_temp.datafix_columns_to_keep(target oid, audit oid, label text, own_types text[])
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    columns jsonb := pg_temp.datafix_columns(target);
    unknown text;
BEGIN
    SELECT string_agg(format('%I', o) || coalesce(' (' || (c ->> 'type') || ')', ''), ', ') INTO unknown
      FROM unnest(own_types) AS o LEFT JOIN jsonb_array_elements(columns) AS c ON c ->> 'name' = o
     WHERE c ->> 'own' IS NULL;
    IF unknown IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse('DF006',
            format('audit table %s: own_types is for columns of a base type of an extension, and not for %s',
                   label, unknown),
            hint => 'Columns of PostgreSQL''s own types are always kept in them; enums and composites always as text.');
    END IF;
    RETURN pg_temp.datafix_columns_in(audit, (
        SELECT jsonb_agg(CASE WHEN c ->> 'name' = ANY (own_types) THEN c || jsonb_build_object('kept', c -> 'own')
                              ELSE c END)
          FROM jsonb_array_elements(columns) AS c));
END
$engine$;

-- Creates an audit table for a target: the target's columns in the types in which they are kept, then the columns
-- that say which run wrote the image.
CREATE OR REPLACE FUNCTION pg_temp.datafix_create_audit_table(target_schema text, target_table text,
                                                              audit_schema text, audit_table text,
                                                              own_types text[] DEFAULT '{}')
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    target  oid   := pg_temp.datafix_relation(target_schema, target_table);
    label   text  := format('%I.%I', audit_schema, audit_table);
    beside  boolean := false;
    columns jsonb;
    clash   text;
BEGIN
    IF target IS NULL
       OR (SELECT relkind NOT IN ('r', 'p') OR relpersistence = 't' FROM pg_class WHERE oid = target) THEN
        PERFORM pg_temp.datafix_refuse('DF004',
            format('audit table %s: %I.%I is not an ordinary or partitioned table',
                   label, target_schema, target_table));
    ELSIF pg_temp.datafix_relation(audit_schema, audit_table) IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse('DF006',
            format('audit table %s: a relation of that name already exists', label),
            hint => 'Give the audit table another name. If alembic_version was set back by hand, set it forward '
                    'again with alembic stamp.');
    END IF;
    IF pg_temp.datafix_citus(target) IS NOT NULL THEN
        PERFORM pg_temp.datafix_check_coordinator(format('audit table %s', label),
                                                  format('%I.%I', target_schema, target_table));
    END IF;
    columns := pg_temp.datafix_columns_to_keep(target, NULL, label, own_types);
    beside := pg_temp.datafix_can_lie_beside(target, columns);
    SELECT string_agg(c ->> 'name', ', ') INTO clash FROM jsonb_array_elements(columns) AS c
     WHERE c ->> 'name' IN ('audit_id', 'audit_run_id', 'audit_image', 'audit_recorded_at');
    IF clash IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse('DF006',
            format('audit table %s: %I.%I has columns whose names the audit table uses itself: %s',
                   label, target_schema, target_table, clash));
    END IF;
    PERFORM pg_temp.datafix_make(format($sql$
        CREATE TABLE %s (
            %s,
            audit_id bigint %s,
            audit_run_id bigint NOT NULL,
            audit_image text NOT NULL CHECK (audit_image IN ('before', 'after')),
            audit_recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
        )
    $sql$, label, (SELECT string_agg(format('%I %s', c ->> 'name', c ->> 'kept'), ', ' ORDER BY (c -> 'position')::int)
                     FROM jsonb_array_elements(columns) AS c),
        CASE WHEN beside THEN 'NOT NULL' ELSE 'GENERATED ALWAYS AS IDENTITY' END));
    -- The images of a run lie together, so this index has an entry for 32 pages, not for each image: it costs a run
    -- next to nothing. Images are numbered and paired within their run; no index over all of them is needed. On shards
    -- a run cannot enter itself into such an index, so there each image has an entry.
    PERFORM pg_temp.datafix_make(format('CREATE INDEX ON %s USING %s', label,
        CASE WHEN beside THEN 'btree (audit_run_id)' ELSE 'brin (audit_run_id) WITH (pages_per_range = 32)' END));
    -- Images are not updated, and deleted only where they are given up; subscribers are told of it though there is no
    -- primary key.
    PERFORM pg_temp.datafix_make(format('ALTER TABLE %s REPLICA IDENTITY FULL', label));
    PERFORM pg_temp.datafix_make(format('COMMENT ON TABLE %s IS %L', label,
        format('datafixes: images of rows of %I.%I, before and after a data fix', target_schema, target_table)));
    PERFORM pg_temp.datafix_keep_private(label);
    IF beside THEN
        PERFORM pg_temp.datafix_put_beside(target, label);
    ELSE
        PERFORM pg_temp.datafix_protect(audit_schema, audit_table);
    END IF;
    PERFORM pg_temp.datafix_protect_old_ledger(audit_schema);
    IF pg_temp.datafix_create_changes_view(target, columns, audit_schema, audit_table) THEN
        PERFORM pg_temp.datafix_keep_private(format('%I.%I', audit_schema, audit_table || '_changes'));
        PERFORM pg_temp.datafix_create_change_views(audit_schema);
    END IF;
END
$engine$;

-- Enters what this run wrote into the indexes over ranges of pages, so that nobody need look through it. Where the role
-- may not, or while the table is being vacuumed, PostgreSQL does so later by itself.
CREATE OR REPLACE FUNCTION pg_temp.datafix_summarize(audit regclass)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '10ms' AS $engine$
BEGIN
    PERFORM brin_summarize_new_values(i.indexrelid)
       FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_am AS m ON m.oid = c.relam
      WHERE i.indrelid = audit AND m.amname = 'brin' AND c.relkind = 'i';
EXCEPTION WHEN insufficient_privilege OR lock_not_available THEN
    RETURN;
END
$engine$;

-- Adds to an audit table, and to the view beside it, the columns that its target has gained. Columns that the target
-- lost stay, because they hold copies.
CREATE OR REPLACE FUNCTION pg_temp.datafix_update_audit_table(target_schema text, target_table text,
                                                              audit_schema text, audit_table text,
                                                              own_types text[] DEFAULT '{}')
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    target  oid   := pg_temp.datafix_relation(target_schema, target_table);
    audit   oid   := pg_temp.datafix_relation(audit_schema, audit_table);
    label   text  := format('%I.%I', audit_schema, audit_table);
    columns jsonb;
    other   text;
    missing text;
BEGIN
    IF target IS NULL OR audit IS NULL THEN
        PERFORM pg_temp.datafix_refuse('DF004',
            format('audit table %s: table %s does not exist',
                   label, CASE WHEN target IS NULL THEN format('%I.%I', target_schema, target_table) ELSE label END));
    END IF;
    EXECUTE format('LOCK TABLE %s', label);
    columns := pg_temp.datafix_columns_to_keep(target, audit, label, own_types);
    SELECT string_agg(format('%I is %s, and %s there',
                             c ->> 'name', c ->> 'type', format_type(a.atttypid, a.atttypmod)), '; ')
               FILTER (WHERE format_type(a.atttypid, a.atttypmod) <> c ->> 'kept'),
           string_agg(format('ADD COLUMN %I %s', c ->> 'name', c ->> 'kept'), ', ' ORDER BY (c -> 'position')::int)
               FILTER (WHERE a.attname IS NULL)
      INTO other, missing
      FROM jsonb_array_elements(columns) AS c
      LEFT JOIN pg_attribute AS a
             ON a.attrelid = audit AND a.attname = c ->> 'name' AND a.attnum > 0 AND NOT a.attisdropped;
    IF other IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse('DF006',
            format('audit table %s: columns of %I.%I have other types now: %s',
                   label, target_schema, target_table, other),
            hint => 'Its copies keep their types. Create a new audit table, and name it in new fixes.');
    END IF;
    IF missing IS NOT NULL THEN
        PERFORM pg_temp.datafix_make(format('ALTER TABLE %s %s', label, missing));
    END IF;
    IF pg_temp.datafix_create_changes_view(target, columns, audit_schema, audit_table) THEN
        PERFORM pg_temp.datafix_create_change_views(audit_schema);
    END IF;
END
$engine$;

-- Drops an audit table, and with the last one its ledger. Refuses while they hold what exists nowhere else.
CREATE OR REPLACE FUNCTION pg_temp.datafix_drop_audit_table(audit_schema text, audit_table text, discard boolean)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    audit  oid    := pg_temp.datafix_relation(audit_schema, audit_table);
    label  text   := format('%I.%I', audit_schema, audit_table);
    ledger text   := format('%I.datafix_run', audit_schema);
    advice text   := format('Keep it. To discard the copies: alembic -x discard=%s downgrade ...',
                            CASE WHEN audit_table ~ '^[A-Za-z0-9_.]+$' THEN audit_table
                                 ELSE quote_literal(audit_table) END);
    images bigint := 0;
    runs   bigint := 0;
    others bigint;
BEGIN
    IF audit IS NOT NULL THEN
        EXECUTE format('LOCK TABLE %s', label);
        EXECUTE format('SELECT count(*), count(DISTINCT audit_run_id) FROM %s', label) INTO images, runs;
    END IF;
    IF images > 0 AND NOT discard THEN
        PERFORM pg_temp.datafix_refuse('DF013',
            format('audit table %s: it holds %s images of %s runs, the only copies of what was there before',
                   label, images, runs),
            hint => advice);
    END IF;
    PERFORM pg_temp.datafix_drop_change_views(audit_schema);
    PERFORM pg_temp.datafix_make(format('DROP VIEW IF EXISTS %I.%I', audit_schema, audit_table || '_changes'));
    PERFORM pg_temp.datafix_make(format('DROP TABLE IF EXISTS %s', label));
    PERFORM pg_temp.datafix_create_change_views(audit_schema);
    SELECT count(DISTINCT a.attrelid) INTO others
      FROM pg_attribute AS a
      JOIN pg_class AS c ON c.oid = a.attrelid
      JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE n.nspname = audit_schema AND c.relkind = 'r' AND a.attname = 'audit_run_id' AND NOT a.attisdropped;
    IF others > 0 OR pg_temp.datafix_relation(audit_schema, 'datafix_run') IS NULL THEN
        RETURN;
    END IF;
    EXECUTE format('LOCK TABLE %s, %s', ledger, ledger || '_table');
    EXECUTE format('SELECT count(*) FROM %s '
                   'WHERE outcome NOT IN (''not_applicable'', ''declined'', ''already'', ''failed'')', ledger)
       INTO runs;
    IF runs > 0 AND NOT discard THEN
        PERFORM pg_temp.datafix_refuse('DF013',
            format('ledger %s: it holds %s runs that changed rows', ledger, runs),
            hint => advice);
    END IF;
    PERFORM pg_temp.datafix_drop_change_views(audit_schema);
    PERFORM pg_temp.datafix_make(format('DROP VIEW IF EXISTS %1$I.datafix_open, %1$I.datafix_history', audit_schema));
    PERFORM pg_temp.datafix_make(format('DROP TABLE IF EXISTS %I.datafix_range', audit_schema));
    PERFORM pg_temp.datafix_make(format('DROP TABLE %s, %s', ledger || '_table', ledger));
    PERFORM pg_temp.datafix_make(format('DROP TABLE IF EXISTS %1$I.datafix_chain, %1$I.datafix_key, '
                                        '%1$I.datafix_salt', audit_schema));
    PERFORM pg_temp.datafix_drop_append_only(audit_schema);
END
$engine$;
