-- The part that is the same for every data fix. The functions live in pg_temp: they are gone with the session, and
-- nothing of them stays in the database. What varies from fix to fix is the block that calls them.
--
-- Everything that must not depend on the caller's settings pins them (SET search_path = pg_catalog, ...). Statements
-- that hold the author's SQL or fire the table's triggers run in the fix's own block, under the caller's settings.

-- Stops with one line that says what is wrong, the evidence in DETAIL and what to do in HINT.
CREATE OR REPLACE FUNCTION pg_temp.datafix_refuse(code text, message text, detail text DEFAULT NULL, hint text DEFAULT NULL)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    IF detail IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message, DETAIL = detail, HINT = coalesce(hint, 'Nothing was changed.');
    END IF;
    RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message, HINT = coalesce(hint, 'Nothing was changed.');
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
        RETURN CASE WHEN pg_temp.datafix_kept_type(t.typelem, typmod) LIKE '%[]' THEN 'text[]'    -- of a domain over arrays
                    ELSE pg_temp.datafix_kept_type(t.typelem, typmod) || '[]' END;
    END IF;
    RETURN 'text';
END
$engine$;

-- What a composite or range type of the application consists of; NULL for every other type. Its text form may depend on
-- the session (a time, a regclass inside), and is read back by position.
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
        RETURN (SELECT '(' || string_agg(concat_ws(' ', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod), pg_temp.datafix_made_of(a.atttypid)),
                                         ', ' ORDER BY a.attnum) || ')'
                  FROM pg_attribute AS a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped);
    END IF;
    RETURN (SELECT 'range of ' || format_type(r.rngsubtype, NULL) FROM pg_range AS r WHERE type_id IN (r.rngtypid, r.rngmultitypid));
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

-- The columns of a table: name, type, the type in which they are kept, whether a statement may write them.
CREATE OR REPLACE FUNCTION pg_temp.datafix_columns(relation oid)
RETURNS jsonb LANGUAGE sql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $engine$
    SELECT jsonb_agg(jsonb_build_object(
               'name', a.attname,
               'type', format_type(a.atttypid, a.atttypmod),
               'kept', pg_temp.datafix_kept_type(a.atttypid, a.atttypmod),
               'made_of', pg_temp.datafix_made_of(a.atttypid),
               'position', a.attnum,
               'generated', a.attgenerated <> '',
               'not_null', a.attnotnull) ORDER BY a.attnum)
      FROM pg_attribute AS a
     WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
$engine$;

CREATE OR REPLACE FUNCTION pg_temp.datafix_relation(schema_name text, table_name text)
RETURNS oid LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT c.oid FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE n.nspname = schema_name AND c.relname = table_name
$engine$;

-- Fills in what only the catalog knows. In a statement, "target" stands for the fix's table:
--   {{columns}}            the names of its columns
--   {{target.columns}}     the same, qualified, and cast to the types in which they are kept
--   {{a.key}}              the columns of the key, qualified
--   {{a.key = b.key}}      a and b are one row, by the equality of the key's own unique index
--   {{lock}}  {{run}}      the lock that the change needs; the number of this run
CREATE OR REPLACE FUNCTION pg_temp.datafix_sql(fix jsonb, statement text)
RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $engine$
DECLARE
    mark     text;
    part     text[];
    expanded text;
BEGIN
    FOR mark IN
        SELECT DISTINCT m[1] FROM regexp_matches(statement, '\{\{((?:\w+\.)?(?:columns|key|lock|run)(?: = \w+\.key)?)\}\}', 'g') AS m
    LOOP
        part := regexp_match(mark, '^(?:(\w+)\.)?(\w+)(?: = (\w+)\.key)?$');
        part[1] := CASE WHEN part[1] = 'target' THEN fix ->> 'target_alias' ELSE part[1] END;
        part[3] := CASE WHEN part[3] = 'target' THEN fix ->> 'target_alias' ELSE part[3] END;
        IF part[2] = 'lock' OR part[2] = 'run' THEN
            expanded := fix ->> part[2];
        ELSIF part[2] = 'columns' THEN
            SELECT string_agg(CASE
                       WHEN part[1] IS NULL THEN quote_ident(c ->> 'name')
                       WHEN c ->> 'type' = c ->> 'kept' THEN format('%s.%I', part[1], c ->> 'name')
                       WHEN c ->> 'made_of' IS NOT NULL AND c ->> 'kept' = 'text' THEN format('pg_temp.datafix_text(%s.%I)', part[1], c ->> 'name')
                       WHEN c ->> 'made_of' IS NOT NULL THEN format('pg_temp.datafix_texts(%s.%I)', part[1], c ->> 'name')
                       ELSE format('%s.%I::%s', part[1], c ->> 'name', c ->> 'kept') END, ', ' ORDER BY (c -> 'position')::int)
              INTO expanded FROM jsonb_array_elements(fix -> 'columns') AS c;
        ELSIF part[3] IS NULL THEN
            SELECT string_agg(coalesce(part[1] || '.', '') || quote_ident(k ->> 'name'), ', ' ORDER BY n)
              INTO expanded FROM jsonb_array_elements(fix -> 'key_columns') WITH ORDINALITY AS _ (k, n);
        ELSE
            SELECT string_agg(format('%s.%I%s %s %s.%I', part[1], k ->> 'name', k ->> 'cast', k ->> 'equals', part[3], k ->> 'name'),
                              ' AND ' ORDER BY n)
              INTO expanded FROM jsonb_array_elements(fix -> 'key_columns') WITH ORDINALITY AS _ (k, n);
        END IF;
        statement := replace(statement, '{{' || mark || '}}', expanded);
    END LOOP;
    RETURN statement;
END
$engine$;

-- The key of an image, in the types of the target.
CREATE OR REPLACE FUNCTION pg_temp.datafix_typed_key(fix jsonb, alias text)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT string_agg(format('%s.%I%s', alias, k ->> 'name', k ->> 'cast'), ', ' ORDER BY n)
      FROM jsonb_array_elements(fix -> 'key_columns') WITH ORDINALITY AS _ (k, n)
$engine$;

-- Runs a statement that writes images, with the settings pinned on which the text form of a value depends. Returns the
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

-- A number that depends on every bit of a run's images and not on their order: later tampering shows as another one.
CREATE OR REPLACE FUNCTION pg_temp.datafix_digest(audit text, columns jsonb, run bigint, OUT images bigint, OUT digest numeric)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET timezone = 'UTC'
SET extra_float_digits = 1 SET bytea_output = 'hex' SET lc_monetary = 'C' AS $engine$
DECLARE
    kept text;
BEGIN
    -- Types whose hash tells every bit apart are hashed as they are, which is fast; all others as their text. The name
    -- of what a regclass points at may change; its number is the value.
    SELECT string_agg(CASE
               WHEN c ->> 'kept' ~ '^(smallint|integer|bigint|boolean|text|uuid|date|bytea|oid|name|"char"|character( varying)?[(][0-9]+[)]|character varying|'
                                   'timestamp([(][0-9][)])? with(out)? time zone|time([(][0-9][)])? without time zone)$' THEN format('i.%I', c ->> 'name')
               WHEN c ->> 'kept' ~ '^reg' THEN format(CASE WHEN right(c ->> 'kept', 2) = '[]' THEN 'i.%I::oid[]::text' ELSE 'i.%I::oid' END, c ->> 'name')
               ELSE format('CASE WHEN i.%1$I IS NOT NULL THEN concat(i.%1$I) END', c ->> 'name') END, ', ' ORDER BY (c -> 'position')::int)
      INTO kept FROM jsonb_array_elements(columns) AS c;
    EXECUTE format('SELECT count(*), sum(hash_record_extended(ROW(%s, i.audit_image, i.audit_id), 0)) FROM %s AS i WHERE i.audit_run_id = %s', kept, audit, run)
       INTO images, digest;
END
$engine$;

-- The statement that checks the target's deferred constraints now, or defers them again: by name, because ALL would
-- also reach the constraints of others.
CREATE OR REPLACE FUNCTION pg_temp.datafix_constraints(fix jsonb, mode text)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT coalesce('SET CONSTRAINTS ' || string_agg(DISTINCT format('%I.%I', n.nspname, c.conname), ', ') || ' ' || mode, 'SELECT')
      FROM pg_constraint AS c JOIN pg_namespace AS n ON n.oid = c.connamespace
     WHERE c.condeferred AND (fix ->> 'target_oid')::oid IN (c.conrelid, c.confrelid)
       -- SET CONSTRAINTS reaches every constraint of that name in the schema: others are not to be deferred
       AND (mode <> 'DEFERRED' OR NOT EXISTS (SELECT FROM pg_constraint AS o WHERE o.connamespace = c.connamespace AND o.conname = c.conname
                                                 AND o.contype IN ('f', 'p', 'u', 'x', 't') AND NOT o.condeferred))
$engine$;

-- The transaction is one in which a fix can be safe: READ COMMITTED, so that what is read after a lock is current.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_transaction(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        PERFORM pg_temp.datafix_refuse('DF014', format('datafix %s: the transaction is %s, and would not see what others committed '
            'while it waited for a lock', fix ->> 'fix', upper(current_setting('transaction_isolation'))), NULL,
            'Run the migration in READ COMMITTED, PostgreSQL''s default.');
    END IF;
END
$engine$;

-- The database is where this revision starts from (in an upgrade), or at this revision (in a downgrade). Adds what the
-- version table holds.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_revision(fix jsonb, version_table regclass)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    revision text   := fix ->> 'revision';
    wanted   text[] := ARRAY(SELECT jsonb_array_elements_text(fix -> 'after'));
    present  text[];
    longest  integer;
BEGIN
    IF revision IS NULL THEN        -- not run by Alembic: there is no revision to compare with
        RETURN fix;
    END IF;
    IF version_table IS NULL THEN
        PERFORM pg_temp.datafix_refuse('DF001', format('datafix %s: this database has no table %s, so it is not at revision %s',
            fix ->> 'fix', fix ->> 'version_table', coalesce(wanted[1], '(base)')), NULL,
            'Check which database and which search_path this is, or run the migrations before this one first.');
    END IF;
    EXECUTE format('SELECT array_agg(version_num::text ORDER BY version_num) FROM %s', version_table) INTO present;
    present := coalesce(present, '{}');
    IF (SELECT count(*) <> count(DISTINCT v) FROM unnest(present) AS v) THEN
        PERFORM pg_temp.datafix_refuse('DF001', format('datafix %s: %s holds a revision twice: %s', fix ->> 'fix', version_table,
            array_to_string(present, ', ')), NULL, 'Remove the duplicate row first.');
    END IF;
    IF (fix -> 'upgrading')::boolean AND revision = ANY (present) THEN
        PERFORM pg_temp.datafix_refuse('DF001', format('datafix %s: the database is at revision %s already', fix ->> 'fix', revision),
            NULL, 'Another run was faster, or this script ran before. Nothing was changed.');
    END IF;
    IF NOT wanted <@ present THEN
        PERFORM pg_temp.datafix_refuse('DF001', format('datafix %s: the database is at revision %s, and this runs at %s only',
            fix ->> 'fix', coalesce(nullif(array_to_string(present, ', '), ''), '(base)'), array_to_string(wanted, ', ')),
            NULL, 'Another run was faster, or this script is for another state of the database. Nothing was changed.');
    END IF;
    SELECT a.atttypmod - 4 INTO longest FROM pg_attribute AS a WHERE a.attrelid = version_table AND a.attname = 'version_num' AND a.atttypmod > 0;
    IF length(revision) > longest THEN
        PERFORM pg_temp.datafix_refuse('DF001', format('datafix %s: the revision id %s has %s characters, and %s keeps %s',
            fix ->> 'fix', revision, length(revision), version_table, longest), NULL, 'Give the revision a shorter id.');
    END IF;
    RETURN fix || jsonb_build_object('versions', present, 'version_table_oid', version_table::oid::bigint);
END
$engine$;

-- Read when the transaction commits: the version has moved with the fix. Whatever commits in between would leave a fix
-- in force whose revision is still to run (B24, B25).
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_moved(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    version_table regclass := (fix ->> 'version_table_oid')::oid::regclass;
    present       text[];
BEGIN
    IF NOT EXISTS (SELECT FROM pg_class WHERE oid = version_table) THEN     -- a downgrade to base may drop it
        RETURN;
    END IF;
    EXECUTE format('SELECT array_agg(version_num::text ORDER BY version_num) FROM %s', version_table) INTO present;
    IF to_jsonb(coalesce(present, '{}')) = fix -> 'versions' THEN
        PERFORM pg_temp.datafix_refuse('DF014', format('datafix %s: the transaction was to be committed before %s moved to or from revision %s',
            fix ->> 'fix', version_table, fix ->> 'revision'), NULL,
            'Nothing was changed. Remove what commits inside this migration (commit(), autocommit_block()), or give the fix a migration of its own.');
    END IF;
END
$engine$;

-- The target is a table whose rows can be locked, copied and told apart. Returns what the rest needs to know of it.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_target(fix jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $engine$
DECLARE
    label    text := format('%I.%I', fix ->> 'target_schema', fix ->> 'target_table');
    target   pg_class;
    problem  text;
    elsewhere text;
BEGIN
    SELECT c.* INTO target FROM pg_class AS c WHERE c.oid = pg_temp.datafix_relation(fix ->> 'target_schema', fix ->> 'target_table');
    IF target.oid IS NULL THEN
        SELECT string_agg(format('%I.%I', n.nspname, c.relname), ', ' ORDER BY n.nspname) INTO elsewhere
          FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
         WHERE c.relname = fix ->> 'target_table' AND c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_';
        PERFORM pg_temp.datafix_refuse('DF004', format('datafix %s: there is no table %s', fix ->> 'fix', label), NULL,
            coalesce('There is ' || elsewhere || ': name it with schema="...".', NULL));
    END IF;
    IF target.relkind IN ('r', 'p') THEN
        -- The shape that is looked at here is the one that is copied: nobody alters the table from now on (C23).
        EXECUTE format('LOCK TABLE ONLY %s IN ROW EXCLUSIVE MODE', label);
        SELECT c.* INTO target FROM pg_class AS c WHERE c.oid = pg_temp.datafix_relation(fix ->> 'target_schema', fix ->> 'target_table');
    END IF;
    problem := CASE
        WHEN target.relkind = 'v' THEN 'is a view'
        WHEN target.relkind = 'm' THEN 'is a materialized view'
        WHEN target.relkind = 'f' THEN 'is a foreign table'
        WHEN target.relkind NOT IN ('r', 'p') THEN 'is not a table'
        WHEN target.relpersistence = 't' THEN 'is a temporary table'
        WHEN target.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = target.oid) THEN
            'has tables that inherit from it, whose own columns a copy would lose'
        WHEN EXISTS (SELECT FROM pg_partition_tree(target.oid::regclass) AS p JOIN pg_class AS c ON c.oid = p.relid WHERE c.relkind = 'f') THEN
            'has a partition that is a foreign table'
        WHEN EXISTS (SELECT FROM pg_rewrite WHERE ev_class = target.oid) THEN
            (SELECT format('has a rule (%s), which would change something else than the statement says', string_agg(rulename, ', '))
               FROM pg_rewrite WHERE ev_class = target.oid)
        END;
    IF problem IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse('DF004', format('datafix %s: %s %s; a fix needs an ordinary or a partitioned table',
            fix ->> 'fix', label, problem));
    END IF;
    fix := fix || jsonb_build_object('target', label, 'target_alias', quote_ident(target.relname), 'target_oid', target.oid::bigint,
        'columns', pg_temp.datafix_columns(target.oid));
    PERFORM pg_temp.datafix_check_column_names(fix);
    RETURN pg_temp.datafix_check_key(fix);
END
$engine$;

CREATE OR REPLACE FUNCTION pg_temp.datafix_check_column_names(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    problem text;
BEGIN
    SELECT string_agg(quote_ident(named.name), ', ') INTO problem
      FROM (SELECT jsonb_array_elements_text(fix -> 'key') UNION SELECT jsonb_array_elements_text(coalesce(fix -> 'set', '[]'))) AS named (name)
     WHERE named.name NOT IN (SELECT c ->> 'name' FROM jsonb_array_elements(fix -> 'columns') AS c);
    IF problem IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse('DF006', format('datafix %s: %s has no column %s', fix ->> 'fix', fix ->> 'target', problem), NULL,
            format('Its columns: %s.', (SELECT string_agg(quote_ident(c ->> 'name'), ', ' ORDER BY (c -> 'position')::int)
                                          FROM jsonb_array_elements(fix -> 'columns') AS c)));
    END IF;
    SELECT string_agg(quote_ident(c ->> 'name'), ', ') INTO problem FROM jsonb_array_elements(fix -> 'columns') AS c
     WHERE c ->> 'name' ~ '[{][{]([[:alnum:]_]+[.])?(columns|key|lock|run)( = [[:alnum:]_]+[.]key)?[}][}]';
    IF problem IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse('DF006', format('datafix %s: the column %s of %s has the form of one of the engine''s own marks',
            fix ->> 'fix', problem, fix ->> 'target'), NULL, 'Rename the column first.');
    END IF;
    SELECT string_agg(format('%I (%s)', c ->> 'name', c ->> 'type'), ', ') INTO problem
      FROM jsonb_array_elements(fix -> 'columns') AS c
     WHERE fix -> 'times_without_zone' ? (c ->> 'name') AND c ->> 'type' ~ 'with time zone';
    IF problem IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse('DF006', format('datafix %s: a time without a zone is given for %s; it would be another moment '
            'in another session', fix ->> 'fix', problem), NULL, 'Write the offset, for example ''2026-02-03 16:00+00''.');
    END IF;
END
$engine$;

-- The key identifies a row: a unique index over exactly these columns, none of which can be null.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_key(fix jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    target      oid    := (fix ->> 'target_oid')::oid;
    key         text[] := ARRAY(SELECT jsonb_array_elements_text(fix -> 'key'));
    nullable    text;
    key_index   pg_index;
    key_columns jsonb;
BEGIN
    SELECT i.* INTO key_index
      FROM pg_index AS i
     WHERE i.indrelid = target AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
       AND i.indnkeyatts = cardinality(key)
       AND NOT EXISTS (SELECT FROM generate_series(0, i.indnkeyatts - 1) AS n JOIN pg_attribute AS a ON a.attrelid = target AND a.attnum = i.indkey[n]
                        WHERE a.attname <> ALL (key))
     ORDER BY i.indisprimary DESC, i.indexrelid LIMIT 1;
    IF key_index.indexrelid IS NULL THEN
        PERFORM pg_temp.datafix_refuse('DF005', format('datafix %s: %s has no unique index over (%s), so two rows could be one',
            fix ->> 'fix', fix ->> 'target', array_to_string(key, ', ')), NULL,
            coalesce('Unique here: ' || (SELECT string_agg(pg_get_indexdef(i.indexrelid), '; ') FROM pg_index AS i WHERE i.indrelid = target
                                           AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL) || '.',
                     'The table has no unique key at all: add one first.'));
    END IF;
    SELECT string_agg(a.attname, ', ') INTO nullable FROM pg_attribute AS a
     WHERE a.attrelid = target AND a.attname = ANY (key) AND NOT a.attnotnull;
    IF nullable IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse('DF005', format('datafix %s: the key column %s of %s can be null, and a null identifies no row',
            fix ->> 'fix', nullable, fix ->> 'target'), NULL, 'Choose a key whose columns are all NOT NULL.');
    END IF;
    -- Keys are compared by the operator of the index itself, whatever the search_path offers under the name "=" (C11).
    SELECT jsonb_agg(jsonb_build_object('name', k.name, 'equals', format('OPERATOR(%I.%s)', n.nspname, o.oprname),
               'cast', CASE WHEN c ->> 'type' = c ->> 'kept' THEN '' ELSE '::' || (c ->> 'type') END) ORDER BY k.position)
      INTO key_columns
      FROM unnest(key) WITH ORDINALITY AS k (name, position)
      JOIN jsonb_array_elements(fix -> 'columns') AS c ON c ->> 'name' = k.name
      JOIN generate_series(0, key_index.indnkeyatts - 1) AS i ON key_index.indkey[i] = (c -> 'position')::int
      JOIN pg_opclass AS opc ON opc.oid = key_index.indclass[i]
      JOIN pg_amop AS amop ON amop.amopfamily = opc.opcfamily AND amop.amopstrategy = 3
                          AND amop.amoplefttype = opc.opcintype AND amop.amoprighttype = opc.opcintype
      JOIN pg_operator AS o ON o.oid = amop.amopopr JOIN pg_namespace AS n ON n.oid = o.oprnamespace;
    RETURN fix || jsonb_build_object('key_columns', key_columns, 'lock',
        -- NO KEY leaves the inserts of child rows alone; it will do unless the row's keys change or the row goes (C20).
        CASE WHEN fix ->> 'change' <> 'update' OR EXISTS (
                 SELECT FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = target AND a.attnum = ANY (i.indkey)
                  WHERE i.indrelid = target AND i.indisunique AND fix -> 'set' ? a.attname::text)
             THEN 'UPDATE' ELSE 'NO KEY UPDATE' END);
END
$engine$;

-- The audit table can hold the target's rows exactly: the same columns, in the types in which they are kept.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_audit_table(fix jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $engine$
DECLARE
    audit    oid  := pg_temp.datafix_relation(fix ->> 'audit_schema', fix ->> 'audit_table');
    ledger   oid  := pg_temp.datafix_relation(fix ->> 'audit_schema', 'datafix_run');
    label    text := format('%I.%I', fix ->> 'audit_schema', fix ->> 'audit_table');
    problems text;
BEGIN
    IF audit IS NULL OR ledger IS NULL THEN
        PERFORM pg_temp.datafix_refuse('DF006', format('datafix %s: there is no table %s to copy rows into', fix ->> 'fix',
            CASE WHEN audit IS NULL THEN label ELSE format('%I.datafix_run', fix ->> 'audit_schema') END), NULL,
            format('An earlier migration makes it: op.create_audit_table(%s, name=%s).', quote_literal(fix ->> 'target_table'), quote_literal(fix ->> 'audit_table')));
    END IF;
    -- What is written there must stay there as it was written, through a crash too (C36).
    SELECT string_agg(p.problem, '; ') INTO problems FROM pg_class AS c CROSS JOIN LATERAL (
        SELECT 'it is not an ordinary, logged table' WHERE c.relkind NOT IN ('r', 'p') OR c.relpersistence <> 'p'
        UNION ALL SELECT 'it has the rule ' || rulename FROM pg_rewrite WHERE ev_class = c.oid AND c.relkind IN ('r', 'p')
        UNION ALL SELECT 'its trigger ' || tgname || ' can change what is written' FROM pg_trigger
         WHERE tgrelid = c.oid AND NOT tgisinternal AND tgtype & 7 = 7      -- for each row, before, insert
        ) AS p (problem) WHERE c.oid = audit;
    IF problems IS NULL THEN
        EXECUTE format('LOCK TABLE ONLY %s IN ROW EXCLUSIVE MODE', label);
    ELSE
        PERFORM pg_temp.datafix_refuse('DF006', format('datafix %s: the audit table %s would not keep copies: %s', fix ->> 'fix', label, problems));
    END IF;
    SELECT string_agg(CASE
               WHEN have.name IS NULL THEN format('%I %s is missing there', want ->> 'name', want ->> 'kept')
               ELSE format('%I is %s, and %s there', want ->> 'name', want ->> 'type', have.type) END, '; ')
      INTO problems
      FROM (SELECT c FROM jsonb_array_elements(fix -> 'columns') AS c
            UNION ALL
            SELECT jsonb_build_object('name', m.name, 'type', m.type, 'kept', m.type)
              FROM (VALUES ('audit_id', 'bigint'), ('audit_run_id', 'bigint'), ('audit_image', 'text'),
                           ('audit_recorded_at', 'timestamp with time zone')) AS m (name, type)) AS wanted (want)
      LEFT JOIN (SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute AS a
                  WHERE a.attrelid = audit AND a.attnum > 0 AND NOT a.attisdropped) AS have (name, type) ON have.name = want ->> 'name'
     WHERE have.type IS DISTINCT FROM want ->> 'kept';
    IF problems IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse('DF006', format('datafix %s: the audit table %s has not the shape of %s: %s', fix ->> 'fix', label,
            fix ->> 'target', problems), NULL, CASE WHEN fix ->> 'direction' = 'revert' THEN
            'Nothing was changed. Downgrade the migration that changed the table first.' ELSE 'Bring the audit table to the shape of its target in a migration before this one, '
            'for example ALTER TABLE ' || label || ' ADD COLUMN ...; a column whose type changed needs a new audit table.' END);
    END IF;
    RETURN fix || jsonb_build_object('audit', label, 'ledger', format('%I.datafix_run', fix ->> 'audit_schema'));
END
$engine$;

-- Before anything else is looked at: what is in force already is not applied again.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_in_force(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    last jsonb;
BEGIN
    IF fix ->> 'direction' <> 'apply' OR pg_temp.datafix_relation(fix ->> 'audit_schema', 'datafix_run') IS NULL THEN
        RETURN;
    END IF;
    last := pg_temp.datafix_last_run(fix);
    IF last ->> 'direction' = 'apply' AND last ->> 'outcome' <> 'not_applicable' THEN
        IF last ->> 'fingerprint' <> fix ->> 'fingerprint' THEN
            PERFORM pg_temp.datafix_refuse('DF003', format('datafix %s: the name was used before, by run %s (revision %s) with other content: '
                'fingerprint %s there, %s here', fix ->> 'fix', last ->> 'run_id', last ->> 'revision', left(last ->> 'fingerprint', 12), left(fix ->> 'fingerprint', 12)),
                NULL, 'Give the new fix a name of its own.');
        END IF;
        PERFORM pg_temp.datafix_refuse('DF002', format('datafix %s: applied already, by run %s at %s (%s rows)', fix ->> 'fix',
            last ->> 'run_id', last ->> 'finished_at', last ->> 'rows_changed'), NULL,
            format('Nothing was changed. If alembic_version was set back by hand: alembic stamp %s', fix ->> 'revision'));
    END IF;
END
$engine$;

-- Opens the run in the ledger. One fix at a time in this database: whoever comes second waits here, and looks again.
CREATE OR REPLACE FUNCTION pg_temp.datafix_begin(fix jsonb, version_table regclass)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    -- The text of the cursor, not its name: PostgreSQL cuts long names off.
    IF NOT EXISTS (SELECT FROM pg_cursors WHERE strpos(statement, format('<%s %s>', fix ->> 'direction', fix ->> 'fix')) > 0
                     AND creation_time >= transaction_timestamp()) THEN
        PERFORM pg_temp.datafix_refuse('DF014', format('datafix %s: the commit fuse is not lit', fix ->> 'fix'), NULL,
            'Run the whole script, from its first statement on, in one transaction.');
    END IF;
    PERFORM pg_temp.datafix_check_transaction(fix);
    PERFORM pg_advisory_xact_lock(hashtextextended('datafixes fix', 0));
    fix := pg_temp.datafix_check_revision(fix, version_table);
    PERFORM pg_temp.datafix_check_in_force(fix || jsonb_build_object('ledger', format('%I.datafix_run', fix ->> 'audit_schema')));
    fix := pg_temp.datafix_check_target(fix);
    fix := pg_temp.datafix_check_audit_table(fix);
    RETURN fix;
END
$engine$;

-- The last thing that happened to a fix, by the ledger: the truth about fixes, whatever alembic_version says (B31).
CREATE OR REPLACE FUNCTION pg_temp.datafix_last_run(fix jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    last jsonb;
BEGIN
    EXECUTE format($sql$SELECT to_jsonb(r) FROM %s AS r WHERE r.fix = %L AND r.outcome NOT IN ('started', 'failed')
                         ORDER BY r.run_id DESC LIMIT 1$sql$, fix ->> 'ledger', fix ->> 'fix') INTO last;
    RETURN last;
END
$engine$;

CREATE OR REPLACE FUNCTION pg_temp.datafix_open_run(fix jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    run bigint;
BEGIN
    EXECUTE format($sql$
        INSERT INTO %s (fix, revision, direction, outcome, rows_expected, reason, application, fingerprint,
                        target_table, audit_table, key_columns, written_columns, shape, reverts_run, on_conflict)
        VALUES ($1 ->> 'fix', $1 ->> 'revision', $1 ->> 'direction', 'started', ($1 -> 'rows_expected')::bigint, $1 ->> 'reason',
                nullif($1 ->> 'application', ''), $1 ->> 'fingerprint', $1 ->> 'target', $1 ->> 'audit',
                ARRAY(SELECT jsonb_array_elements_text($1 -> 'key')),
                -- where triggers have a hand in it, which columns a fix wrote is known from the images only
                CASE WHEN NOT EXISTS (SELECT FROM pg_trigger WHERE NOT tgisinternal AND (tgrelid = ($1 ->> 'target_oid')::oid
                                         OR tgrelid IN (SELECT relid FROM pg_partition_tree(($1 ->> 'target_oid')::oid))))
                     THEN ARRAY(SELECT jsonb_array_elements_text($1 -> 'set')) END,
                jsonb_build_object('target', $1 -> 'target_oid', 'ledger', ($1 ->> 'ledger')::regclass::oid::bigint, 'columns', $1 -> 'columns'),
                ($1 -> 'reverts_run')::bigint, $1 ->> 'on_conflict')
        RETURNING run_id
    $sql$, fix ->> 'ledger') INTO run USING fix;
    RETURN fix || jsonb_build_object('run', run);
END
$engine$;

-- Closes the run: counts and digest of the images into the ledger, the commit fuse is satisfied. From here on, nothing can
-- be committed unless the version moves too.
CREATE OR REPLACE FUNCTION pg_temp.datafix_close(fix jsonb, outcome text, changed bigint DEFAULT 0)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    kept     record;
    leftover text;
    moved    text := left('datafixes moved ' || (fix ->> 'fix'), 63);
BEGIN
    SELECT * INTO kept FROM pg_temp.datafix_digest(fix ->> 'audit', fix -> 'columns', (fix -> 'run')::bigint);
    EXECUTE format($sql$
        UPDATE %s SET outcome = $1, rows_changed = $2, images = $3, images_digest = $4, finished_at = clock_timestamp() WHERE run_id = $5
    $sql$, fix ->> 'ledger') USING outcome, changed, kept.images, kept.digest, (fix -> 'run')::bigint;
    FOREACH leftover IN ARRAY ARRAY['expected', 'actual', 'wanted', 'captured', 'pair', 'restore', 'conflict', 'left', 'then', 'now'] LOOP
        IF to_regclass('pg_temp.datafix_' || leftover) IS NOT NULL THEN
            EXECUTE 'DROP TABLE pg_temp.datafix_' || leftover;
        END IF;
    END LOOP;
    IF fix ? 'versions' THEN
        IF EXISTS (SELECT FROM pg_cursors WHERE name = moved) THEN
            EXECUTE format('CLOSE %I', moved);
        END IF;
        EXECUTE format('DECLARE %I NO SCROLL CURSOR WITH HOLD FOR SELECT pg_temp.datafix_check_moved(%L)', moved, fix);
    END IF;
    PERFORM set_config('datafixes.finished', current_setting('datafixes.finished', true) || format('<%s %s>', fix ->> 'direction', fix ->> 'fix'), true);
    RAISE NOTICE 'datafix %: %, % rows changed, run %', fix ->> 'fix', outcome, changed, fix ->> 'run';
END
$engine$;

-- The join condition of a foreign key, between "child" and "t", by the operators of the key itself.
CREATE OR REPLACE FUNCTION pg_temp.datafix_reference(reference pg_constraint)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT string_agg(format('t.%I OPERATOR(%I.%s) child.%I', parent.attname, n.nspname, o.oprname, child.attname), ' AND ')
      FROM generate_subscripts(reference.conkey, 1) AS i
      JOIN pg_attribute AS child ON child.attrelid = reference.conrelid AND child.attnum = reference.conkey[i]
      JOIN pg_attribute AS parent ON parent.attrelid = reference.confrelid AND parent.attnum = reference.confkey[i]
      JOIN pg_operator AS o ON o.oid = reference.conpfeqop[i]
      JOIN pg_namespace AS n ON n.oid = o.oprnamespace
$engine$;
