-- The part that is the same for every data fix. The functions are in pg_temp, and PostgreSQL drops them when the
-- transaction ends: none stays in the database or the session. What varies from fix to fix is the procedure that
-- calls them.
--
-- Everything that must not depend on the caller's settings pins them (SET search_path = pg_catalog, ...). Statements
-- that hold the author's SQL or fire the table's triggers run in the fix's own procedure, under the caller's settings.
--
-- Most functions take "fix", a jsonb object. Its keys:
--
--   given by the script
--   fix                 the name of the fix
--   reason              why it exists
--   fingerprint         SHA-256 of its declaration
--   engine              the version of datafixes
--   application         who and what runs it: commit, pipeline
--   revision            the Alembic revision that runs; null outside of Alembic
--   upgrading           whether its upgrade runs, or its downgrade
--   after               the revisions that the version table must hold before the run
--   version_table       Alembic's version table
--   fuse                what the commit fuse waits for: "apply NAME"
--   mask                a regular expression for columns whose values no message holds
--   audit_schema        the schema of the ledger and of the audit tables
--   tables              its tables, an array of objects: see below
--   other_tables        tables that may differ too: pairs of a schema and a name
--   fire_triggers       whether the triggers of its tables fire
--   rows_expected       how many rows it should change; null: not known
--   at_most             whether that is the largest number; missing: it is not
--   batches             in batches: how many rows one has at most, its target time, the pause between two, ...
--   required            whether "not applicable" is a failure
--   change              update, delete, insert, record, revert or decline
--   set                 update: the columns that it sets
--   tolerance           by how many rows the number may differ; of a recorded fix, for each table
--   already_at_most     how many rows may be as wanted already
--   times_without_zone  columns for which a time without a zone is given
--   declined_because    decline: why it is not to run here
--   on_conflict         revert: refuse, skip or overwrite
--   overruled           revert: the operator's on_conflict, by name of the fix
--   undoes              revert: the revision whose run it takes back
--   reverted_because    revert: why; missing: the reason of the run that it takes back
--   of_run              revert: the number of the run that it takes back
--   named               revert by number: whether the name was given too; of a table: whether rows are named
--   by_name             revert: whether the revision only names the fix, and does not declare it
--   rows_chosen         revert of some rows: which, for the ledger
--   chosen              revert of some rows: their keys as SQL, by table
--   takes_back          revert: of a run in batches that is half applied; the version does not move
--
--   added by the engine
--   direction           apply or revert
--   versions            what the version table holds
--   version_table_oid   its number
--   ledger              the table datafix_run, as SQL names it
--   ledger_tables       the table datafix_run_table, as SQL names it
--   run                 the number of this run
--   last                revert: the run that it takes back, as the ledger has it
--   reverts_run         revert: the number of that run
--   part_of             of a batch: the number of the run that it is a part of
--   in_batches          whether the commit fuse is another transaction's: that which moves the version
--   batch               of a batch: who makes it, how many rows it has at most, and how it ended
--   in_parts            whether the run has batches, and changes nothing itself
--   taken               of a batch: its range of keys, and up to which key it comes; in a revert, the range's number
--   ends                revert: all batches are taken back, and the run ends
--   range               of a batch: the condition for its keys
--   told                of a batch in the last transaction: what the log is to say besides
--   size                of a batch: how many rows it has at most
--   order               of a batch: the columns of the key, in the order of its index, as SQL
--   key_order           in batches: the columns of the key, in the order of its index
--   unidentified        revert: the identities of the rows are not known, or not to be trusted
--   left_out            revert: the values that are not restored, because they were redacted, in words
--
--   of each of its tables; datafix_table puts them beside the keys above
--   n                   which of the tables this is, from 1 on
--   all_oids            the numbers of all tables of the fix
--   target_schema       the schema of the table
--   target_table        its name
--   audit_table         the name of its audit table
--   key                 the columns of its key; empty: rows are told apart by their image
--   identity            the names of what else tells its rows apart
--   identity_sql        the expressions of these
--   housekeeping        columns that are never a conflict
--   without             columns that are left out of the copies; missing: none
--   inserted            recorded: how many rows should be inserted
--   updated             recorded: how many should be updated
--   deleted             recorded: how many should be deleted
--   named_kinds         recorded: the kinds of change whose rows are named
--   bounded             recorded: the kinds of change of which the number is the largest; missing: none
--   target              the table, as SQL names it
--   target_alias        its name alone, quoted
--   target_oid          its number
--   audit               the audit table, as SQL names it
--   columns             its columns: see datafix_columns
--   left                those that its after-images hold: see datafix_left
--   key_columns         the columns of the key: see datafix_check_key
--   lock                the lock that the change needs: UPDATE or NO KEY UPDATE
--   citus               of a table of Citus: its kind; see datafix_citus
--   beside              of a table of Citus whose audit table lies beside it: see datafix_spread
--   many                apply: there are many rows, and their copies tell which; see datafix_among
--   restore             revert, where all rows are restored where they are: the images that they are restored from
--   counted             in the same case: so many lines, with nothing but their state and action
--   rows                revert: where its rows are read; of a table of Citus, a copy of them in this session
--   copies              where its images are read: the audit table, or a copy of some in this session
--   masked              the columns whose values no message holds
--   by_image            revert: the run had no key for the table
--   noted               revert: what the ledger keeps of the table for that run
--   renamed             revert: what the table is called now
--   from_run            revert: the number of the run that wrote the images
--   images              revert: the columns as that run found them
--   writable            revert: those that a statement may write
--   compared            revert: those in which a difference is a conflict
--   staged              revert: those whose values datafix_restore_N holds
--   written             revert: those that the fix wrote
--   free                revert: whether rows that are as the fix left them need no further comparison
--   copied              revert: how many rows have been copied at this step
--   redacted            revert: the columns of which values of this run were redacted; missing: of none
--   left_alone          revert: how many rows are left alone, because their key or identity was redacted

-- Refuses with one line that says what is wrong, the evidence in DETAIL, and what to do in HINT.
CREATE OR REPLACE FUNCTION pg_temp.datafix_refuse(code text, message text, detail text DEFAULT NULL,
                                                  hint text DEFAULT NULL)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    hint := coalesce(hint, 'Nothing was changed.');
    IF detail IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message, DETAIL = detail, HINT = hint;
    END IF;
    RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message, HINT = hint;
END
$engine$;

-- Refuses a fix: the line begins with its name.
CREATE OR REPLACE FUNCTION pg_temp.datafix_refuse_fix(fix jsonb, code text, message text, detail text DEFAULT NULL,
                                                      hint text DEFAULT NULL)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    PERFORM pg_temp.datafix_refuse(code, format('datafix %s: %s', fix ->> 'fix', message), detail, hint);
END
$engine$;

-- The type in which an audit table keeps a column: built-in types as they are; a domain as its base type; enums,
-- composites and extension types as text, so that the application may change or drop its own types later.
CREATE OR REPLACE FUNCTION pg_temp.datafix_kept_type(type_id oid, typmod integer)
RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $engine$
DECLARE
    t pg_type;
BEGIN
    SELECT * INTO STRICT t FROM pg_type WHERE pg_type.oid = type_id;
    IF t.typtype = 'd' THEN
        RETURN pg_temp.datafix_kept_type(t.typbasetype, t.typtypmod);
    ELSIF type_id < 16384 THEN      -- FirstNormalObjectId: below it, the type came with PostgreSQL itself
        RETURN format_type(type_id, typmod);
    ELSIF t.typlen = -1 AND t.typelem <> 0 AND t.typcategory = 'A' THEN
        RETURN CASE
            WHEN pg_temp.datafix_kept_type(t.typelem, typmod) LIKE '%[]' THEN 'text[]'    -- of a domain over arrays
            ELSE pg_temp.datafix_kept_type(t.typelem, typmod) || '[]' END;
    END IF;
    RETURN 'text';
END
$engine$;

-- The type in which an audit table may keep a column instead of text, where its author says so (own_types): a base type
-- of an extension, or an array of one. NULL for every other type.
CREATE OR REPLACE FUNCTION pg_temp.datafix_own_type(type_id oid, typmod integer)
RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $engine$
DECLARE
    t pg_type;
BEGIN
    SELECT * INTO STRICT t FROM pg_type WHERE pg_type.oid = type_id;
    IF t.typtype = 'd' THEN
        RETURN pg_temp.datafix_own_type(t.typbasetype, t.typtypmod);
    ELSIF type_id >= 16384 AND t.typtype = 'b'
          AND (t.typcategory <> 'A' OR (SELECT e.typtype = 'b' FROM pg_type AS e WHERE e.oid = t.typelem)) THEN
        RETURN format_type(type_id, typmod);
    END IF;
    RETURN NULL;
END
$engine$;

-- What a composite or range type of the application consists of; NULL for every other type. Its text form may depend
-- on the session (a time, a regclass inside), and is read back by position.
CREATE OR REPLACE FUNCTION pg_temp.datafix_made_of(type_id oid)
RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    t pg_type;
BEGIN
    SELECT * INTO STRICT t FROM pg_type WHERE pg_type.oid = type_id;
    IF t.typtype = 'd' THEN
        RETURN pg_temp.datafix_made_of(t.typbasetype);
    ELSIF type_id < 16384 THEN
        RETURN NULL;
    ELSIF t.typlen = -1 AND t.typelem <> 0 AND t.typcategory = 'A' THEN
        RETURN pg_temp.datafix_made_of(t.typelem);
    ELSIF t.typtype = 'c' THEN
        RETURN (SELECT '(' || string_agg(concat_ws(' ', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
                                                   pg_temp.datafix_made_of(a.atttypid)),
                                         ', ' ORDER BY a.attnum) || ')'
                  FROM pg_attribute AS a
                 WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped);
    END IF;
    RETURN (SELECT 'range of ' || format_type(r.rngsubtype, NULL)
              FROM pg_range AS r
             WHERE type_id IN (r.rngtypid, r.rngmultitypid));
END
$engine$;

-- The text form of such a value, and of an array of them, under settings that are always the same.
CREATE OR REPLACE FUNCTION pg_temp.datafix_text(given anyelement)
RETURNS text LANGUAGE sql
SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET timezone = 'UTC'
SET extra_float_digits = 1 SET bytea_output = 'hex' SET lc_monetary = 'C' AS $engine$
    SELECT given::text
$engine$;

CREATE OR REPLACE FUNCTION pg_temp.datafix_texts(given anyarray)
RETURNS text[] LANGUAGE sql
SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET timezone = 'UTC'
SET extra_float_digits = 1 SET bytea_output = 'hex' SET lc_monetary = 'C' AS $engine$
    SELECT given::text[]
$engine$;

-- The cast from a domain, or from a domain over a domain, to its base type; empty for other types. Enums, arrays and
-- ranges are compared by one operator for all of a kind, which does not take a domain.
CREATE OR REPLACE FUNCTION pg_temp.datafix_to_base(type_id oid)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $engine$
    WITH RECURSIVE layer AS (
        SELECT t.*, 0 AS depth FROM pg_type AS t WHERE t.oid = type_id
        UNION ALL
        SELECT t.*, layer.depth + 1
          FROM layer JOIN pg_type AS t ON t.oid = layer.typbasetype
         WHERE layer.typtype = 'd')
    SELECT CASE WHEN depth = 0 THEN '' ELSE '::' || format_type(oid, NULL) END FROM layer ORDER BY depth DESC LIMIT 1
$engine$;

-- The columns of a table: name, type, the type in which they are kept, and the one in which they may be kept instead;
-- whether a statement may write them.
CREATE OR REPLACE FUNCTION pg_temp.datafix_columns(relation oid)
RETURNS jsonb LANGUAGE sql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $engine$
    SELECT jsonb_agg(jsonb_build_object(
               'name', a.attname,
               'type', format_type(a.atttypid, a.atttypmod),
               'kept', pg_temp.datafix_kept_type(a.atttypid, a.atttypmod),
               'own', pg_temp.datafix_own_type(a.atttypid, a.atttypmod),
               'to_base', pg_temp.datafix_to_base(a.atttypid),
               'made_of', pg_temp.datafix_made_of(a.atttypid),
               'position', a.attnum,
               'generated', a.attgenerated <> '') ORDER BY a.attnum)
      FROM pg_attribute AS a
     WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
$engine$;

-- The same, with the types in which an audit table does keep them.
CREATE OR REPLACE FUNCTION pg_temp.datafix_columns_in(audit oid, columns jsonb)
RETURNS jsonb LANGUAGE sql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $engine$
    SELECT jsonb_agg(CASE WHEN format_type(a.atttypid, a.atttypmod) = c ->> 'own'
                          THEN c || jsonb_build_object('kept', c -> 'own') ELSE c END - 'own'
                     ORDER BY (c -> 'position')::int)
      FROM jsonb_array_elements(columns) AS c
      LEFT JOIN pg_attribute AS a
             ON a.attrelid = audit AND a.attname = c ->> 'name' AND a.attnum > 0 AND NOT a.attisdropped
$engine$;

-- The number of a table; NULL where there is none of that name.
CREATE OR REPLACE FUNCTION pg_temp.datafix_relation(schema_name text, table_name text)
RETURNS oid LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT c.oid FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE n.nspname = schema_name AND c.relname = table_name
$engine$;

-- One of the fix's tables, together with the keys of the fix: what most functions take.
CREATE OR REPLACE FUNCTION pg_temp.datafix_table(fix jsonb, n integer)
RETURNS jsonb LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT (fix - 'tables') || (fix -> 'tables' -> (n - 1))
           || jsonb_build_object('n', n, 'all_oids', (SELECT jsonb_agg(t -> 'target_oid')
                                                        FROM jsonb_array_elements(fix -> 'tables') AS t))
$engine$;

-- The facts of the fix again, without those of a table that datafix_table has added.
CREATE OR REPLACE FUNCTION pg_temp.datafix_whole(fix jsonb)
RETURNS jsonb LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT fix - ARRAY(SELECT jsonb_object_keys(fix -> 'tables' -> 0)) - 'n' - 'all_oids'
$engine$;

-- All of the fix's tables, one after the other.
CREATE OR REPLACE FUNCTION pg_temp.datafix_tables(fix jsonb)
RETURNS SETOF jsonb LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT pg_temp.datafix_table(fix, n) FROM generate_series(1, jsonb_array_length(fix -> 'tables')) AS n ORDER BY n
$engine$;

-- Puts what has become known of a table back into the fix.
CREATE OR REPLACE FUNCTION pg_temp.datafix_put(fix jsonb, n integer, known jsonb)
RETURNS jsonb LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT jsonb_set(fix, ARRAY['tables', (n - 1)::text], known - ARRAY(SELECT jsonb_object_keys(fix)))
$engine$;

-- The expression that turns a value into the type in which it is kept.
CREATE OR REPLACE FUNCTION pg_temp.datafix_as_kept(alias text, c jsonb)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT CASE WHEN c ->> 'type' = c ->> 'kept'
                THEN format('%s.%I', alias, c ->> 'name')
                WHEN c ->> 'made_of' IS NOT NULL AND c ->> 'kept' = 'text'
                THEN format('pg_temp.datafix_text(%s.%I)', alias, c ->> 'name')
                WHEN c ->> 'made_of' IS NOT NULL
                THEN format('pg_temp.datafix_texts(%s.%I)', alias, c ->> 'name')
                ELSE format('%s.%I::%s', alias, c ->> 'name', c ->> 'kept') END
$engine$;

-- The columns that are kept as a text that may not tell all of their values. The label of an enum does, and a type that
-- is a text by another name, such as citext; unless somebody made casts of them.
CREATE OR REPLACE FUNCTION pg_temp.datafix_kept_as_text(fix jsonb)
RETURNS jsonb LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT jsonb_agg(c)
      FROM jsonb_array_elements(fix -> 'columns') AS c
     -- a domain over a type of PostgreSQL's own is kept as that type, which loses nothing
     WHERE c ->> 'kept' ~ '^text' AND c ->> 'type' <> c ->> 'kept' AND c ->> 'to_base' <> '::text'
       AND NOT (c -> 'generated')::boolean
       AND NOT EXISTS (SELECT FROM pg_type AS t
                         LEFT JOIN pg_cast AS away ON away.castsource = t.oid AND away.casttarget = 'text'::regtype
                         LEFT JOIN pg_cast AS back ON back.castsource = 'text'::regtype AND back.casttarget = t.oid
                        WHERE t.oid = (c ->> 'type')::regtype
                          AND CASE t.typtype WHEN 'e' THEN away.oid IS NULL AND back.oid IS NULL
                              ELSE away.castmethod = 'b' AND back.castmethod = 'b' END)
$engine$;

-- Values of the application's own types are kept as text. Where a run removes, changes or writes one, its image must
-- hold every bit: what is read back from that text must be the value itself; otherwise the row must not change. A
-- value that the run leaves as it is needs no restoring: the ledger notes its column, and the plan says so.
--   rows    the rows "t" that are copied
--   noted   where each has its other side as "o" beside it, or nulls: the rows for which that is noted
--   was_so  an older engine did not check the values: the revert of its run notes what has no exact image
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_read_back(fix jsonb, rows text, noted text DEFAULT NULL,
                                                           was_so boolean DEFAULT false)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET timezone = 'UTC'
SET extra_float_digits = 1 SET bytea_output = 'hex' SET lc_monetary = 'C' SET array_nulls = on SET xmloption = 'content'
AS $engine$
DECLARE
    tests text := (SELECT string_agg(format('(%1$L, CASE WHEN %4$s OR %5$s '
                                            'THEN record_image_ne(ROW(t.%1$I), ROW((%2$s)::%3$s)) END, %4$s)',
                                            c ->> 'name', pg_temp.datafix_as_kept('t', c), c ->> 'type', changes,
                                            coalesce(noted, 'false')), ', ')
                     FROM jsonb_array_elements(pg_temp.datafix_kept_as_text(fix)) AS c
                    CROSS JOIN LATERAL (SELECT
                          CASE WHEN noted IS NULL OR fix -> 'key' ? (c ->> 'name') THEN 'true'
                               ELSE format('(o.tableoid IS NULL OR record_image_ne(ROW(t.%1$I), ROW(o.%1$I)))',
                                           c ->> 'name') END) AS _ (changes));
    amiss record;
BEGIN
    IF tests IS NULL THEN
        RETURN;
    END IF;
    EXECUTE pg_temp.datafix_sql(fix, format($sql$
        SELECT min(%s || ': ' || test.name) FILTER (WHERE test.changes) AS example,
               jsonb_agg(DISTINCT test.name) FILTER (WHERE test.changes) AS lost,
               jsonb_agg(DISTINCT test.name) FILTER (WHERE NOT test.changes) AS inexact
          FROM %s CROSS JOIN LATERAL (VALUES %s) AS test (name, differs, changes)
         WHERE test.differs
    $sql$, CASE WHEN fix -> 'key' = '[]' THEN '''(no key)''' ELSE '{{t.shown}}' END, rows, tests)) INTO amiss;
    IF amiss.lost IS NOT NULL AND NOT was_so THEN
        PERFORM pg_temp.datafix_refuse_inexact(fix, amiss.example, amiss.lost);
    END IF;
    EXECUTE format($sql$
        UPDATE %s SET shape = shape || jsonb_strip_nulls(jsonb_build_object(
               'lost', coalesce($1, shape -> 'lost'),
               'inexact', (SELECT jsonb_agg(DISTINCT c)
                             FROM jsonb_array_elements(coalesce(shape -> 'inexact', '[]') || coalesce($2, '[]')) AS c)))
         WHERE run_id = $3 AND position = $4 AND num_nonnulls($1, $2) > 0
    $sql$, fix ->> 'ledger_tables')
      USING amiss.lost, amiss.inexact, (fix -> 'run')::bigint, (fix -> 'n')::integer;
END
$engine$;

-- Refuses because an image would not hold every bit of a value.
CREATE OR REPLACE FUNCTION pg_temp.datafix_refuse_inexact(fix jsonb, example text, columns jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    PERFORM pg_temp.datafix_refuse_fix(fix, 'DF012',
        format('a value of %s could not be restored: its text form does not yield the same value: %s',
               fix ->> 'target', example),
        hint => 'Nothing was changed. '
        || CASE WHEN columns <@ (SELECT jsonb_agg(c -> 'name')
                                   FROM jsonb_array_elements(pg_temp.datafix_columns((fix ->> 'target_oid')::oid)) AS c
                                  WHERE c ->> 'own' IS NOT NULL)
                THEN format('A new audit table can keep such values in their own type: op.create_audit_table(%L, '
                            'name=..., own_types=[%s]).', fix ->> 'target_table',
                            (SELECT string_agg(quote_literal(c), ', ') FROM jsonb_array_elements_text(columns) AS c))
                ELSE 'An audit table keeps such a type as text only.' END);
END
$engine$;

-- The COLLATE clause for the collation by which PostgreSQL itself compares values of a column, in an index or for a
-- foreign key. Empty where there is nothing to say.
CREATE OR REPLACE FUNCTION pg_temp.datafix_collate(decisive oid, of_column oid)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT coalesce((SELECT format(' COLLATE %I.%I', n.nspname, c.collname)
                       FROM pg_collation AS c JOIN pg_namespace AS n ON n.oid = c.collnamespace
                      WHERE c.oid = decisive
                        AND NOT (c.collprovider = 'd' AND coalesce(of_column, 0) IN (0, decisive))), '')
$engine$;

-- Fills in what only the catalog knows. In a statement, "target" stands for the fix's table:
--   {{columns}}            the names of its columns
--   {{target.columns}}     the same, qualified, and cast to the types in which they are kept
--   {{left}}  {{target.left}}  the same for an after-image: see datafix_left
--   {{a.key}}              the columns of the key, qualified, in the collation of its unique index
--   {{a.key = b.key}}      a and b are one row, by the equality of the key's own unique index
--   {{a.shown}}            the key as text, for messages: without values of columns that are masked
--   {{lock}}  {{run}}      the lock that the change needs; the number of this run
--   {{expected}}           the row is one of datafix_expected: EXISTS, or a list of keys; see datafix_among
--   {{captured}}           the row is one of datafix_captured, in the same way
--   {{where_expected}}  {{where_captured}}  the same as a clause of a copy, behind the name of the table
--   {{locked}}             ORDER BY {{target.key}} FOR {{lock}} OF target; nothing where rows are locked before
--   {{restore}}            revert: the rows to restore: datafix_restore_N, or the images beside them
--   {{counted}}            the same, where only their number counts
--   {{n}}                  which of the fix's tables this is: the names of temporary tables end in it
--   {{range}}  {{size}}    in batches: the condition for the keys of this batch; how many rows it takes at most
--   {{order}}              in batches: the columns of the key, in the order of its index
CREATE OR REPLACE FUNCTION pg_temp.datafix_sql(fix jsonb, statement text)
RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $engine$
DECLARE
    mark     text;
    part     text[];
    expanded text;
BEGIN
    FOR mark IN
        SELECT DISTINCT m[1]
          FROM regexp_matches(statement, '\{\{((?:\w+\.)?(?:columns|left|key|shown|lock|run|n|range|size|order|'
                                         'restore|counted|(?:where_)?(?:expected|captured)|locked)'
                                         '(?: = \w+\.key)?)\}\}', 'g') AS m
    LOOP
        part := regexp_match(mark, '^(?:(\w+)\.)?(\w+)(?: = (\w+)\.key)?$');
        part[1] := CASE WHEN part[1] = 'target' THEN fix ->> 'target_alias' ELSE part[1] END;
        part[3] := CASE WHEN part[3] = 'target' THEN fix ->> 'target_alias' ELSE part[3] END;
        IF part[2] IN ('lock', 'run', 'n', 'range', 'size', 'order') THEN
            expanded := fix ->> part[2];
        ELSIF part[2] IN ('restore', 'counted') THEN
            expanded := coalesce(fix ->> part[2], format('pg_temp.datafix_restore_%s', fix ->> 'n'));
        ELSIF part[2] IN ('expected', 'captured') THEN
            expanded := pg_temp.datafix_among(fix, 'target', 'pg_temp.datafix_' || part[2]);
        ELSIF part[2] IN ('where_expected', 'where_captured') THEN
            expanded := pg_temp.datafix_where_among(fix, 'pg_temp.datafix_' || substr(part[2], 7));
        ELSIF part[2] = 'locked' THEN
            expanded := CASE WHEN fix ? 'citus' THEN ''
                             ELSE pg_temp.datafix_sql(fix, 'ORDER BY {{target.key}} FOR {{lock}} OF ')
                                  || (fix ->> 'target_alias') END;
        ELSIF part[2] IN ('columns', 'left') THEN
            SELECT string_agg(CASE WHEN part[1] IS NULL THEN quote_ident(c ->> 'name')
                                   ELSE pg_temp.datafix_as_kept(part[1], c) END,
                              ', ' ORDER BY (c -> 'position')::int)
                   || CASE WHEN NOT fix ? 'beside' THEN ''
                           WHEN part[1] IS NULL THEN ', audit_id, audit_recorded_at'
                           ELSE format(', %s, %L::pg_catalog.timestamptz',
                                       pg_temp.datafix_number(fix, part[1], (part[2] = 'left')::integer),
                                       clock_timestamp()) END
              INTO expanded FROM jsonb_array_elements(fix -> part[2]) AS c;
        ELSIF part[2] = 'shown' THEN
            SELECT format('concat_ws(''/'', %s)',
                       string_agg(CASE WHEN pg_temp.datafix_hides(fix, k ->> 'name') THEN '''(masked)'''
                                       ELSE format('%s.%I', part[1], k ->> 'name') END,
                                  ', ' ORDER BY n))
              INTO expanded FROM jsonb_array_elements(fix -> 'key_columns') WITH ORDINALITY AS _ (k, n);
        ELSIF part[3] IS NULL THEN
            SELECT string_agg(concat(part[1] || '.', quote_ident(k ->> 'name'), k ->> 'collate'), ', ' ORDER BY n)
              INTO expanded FROM jsonb_array_elements(fix -> 'key_columns') WITH ORDINALITY AS _ (k, n);
        ELSE
            SELECT string_agg(format('%s.%I%s%s %s %s.%I%s%s', part[1], k ->> 'name', k ->> 'cast', k ->> 'base',
                                     k ->> 'equals', part[3], k ->> 'name', k ->> 'base', k ->> 'collate'),
                              ' AND ' ORDER BY n)
              INTO expanded FROM jsonb_array_elements(fix -> 'key_columns') WITH ORDINALITY AS _ (k, n);
        END IF;
        statement := replace(statement, '{{' || mark || '}}', expanded);
    END LOOP;
    RETURN statement;
END
$engine$;

-- The key of an image, in the types of the target and the collation of the key's index.
CREATE OR REPLACE FUNCTION pg_temp.datafix_typed_key(fix jsonb, alias text)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT string_agg(format('%s.%I%s%s', alias, k ->> 'name', k ->> 'cast', k ->> 'collate'), ', ' ORDER BY n)
      FROM jsonb_array_elements(fix -> 'key_columns') WITH ORDINALITY AS _ (k, n)
$engine$;

-- A list over columns. The pattern is filled in with the column's name (%1$), its type (%2$), the cast to the type in
-- which it is kept (%3$) and the cast back to its own type (%4$).
CREATE OR REPLACE FUNCTION pg_temp.datafix_each(columns jsonb, pattern text, separator text DEFAULT ', ')
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT string_agg(format(pattern, c ->> 'name', c ->> 'type',
                             CASE WHEN c ->> 'type' = c ->> 'kept' THEN '' ELSE '::' || (c ->> 'kept') END,
                             CASE WHEN c ->> 'type' = c ->> 'kept' THEN '' ELSE '::' || (c ->> 'type') END),
                      separator ORDER BY (c -> 'position')::int)
      FROM jsonb_array_elements(columns) AS c
$engine$;

-- Runs a statement that writes images. The settings that the text form of a value depends on are pinned. Returns the
-- number of rows.
CREATE OR REPLACE FUNCTION pg_temp.datafix_copy(statement text)
RETURNS bigint LANGUAGE plpgsql
SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET extra_float_digits = 1 SET bytea_output = 'hex'
SET lc_monetary = 'C' SET array_nulls = on SET xmloption = 'content' AS $engine$
DECLARE
    copied bigint;
BEGIN
    EXECUTE statement;
    GET DIAGNOSTICS copied = ROW_COUNT;
    RETURN copied;
END
$engine$;

-- Pairs the images of a run: datafix_pair_N has one line for each row, with its key and the numbers of its images.
-- Everything else joins on these numbers. Without a key, each image counts as a row.
CREATE OR REPLACE FUNCTION pg_temp.datafix_pair_images(fix jsonb, run bigint)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    key text := pg_temp.datafix_typed_key(fix, 'i');
BEGIN
    IF key IS NULL THEN
        PERFORM pg_temp.datafix_make(pg_temp.datafix_sql(fix, format($sql$
            CREATE TEMP TABLE datafix_pair_{{n}} ON COMMIT DROP AS
            SELECT CASE i.audit_image WHEN 'before' THEN i.audit_id END AS datafix_before,
                   CASE i.audit_image WHEN 'after' THEN i.audit_id END AS datafix_after
              FROM %s AS i
             WHERE i.audit_run_id = %s
        $sql$, fix ->> 'copies', run)));
    ELSE
        PERFORM pg_temp.datafix_make(pg_temp.datafix_sql(fix, format($sql$
            CREATE TEMP TABLE datafix_pair_{{n}} ON COMMIT DROP AS
            SELECT {{t.key}}, NULL::bigint AS datafix_before, NULL::bigint AS datafix_after
              FROM %s AS t
              WITH NO DATA
        $sql$, fix ->> 'target')));
        EXECUTE pg_temp.datafix_sql(fix, format($sql$
            INSERT INTO pg_temp.datafix_pair_{{n}}
            SELECT %1$s,
                   max(i.audit_id) FILTER (WHERE i.audit_image = 'before'),
                   max(i.audit_id) FILTER (WHERE i.audit_image = 'after')
              FROM %2$s AS i
             WHERE i.audit_run_id = %3$s%4$s
             GROUP BY %1$s
        $sql$, key, fix ->> 'copies', run, CASE WHEN fix ? 'redacted'     -- a row without a key is none
            THEN ' AND ' || (SELECT string_agg(format('i.%I IS NOT NULL', k), ' AND ')
                               FROM jsonb_array_elements_text(fix -> 'key') AS k) ELSE '' END));
    END IF;
    EXECUTE pg_temp.datafix_sql(fix, 'ANALYZE pg_temp.datafix_pair_{{n}}');
END
$engine$;

-- A number that depends on every image of a run and not on their order: a checksum against accidents. What a reg* or
-- an aclitem points at counts by its number ("numbers": they survive a rename) or by its name ("names": they survive
-- a move to another database; text counts as UTF-8 there). "0.1" is what that version did.
CREATE OR REPLACE FUNCTION pg_temp.datafix_digest(audit text, columns jsonb, run bigint, form text,
                                                  OUT images bigint, OUT digest numeric)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET timezone = 'UTC'
SET extra_float_digits = 1 SET bytea_output = 'hex' SET lc_monetary = 'C' AS $engine$
DECLARE
    same    boolean := form <> 'names' OR current_setting('server_encoding') IN ('UTF8', 'SQL_ASCII');
    plain   text    := CASE WHEN same THEN 'i.%I' ELSE 'convert_to(i.%I::text, ''UTF8'')' END;
    as_text text    := CASE WHEN same THEN 'concat(i.%1$I)' ELSE 'convert_to(concat(i.%1$I), ''UTF8'')' END;
    kept    text;
BEGIN
    IF pg_temp.datafix_spread(audit::regclass) IS NOT NULL THEN
        PERFORM pg_temp.datafix_tell_workers();
    END IF;
    -- Types whose hash tells every bit apart, and is the same on every server, are hashed as they are, which is fast;
    -- all others as their text.
    SELECT string_agg(format(CASE
               WHEN type ~ '^(text|name|character( varying)?[(][0-9]+[)]|character varying)$' THEN plain
               WHEN type ~ '^(smallint|integer|bigint|boolean|uuid|date|bytea|oid|"char"|'
                           'timestamp([(][0-9][)])? with(out)? time zone|time([(][0-9][)])? without time zone)$'
                    THEN 'i.%I'
               WHEN type ~ '^reg' AND form <> 'names' THEN
                    CASE WHEN right(type, 2) = '[]' THEN 'i.%I::oid[]::text' ELSE 'i.%I::oid' END
               WHEN type ~ '^aclitem' AND form = 'numbers' THEN 'i.%I'
               ELSE format('CASE WHEN num_nulls(i.%%1$I) = 0 THEN %s END', as_text) END, name), ', ' ORDER BY position)
      INTO kept FROM jsonb_array_elements(columns) AS c
     CROSS JOIN LATERAL (SELECT c ->> 'name', c ->> 'kept', (c -> 'position')::int) AS _ (name, type, position);
    EXECUTE format('SELECT count(*), sum(hash_record_extended(ROW(%s, i.audit_image, i.audit_id), 0)) FROM %s AS i'
        ' WHERE i.audit_run_id = %s', kept, audit, run) INTO images, digest;
END
$engine$;

-- What the ledger keeps of the images of a table: their number, their digest, and what their names meant.
CREATE OR REPLACE FUNCTION pg_temp.datafix_evidence(fix jsonb, OUT images bigint, OUT digest numeric, OUT noted jsonb)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    run     bigint := (fix -> 'run')::bigint;
    by_name numeric;
BEGIN
    SELECT d.images, d.digest INTO images, digest
      FROM pg_temp.datafix_digest(fix ->> 'audit', fix -> 'columns', run, 'numbers') AS d;
    IF images > 0 AND (current_setting('server_encoding') NOT IN ('UTF8', 'SQL_ASCII') OR EXISTS (
           SELECT FROM jsonb_array_elements(fix -> 'columns') AS c WHERE c ->> 'kept' ~ '^(reg|aclitem)')) THEN
        SELECT d.digest INTO by_name FROM pg_temp.datafix_digest(fix ->> 'audit', fix -> 'columns', run, 'names') AS d;
    END IF;
    noted := jsonb_strip_nulls(jsonb_build_object('digest_by_name', by_name,
                                                  'names', nullif(pg_temp.datafix_named_in_images(fix), '[]')));
END
$engine$;

-- A table, its partitions, and their partitions.
CREATE OR REPLACE FUNCTION pg_temp.datafix_tree(relation oid)
RETURNS SETOF oid LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT relation UNION SELECT t.relid FROM pg_partition_tree(relation) AS t
$engine$;

-- The fix's tables and those that may differ, with their partitions.
CREATE OR REPLACE FUNCTION pg_temp.datafix_own_tables(fix jsonb)
RETURNS SETOF oid LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT pg_temp.datafix_tree((one ->> 'target_oid')::oid) FROM jsonb_array_elements(fix -> 'tables') AS one
    UNION
    SELECT pg_temp.datafix_tree(pg_temp.datafix_relation(o ->> 0, o ->> 1))
      FROM jsonb_array_elements(fix -> 'other_tables') AS o
$engine$;

-- The statement that checks the deferred constraints of the fix's tables now, or defers them again. It names them,
-- because ALL would also reach the constraints of other tables.
CREATE OR REPLACE FUNCTION pg_temp.datafix_constraints(fix jsonb, mode text)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT coalesce('SET CONSTRAINTS ' || string_agg(DISTINCT format('%I.%I', n.nspname, c.conname), ', ')
                    || ' ' || mode, 'SELECT')
      FROM pg_constraint AS c JOIN pg_namespace AS n ON n.oid = c.connamespace
     -- also those deferred by SET CONSTRAINTS, and those on tables that may differ: they would fire after the proof
     WHERE CASE mode WHEN 'IMMEDIATE' THEN c.condeferrable ELSE c.condeferred END
       AND (c.conrelid IN (SELECT pg_temp.datafix_own_tables(fix))
            OR c.confrelid IN (SELECT pg_temp.datafix_own_tables(fix)))
       -- SET CONSTRAINTS reaches every constraint of that name in the schema: others are not to be deferred
       AND (mode <> 'DEFERRED' OR NOT EXISTS (
            SELECT FROM pg_constraint AS o
             WHERE o.connamespace = c.connamespace AND o.conname = c.conname
               AND o.contype IN ('f', 'p', 'u', 'x', 't') AND NOT o.condeferred))
$engine$;

-- The foreign keys that refer to a table and notice when its rows change: those whose triggers fire. A key that is NOT
-- ENFORCED has none, and somebody may have switched them off.
CREATE OR REPLACE FUNCTION pg_temp.datafix_references(target oid)
RETURNS SETOF pg_constraint LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT c.*
      FROM pg_constraint AS c
     WHERE c.contype = 'f' AND c.confrelid = target
       -- the key of a partitioned child covers its partitions' keys; a target that is a partition has only a copy
       AND NOT EXISTS (SELECT FROM pg_constraint AS parent
                        WHERE parent.oid = c.conparentid AND parent.confrelid = c.confrelid)
       AND EXISTS (SELECT FROM pg_trigger AS t
                    WHERE t.tgconstraint = c.oid AND t.tgrelid = c.confrelid
                      AND t.tgenabled IN ('A', CASE current_setting('session_replication_role')
                                                    WHEN 'replica' THEN 'R' ELSE 'O' END))
     ORDER BY c.conname
$engine$;

-- The join condition of a foreign key, between a row and one that refers to it, by the operators of the key itself, and
-- by the collation with which PostgreSQL looks for the rows that refer: the parent's where two spellings can be equal
-- there, else the child's.
CREATE OR REPLACE FUNCTION pg_temp.datafix_reference(reference pg_constraint, alias text DEFAULT 'child',
                                                     parent_alias text DEFAULT 't')
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT string_agg(format('%s.%I OPERATOR(%I.%s) %s.%I%s', parent_alias, parent.attname, n.nspname, o.oprname,
                             alias, child.attname, pg_temp.datafix_collate(
                                 CASE WHEN c.collisdeterministic THEN child.attcollation ELSE c.oid END,
                                 parent.attcollation)), ' AND ')
      FROM generate_subscripts(reference.conkey, 1) AS i
      JOIN pg_attribute AS child ON child.attrelid = reference.conrelid AND child.attnum = reference.conkey[i]
      JOIN pg_attribute AS parent ON parent.attrelid = reference.confrelid AND parent.attnum = reference.confkey[i]
      JOIN pg_operator AS o ON o.oid = reference.conpfeqop[i]
      JOIN pg_namespace AS n ON n.oid = o.oprnamespace
      LEFT JOIN pg_collation AS c ON c.oid = parent.attcollation
$engine$;
