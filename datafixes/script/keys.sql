-- What tells the rows of a table apart.

-- Whether no row can have a null in the column. PostgreSQL 18 sets attnotnull also for a NOT NULL constraint that is
-- NOT VALID: older rows have not been checked against it.
CREATE OR REPLACE FUNCTION pg_temp.datafix_never_null(a pg_attribute)
RETURNS boolean LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT a.attnotnull AND NOT EXISTS (SELECT FROM pg_constraint AS c
                                         WHERE c.conrelid = a.attrelid AND c.contype = 'n' AND c.conkey[1] = a.attnum
                                           AND NOT c.convalidated)
$engine$;

-- The unique keys of a table, the primary key first. Only what holds for every row counts. An index that is being
-- built or whose build failed does not, nor one with a condition or an expression, nor one WITHOUT OVERLAPS (it
-- separates what does not overlap, not what is equal). "nullable": the columns that can be null; a null identifies no
-- row.
CREATE OR REPLACE FUNCTION pg_temp.datafix_unique_keys(target oid)
RETURNS TABLE (index oid, key text[], nullable text) LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT i.indexrelid, k.key, k.nullable
      FROM pg_index AS i CROSS JOIN LATERAL (
           SELECT array_agg(a.attname::text ORDER BY n),
                  string_agg(a.attname, ', ' ORDER BY n) FILTER (WHERE NOT pg_temp.datafix_never_null(a))
             FROM generate_series(0, i.indnkeyatts - 1) AS n
             JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[n]) AS k (key, nullable)
     WHERE i.indrelid = target AND i.indisunique AND NOT i.indisexclusion AND i.indisvalid
       AND i.indpred IS NULL AND i.indexprs IS NULL
     ORDER BY i.indisprimary DESC, i.indexrelid
$engine$;

-- The first unique key that is never null; NULL where there is none, and rows are told apart by their image.
CREATE OR REPLACE FUNCTION pg_temp.datafix_first_key(target oid)
RETURNS text[] LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT k.key FROM pg_temp.datafix_unique_keys(target) AS k WHERE k.nullable IS NULL LIMIT 1
$engine$;

-- This transaction may have violated a deferrable key before the fix: the key is checked now, and deferred again. A
-- later violation is found before the fix ends.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_deferrable(fix jsonb, index oid)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    one record;
BEGIN
    SELECT format('%I.%I', n.nspname, c.conname) AS name, c.condeferred AS deferred INTO one
      FROM pg_constraint AS c JOIN pg_namespace AS n ON n.oid = c.connamespace
     WHERE c.conindid = index AND c.contype IN ('p', 'u') AND c.condeferrable;
    IF one.name IS NULL THEN
        RETURN;
    END IF;
    BEGIN
        EXECUTE format('SET CONSTRAINTS %s IMMEDIATE', one.name);
    EXCEPTION WHEN unique_violation THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF005',
            format('this transaction has left two rows of %s with the same key: %s does not hold now',
                   fix ->> 'target', one.name),
            hint => 'Nothing was changed. Correct them before the fix begins.');
    END;
    IF one.deferred THEN
        EXECUTE format('SET CONSTRAINTS %s DEFERRED', one.name);
    END IF;
END
$engine$;

-- The key identifies a row: a unique index over exactly these columns, none of which can be null. Where a recorded
-- fix declares none, it is the first such key, or else nothing: rows are told apart by their image.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_key(fix jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    target      oid    := (fix ->> 'target_oid')::oid;
    wanted      text[] := ARRAY(SELECT jsonb_array_elements_text(fix -> 'key'));
    found_key   record;
    key_index   pg_index;
    key_columns jsonb;
BEGIN
    IF wanted = '{}' AND NOT fix ? 'by_image' THEN
        wanted := coalesce(pg_temp.datafix_first_key(target), '{}');
        fix := fix || jsonb_build_object('key', wanted);
    END IF;
    IF wanted = '{}' THEN
        RETURN fix || jsonb_build_object('key_columns', '[]'::jsonb, 'lock', 'UPDATE');
    END IF;
    SELECT * INTO found_key FROM pg_temp.datafix_unique_keys(target) AS k
     WHERE k.key @> wanted AND k.key <@ wanted LIMIT 1;
    IF found_key.index IS NULL THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF005',
            format('%s has no unique index over (%s), so two rows could have the same key',
                   fix ->> 'target', array_to_string(wanted, ', ')),
            hint => coalesce('Unique here: ' || (SELECT string_agg(pg_get_indexdef(k.index), '; ')
                                           FROM pg_temp.datafix_unique_keys(target) AS k) || '.',
                     'The table has no unique key at all: add one first.'));
    ELSIF found_key.nullable IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF005',
            format('the key column %s of %s can be null, and a null identifies no row',
                   found_key.nullable, fix ->> 'target'),
            hint => coalesce(
            (SELECT format('Its NOT NULL is NOT VALID, so older nulls may remain. Fill them in by another key, then: '
                           'ALTER TABLE %s VALIDATE CONSTRAINT %I', fix ->> 'target', c.conname)
               FROM pg_constraint AS c JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
              WHERE c.conrelid = target AND c.contype = 'n' AND NOT c.convalidated AND a.attname = ANY (wanted)
              LIMIT 1),
            'Choose a key whose columns are all NOT NULL.'));
    END IF;
    PERFORM pg_temp.datafix_check_deferrable(fix, found_key.index);
    SELECT * INTO STRICT key_index FROM pg_index WHERE indexrelid = found_key.index;
    -- Keys are compared by the operator and the collation of the index itself: the search_path may offer another "=",
    -- and images and tables have other collations.
    SELECT jsonb_agg(jsonb_build_object('name', k.name, 'equals', format('OPERATOR(%I.%s)', n.nspname, o.oprname),
               'cast', CASE WHEN c ->> 'type' = c ->> 'kept' THEN '' ELSE '::' || (c ->> 'type') END,
               'base', c ->> 'to_base', 'collate', pg_temp.datafix_collate(key_index.indcollation[i], a.attcollation))
               ORDER BY k.position)
      INTO key_columns
      FROM unnest(wanted) WITH ORDINALITY AS k (name, position)
      JOIN jsonb_array_elements(fix -> 'columns') AS c ON c ->> 'name' = k.name
      JOIN generate_series(0, key_index.indnkeyatts - 1) AS i ON key_index.indkey[i] = (c -> 'position')::int
      JOIN pg_attribute AS a ON a.attrelid = target AND a.attnum = key_index.indkey[i]
      JOIN pg_opclass AS opc ON opc.oid = key_index.indclass[i]
      JOIN pg_amop AS amop ON amop.amopfamily = opc.opcfamily AND amop.amopstrategy = 3
                          AND amop.amoplefttype = opc.opcintype AND amop.amoprighttype = opc.opcintype
      JOIN pg_operator AS o ON o.oid = amop.amopopr JOIN pg_namespace AS n ON n.oid = o.oprnamespace;
    RETURN fix || jsonb_build_object('key_columns', key_columns, 'lock',
        -- NO KEY lets others insert child rows meanwhile. It suffices unless unique values change or the row goes.
        CASE WHEN fix ->> 'change' <> 'update' OR EXISTS (
                 SELECT FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = target AND a.attnum = ANY (i.indkey)
                  WHERE i.indrelid = target AND i.indisunique AND fix -> 'set' ? a.attname::text)
             THEN 'UPDATE' ELSE 'NO KEY UPDATE' END);
END
$engine$;

-- The condition that two rows have another value in a column of a table. It tells apart what a collation takes for the
-- same: it is for guards.
CREATE OR REPLACE FUNCTION pg_temp.datafix_other_value(relation regclass, name text, one text, other text)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT format(CASE WHEN a.attcollation <> 0 THEN '%1$s.%3$I COLLATE pg_catalog."C" IS DISTINCT FROM %2$s.%3$I'
                       -- a composite or range type may have such a collation inside
                       WHEN EXISTS (SELECT FROM pg_temp.datafix_parts(a.atttypid) AS part (oid)
                                      JOIN pg_type AS t ON t.oid = part.oid AND t.typtype <> 'b'
                                      LEFT JOIN pg_attribute AS f ON f.attrelid = t.typrelid
                                      LEFT JOIN pg_range AS r ON t.oid IN (r.rngtypid, r.rngmultitypid)
                                      JOIN pg_collation AS c ON c.oid IN (f.attcollation, r.rngcollation)
                                     WHERE NOT c.collisdeterministic)
                       THEN 'record_image_ne(ROW(%1$s.%3$I), ROW(%2$s.%3$I))'
                       ELSE '%1$s.%3$I IS DISTINCT FROM %2$s.%3$I' END, one, other, name)
      FROM pg_attribute AS a
     WHERE a.attrelid = relation AND a.attname = name
$engine$;

-- The condition that two rows have another identity; NULL where nothing but the key identifies rows.
CREATE OR REPLACE FUNCTION pg_temp.datafix_other_identity(fix jsonb, relation regclass, one text, other text)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT string_agg(pg_temp.datafix_other_value(relation, i, one, other), ' OR ')
      FROM jsonb_array_elements_text(fix -> 'identity') AS i
$engine$;
