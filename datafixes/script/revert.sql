-- What a revert needs. It works from the images alone, whatever kind of change made them:
--   a before- and an after-image   the fix changed the row: what it wrote goes back
--   a before-image only            the fix deleted the row: it is inserted again
--   an after-image only            the fix inserted the row: it is deleted
-- For the fix's table number N, pg_temp.datafix_restore_N holds one line for each of these rows: its key, the values
-- to restore, its state, and the action: update, delete, insert, or replace (delete and insert).
--
-- Most updated rows are still as the fix left them. Where nothing else can stand in the way of a row, one join finds,
-- locks and copies these: they are "free". Only what is left is compared three ways, which costs several times as much.

-- Opens the run that takes back another. NULL where that run changed nothing, or all batches of a run are taken back.
CREATE OR REPLACE FUNCTION pg_temp.datafix_open_revert(declared jsonb, version_table regclass)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    fix    jsonb := declared;
    last   jsonb;
    undone bigint;
    one    jsonb;
BEGIN
    IF fix ? 'ends' THEN
        PERFORM pg_temp.datafix_close_parts(fix);
        RETURN NULL;
    ELSIF NOT fix ? 'last' THEN     -- a batch
        fix := pg_temp.datafix_begin(declared, version_table);
    END IF;
    last := nullif(fix -> 'last', 'null');
    PERFORM pg_temp.datafix_check_revertible(fix);
    IF pg_temp.datafix_given_up(fix, (last -> 'run_id')::bigint) IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF031',
            format('run %s cannot be reverted: %s', last ->> 'run_id',
                   pg_temp.datafix_given_up(fix, (last -> 'run_id')::bigint)),
            hint => format('Nothing was changed. See: SELECT run_id, reason, declaration FROM %s '
                           'WHERE outcome = ''pruned''', fix ->> 'ledger'));
    END IF;
    IF fix ? 'rows_chosen' THEN
        EXECUTE format($sql$
            SELECT r.run_id
              FROM %s AS r
             WHERE r.reverts_run = $1 AND r.revision = $2 AND r.rows_chosen = $3 AND r.outcome = 'reverted'
             ORDER BY r.started_at DESC, r.run_id DESC
             LIMIT 1
        $sql$, fix ->> 'ledger') INTO undone
          USING (last -> 'run_id')::bigint, fix ->> 'revision', fix ->> 'rows_chosen';
        IF undone IS NOT NULL AND pg_temp.datafix_undone_by(fix, undone) IS NULL THEN
            PERFORM pg_temp.datafix_refuse_fix(fix, 'DF010',
                format('run %s of this revision reverted these rows already', undone),
                hint => format('Nothing was changed. If alembic_version was set back by hand: alembic stamp %s',
                               fix ->> 'revision'));
        END IF;
    END IF;
    IF last ->> 'outcome' NOT IN ('applied', 'reverted') THEN
        fix := pg_temp.datafix_open_run(fix || jsonb_build_object('reverts_run', last -> 'run_id'));
        PERFORM pg_temp.datafix_close(fix, 'not_applicable');
        RETURN NULL;
    END IF;
    PERFORM pg_temp.datafix_check_shape(t, t -> 'noted') FROM pg_temp.datafix_tables(fix) AS t;
    fix := pg_temp.datafix_open_run(fix || jsonb_build_object('reverts_run', last -> 'run_id'));
    FOR one IN SELECT * FROM pg_temp.datafix_tables(fix) LOOP
        PERFORM pg_temp.datafix_check_images(one, one -> 'noted');
        IF one -> 'noted' -> 'shape' ? 'lost' THEN
            PERFORM pg_temp.datafix_refuse_fix(fix, 'DF012',
                format('the images of run %s do not hold every bit of these columns of %s, which are kept as text: %s',
                       last ->> 'run_id', one ->> 'target', one -> 'noted' -> 'shape' ->> 'lost'));
        END IF;
        one := one || jsonb_build_object('from_run', last -> 'run_id',
                                         'images', one -> 'noted' -> 'shape' -> 'columns');
        one := pg_temp.datafix_note_redacted(one);
        one := one || jsonb_build_object(
            'writable', (SELECT jsonb_agg(c)
                           FROM jsonb_array_elements(one -> 'images') AS c
                          WHERE NOT (c -> 'generated')::boolean),
            -- housekeeping columns are never a conflict
            'compared', (SELECT jsonb_agg(c)
                           FROM jsonb_array_elements(one -> 'images') AS c
                          WHERE NOT one -> 'housekeeping' ? (c ->> 'name')));
        one := pg_temp.datafix_stage_free(one || jsonb_build_object('written', pg_temp.datafix_written(one)));
        IF NOT (one -> 'free')::boolean THEN
            one := pg_temp.datafix_fetch_images(one);
            PERFORM pg_temp.datafix_pair_images(one, (last -> 'run_id')::bigint);
        END IF;
        fix := pg_temp.datafix_put(fix, (one -> 'n')::integer, one);
    END LOOP;
    RETURN fix;
END
$engine$;

-- The ledger has the run, and nothing has taken it back.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_revertible(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    last   jsonb  := nullif(fix -> 'last', 'null');
    undone bigint := CASE WHEN last IS NOT NULL
                          THEN pg_temp.datafix_undone_by(fix, (last -> 'run_id')::bigint) END;
BEGIN
    IF last IS NULL OR undone IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF010',
            format('there is nothing to revert: %s',
                   CASE WHEN undone IS NOT NULL
                        THEN format('run %s reverted run %s already', undone, last ->> 'run_id')
                        WHEN fix ? 'of_run'
                        THEN format('the ledger %s has no run %s that ended', fix ->> 'ledger', fix ->> 'of_run')
                        ELSE 'the ledger has no run of it' || coalesce(' by revision ' || (fix ->> 'undoes'), '') END),
            hint => format('See: SELECT * FROM %s ORDER BY started_at, run_id; if alembic_version was set by hand, '
                           'set it back with alembic stamp.',
                           fix ->> 'ledger'));
    END IF;
END
$engine$;

-- Rows are named by their key, so there must be one.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_keyed(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    IF fix -> 'key' = '[]' THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF005',
            format('%s has no key, so its rows cannot be named', fix ->> 'target'),
            hint => 'Nothing was changed. Revert the fix as a whole.');
    END IF;
END
$engine$;

-- A revert of some rows only: leaves the other rows out. The rows are named by table; '' is the only table.
CREATE OR REPLACE FUNCTION pg_temp.datafix_choose_rows(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    chosen  jsonb := fix -> 'chosen';
    -- tables go by their names alone, unless two have the same name
    names   text[] := ARRAY(SELECT CASE WHEN count(*) OVER (PARTITION BY t ->> 'target_table') > 1
                                        THEN concat_ws('.', t ->> 'target_schema', t ->> 'target_table')
                                        ELSE t ->> 'target_table' END
                              FROM jsonb_array_elements(fix -> 'tables') WITH ORDINALITY AS _ (t, n) ORDER BY n);
    unknown text;
    one     jsonb;
    keys    text;
BEGIN
    IF chosen ? '' AND cardinality(names) > 1 THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF007',
            format('it has several tables, so name the table of the rows: %s', array_to_string(names, ', ')),
            hint => format('Nothing was changed. For example rows={%L: [...]}.', names[1]));
    END IF;
    SELECT string_agg(k, ', ') INTO unknown FROM jsonb_object_keys(chosen) AS k WHERE k <> '' AND k <> ALL (names);
    IF unknown IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF007',
            format('%s is not one of its tables, which are %s', unknown, array_to_string(names, ', ')));
    END IF;
    FOR one IN SELECT * FROM pg_temp.datafix_tables(fix) LOOP
        keys := coalesce(chosen ->> names[(one -> 'n')::integer], chosen ->> '');
        IF keys IS NULL THEN
            EXECUTE pg_temp.datafix_sql(one, 'DELETE FROM pg_temp.datafix_pair_{{n}}');
            CONTINUE;
        END IF;
        PERFORM pg_temp.datafix_check_keyed(one);
        PERFORM pg_temp.datafix_make(pg_temp.datafix_sql(one, format(
            'CREATE TEMP TABLE datafix_chosen_{{n}} ON COMMIT DROP AS SELECT {{t.key}} FROM %s AS t WITH NO DATA',
            one ->> 'target')));
        EXECUTE pg_temp.datafix_sql(one, 'INSERT INTO pg_temp.datafix_chosen_{{n}} VALUES ') || keys;
        PERFORM pg_temp.datafix_choose(one);
    END LOOP;
END
$engine$;

-- Each row named must be one that the run changed.
CREATE OR REPLACE FUNCTION pg_temp.datafix_choose(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    unknown text;
BEGIN
    EXECUTE pg_temp.datafix_sql(fix, $sql$
        SELECT string_agg({{c.shown}}, ', ') FROM pg_temp.datafix_chosen_{{n}} AS c
         WHERE NOT EXISTS (SELECT FROM pg_temp.datafix_pair_{{n}} AS p WHERE {{p.key = c.key}})
    $sql$) INTO unknown;
    IF unknown IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF007',
            format('run %s did not change these rows of %s: %s',
                   fix ->> 'from_run', fix ->> 'target', left(unknown, 300)),
            hint => format('Nothing was changed. See: datafixes show %s', fix ->> 'from_run'));
    END IF;
    EXECUTE pg_temp.datafix_sql(fix, $sql$
        DELETE FROM pg_temp.datafix_pair_{{n}} AS p
         WHERE NOT EXISTS (SELECT FROM pg_temp.datafix_chosen_{{n}} AS c WHERE {{c.key = p.key}})
    $sql$);
END
$engine$;

-- The table is still the one that the fix changed: every column that was copied is there, in its type.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_shape(fix jsonb, last jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    problems text;
BEGIN
    SELECT string_agg(CASE
               WHEN renamed ->> 'name' IS NOT NULL
               THEN format('%I is called %I now', was ->> 'name', renamed ->> 'name')
               WHEN has IS NULL
               THEN format('%I is gone', was ->> 'name')
               WHEN has ->> 'made_of' IS DISTINCT FROM was ->> 'made_of'
               THEN format('the type %s of %I was %s and is %s',
                           was ->> 'type', was ->> 'name', was ->> 'made_of', has ->> 'made_of')
               WHEN has -> 'position' <> was -> 'position'
               THEN format('%I is another column than it was', was ->> 'name')
               ELSE format('%I was %s and is %s', was ->> 'name', was ->> 'type', has ->> 'type') END,
               '; ' ORDER BY (was -> 'position')::int)
      INTO problems
      FROM jsonb_array_elements(last -> 'shape' -> 'columns') AS was
      LEFT JOIN jsonb_array_elements(fix -> 'columns') AS has ON has ->> 'name' = was ->> 'name'
      LEFT JOIN jsonb_array_elements(fix -> 'columns') AS renamed
             ON has IS NULL AND renamed -> 'position' = was -> 'position'
     WHERE has ->> 'type' IS DISTINCT FROM was ->> 'type' OR has -> 'generated' IS DISTINCT FROM was -> 'generated'
        OR has ->> 'made_of' IS DISTINCT FROM was ->> 'made_of'
        -- a restore from a dump renumbers columns
        OR last -> 'shape' -> 'target' = fix -> 'target_oid' AND has -> 'position' <> was -> 'position';
    -- A table that was dropped and made again has another oid; so has everything in a database that was restored from
    -- a dump, the ledger included.
    IF problems IS NULL AND last -> 'shape' -> 'target' <> fix -> 'target_oid'
       AND pg_temp.datafix_was_here(fix, last -> 'shape') THEN
        problems := 'the table was dropped and made again';
    END IF;
    -- Images keep enum labels and names of objects as text: after a rename, the text would mean another one.
    problems := nullif(concat_ws('; ', problems, pg_temp.datafix_changed_types(fix, last -> 'shape'),
                                 pg_temp.datafix_changed_names(fix, last -> 'shape')), '');
    IF problems IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF012',
            format('%s has changed since the fix ran: %s', fix ->> 'target', problems),
            hint => 'Nothing was changed. Downgrade the migration that changed it first, or rename back what was '
                    'renamed (ALTER ... RENAME).');
    END IF;
END
$engine$;

-- The images are the ones that the run wrote. Their digest is compared with numbers, which stay when things are
-- renamed, and with names, which stay when they move to another database.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_images(fix jsonb, last jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    shape   jsonb   := last -> 'shape';
    run     bigint  := (last -> 'run_id')::bigint;
    wrote   numeric := (last ->> 'images_digest')::numeric;
    columns jsonb   := shape -> 'columns';
    kept    record;
    named   record;
BEGIN
    SELECT * INTO kept FROM pg_temp.datafix_digest(fix ->> 'audit', columns, run,
        CASE WHEN shape ? 'types' THEN 'numbers' ELSE '0.1' END);
    IF kept.images = (last -> 'images')::bigint THEN
        IF kept.digest IS NOT DISTINCT FROM wrote THEN
            RETURN;
        ELSIF shape ? 'digest_by_name' THEN
            SELECT * INTO named FROM pg_temp.datafix_digest(fix ->> 'audit', columns, run, 'names');
            IF named.digest = (shape ->> 'digest_by_name')::numeric THEN
                RETURN;
            END IF;
        -- Version 0.1 kept the digest with numbers only: in another database it cannot be compared.
        ELSIF NOT shape ? 'types' AND NOT pg_temp.datafix_was_here(fix, shape)
              AND EXISTS (SELECT FROM jsonb_array_elements(columns) AS c WHERE c ->> 'kept' ~ '^reg') THEN
            RETURN;
        END IF;
    END IF;
    PERFORM pg_temp.datafix_refuse_fix(fix, 'DF011',
        format('the images of run %s in %s are not the ones it wrote: it wrote %s with the digest %s, and there are '
               '%s with %s',
               run, fix ->> 'audit', last ->> 'images', coalesce(wrote::text, '-'), kept.images,
               coalesce(kept.digest::text, '-')),
        hint => 'Nothing was changed. This can be an edit, a partial restore, or a copy by a tool that changes values. '
                'Compare with a backup: '
        || format('SELECT * FROM %s WHERE audit_run_id = %s ORDER BY audit_id', fix ->> 'audit', run));
END
$engine$;

-- The FROM clause for the images of the rows that the run updated: before (b) and after (a). PostgreSQL may have no
-- statistics of them yet, so it is for functions with enable_nestloop = off.
CREATE OR REPLACE FUNCTION pg_temp.datafix_both_images(fix jsonb)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT format('%1$s AS b JOIN %1$s AS a ON %2$s AND b.audit_run_id = %3$s AND b.audit_image = ''before'' '
                  'AND a.audit_run_id = %3$s AND a.audit_image = ''after''',
                  fix ->> 'audit',
                  (SELECT string_agg(format('a.%1$I%2$s%3$s %4$s b.%1$I%2$s%3$s%5$s', k ->> 'name', k ->> 'cast',
                                            k ->> 'base', k ->> 'equals', k ->> 'collate'), ' AND ' ORDER BY n)
                     FROM jsonb_array_elements(fix -> 'key_columns') WITH ORDINALITY AS _ (k, n)),
                  fix ->> 'from_run')
$engine$;

-- The FROM clause for the rows as the run left them: their after-images (a) and, for updated rows, before-images (b).
CREATE OR REPLACE FUNCTION pg_temp.datafix_after_images(fix jsonb)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT CASE WHEN jsonb_typeof(fix -> 'noted' -> 'written_columns') = 'array'
                     AND fix -> 'noted' -> 'written_columns' <> '[]' THEN pg_temp.datafix_both_images(fix)
                ELSE format('%s AS a WHERE a.audit_run_id = %s AND a.audit_image = ''after''',
                            fix ->> 'audit', fix ->> 'from_run') END
$engine$;

-- Columns of a row as the fix left it. Where the ledger knows what the fix wrote, the after-image (a) may hold no
-- others: these are as in the before-image (b). See datafix_left.
CREATE OR REPLACE FUNCTION pg_temp.datafix_as_left(fix jsonb, columns jsonb, pattern text DEFAULT '%1$I')
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT string_agg(CASE WHEN names = '[]' OR names ? name OR fix -> 'key' ? name OR (c -> 'generated')::boolean
                           THEN 'a.' ELSE 'b.' END || pg_temp.datafix_each(jsonb_build_array(c), pattern), ', '
                      ORDER BY (c -> 'position')::int)
      FROM jsonb_array_elements(columns) AS c
     CROSS JOIN LATERAL (SELECT c ->> 'name', coalesce(nullif(fix -> 'noted' -> 'written_columns', 'null'), '[]'))
           AS _ (name, names)
$engine$;

-- The columns that the fix wrote: the ones it set, or, where triggers may have changed more, all that differ in any
-- row. Housekeeping columns are left out: others write them.
CREATE OR REPLACE FUNCTION pg_temp.datafix_written(fix jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_nestloop = off AS $engine$
DECLARE
    names jsonb := fix -> 'noted' -> 'written_columns';
BEGIN
    IF fix -> 'key' = '[]' THEN     -- each image counts as a row, and none as updated
        names := '[]';
    ELSIF jsonb_typeof(names) <> 'array' THEN
        EXECUTE format($sql$
            SELECT coalesce(jsonb_agg(name), '[]') FROM (
                SELECT unnest(ARRAY[%s]) AS name, unnest(ARRAY[%s]) AS differs FROM %s) AS _
             WHERE differs
        $sql$, pg_temp.datafix_each(fix -> 'writable', '%1$L'),
            pg_temp.datafix_each(fix -> 'writable', 'bool_or(record_image_ne(ROW(b.%1$I), ROW(a.%1$I)))'),
            pg_temp.datafix_both_images(fix)) INTO names;
    END IF;
    RETURN (SELECT coalesce(jsonb_agg(c), '[]') FROM jsonb_array_elements(fix -> 'compared') AS c
             WHERE names ? (c ->> 'name') AND NOT (c -> 'generated')::boolean);
END
$engine$;

-- The columns of which values of this run were redacted.
CREATE OR REPLACE FUNCTION pg_temp.datafix_note_redacted(fix jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    columns jsonb;
BEGIN
    IF EXISTS (SELECT FROM pg_attribute WHERE attrelid = (fix ->> 'audit')::regclass AND attname = 'audit_redacted'
                  AND NOT attisdropped) THEN
        EXECUTE format('SELECT jsonb_agg(DISTINCT l) FROM %s AS i CROSS JOIN unnest(i.audit_redacted) AS l '
                       'WHERE i.audit_run_id = $1', fix ->> 'audit') INTO columns USING (fix -> 'from_run')::bigint;
    END IF;
    RETURN CASE WHEN columns IS NULL THEN fix ELSE fix || jsonb_build_object('redacted', columns) END;
END
$engine$;

-- Values that were redacted are not restored: their columns stay as they are, and the log says so. Rows whose key or
-- identity was redacted are refused, because it is not known which ones they were; "skip" leaves them alone.
CREATE OR REPLACE FUNCTION pg_temp.datafix_leave_out(fix jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    -- what tells rows apart: the key, and what the identities read; without a key, every column
    telling text[] := ARRAY(SELECT jsonb_array_elements_text(fix -> CASE WHEN fix -> 'key' = '[]' THEN 'redacted'
                                                                        ELSE 'key' END)
                            UNION
                            SELECT trim(BOTH '"' FROM words.word[1])
                              FROM jsonb_array_elements_text(fix -> 'identity_sql') AS i (sql)
                             CROSS JOIN LATERAL regexp_matches(i.sql, '"(?:[^"]|"")+"|\w+', 'g') AS words (word));
    seen   record;
    told   record;
    paired bigint;
BEGIN
    EXECUTE pg_temp.datafix_sql(fix, format($sql$
        SELECT count(*) AS images, string_agg(DISTINCT i.lost, ', ') AS lost,
               greatest(count(*) FILTER (WHERE i.audit_image = 'before' AND NOT i.paired),
                        count(*) FILTER (WHERE i.audit_image = 'after' AND NOT i.paired)) AS unpaired
          FROM (SELECT i.audit_image,
                       (SELECT string_agg(l, ', ' ORDER BY l) FROM unnest(i.audit_redacted) AS l WHERE l = ANY ($2))
                       AS lost,
                       EXISTS (SELECT FROM pg_temp.datafix_pair_{{n}} AS p
                                WHERE i.audit_id IN (p.datafix_before, p.datafix_after)) AS paired
                  FROM %s AS i
                 WHERE i.audit_run_id = $1 AND i.audit_redacted && $2) AS i
         WHERE i.paired OR $3
    $sql$, fix ->> 'audit')) INTO seen USING (fix -> 'from_run')::bigint, telling, NOT fix ? 'chosen';
    IF seen.images > 0 AND (fix ->> 'on_conflict' <> 'skip' OR fix -> 'key' = '[]') THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF033',
            format('rows of %s cannot be restored: %s, which tells them apart, was redacted in %s images of run %s, by '
                   'run %s', fix ->> 'target', seen.lost, seen.images, fix ->> 'from_run',
                   pg_temp.datafix_redacted_by(fix, (fix -> 'from_run')::bigint)),
            hint => CASE WHEN fix -> 'key' = '[]' THEN 'Nothing was changed. These rows have no key besides.'
                ELSE 'Nothing was changed. To restore the other rows: on_conflict="skip", or rows=[...] with their '
                     'keys.' END);
    ELSIF seen.images > 0 THEN
        EXECUTE pg_temp.datafix_sql(fix, format($sql$
            DELETE FROM pg_temp.datafix_pair_{{n}} AS p
             USING %s AS i
             WHERE i.audit_run_id = $1 AND i.audit_id IN (p.datafix_before, p.datafix_after) AND i.audit_redacted && $2
        $sql$, fix ->> 'audit')) USING (fix -> 'from_run')::bigint, telling;
        GET DIAGNOSTICS paired = ROW_COUNT;
        fix := fix || jsonb_build_object('left_alone', paired + seen.unpaired);
    END IF;
    -- Of an updated row, only what the fix wrote would have been restored.
    EXECUTE pg_temp.datafix_sql(fix, format($sql$
        SELECT count(DISTINCT (p.datafix_before, p.datafix_after)) AS rows,
               array_agg(DISTINCT l.column_name ORDER BY l.column_name) AS columns
          FROM pg_temp.datafix_pair_{{n}} AS p
          JOIN %s AS i ON i.audit_run_id = $1 AND i.audit_id = p.datafix_before
         CROSS JOIN unnest(i.audit_redacted) AS l (column_name)
         WHERE p.datafix_after IS NULL OR $2 = '[]' OR $2 ? l.column_name
    $sql$, fix ->> 'audit')) INTO told
      USING (fix -> 'from_run')::bigint, coalesce(nullif(fix -> 'noted' -> 'written_columns', 'null'), '[]');
    IF told.rows > 0 THEN
        EXECUTE format($sql$
            UPDATE %s SET declaration = declaration || jsonb_build_object('left_out',
                   coalesce(declaration -> 'left_out', '[]') || jsonb_build_object('table', $1 ->> 'target', 'rows', $2,
                                                                                    'columns', $3))
             WHERE run_id = ($1 -> 'run')::bigint
        $sql$, fix ->> 'ledger') USING fix, told.rows, told.columns;
        fix := fix || jsonb_build_object('left_out', format('%s of %s rows of %s',
                                         array_to_string(told.columns, ', '), told.rows, fix ->> 'target'));
    END IF;
    RETURN fix;
END
$engine$;

-- The joins of the images of a row of datafix_pair_N (p), before (b) and after (a), in a query that has the row as it
-- is now (t). A value that was redacted counts as the one of now: there is nothing to restore, and nothing to compare.
CREATE OR REPLACE FUNCTION pg_temp.datafix_images_of_pair(fix jsonb)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT string_agg(format('LEFT JOIN %1$s AS %2$s%5$s ON %2$s%5$s.audit_id = p.datafix_%3$s '
                             'AND %2$s%5$s.audit_run_id = %4$s', fix ->> 'copies', i.alias, i.image, fix ->> 'from_run',
                             CASE WHEN fix ? 'redacted' THEN '_kept' ELSE '' END), ' ' ORDER BY i.alias DESC)
           || CASE WHEN fix ? 'redacted' THEN
              string_agg(format(' CROSS JOIN LATERAL (SELECT %1$s_kept.audit_id, %2$s) AS %1$s', i.alias,
                  (SELECT string_agg(CASE WHEN fix -> 'redacted' ? (c ->> 'name')
                              THEN pg_temp.datafix_each(jsonb_build_array(c),
                                       'CASE WHEN %1$L = ANY (b_kept.audit_redacted) '
                                       'OR %1$L = ANY (a_kept.audit_redacted) THEN t.%1$I%3$s '
                                       'ELSE ' || i.alias || '_kept.%1$I END AS %1$I')
                              ELSE format('%s_kept.%I', i.alias, c ->> 'name') END, ', ')
                     FROM jsonb_array_elements(fix -> 'images') AS c)), '' ORDER BY i.alias DESC) ELSE '' END
      FROM (VALUES ('b', 'before'), ('a', 'after')) AS i (alias, image)
$engine$;

-- Whether something unique depends on a column that the fix wrote: other rows may have its value now.
CREATE OR REPLACE FUNCTION pg_temp.datafix_writes_unique(fix jsonb)
RETURNS boolean LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT EXISTS (
        SELECT FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid
         WHERE i.indrelid = (fix ->> 'target_oid')::oid AND (i.indisunique OR i.indisexclusion)
           AND (a.attnum = ANY (i.indkey)
                OR a.attnum IN (SELECT d.refobjsubid        -- an expression or a condition reads it
                                  FROM pg_depend AS d
                                 WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
                                   AND d.refobjid = i.indrelid AND d.refobjsubid > 0))
           AND (a.attgenerated <> '' OR fix -> 'written' @> jsonb_build_array(jsonb_build_object('name', a.attname))))
$engine$;

-- Creates datafix_restore_N, without rows. Of rows that may be free, it also takes what the fix left of each written
-- column, as datafix_left_1 and so on.
CREATE OR REPLACE FUNCTION pg_temp.datafix_make_restore(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    PERFORM pg_temp.datafix_make(pg_temp.datafix_sql(fix, format($sql$
        CREATE TEMP TABLE datafix_restore_{{n}} ON COMMIT DROP AS
        SELECT %s, false AS datafix_inserted, false AS datafix_deleted, true AS datafix_present,
               NULL::text AS datafix_state, NULL::text AS datafix_action%s
          FROM %s AS t CROSS JOIN %s AS a
          WITH NO DATA
    $sql$, pg_temp.datafix_each(fix -> 'staged', 't.%1$I'),
        (SELECT string_agg(format(', a.%I AS datafix_left_%s', c ->> 'name', n), '' ORDER BY n)
           FROM jsonb_array_elements(fix -> 'written') WITH ORDINALITY AS _ (c, n)
          WHERE (fix -> 'free')::boolean), fix ->> 'target', fix ->> 'audit')));
END
$engine$;

-- Where rows may be free, puts all rows of the run into datafix_restore_N. They may be, where the run only updated
-- rows, and no trigger, no other row and no reference can stand in the way.
CREATE OR REPLACE FUNCTION pg_temp.datafix_stage_free(fix jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_nestloop = off AS $engine$
DECLARE
    rows    bigint;
    -- where they are on other servers, deleted rows can be free, too: nobody has inserted any since
    deleted boolean := fix ? 'beside' AND fix -> 'noted' -> 'rows_deleted' = fix -> 'noted' -> 'images';
BEGIN
    IF fix ? 'beside' AND ((fix -> 'noted' -> 'images')::bigint <= 2000
                           OR pg_temp.datafix_kept_as_text(fix) IS NOT NULL)
       OR fix -> 'key' = '[]' OR NOT deleted AND (fix -> 'written' = '[]' OR fix -> 'identity' <> '[]')
       OR fix ? 'unidentified'
       OR fix ? 'chosen' OR fix ? 'redacted' OR pg_temp.datafix_has_triggers(fix) OR pg_temp.datafix_writes_unique(fix)
       -- rows of another table of the fix may go once this table lets go of them
       OR jsonb_array_length(fix -> 'all_oids') > 1 AND EXISTS (
            SELECT FROM pg_constraint AS k
              JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)
             WHERE k.contype = 'f' AND k.conrelid = (fix ->> 'target_oid')::oid
               AND fix -> 'all_oids' @> to_jsonb(k.confrelid::bigint)
               AND fix -> 'written' @> jsonb_build_array(jsonb_build_object('name', a.attname))) THEN
        RETURN fix || '{"free": false}';
    END IF;
    fix := fix || jsonb_build_object('free', true, 'staged',
        (SELECT jsonb_agg(c) FROM jsonb_array_elements(fix -> 'writable') AS c
          WHERE deleted OR fix -> 'key' ? (c ->> 'name') OR fix -> 'written' @> jsonb_build_array(c)));
    PERFORM pg_temp.datafix_make_restore(fix);
    IF fix ? 'beside' THEN
        PERFORM pg_temp.datafix_tell_no_loops();
        RETURN fix;
    END IF;
    EXECUTE pg_temp.datafix_sql(fix, format($sql$
        INSERT INTO pg_temp.datafix_restore_{{n}}
        SELECT %s, false, false, true, 'free', CASE WHEN record_image_ne(ROW(%s), ROW(%s)) THEN 'update' END, %3$s
          FROM %4$s
    $sql$, pg_temp.datafix_each(fix -> 'staged', 'b.%1$I%4$s'),
        pg_temp.datafix_each(fix -> 'written', 'b.%1$I'), pg_temp.datafix_each(fix -> 'written', 'a.%1$I'),
        pg_temp.datafix_both_images(fix)));
    GET DIAGNOSTICS rows = ROW_COUNT;
    IF 2 * rows <> (fix -> 'noted' -> 'images')::bigint THEN        -- it inserted or deleted some
        PERFORM pg_temp.datafix_make(pg_temp.datafix_sql(fix, 'DROP TABLE pg_temp.datafix_restore_{{n}}'));
        RETURN (fix - 'staged') || '{"free": false}';
    END IF;
    EXECUTE pg_temp.datafix_sql(fix, format('ANALYZE pg_temp.datafix_restore_{{n}} (%s, datafix_action)',
        (SELECT string_agg(quote_ident(k), ', ') FROM jsonb_array_elements_text(fix -> 'key') AS k)));
    RETURN fix;
END
$engine$;

-- Locks and copies the rows that are as the fix left them, in all columns that it wrote. Returns whether all are.
CREATE OR REPLACE FUNCTION pg_temp.datafix_copy_free(fix jsonb)
RETURNS boolean LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET timezone = 'UTC'
SET extra_float_digits = 1 SET bytea_output = 'hex' SET lc_monetary = 'C' SET array_nulls = on SET xmloption = 'content'
AS $engine$
DECLARE
    copied bigint;
BEGIN
    IF fix ? 'restore' THEN
        RETURN true;
    END IF;
    EXECUTE pg_temp.datafix_sql(fix, format($sql$
        INSERT INTO %s ({{columns}}, audit_run_id, audit_image)
        SELECT {{t.columns}}, {{run}}, 'before'
          FROM pg_temp.datafix_restore_{{n}} AS r JOIN %s AS t ON {{r.key = t.key}}
         WHERE r.datafix_action = 'update' AND NOT record_image_ne(ROW(%s), ROW(%s))
           FOR NO KEY UPDATE OF t
    $sql$, fix ->> 'audit', fix ->> 'rows', pg_temp.datafix_each(fix -> 'written', 't.%1$I%3$s'),
        (SELECT string_agg('r.datafix_left_' || n, ', ' ORDER BY n)
           FROM generate_series(1, jsonb_array_length(fix -> 'written')) AS n)));
    GET DIAGNOSTICS copied = ROW_COUNT;
    RETURN 2 * copied = (fix -> 'noted' -> 'images')::bigint;
END
$engine$;

-- All rows will be restored, in no other columns than the fix wrote: the ledger notes these. See datafix_left. It does
-- so where the run has one table: the views of the changes know runs, and not which of their tables is meant.
CREATE OR REPLACE FUNCTION pg_temp.datafix_note_written(fix jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    written jsonb := pg_temp.datafix_with_generated(fix,
        (SELECT jsonb_agg(c -> 'name') FROM jsonb_array_elements(fix -> 'written') AS c));
BEGIN
    IF jsonb_array_length(fix -> 'all_oids') > 1 OR fix -> 'written' = '[]' THEN
        RETURN fix;
    END IF;
    EXECUTE format('UPDATE %s SET written_columns = ARRAY(SELECT jsonb_array_elements_text($1))'
                   ' WHERE run_id = $2 AND position = $3', fix ->> 'ledger_tables')
      USING written, (fix -> 'run')::bigint, (fix -> 'n')::integer;
    RETURN fix || jsonb_build_object('left', pg_temp.datafix_left(fix, written));
END
$engine$;

-- Leaves only the free rows in datafix_restore_N, and pairs the images of all others.
CREATE OR REPLACE FUNCTION pg_temp.datafix_pair_what_is_left(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_nestloop = off AS $engine$
BEGIN
    EXECUTE pg_temp.datafix_sql(fix, format($sql$
        DELETE FROM pg_temp.datafix_restore_{{n}} AS r
         WHERE NOT EXISTS (SELECT FROM %s AS i WHERE i.audit_run_id = {{run}} AND {{i.key = r.key}})
    $sql$, fix ->> 'audit'));
    PERFORM pg_temp.datafix_pair_images(fix, (fix -> 'from_run')::bigint);
    EXECUTE pg_temp.datafix_sql(fix, $sql$
        DELETE FROM pg_temp.datafix_pair_{{n}} AS p
         WHERE EXISTS (SELECT FROM pg_temp.datafix_restore_{{n}} AS r WHERE {{r.key = p.key}})
    $sql$);
    EXECUTE pg_temp.datafix_sql(fix, 'ANALYZE pg_temp.datafix_pair_{{n}}');
END
$engine$;

-- Locks the rows of every table as they are now, and compares them with the images.
CREATE OR REPLACE FUNCTION pg_temp.datafix_compare(fix jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    one jsonb;
BEGIN
    FOR one IN SELECT * FROM pg_temp.datafix_tables(fix) LOOP
        one := pg_temp.datafix_fetch_rows(one);
        IF one ? 'redacted' THEN
            one := pg_temp.datafix_leave_out(one);
            fix := fix || jsonb_build_object('left_out', nullif(concat_ws(', ', fix ->> 'left_out',
                                                                          one ->> 'left_out'), ''));
        END IF;
        IF one -> 'key' = '[]' THEN
            one := one || jsonb_build_object('staged', one -> 'writable');
            PERFORM pg_temp.datafix_compare_by_image(one);
        ELSIF NOT (one -> 'free')::boolean THEN
            one := one || jsonb_build_object('staged', pg_temp.datafix_columns_to_stage(one));
            PERFORM pg_temp.datafix_make_restore(one);
            PERFORM pg_temp.datafix_compare_by_key(one);
        ELSIF NOT pg_temp.datafix_copy_free(one) THEN
            PERFORM pg_temp.datafix_pair_what_is_left(one);
            PERFORM pg_temp.datafix_compare_by_key(one);
        ELSE
            one := pg_temp.datafix_note_written(one);
        END IF;
        fix := pg_temp.datafix_put(fix, (one -> 'n')::integer, one);
    END LOOP;
    RETURN fix;
END
$engine$;

-- Compares every row three ways: as the fix found it (b), as the fix left it (a), as it is now (t). First, dynamic
-- SQL states facts of each row; then one CASE decides by them. datafix_facts_N holds, besides the values to restore:
--   datafix_inserted    the fix inserted the row: there is no before-image
--   datafix_deleted     the fix deleted the row: there is no after-image
--   datafix_present     the row exists now
--   datafix_late        it exists, but did not when the rows were locked
--   datafix_as_before   it is as the fix found it, in all columns but housekeeping
--   datafix_as_after    it is as the fix left it, in all columns but housekeeping
--   datafix_to_undo     a column that the fix changed does not have its value from before
--   datafix_contested   a column that the fix changed has neither its value from before nor the one that the fix left
-- Columns that the fix did not write keep what others wrote since. PostgreSQL may have no statistics of the images yet,
-- and would compare each with each, from memory (enable_material).
CREATE OR REPLACE FUNCTION pg_temp.datafix_compare_by_key(fix jsonb)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET timezone = 'UTC'
SET extra_float_digits = 1 SET bytea_output = 'hex' SET lc_monetary = 'C' SET array_nulls = on SET xmloption = 'content'
SET enable_material = off
AS $engine$
DECLARE
    compared jsonb := fix -> 'compared';
    written  jsonb := fix -> 'written';
    staged   jsonb := fix -> 'staged';
    now_row  text  := pg_temp.datafix_each(compared, 't.%1$I%3$s');
BEGIN
    PERFORM pg_temp.datafix_make(pg_temp.datafix_sql(fix, format($sql$
        CREATE TEMP TABLE datafix_facts_{{n}} ON COMMIT DROP AS
        SELECT %s, false AS datafix_inserted, false AS datafix_deleted, false AS datafix_present, false AS datafix_late,
               false AS datafix_as_before, false AS datafix_as_after,
               false AS datafix_to_undo, false AS datafix_contested
          FROM %s AS t
          WITH NO DATA
    $sql$, pg_temp.datafix_each(staged, 't.%1$I'), fix ->> 'target')));
    -- The rows that exist.
    EXECUTE pg_temp.datafix_sql(fix, format($sql$
        INSERT INTO pg_temp.datafix_facts_{{n}}
        SELECT %1$s, p.datafix_before IS NULL, p.datafix_after IS NULL, true, false,
               NOT record_image_ne(ROW(%2$s), ROW(%3$s)),
               NOT record_image_ne(ROW(%2$s), ROW(%4$s)),
               %5$s, %6$s
          FROM pg_temp.datafix_pair_{{n}} AS p
          JOIN %7$s AS t ON {{p.key = t.key}}
          %8$s
         ORDER BY {{t.key}} FOR %9$s OF t
    $sql$, pg_temp.datafix_values_to_restore(staged, written),
        now_row, pg_temp.datafix_each(compared, 'b.%1$I'), pg_temp.datafix_as_left(fix, compared),
        coalesce(pg_temp.datafix_each(written,
            'record_image_ne(ROW(b.%1$I), ROW(a.%1$I)) AND record_image_ne(ROW(t.%1$I%3$s), ROW(b.%1$I))',
            ' OR '), 'false'),
        -- without an identity, a row that differs in any column may be another one under the same key
        CASE WHEN fix ? 'unidentified' THEN 'true' ELSE coalesce(pg_temp.datafix_each(written,
            'record_image_ne(ROW(t.%1$I%3$s), ROW(a.%1$I)) AND record_image_ne(ROW(b.%1$I), ROW(a.%1$I)) '
            'AND record_image_ne(ROW(t.%1$I%3$s), ROW(b.%1$I))', ' OR '), 'false') END,
        fix ->> 'rows', pg_temp.datafix_images_of_pair(fix), pg_temp.datafix_lock_to_restore(fix)));
    -- The rows that do not: all that are not listed yet, so that a row which somebody deletes and inserts again
    -- meanwhile is not missed.
    EXECUTE pg_temp.datafix_sql(fix, format($sql$
        INSERT INTO pg_temp.datafix_facts_{{n}}
        SELECT %1$s, p.datafix_before IS NULL, p.datafix_after IS NULL, t.tableoid IS NOT NULL, t.tableoid IS NOT NULL,
               false, false, true, true
          FROM pg_temp.datafix_pair_{{n}} AS p
          LEFT JOIN %2$s AS t ON {{p.key = t.key}}
          %3$s
         WHERE NOT EXISTS (SELECT FROM pg_temp.datafix_facts_{{n}} AS f WHERE {{p.key = f.key}})
    $sql$, pg_temp.datafix_each(staged, 'CASE WHEN b.audit_id IS NULL THEN a.%1$I%4$s ELSE b.%1$I%4$s END'),
        fix ->> 'rows', pg_temp.datafix_images_of_pair(fix)));
    EXECUTE pg_temp.datafix_sql(fix, format($sql$
        INSERT INTO pg_temp.datafix_restore_{{n}}
        SELECT %s, f.datafix_inserted, f.datafix_deleted, f.datafix_present, verdict.datafix_state,
               CASE verdict.datafix_state
                   WHEN 'unchanged' THEN 'update'
                   WHEN 'drifted'   THEN 'update'
                   WHEN 'inserted'  THEN 'delete'
                   WHEN 'deleted'   THEN 'insert'
               END AS datafix_action      -- NULL: the revert leaves the row alone
          FROM pg_temp.datafix_facts_{{n}} AS f
         CROSS JOIN LATERAL (SELECT CASE
               -- somebody has just inserted it
               WHEN f.datafix_late                               THEN 'changed since'
               -- the fix inserted the row: it is deleted, unless somebody changed it
               WHEN f.datafix_inserted AND NOT f.datafix_present THEN 'already back'
               WHEN f.datafix_inserted AND f.datafix_as_after    THEN 'inserted'
               WHEN f.datafix_inserted                           THEN 'changed since'
               -- the fix deleted the row: it is inserted again, unless its key is in use
               WHEN f.datafix_deleted AND NOT f.datafix_present  THEN 'deleted'
               WHEN f.datafix_deleted AND f.datafix_as_before    THEN 'already back'
               WHEN f.datafix_deleted                            THEN 'taken'
               -- the fix updated the row: the columns that it changed are set back, unless somebody changed them
               WHEN NOT f.datafix_present                        THEN 'gone'
               WHEN NOT f.datafix_to_undo                        THEN 'already back'
               WHEN f.datafix_as_after                           THEN 'unchanged'
               WHEN f.datafix_contested                          THEN 'changed since'
               -- others wrote only columns that the fix did not change: these values stay
               ELSE                                                   'drifted'
               END) AS verdict (datafix_state)
    $sql$, pg_temp.datafix_each(staged, 'f.%1$I')));
    EXECUTE pg_temp.datafix_sql(fix, 'ANALYZE pg_temp.datafix_restore_{{n}}');
    PERFORM pg_temp.datafix_mark_moved(fix);
END
$engine$;

-- The values that a row gets: of each column that the fix changed the one from before, of all others the one of now.
CREATE OR REPLACE FUNCTION pg_temp.datafix_values_to_restore(staged jsonb, written jsonb)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT string_agg(CASE WHEN NOT written @> jsonb_build_array(c) THEN format('t.%I', c ->> 'name')
                           ELSE pg_temp.datafix_each(jsonb_build_array(c),
                                    'CASE WHEN b.audit_id IS NOT NULL AND a.audit_id IS NOT NULL '
                                    'AND record_image_ne(ROW(b.%1$I), ROW(a.%1$I)) THEN b.%1$I%4$s ELSE t.%1$I END')
                           END, ', ' ORDER BY (c -> 'position')::int)
      FROM jsonb_array_elements(staged) AS c
$engine$;

-- Without a key: the rows as they were before are inserted again. The rows as they were left are looked for by their
-- image, as many times as they were left. Nobody else writes meanwhile, so a row's place tells it from its equals.
CREATE OR REPLACE FUNCTION pg_temp.datafix_compare_by_image(fix jsonb)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET timezone = 'UTC'
SET extra_float_digits = 1 SET bytea_output = 'hex' SET lc_monetary = 'C' SET array_nulls = on SET xmloption = 'content'
AS $engine$
DECLARE
    names text := pg_temp.datafix_each(fix -> 'writable', '%1$I');
BEGIN
    EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', fix ->> 'target');
    PERFORM pg_temp.datafix_make(pg_temp.datafix_sql(fix, format($sql$
        CREATE TEMP TABLE datafix_restore_{{n}} ON COMMIT DROP AS
        SELECT %s, false AS datafix_inserted, NULL::text AS datafix_state, NULL::text AS datafix_action,
               NULL::oid AS datafix_leaf, NULL::tid AS datafix_place
          FROM %s AS t
          WITH NO DATA
    $sql$, pg_temp.datafix_each(fix -> 'writable', 't.%1$I'), fix ->> 'target')));
    PERFORM pg_temp.datafix_make(pg_temp.datafix_sql(fix, $sql$
        CREATE TEMP TABLE datafix_placed_{{n}} ON COMMIT DROP AS
        SELECT datafix_leaf, datafix_place FROM pg_temp.datafix_restore_{{n}}
    $sql$));
    EXECUTE pg_temp.datafix_sql(fix, format($sql$
        INSERT INTO pg_temp.datafix_restore_{{n}} (%s, datafix_inserted, datafix_state, datafix_action)
        SELECT %s, false, 'deleted', 'insert'
          FROM pg_temp.datafix_pair_{{n}} AS p JOIN %s AS b ON b.audit_id = p.datafix_before AND b.audit_run_id = %s
    $sql$, names, pg_temp.datafix_each(fix -> 'writable', 'b.%1$I%4$s'), fix ->> 'audit', fix ->> 'from_run'));
    EXECUTE pg_temp.datafix_sql(fix, format($sql$
        WITH was AS (
            SELECT i.*, ROW(%3$s)::text AS datafix_text,
                   row_number() OVER (PARTITION BY ROW(%3$s)::text ORDER BY i.audit_id) AS datafix_nth
              FROM pg_temp.datafix_pair_{{n}} AS p
              JOIN %1$s AS i ON i.audit_id = p.datafix_after AND i.audit_run_id = %9$s),
        has AS (
            SELECT one.*, row_number() OVER (PARTITION BY one.datafix_text
                                             ORDER BY one.datafix_leaf, one.datafix_place) AS datafix_nth
              FROM (SELECT i.*, i.tableoid AS datafix_leaf, i.ctid AS datafix_place, ROW(%4$s)::text AS datafix_text
                      FROM %2$s AS i) AS one
             WHERE one.datafix_text IN (SELECT was.datafix_text FROM was))
        INSERT INTO pg_temp.datafix_restore_{{n}}
               (%5$s, datafix_inserted, datafix_state, datafix_action, datafix_leaf, datafix_place)
        SELECT %6$s, true, CASE WHEN same.yes THEN 'inserted' ELSE 'gone' END, CASE WHEN same.yes THEN 'delete' END,
               has.datafix_leaf, has.datafix_place
          FROM was LEFT JOIN has USING (datafix_text, datafix_nth)
         CROSS JOIN LATERAL (
               SELECT has.datafix_place IS NOT NULL AND NOT record_image_ne(ROW(%7$s), ROW(%8$s))) AS same (yes)
         WHERE EXISTS (SELECT FROM was)
    $sql$, fix ->> 'audit', fix ->> 'target',
        pg_temp.datafix_each(fix -> 'compared', 'i.%1$I'), pg_temp.datafix_each(fix -> 'compared', 'i.%1$I%3$s'),
        names, pg_temp.datafix_each(fix -> 'writable', 'was.%1$I%4$s'),
        pg_temp.datafix_each(fix -> 'compared', 'was.%1$I'), pg_temp.datafix_each(fix -> 'compared', 'has.%1$I%3$s'),
        fix ->> 'from_run'));
END
$engine$;

-- The columns in which the restored rows are kept until they are written, and compared afterwards: all of them where
-- a trigger may change more, or rows may be inserted; else the key, what the fix wrote and what is unique.
CREATE OR REPLACE FUNCTION pg_temp.datafix_columns_to_stage(fix jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    target oid := (fix ->> 'target_oid')::oid;
    gone   boolean;
BEGIN
    EXECUTE pg_temp.datafix_sql(fix,
        'SELECT EXISTS (SELECT FROM pg_temp.datafix_pair_{{n}} AS p WHERE p.datafix_after IS NULL)') INTO gone;
    -- restoring a unique value that the fix changed may take a delete and an insert
    IF gone OR pg_temp.datafix_has_triggers(fix) OR pg_temp.datafix_writes_unique(fix) THEN
        RETURN fix -> 'writable';
    END IF;
    RETURN (SELECT jsonb_agg(c) FROM jsonb_array_elements(fix -> 'writable') AS c
             WHERE fix -> 'key' ? (c ->> 'name') OR fix -> 'written' @> jsonb_build_array(c)
                -- by name: the images' positions are those of the database in which the fix ran
                OR c ->> 'name' IN (
                   SELECT a.attname
                     FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = target AND a.attnum = ANY (i.indkey)
                    WHERE i.indrelid = target AND i.indisunique)
                -- all of a reference, to tell what the row refers to afterwards
                OR c ->> 'name' IN (
                   SELECT a.attname
                     FROM pg_constraint AS k JOIN pg_attribute AS a ON a.attrelid = target AND a.attnum = ANY (k.conkey)
                    WHERE k.contype = 'f' AND k.conrelid = target));
END
$engine$;

-- The lock for the rows. FOR UPDATE is needed only where rows will be deleted or unique values change; it would make
-- the inserts of child rows wait.
CREATE OR REPLACE FUNCTION pg_temp.datafix_lock_to_restore(fix jsonb)
RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    inserted boolean;
BEGIN
    EXECUTE pg_temp.datafix_sql(fix,
        'SELECT EXISTS (SELECT FROM pg_temp.datafix_pair_{{n}} AS p WHERE p.datafix_before IS NULL)') INTO inserted;
    RETURN CASE WHEN inserted OR EXISTS (
                     SELECT FROM pg_index AS i
                       JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
                      WHERE i.indrelid = (fix ->> 'target_oid')::oid AND i.indisunique
                        AND fix -> 'written' @> jsonb_build_array(jsonb_build_object('name', a.attname)))
                THEN 'UPDATE' ELSE 'NO KEY UPDATE' END;
END
$engine$;

-- The images of what the revert will delete and change hold every bit. Where they would not, somebody has written a
-- value since that its text does not tell, and the revert would lose it.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_restoring(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    was_so boolean := NOT fix -> 'noted' -> 'shape' ? 'exact';     -- version 0.1 did not check what a fix wrote
BEGIN
    PERFORM pg_temp.datafix_check_read_back(fix, format(
        '%s AS t JOIN pg_temp.datafix_restore_{{n}} AS r ON r.datafix_action = ''delete'' AND %s', fix ->> 'rows',
        CASE WHEN fix -> 'key' <> '[]' THEN '{{r.key = t.key}}'
             ELSE 'r.datafix_leaf = t.tableoid AND r.datafix_place = t.ctid' END), was_so => was_so);
    IF fix -> 'key' <> '[]' THEN
        PERFORM pg_temp.datafix_check_read_back(fix || jsonb_build_object('columns', fix -> 'staged'), format(
            '%s AS t JOIN pg_temp.datafix_restore_{{n}} AS o '
            'ON o.datafix_action IN (''update'', ''replace'') AND {{o.key = t.key}}', fix ->> 'rows'),
            'true', was_so);
    END IF;
END
$engine$;

-- Copies the rows of every table that a revert is about to change ("before"), or has changed ("after"): of these, only
-- those that have every value back. Adds to each table how many rows were copied.
CREATE OR REPLACE FUNCTION pg_temp.datafix_copy_restored(fix jsonb, image text)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET timezone = 'UTC'
SET extra_float_digits = 1 SET bytea_output = 'hex' SET lc_monetary = 'C' SET array_nulls = on SET xmloption = 'content'
AS $engine$
DECLARE
    one    jsonb;
    copied bigint;
BEGIN
    FOR one IN SELECT * FROM pg_temp.datafix_tables(fix) LOOP
        IF image = 'before' THEN
            CONTINUE WHEN one ? 'restore';      -- these are copied already
            PERFORM pg_temp.datafix_check_restoring(one);
        ELSE
            PERFORM pg_temp.datafix_read_rows(one);
        END IF;
        EXECUTE pg_temp.datafix_sql(one, format($sql$
            INSERT INTO %1$s ({{%6$s}}, audit_run_id, audit_image)
            SELECT {{t.%6$s}}, {{run}}, %2$L
              FROM %3$s AS t
             WHERE EXISTS (SELECT FROM %4$s)%5$s
        $sql$, one ->> 'audit', image, one ->> 'rows',
            CASE WHEN one -> 'key' = '[]' AND image = 'before'
                 THEN 'pg_temp.datafix_restore_{{n}} AS r '
                      'WHERE r.datafix_action = ''delete'' AND r.datafix_leaf = t.tableoid AND r.datafix_place = t.ctid'
                 WHEN one -> 'key' = '[]'
                 THEN 'pg_temp.datafix_placed_{{n}} AS r '
                      'WHERE r.datafix_leaf = t.tableoid AND r.datafix_place = t.ctid'
                 WHEN image = 'before'
                 THEN 'pg_temp.datafix_restore_{{n}} AS r WHERE {{r.key = t.key}} AND r.datafix_state <> ''free'' '
                      'AND r.datafix_action IN (''update'', ''delete'', ''replace'')'
                 ELSE format('{{restore}} AS r WHERE {{r.key = t.key}} '
                             'AND r.datafix_action IN (''update'', ''insert'', ''replace'') '
                             'AND NOT record_image_ne(ROW(%s), ROW(%s))',
                             pg_temp.datafix_each(pg_temp.datafix_proven_by(one), 'r.%1$I'),
                             pg_temp.datafix_each(pg_temp.datafix_proven_by(one), 't.%1$I')) END,
            -- rows that are "free" are in no order: it would cost as much as the copy
            CASE WHEN one -> 'key' = '[]' THEN ' ORDER BY t.tableoid, t.ctid'
                 WHEN NOT (one -> 'free')::boolean THEN ' ORDER BY {{t.key}}' ELSE '' END,
            CASE image WHEN 'before' THEN 'columns' ELSE 'left' END));
        GET DIAGNOSTICS copied = ROW_COUNT;
        fix := pg_temp.datafix_put(fix, (one -> 'n')::integer, one || jsonb_build_object('copied', copied));
    END LOOP;
    RETURN fix;
END
$engine$;

-- The columns in which a restored row must have the values that were to be restored.
CREATE OR REPLACE FUNCTION pg_temp.datafix_proven_by(fix jsonb)
RETURNS jsonb LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT jsonb_agg(c) FROM jsonb_array_elements(fix -> 'staged') AS c
     WHERE NOT fix -> 'housekeeping' ? (c ->> 'name')
$engine$;

-- A null goes back only where the table accepts one: a column may have become NOT NULL since, and NOT NULL ... NOT
-- VALID forbids every null that is written, though older ones remain.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_nulls(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    one    jsonb;
    tests  text;
    amiss  record;
BEGIN
    FOR one IN SELECT * FROM pg_temp.datafix_tables(fix) LOOP
        SELECT string_agg(format('CASE WHEN ' || CASE
                   WHEN one -> 'staged' @> name THEN 'r.datafix_action <> ''delete'' AND num_nulls(r.%1$I) > 0'
                   WHEN one -> 'writable' @> name THEN 'r.datafix_action = ''update'' AND num_nulls(t.%1$I) > 0'
                   ELSE 'r.datafix_action IN (''insert'', ''replace'')' END || ' THEN %1$L END', a.attname), ', ')
          INTO tests
          FROM pg_attribute AS a
         CROSS JOIN LATERAL (SELECT jsonb_build_array(jsonb_build_object('name', a.attname))) AS _ (name)
         WHERE a.attrelid = (one ->> 'target_oid')::oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull
           AND a.attgenerated = '' AND NOT one -> 'key' ? a.attname::text
           AND CASE WHEN NOT one -> 'writable' @> name
                    -- what was added since has its default, or a trigger fills it in
                    THEN NOT a.atthasdef AND a.attidentity = '' AND NOT pg_temp.datafix_has_triggers(one)
                    -- a row that keeps a null is written too, and then held against a constraint that is NOT VALID
                    ELSE NOT one -> 'housekeeping' ? a.attname::text
                         AND (one -> 'staged' @> name OR NOT pg_temp.datafix_never_null(a)) END;
        CONTINUE WHEN tests IS NULL;
        EXECUTE pg_temp.datafix_sql(one, format($sql$
            SELECT count(*) AS rows, string_agg(v.key, ', ' ORDER BY v.place) AS keys,
                   ARRAY(SELECT DISTINCT c FROM unnest(string_to_array(string_agg(v.columns, chr(1)), chr(1))) AS c)
                   AS columns
              FROM (SELECT concat_ws(chr(1), %s) AS columns, %s
                      FROM {{restore}} AS r %s
                     WHERE r.datafix_action IS NOT NULL AND concat_ws(chr(1), %1$s) <> '') AS v
        $sql$, tests, CASE WHEN one -> 'key' = '[]' THEN 'NULL::text AS key, 0 AS place'
                           ELSE 'concat_ws(''/'', {{r.key}}) AS key, '
                                'row_number() OVER (ORDER BY {{r.key}}) AS place' END,
            CASE WHEN strpos(tests, 'num_nulls(t.') > 0
                 THEN format('LEFT JOIN %s AS t ON {{r.key = t.key}}', one ->> 'rows') ELSE '' END)) INTO amiss;
        CONTINUE WHEN amiss.rows = 0;
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF012',
            format('%s rows of %s cannot be restored: %s would be NULL, but is NOT NULL now%s',
                   amiss.rows, one ->> 'target', array_to_string(amiss.columns, ', '),
                   ': ' || CASE WHEN length(amiss.keys) > 300 THEN left(amiss.keys, 300) || ' ...' ELSE amiss.keys END),
            hint => 'Nothing was changed. Downgrade the migration that made it NOT NULL first, or let it take NULL '
                    'until the rows are back: ' || format('ALTER TABLE %s ', one ->> 'target')
            || (SELECT string_agg(format('ALTER COLUMN %I DROP NOT NULL', c), ', ') FROM unnest(amiss.columns) AS c));
    END LOOP;
END
$engine$;

-- The statement that restores all rows of all tables: it deletes what was inserted, sets back what was changed, and
-- inserts again what was deleted. It is one statement, because PostgreSQL checks foreign keys when a statement has
-- ended: the order of the tables does not matter, whatever refers to what. It runs in the revert's own block, because
-- it fires triggers: its operators are qualified, since the caller's search_path applies there.
CREATE OR REPLACE FUNCTION pg_temp.datafix_restore_sql(fix jsonb)
RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    one     jsonb;
    present jsonb;
    parts   text[] := '{}';
    counted text[] := '{}';
    earlier text;
BEGIN
    FOR one IN SELECT * FROM pg_temp.datafix_tables(fix) LOOP
        EXECUTE pg_temp.datafix_sql(one, $sql$
            SELECT coalesce(jsonb_object_agg(datafix_action, n), '{}')
              FROM (SELECT datafix_action, count(*) AS n
                      FROM {{counted}} AS r
                     WHERE datafix_action IS NOT NULL
                     GROUP BY 1) AS _
        $sql$) INTO present;
        IF one ? 'citus' THEN
            RETURN format('SELECT %s', pg_temp.datafix_restore_there(one, present));
        END IF;
        earlier := '';      -- unique values are checked row by row: what gives one up goes first
        IF present ?| ARRAY['delete', 'replace'] THEN
            parts := parts || pg_temp.datafix_sql(one, format($sql$
                deleted_{{n}} AS (
                    DELETE FROM %s AS t
                     USING pg_temp.datafix_restore_{{n}} AS r
                     WHERE r.datafix_action OPERATOR(pg_catalog.=) ANY ('{delete,replace}')
                       AND %s
                    RETURNING 1)
            $sql$, one ->> 'target',
                CASE WHEN one -> 'key' <> '[]' THEN '{{r.key = t.key}}'
                     ELSE 'r.datafix_leaf OPERATOR(pg_catalog.=) t.tableoid '
                          'AND r.datafix_place OPERATOR(pg_catalog.=) t.ctid' END));
            counted := counted || format('(SELECT pg_catalog.count(*) FROM deleted_%s)', one ->> 'n');
            earlier := earlier || format(' AND (SELECT pg_catalog.count(*) FROM deleted_%s) OPERATOR(pg_catalog.>=) 0',
                                         one ->> 'n');
        END IF;
        IF present ? 'update' THEN
            parts := parts || pg_temp.datafix_sql(one, format($sql$
                updated_{{n}} AS (
                    UPDATE %s AS t
                       SET %s
                      FROM pg_temp.datafix_restore_{{n}} AS r
                     WHERE r.datafix_action OPERATOR(pg_catalog.=) 'update' AND {{r.key = t.key}}%s
                    RETURNING 1)
            $sql$, one ->> 'target', pg_temp.datafix_each(one -> 'written', '%1$I = r.%1$I'), earlier));
            counted := counted || format('(SELECT pg_catalog.count(*) FROM updated_%s)', one ->> 'n');
            earlier := earlier || format(' AND (SELECT pg_catalog.count(*) FROM updated_%s) OPERATOR(pg_catalog.>=) 0',
                                         one ->> 'n');
        END IF;
        IF present ?| ARRAY['insert', 'replace'] THEN
            parts := parts || pg_temp.datafix_sql(one, format($sql$
                inserted_{{n}} AS (
                    INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE
                    SELECT %s
                      FROM pg_temp.datafix_restore_{{n}} AS r
                     WHERE r.datafix_action OPERATOR(pg_catalog.=) ANY ('{insert,replace}')%s
                    RETURNING tableoid, ctid)
            $sql$, one ->> 'target', pg_temp.datafix_each(one -> 'writable', '%1$I'),
                pg_temp.datafix_each(one -> 'writable', 'r.%1$I'), earlier));
            counted := counted || format('(SELECT pg_catalog.count(*) FROM inserted_%s)', one ->> 'n');
            IF one -> 'key' = '[]' THEN
                parts := parts || format($sql$
                    placed_%1$s AS (
                        INSERT INTO pg_temp.datafix_placed_%1$s SELECT * FROM inserted_%1$s)
                $sql$, one ->> 'n');
            END IF;
        END IF;
        IF present ? 'replace' THEN     -- deleted and inserted, and one row all the same
            counted := counted || ('-' || (present ->> 'replace'));
        END IF;
    END LOOP;
    RETURN CASE WHEN parts = '{}' THEN 'SELECT 0'
                ELSE 'WITH ' || array_to_string(parts, ',') || E'\nSELECT '
                     || array_to_string(counted, ' OPERATOR(pg_catalog.+) ') END;
END
$engine$;

-- Every restored row has the restored values, bit for bit. Where a trigger prevented that, the refusal names the
-- column.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_restored(fix jsonb, restored bigint)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    one     jsonb;
    planned record;
    total   bigint := 0;
    proven  bigint;
    example text;
    proof   jsonb;
BEGIN
    FOR one IN SELECT * FROM pg_temp.datafix_tables(fix) LOOP
        proof := pg_temp.datafix_proven_by(one);
        EXECUTE pg_temp.datafix_sql(one, $sql$
            SELECT count(*) AS rows,
                   count(*) FILTER (WHERE datafix_action = 'insert') AS inserted,
                   count(*) FILTER (WHERE datafix_action = 'update') AS updated,
                   count(*) FILTER (WHERE datafix_action = 'delete') AS deleted,
                   count(*) FILTER (WHERE datafix_action = 'replace') AS replaced
              FROM {{counted}} AS r
             WHERE datafix_action IS NOT NULL
        $sql$) INTO planned;
        total := total + planned.rows;
        example := NULL;
        IF one -> 'key' <> '[]' AND planned.deleted = 0 AND (one -> 'copied')::bigint = planned.rows THEN
            proven := planned.rows;     -- the copy took only what has every value back
        ELSIF one -> 'key' <> '[]' THEN
            EXECUTE pg_temp.datafix_sql(one, format($sql$
                SELECT count(*) FILTER (WHERE (t.tableoid IS NULL) = (r.datafix_action = 'delete')),
                       min(CASE WHEN r.datafix_action <> 'delete' AND record_image_ne(ROW(%s), ROW(%s))
                                THEN {{r.shown}} || ': ' || array_to_string(ARRAY[%s], ', ') END)
                  FROM pg_temp.datafix_restore_{{n}} AS r
                  LEFT JOIN %s AS t ON {{r.key = t.key}}
                 WHERE r.datafix_action IS NOT NULL
            $sql$, pg_temp.datafix_each(proof, 'r.%1$I'), pg_temp.datafix_each(proof, 't.%1$I'),
                pg_temp.datafix_each_shown(one, proof,
                    'CASE WHEN record_image_ne(ROW(r.%1$I), ROW(t.%1$I)) '
                    'THEN %1$L || '' is '' || coalesce(left(t.%1$I::text, 100), ''NULL'') '
                    '|| '', not '' || coalesce(left(r.%1$I::text, 100), ''NULL'') END',
                    'CASE WHEN record_image_ne(ROW(r.%1$I), ROW(t.%1$I)) THEN %1$L || '' is (masked)'' END'),
                one ->> 'rows')) INTO proven, example;
        ELSE
            EXECUTE pg_temp.datafix_sql(one, format($sql$
                SELECT %5$s + count(*) FILTER (WHERE i.n IS NOT NULL AND r.n IS NOT NULL),
                       min(CASE WHEN record_image_ne(r.image, i.image) THEN r.shown END)
                  FROM (SELECT ROW(%1$s) AS image, ROW(%4$s)::text AS shown,
                               row_number() OVER (ORDER BY ROW(%1$s) USING OPERATOR(pg_catalog.*<)) AS n
                          FROM pg_temp.datafix_restore_{{n}} AS r
                         WHERE r.datafix_action = 'insert') AS r
                  FULL JOIN (SELECT ROW(%2$s) AS image,
                                    row_number() OVER (ORDER BY ROW(%2$s) USING OPERATOR(pg_catalog.*<)) AS n
                               FROM pg_temp.datafix_placed_{{n}} AS p
                               JOIN %3$s AS t ON p.datafix_leaf = t.tableoid AND p.datafix_place = t.ctid) AS i
                         USING (n)
            $sql$, pg_temp.datafix_each(proof, 'r.%1$I'), pg_temp.datafix_each(proof, 't.%1$I'), one ->> 'target',
                pg_temp.datafix_each_shown(one, proof, 'r.%1$I', '''(masked)''::text'), planned.deleted))
               INTO proven, example;
        END IF;
        IF proven <> planned.rows OR example IS NOT NULL THEN
            EXIT;
        END IF;
        PERFORM pg_temp.datafix_count(one, planned.inserted, planned.updated + planned.replaced, planned.deleted);
        PERFORM pg_temp.datafix_check_rows(one,
            planned.inserted + planned.replaced, planned.updated, planned.deleted + planned.replaced,
            CASE WHEN one -> 'key' <> '[]'
                 THEN 'EXISTS (SELECT FROM pg_temp.datafix_restore_{{n}} AS r '
                      'WHERE r.datafix_action IS NOT NULL AND {{r.key = t.key}})'
                 ELSE 'EXISTS (SELECT FROM pg_temp.datafix_placed_{{n}} AS r '
                      'WHERE r.datafix_leaf = t.tableoid AND r.datafix_place = t.ctid)' END);
    END LOOP;
    IF example IS NOT NULL OR proven <> planned.rows OR restored <> total THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF012',
            format('a trigger of %s prevents values from being restored: %s',
                   one ->> 'target',
                   coalesce(left(example, 300),
                            format('%s of %s rows', coalesce(nullif(planned.rows - proven, 0), total - restored),
                                   planned.rows))),
            hint => 'Nothing was changed. List a column that a trigger maintains in housekeeping=[...] of the fix, '
                    'switch triggers off in the fix and its revert (fire_triggers=False), or disable the trigger for '
                    'this downgrade (ALTER TABLE ... DISABLE TRIGGER) and enable it afterwards. Triggers: '
                    || pg_temp.datafix_name_triggers(fix) || '.');
    END IF;
END
$engine$;
