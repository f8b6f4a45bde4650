-- Values of masked columns stay out of messages. The server logs every error, and what is in its log cannot be taken
-- back: values are left out here, and not where a message is shown.

-- Whether a column is masked; names are as in plans and reports.
CREATE OR REPLACE FUNCTION pg_temp.datafix_is_masked(mask text, schema_name text, table_name text, column_name text)
RETURNS boolean LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT lower(replace(concat_ws('.', schema_name, table_name, column_name), '"', '')) ~ mask
$engine$;

-- Adds the names of the table's masked columns, and of identities that have such a name or read such a column.
CREATE OR REPLACE FUNCTION pg_temp.datafix_mask(fix jsonb)
RETURNS jsonb LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT CASE WHEN NOT fix ? 'mask' THEN fix
                ELSE fix || jsonb_build_object('masked', coalesce(jsonb_agg(DISTINCT one.name), '[]')) END
      FROM (SELECT c ->> 'name' AS name, c ->> 'name' AS word FROM jsonb_array_elements(fix -> 'columns') AS c
            UNION ALL
            SELECT i.name, words.word[1]
              FROM ROWS FROM (jsonb_array_elements_text(fix -> 'identity'),
                              jsonb_array_elements_text(fix -> 'identity_sql')) AS i (name, sql)
             CROSS JOIN LATERAL regexp_matches(concat_ws(' ', i.name, i.sql), '"(?:[^"]|"")+"|\w+', 'g') AS words (word)
           ) AS one
     WHERE pg_temp.datafix_is_masked(fix ->> 'mask', fix ->> 'target_schema', fix ->> 'target_table', one.word)
$engine$;

-- Whether the values of a column, or of an identity of that name, are left out: for one table, or for any table of
-- the fix.
CREATE OR REPLACE FUNCTION pg_temp.datafix_hides(fix jsonb, column_name text)
RETURNS boolean LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT coalesce(fix -> 'masked' ? column_name,
               (SELECT bool_or(t -> 'masked' ? column_name) FROM jsonb_array_elements(fix -> 'tables') AS t), false)
$engine$;

-- A list over columns, as datafix_each makes it: by one pattern, or by another one where values are masked.
CREATE OR REPLACE FUNCTION pg_temp.datafix_each_shown(fix jsonb, columns jsonb, pattern text, if_masked text)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT string_agg(pg_temp.datafix_each(jsonb_build_array(c),
                          CASE WHEN pg_temp.datafix_hides(fix, c ->> 'name') THEN if_masked ELSE pattern END), ', '
                      ORDER BY (c -> 'position')::int)
      FROM jsonb_array_elements(columns) AS c
$engine$;

-- Repeats the error of a statement ("told": its GET STACKED DIAGNOSTICS) without the values in it.
CREATE OR REPLACE FUNCTION pg_temp.datafix_fail(told jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    code    text := told ->> 'code';
    message text := told ->> 'message';
    detail  text := nullif(told ->> 'detail', '');
    hint    text := coalesce(nullif(told ->> 'hint', ''), 'Nothing was changed.');
    place   text := split_part(told ->> 'context', E'\n', 1);
BEGIN
    -- The context is in the server's language: only names in it are read. The engine's own messages hold no values.
    IF place !~ 'pg_temp_\d+\.datafix_(refuse|fail)\(' THEN
        -- "Key (email)=(x) already exists.": the value ends before the last bracket.
        detail := CASE WHEN detail ~ '^Key [(].*[)]=[(]'
                  THEN left(detail, strpos(detail, ')=(') + 1) || '(masked)' || substring(detail FROM '[^)]*$') END;
        IF place ~ '\m(RAISE|ASSERT)\M|PL/(?!pgSQL)' THEN
            -- a function's message may hold anything; its place is a name, unless it is a statement
            message := format('the message of %s is left out: it may hold values of masked columns',
                coalesce(substring(place FROM '^[\w/ ().,$-]*$'), 'a function'));
        ELSIF code !~ '^(0A|2[1235]|4[024]|5[34578])' OR code IN ('22021', '22P05') THEN
            message := 'the message of PostgreSQL is left out: it may hold values of masked columns';
        ELSIF code ~ '^22' OR code = '42601' AND place !~ '(inline_code_block|pg_temp_\d+\.datafix_)' THEN
            message := regexp_replace(message, '".*"', '"(masked)"');
        END IF;
        hint := CASE WHEN code ~ '^42' AND message = told ->> 'message' THEN hint ELSE 'Nothing was changed.' END;
    END IF;
    IF detail IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message, HINT = hint, SCHEMA = told ->> 'schema',
            TABLE = told ->> 'table', COLUMN = told ->> 'column', CONSTRAINT = told ->> 'constraint',
            DATATYPE = told ->> 'type';
    END IF;
    RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message, DETAIL = detail, HINT = hint, SCHEMA = told ->> 'schema',
        TABLE = told ->> 'table', COLUMN = told ->> 'column', CONSTRAINT = told ->> 'constraint',
            DATATYPE = told ->> 'type';
END
$engine$;
