-- What an apply needs: it checks what was found and what was changed, and refuses.

-- Opens the run. A declared fix has one table: its keys are added to those of the fix.
CREATE OR REPLACE FUNCTION pg_temp.datafix_open(declared jsonb, version_table regclass)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    fix jsonb := pg_temp.datafix_open_run(pg_temp.datafix_begin(declared || '{"direction": "apply"}', version_table));
BEGIN
    RETURN pg_temp.datafix_table(fix, 1) || jsonb_build_object('tables', fix -> 'tables');
END
$engine$;

-- The keys of this run's before-images, for messages: at most ten.
CREATE OR REPLACE FUNCTION pg_temp.datafix_some_keys(fix jsonb)
RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    total bigint;
    keys  text;
BEGIN
    EXECUTE pg_temp.datafix_sql(fix, format($sql$
        SELECT max(total), string_agg(key, ', ' ORDER BY position)
          FROM (SELECT {{i.shown}} AS key,
                       row_number() OVER (ORDER BY i.audit_id) AS position,
                       count(*) OVER () AS total
                  FROM %s AS i
                 WHERE i.audit_run_id = {{run}} AND i.audit_image = 'before') AS captured
         WHERE position <= 10
    $sql$, fix ->> 'audit')) INTO total, keys;
    RETURN keys || CASE WHEN total > 10 THEN format(' and %s more', total - 10) ELSE '' END;
END
$engine$;

-- Creates the table for the keys of the rows that are locked and copied. Every later step is for these rows only. Where
-- the copy cannot lock them, they are locked here.
CREATE OR REPLACE FUNCTION pg_temp.datafix_prepare_captured(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    PERFORM pg_temp.datafix_make(pg_temp.datafix_sql(fix, format(
        'CREATE TEMP TABLE datafix_captured ON COMMIT DROP AS SELECT {{t.key}} FROM %s AS t WITH NO DATA',
        fix ->> 'target')));
    IF fix ? 'citus' AND fix ->> 'change' <> 'insert' THEN
        PERFORM pg_temp.datafix_lock_there(fix, CASE WHEN to_regclass('pg_temp.datafix_expected') IS NOT NULL
                                                     THEN 'pg_temp.datafix_expected' END);
    END IF;
END
$engine$;

-- Notes the keys of the rows that were locked and copied. ANALYZE tells the planner how many they are. Where they are
-- many and on other servers, with their copies beside them, the keys stay there. Returns the facts.
CREATE OR REPLACE FUNCTION pg_temp.datafix_note_captured(fix jsonb, copied bigint)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    captured text := format('%s AS t JOIN pg_temp.datafix_captured AS c ON {{c.key = t.key}}', fix ->> 'target');
    unlike   text;
BEGIN
    IF fix ? 'beside' AND copied > 1000 AND to_regclass('pg_temp.datafix_expected') IS NULL
       AND pg_temp.datafix_kept_as_text(fix) IS NULL THEN
        PERFORM pg_temp.datafix_tell_no_loops();
        RETURN fix || '{"many": true}';
    END IF;
    EXECUTE pg_temp.datafix_sql(fix, format(
        'INSERT INTO pg_temp.datafix_captured SELECT %s FROM %s AS i WHERE i.audit_run_id = {{run}}',
        pg_temp.datafix_typed_key(fix, 'i'), fix ->> 'audit'));
    ANALYZE pg_temp.datafix_captured;
    IF fix ? 'without' AND pg_temp.datafix_has_triggers(fix) THEN
        PERFORM pg_temp.datafix_make(pg_temp.datafix_sql(fix, format(
            'CREATE TEMP TABLE datafix_uncopied ON COMMIT DROP AS SELECT {{t.key}}, %s FROM %s',
            (SELECT string_agg(format('t.%I', w), ', ') FROM jsonb_array_elements_text(fix -> 'without') AS w),
            captured)));
    END IF;
    IF pg_temp.datafix_kept_as_text(fix) IS NULL THEN
        RETURN fix;
    END IF;
    -- a key that was read back from its text as another one
    EXECUTE pg_temp.datafix_sql(fix, format($sql$
        SELECT min({{c.shown}}) FROM pg_temp.datafix_captured AS c LEFT JOIN %s AS t ON {{c.key = t.key}}
         WHERE t.tableoid IS NULL
            OR EXISTS (SELECT FROM pg_temp.datafix_captured AS o WHERE {{o.key = c.key}} AND o.ctid <> c.ctid)%s
    $sql$, fix ->> 'target', CASE WHEN to_regclass('pg_temp.datafix_expected') IS NOT NULL THEN
        ' OR NOT EXISTS (SELECT FROM pg_temp.datafix_expected AS e WHERE {{e.key = c.key}})' ELSE '' END)) INTO unlike;
    IF unlike IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse_inexact(fix, unlike, fix -> 'key');
    ELSIF fix ->> 'change' = 'delete' THEN
        PERFORM pg_temp.datafix_check_read_back(fix, captured);
    ELSE
        PERFORM pg_temp.datafix_make(pg_temp.datafix_sql(fix, format(
            'CREATE TEMP TABLE datafix_found ON COMMIT DROP AS SELECT %s FROM %s',
            pg_temp.datafix_each(fix -> 'columns', 't.%1$I'), captured)));
    END IF;
    RETURN fix;
END
$engine$;

-- The images of the changed rows hold every bit.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_exact(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    IF pg_temp.datafix_kept_as_text(fix) IS NULL THEN
        RETURN;
    ELSIF fix ->> 'change' = 'insert' THEN
        PERFORM pg_temp.datafix_check_read_back(fix, format(
            '%s AS t JOIN pg_temp.datafix_captured AS c ON {{c.key = t.key}}', fix ->> 'target'));
    ELSIF fix ->> 'change' = 'update' THEN
        PERFORM pg_temp.datafix_check_read_back(fix, format(
            'pg_temp.datafix_found AS t JOIN %s AS o ON {{t.key = o.key}}', fix ->> 'target'), 'true');
        PERFORM pg_temp.datafix_check_read_back(fix, format(
            '%s AS t JOIN pg_temp.datafix_found AS o ON {{o.key = t.key}}', fix ->> 'target'), 'false');
    END IF;
END
$engine$;

-- Rows are to be inserted where a condition holds. Returns whether it does.
CREATE OR REPLACE FUNCTION pg_temp.datafix_is_meant(fix jsonb, holds boolean, condition text)
RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    IF holds THEN
        RETURN true;
    END IF;
    IF (fix -> 'required')::boolean THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF007',
            format('the condition of its rows does not hold here: %s', condition),
            hint => 'Is this the database that the fix was written for? ' || pg_temp.datafix_ways_on(fix));
    END IF;
    PERFORM pg_temp.datafix_close(fix, 'not_applicable');
    RETURN false;
END
$engine$;

-- A number of rows was expected, or any number up to a bound: any other is refused.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_number(fix jsonb, counted bigint)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    expected  bigint := (fix -> 'rows_expected')::bigint;
    tolerance bigint := (fix -> 'tolerance')::bigint;
    bounded   boolean := fix ? 'at_most';
    least     bigint := CASE WHEN bounded THEN 1 ELSE expected - tolerance END;
BEGIN
    IF counted NOT BETWEEN least AND expected + tolerance THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF007',
            format('found %s rows of %s, expected %s%s%s',
                   counted, fix ->> 'target', CASE WHEN bounded THEN '1 to ' ELSE '' END, expected,
                   CASE WHEN tolerance > 0 THEN format(' (give or take %s)', tolerance) ELSE '' END),
            hint => coalesce('Found: ' || CASE WHEN fix ? 'run' THEN pg_temp.datafix_some_keys(fix) END || '. ', '')
                    || pg_temp.datafix_ways_on(fix));
    END IF;
END
$engine$;

-- The rows of a number are copied. Returns whether there is something to change; refuses any other number than the fix
-- was written for.
CREATE OR REPLACE FUNCTION pg_temp.datafix_found_the_number(fix jsonb, copied bigint)
RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    IF fix ? 'part_of' THEN
        RETURN pg_temp.datafix_found_in_batch(fix, copied);
    END IF;
    EXECUTE format('UPDATE %s SET rows_found = $1, rows_already = 0 WHERE run_id = $2', fix ->> 'ledger')
      USING copied, (fix -> 'run')::bigint;
    IF copied = 0 AND NOT (fix -> 'required')::boolean THEN
        PERFORM pg_temp.datafix_close(fix, 'not_applicable');
        RETURN false;
    END IF;
    PERFORM pg_temp.datafix_check_number(fix, copied);
    RETURN true;
END
$engine$;

-- The rows were named one by one. datafix_expected holds them, datafix_actual the rows that the table has under their
-- keys. Returns whether there is something to change; refuses when a row is not the one the fix was written for.
CREATE OR REPLACE FUNCTION pg_temp.datafix_found_the_rows(fix jsonb)
RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    differs text;
    seen    record;
    which   text;
BEGIN
    differs := coalesce(pg_temp.datafix_other_identity(fix, 'pg_temp.datafix_expected', 'e', 'a'), 'false');
    EXECUTE pg_temp.datafix_sql(fix, format($sql$
        WITH looked_at AS (
            SELECT {{e.shown}} AS key,
                   CASE WHEN a.datafix_matches IS NULL THEN 'is missing'
                        WHEN %s THEN %s
                        WHEN c.tableoid IS NOT NULL AND NOT a.datafix_matches THEN 'changed while it was being locked'
                        WHEN c.tableoid IS NOT NULL THEN 'found'
                        WHEN a.datafix_already THEN 'already'
                        WHEN a.datafix_matches THEN 'changed while it was being locked'
                        ELSE 'does not meet the condition of the fix' END AS verdict,
                   row_number() OVER (ORDER BY {{e.key}}) AS position
              FROM pg_temp.datafix_expected AS e
              LEFT JOIN pg_temp.datafix_actual AS a ON {{e.key = a.key}}
              LEFT JOIN pg_temp.datafix_captured AS c ON {{c.key = e.key}})
        SELECT count(*) FILTER (WHERE verdict = 'found') AS found,
               count(*) FILTER (WHERE verdict = 'already') AS already,
               count(*) FILTER (WHERE verdict = 'is missing') AS missing,
               count(*) FILTER (WHERE verdict NOT IN ('found', 'already')) AS wrong,
               string_agg(key || ' ' || verdict, '; ' ORDER BY position)
                   FILTER (WHERE verdict NOT IN ('found', 'already')) AS which,
               string_agg(key, ', ' ORDER BY position) FILTER (WHERE verdict = 'already') AS as_wanted
          FROM looked_at
    $sql$, differs, pg_temp.datafix_difference(fix, 'pg_temp.datafix_expected'))) INTO seen;
    EXECUTE format('UPDATE %s SET rows_found = $1, rows_already = $2, already = $4 WHERE run_id = $3', fix ->> 'ledger')
      USING seen.found, seen.already, (fix -> 'run')::bigint, left(seen.as_wanted, 600);
    IF seen.missing = (fix -> 'rows_expected')::bigint AND NOT (fix -> 'required')::boolean THEN
        PERFORM pg_temp.datafix_close(fix, 'not_applicable');
        RETURN false;
    END IF;
    IF seen.wrong > 0 THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF007',
            format('%s of the %s expected rows of %s %s not as expected: %s',
                   seen.wrong, fix ->> 'rows_expected', fix ->> 'target',
                   CASE seen.wrong WHEN 1 THEN 'is' ELSE 'are' END,
                   CASE WHEN length(seen.which) > 600 THEN left(seen.which, 600) || ' ...' ELSE seen.which END),
            hint => pg_temp.datafix_ways_on(fix));
    END IF;
    IF seen.found > (SELECT count(*) FROM pg_temp.datafix_captured) THEN
        EXECUTE pg_temp.datafix_sql(fix, $sql$
            SELECT string_agg({{e.shown}}, ', ' ORDER BY {{e.key}})
              FROM pg_temp.datafix_expected AS e
             WHERE EXISTS (SELECT FROM pg_temp.datafix_expected AS o WHERE {{o.key = e.key}} AND o.ctid <> e.ctid)
        $sql$) INTO which;
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF007',
            format('keys of its expected rows are equal in %s and name the same row: %s', fix ->> 'target',
                   left(which, 300)));
    ELSIF seen.found < (SELECT count(*) FROM pg_temp.datafix_captured) THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF007',
            format('%s of the expected rows of %s were found, but %s rows were copied: the condition matches rows '
                   'that are not named',
                   seen.found, fix ->> 'target', (SELECT count(*) FROM pg_temp.datafix_captured)));
    END IF;
    IF seen.already > (fix -> 'already_at_most')::bigint THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF007',
            format('%s of the %s expected rows of %s are already as wanted (%s), and at most %s may be',
                   seen.already, fix ->> 'rows_expected', fix ->> 'target', left(seen.as_wanted, 600),
                   fix ->> 'already_at_most'),
            hint => pg_temp.datafix_ways_on(fix)
                    || '. To tolerate that many: Rows(already_at_most=...)');
    END IF;
    IF seen.found = 0 THEN
        PERFORM pg_temp.datafix_close(fix, 'already');
        RETURN false;
    END IF;
    RETURN true;
END
$engine$;

-- The SQL expression that says how a row's identity differs: "symbol is AAPL, not QCOM".
CREATE OR REPLACE FUNCTION pg_temp.datafix_difference(fix jsonb, expected regclass)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT coalesce('concat_ws('', '', '
                    || string_agg(format('CASE WHEN %3$s THEN format(%2$L, a.%1$I, e.%1$I) END',
                                         i, replace(i, '%', '%%')
                                            || CASE WHEN pg_temp.datafix_hides(fix, i) THEN ' is (masked)'
                                                    ELSE ' is %s, not %s' END,
                                         pg_temp.datafix_other_value(expected, i, 'e', 'a')), ', ')
                    || ')', '''''')
      FROM jsonb_array_elements_text(fix -> 'identity') AS i
$engine$;

-- Captured = changed: a trigger or a policy that swallows a row must not go unnoticed.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_changed(fix jsonb, copied bigint, changed bigint)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    IF changed IS DISTINCT FROM copied THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF008',
            format('%s rows of %s were copied, but %s changed: a trigger prevents the change',
                   copied, fix ->> 'target', changed),
            hint => 'Nothing was changed. Triggers: '
                    || coalesce((SELECT string_agg(tgname, ', ')
                                   FROM pg_trigger
                                  WHERE tgrelid = (fix ->> 'target_oid')::oid AND NOT tgisinternal), 'none') || '.');
    END IF;
    PERFORM pg_temp.datafix_count(fix,
        CASE fix ->> 'change' WHEN 'insert' THEN changed ELSE 0 END,
        CASE fix ->> 'change' WHEN 'update' THEN changed ELSE 0 END,
        CASE fix ->> 'change' WHEN 'delete' THEN changed ELSE 0 END);
END
$engine$;

-- A plain value arrives as it was written: no column rounds it, cuts it or drops its time zone. "given" holds pairs
-- of a column and a value as text.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_arrival(fix jsonb, relation regclass, given jsonb)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, YMD' SET extra_float_digits = 1 AS $engine$
DECLARE
    one     record;
    arrived text;
BEGIN
    FOR one IN
        SELECT a.attname, pair ->> 1 AS written, format_type(b.base, b.typmod) AS exact,
               CASE WHEN format_type(b.base, NULL) IN ('numeric', 'smallint', 'integer', 'bigint', 'real',
                                                       'double precision') THEN 'numeric'
                    WHEN b.base = 'date'::regtype THEN 'timestamp'
                    ELSE format_type(b.base, -1) END AS loose
          FROM jsonb_array_elements(given) AS pair
          JOIN pg_attribute AS a ON a.attrelid = relation AND a.attname = pair ->> 0
          JOIN pg_type AS t ON t.oid = a.atttypid
          CROSS JOIN LATERAL (
               SELECT coalesce(nullif(t.typbasetype, 0), t.oid),
                      CASE WHEN t.typbasetype <> 0 THEN t.typtypmod ELSE a.atttypmod END) AS b (base, typmod)
         WHERE format_type(b.base, NULL) ~ '^(numeric|smallint|integer|bigint|real|double precision|date|'
                                           'character varying|character|interval|(timestamp|time) with.*)$'
    LOOP
        IF one.loose ~ 'without time zone$' AND one.written ~* '\d:\d\d.*([+-]\d\d(:?\d\d)*|z)$' THEN
            arrived := 'a time without the zone';
        ELSE
            EXECUTE format('SELECT CAST(%1$s AS text) '
                           'WHERE CAST(CAST(%1$s AS text) AS %2$s) IS DISTINCT FROM CAST(%3$L AS %2$s)',
                format(CASE WHEN one.loose = 'numeric' THEN 'CAST(CAST(%L AS numeric) AS %s)'
                            ELSE 'CAST(%L AS %s)' END, one.written, one.exact),
                one.loose, one.written) INTO arrived;
        END IF;
        IF arrived IS NOT NULL THEN
            PERFORM pg_temp.datafix_refuse_fix(fix, 'DF006',
                format('%I is %s and would store %s',
                       one.attname, one.exact,
                       CASE WHEN pg_temp.datafix_hides(fix, one.attname) THEN 'another value than (masked)'
                            ELSE format('%L as %s', one.written, arrived) END),
                hint => 'Nothing was changed. Write the value as the column keeps it.');
        END IF;
    END LOOP;
END
$engine$;

-- Every changed row has the plain values that the fix set, bit for bit: datafix_wanted holds them in their types. Only
-- a trigger can have written others.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_wanted(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    wanted  text[] := ARRAY(SELECT a.attname
                              FROM pg_attribute AS a
                             WHERE a.attrelid = 'pg_temp.datafix_wanted'::regclass AND a.attnum > 0);
    columns text;
    example text;
BEGIN
    IF NOT pg_temp.datafix_has_triggers(fix) THEN
        RETURN;
    END IF;
    SELECT string_agg(format('CASE WHEN record_image_ne(ROW(t.%1$I), ROW(w.%1$I)) THEN %2$L || %3$s END',
                             c, c || ' is ',
                             CASE WHEN pg_temp.datafix_hides(fix, c) THEN '''(masked)'''
                                  ELSE format('coalesce(quote_literal(t.%I::text), ''NULL'')', c) END), ', ')
      INTO columns FROM unnest(wanted) AS c;
    EXECUTE pg_temp.datafix_sql(fix, format($sql$
        SELECT min({{t.shown}} || ': ' || array_to_string(ARRAY[%s], ', '))
          FROM pg_temp.datafix_captured AS c JOIN %s AS t ON {{c.key = t.key}} CROSS JOIN pg_temp.datafix_wanted AS w
         WHERE record_image_ne(ROW(%s), ROW(%s))
    $sql$, columns, fix ->> 'target',
        (SELECT string_agg(format('t.%I', c), ', ') FROM unnest(wanted) AS c),
        (SELECT string_agg(format('w.%I', c), ', ') FROM unnest(wanted) AS c))) INTO example;
    IF example IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF008',
            format('a trigger of %s wrote other values than the fix: %s', fix ->> 'target', left(example, 300)),
            hint => 'Nothing was changed. Leave that column to the trigger, or set what it writes.');
    END IF;
END
$engine$;

-- No trigger has written a column that the fix leaves out of its copies: nothing could restore it. What is generated
-- follows from others, and housekeeping columns are not restored anyway.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_uncopied(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    columns text := (SELECT string_agg(format('(%1$L, record_image_ne(ROW(u.%1$I), ROW(t.%1$I)))', a.attname), ', ')
                       FROM pg_attribute AS a
                      WHERE a.attrelid = (fix ->> 'target_oid')::oid AND fix -> 'without' ? a.attname::text
                        AND a.attgenerated = '' AND NOT fix -> 'housekeeping' ? a.attname::text);
    wrote   text;
BEGIN
    IF columns IS NULL OR to_regclass('pg_temp.datafix_uncopied') IS NULL THEN
        RETURN;
    END IF;
    EXECUTE pg_temp.datafix_sql(fix, format($sql$
        SELECT string_agg(DISTINCT v.name, ', ')
          FROM pg_temp.datafix_uncopied AS u JOIN %s AS t ON {{u.key = t.key}}
         CROSS JOIN LATERAL (VALUES %s) AS v (name, differs)
         WHERE v.differs
    $sql$, fix ->> 'target', columns)) INTO wrote;
    IF wrote IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF008',
            format('a trigger of %s wrote %s, which the fix leaves out of its copies', fix ->> 'target', wrote),
            hint => 'Nothing was changed. Copy that column too (without=[...]), or switch triggers off '
                    '(fire_triggers=False).');
    END IF;
END
$engine$;

-- Every captured row has its after-image; a row whose key a trigger changed would be missing here.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_after(fix jsonb, changed bigint, after bigint)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    IF after IS DISTINCT FROM (CASE WHEN fix ->> 'change' = 'delete' THEN 0 ELSE changed END) THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF008',
            format('%s rows of %s were changed, but %s exist afterwards: a trigger moved, removed or restored rows',
                   changed, fix ->> 'target', after));
    END IF;
    PERFORM pg_temp.datafix_check_exact(fix);
    PERFORM pg_temp.datafix_check_uncopied(fix);
    PERFORM pg_temp.datafix_check_rows(fix,
        CASE fix ->> 'change' WHEN 'insert' THEN changed ELSE 0 END,
        CASE fix ->> 'change' WHEN 'update' THEN changed ELSE 0 END,
        CASE fix ->> 'change' WHEN 'delete' THEN changed ELSE 0 END,
        'EXISTS (SELECT FROM pg_temp.datafix_captured AS c WHERE {{c.key = t.key}})');
END
$engine$;

-- Every changed row meets the post-condition. NULL is no.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_ensured(fix jsonb, failing bigint, condition text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    IF failing <> 0 THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF008',
            format('%s of the changed rows of %s do not meet the post-condition: %s',
                   failing, fix ->> 'target', condition));
    END IF;
END
$engine$;

-- Refuses where rows of other tables would be deleted or changed with the captured rows, because no image of them
-- would exist. (PostgreSQL itself refuses NO ACTION and RESTRICT.)
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_cascades(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    reference pg_constraint;
    followers bigint;
BEGIN
    FOR reference IN
        SELECT c.* FROM pg_temp.datafix_references((fix ->> 'target_oid')::oid) AS c
         WHERE CASE WHEN fix ->> 'change' = 'delete' THEN c.confdeltype IN ('c', 'n', 'd')
                    ELSE c.confupdtype IN ('c', 'n', 'd') AND EXISTS (
                        SELECT FROM pg_attribute AS a
                         WHERE a.attrelid = c.confrelid AND a.attnum = ANY (c.confkey)
                           AND fix -> 'set' ? a.attname::text) END
    LOOP
        EXECUTE pg_temp.datafix_sql(fix, format($sql$
            SELECT count(*) FROM %s AS child JOIN %s AS t ON %s
             WHERE %s
        $sql$, reference.conrelid::regclass, fix ->> 'target', pg_temp.datafix_reference(reference),
            pg_temp.datafix_among(fix, 't', 'pg_temp.datafix_captured'))) INTO followers;
        IF followers > 0 THEN
            PERFORM pg_temp.datafix_refuse_fix(fix, 'DF015',
                format('%s rows of %s refer to these rows of %s (%s) and would be changed or deleted with them, '
                       'without a copy',
                       followers, reference.conrelid::regclass, fix ->> 'target', reference.conname),
                hint => 'Nothing was changed. Fix those rows first, or record the fix (RecordedFix) and name both '
                        'tables, so that both are copied.');
        END IF;
    END LOOP;
END
$engine$;
