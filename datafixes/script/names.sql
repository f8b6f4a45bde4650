-- What images refer to by name: labels and attributes of the application's types, and objects and roles inside
-- values. In one database, each has a number that survives a rename. In another database (a restored dump, a copy),
-- the numbers differ, and only the names are left.

-- Whether a run took place in this database, and not in one that this one was copied from.
CREATE OR REPLACE FUNCTION pg_temp.datafix_was_here(fix jsonb, shape jsonb)
RETURNS boolean LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT shape -> 'ledger' = to_jsonb((fix ->> 'ledger')::regclass::oid::bigint)
$engine$;

-- The types that a type consists of, itself included.
CREATE OR REPLACE FUNCTION pg_temp.datafix_parts(type_id oid)
RETURNS SETOF oid LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    WITH RECURSIVE part AS (
        SELECT type_id AS oid
        UNION
        SELECT inner_type.oid FROM part JOIN pg_type AS t USING (oid) CROSS JOIN LATERAL (
               SELECT t.typbasetype WHERE t.typtype = 'd'
               UNION ALL SELECT t.typelem WHERE t.typelem <> 0
               UNION ALL SELECT a.atttypid FROM pg_attribute AS a
                          WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
               UNION ALL SELECT r.rngsubtype FROM pg_range AS r
                          WHERE t.oid IN (r.rngtypid, r.rngmultitypid)) AS inner_type (oid))
    SELECT oid FROM part
$engine$;

-- The application's enums, composites and ranges in the columns of a table, with what distinguishes each from another
-- of the same name.
CREATE OR REPLACE FUNCTION pg_temp.datafix_own_types(relation oid)
RETURNS jsonb LANGUAGE sql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $engine$
    SELECT coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
               'column', a.attname, 'type', format_type(t.oid, NULL), 'oid', t.oid::bigint,
               'labels', CASE t.typtype WHEN 'e' THEN (
                   SELECT coalesce(jsonb_agg(jsonb_build_array(e.oid::bigint, e.enumlabel)
                                             ORDER BY e.enumsortorder), '[]')
                     FROM pg_enum AS e WHERE e.enumtypid = t.oid) END,
               'attributes', CASE t.typtype WHEN 'c' THEN (
                   SELECT coalesce(jsonb_agg(jsonb_build_array(f.attnum, f.attname) ORDER BY f.attnum), '[]')
                     FROM pg_attribute AS f
                    WHERE f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped) END,
               'range', (SELECT format('of %s, collation %s, canonical %s', format_type(r.rngsubtype, NULL),
                                       r.rngcollation::regcollation, r.rngcanonical)
                           FROM pg_range AS r WHERE t.oid IN (r.rngtypid, r.rngmultitypid))
               )) ORDER BY a.attnum, t.oid), '[]')
      FROM pg_attribute AS a CROSS JOIN LATERAL pg_temp.datafix_parts(a.atttypid) AS part (oid)
      JOIN pg_type AS t ON t.oid = part.oid
     WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
       AND t.oid >= 16384 AND t.typtype IN ('e', 'c', 'r', 'm')
$engine$;

-- What is wrong with the labels of an enum, in words; empty where a name means the label that it meant when the run
-- copied it. "was" and "has" hold [number, name] in their order. Labels that were added since do not matter. For the
-- same type, the number decides; for a type that replaced it, whose values were converted by their text, the name; in
-- another database, name and order.
CREATE OR REPLACE FUNCTION pg_temp.datafix_other_labels(was jsonb, has jsonb, same boolean, ordered boolean)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    WITH noted AS (
        SELECT l -> 0 AS number, l ->> 1 AS name, n FROM jsonb_array_elements(was) WITH ORDINALITY AS _ (l, n)),
    present AS (
        SELECT l -> 0 AS number, l ->> 1 AS name, n FROM jsonb_array_elements(has) WITH ORDINALITY AS _ (l, n)),
    pair AS (
        SELECT noted.name, noted.n, CASE WHEN same THEN called.name ELSE noted.name END AS now,
               named.n AS place, lag(named.n) OVER (ORDER BY noted.n) AS last
          FROM noted LEFT JOIN present AS called ON called.number = noted.number
          LEFT JOIN present AS named ON named.name = noted.name)
    SELECT concat_ws('; ',
        (SELECT format('has no label %s any more', string_agg(quote_literal(name), ', ' ORDER BY n))
                || coalesce(format(' (called %s now)',
                                   string_agg(quote_literal(now), ', ' ORDER BY n) FILTER (WHERE now <> name)), '')
           FROM pair WHERE place IS NULL HAVING count(*) > 0),
        (SELECT format('has another label %s (the one that it was is called %s now)',
                       string_agg(quote_literal(name), ', ' ORDER BY n),
                       string_agg(quote_literal(now), ', ' ORDER BY n))
           FROM pair WHERE place IS NOT NULL AND now IS DISTINCT FROM name HAVING count(*) > 0),
        (SELECT format('had the labels %s in this order and has %s: some may have changed names',
                       string_agg(quote_literal(name), ', ' ORDER BY n),
                       (SELECT string_agg(quote_literal(name), ', ' ORDER BY n) FROM present))
           FROM pair WHERE ordered HAVING bool_or(place < last)))
$engine$;

-- Version 0.1 noted the names of labels, but no numbers. In the same database, the labels of that time are the oldest
-- ones.
CREATE OR REPLACE FUNCTION pg_temp.datafix_newer_labels(was jsonb, has jsonb)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    WITH oldest AS (
        SELECT l ->> 1 AS name, n FROM jsonb_array_elements(has) WITH ORDINALITY AS _ (l, n)
         ORDER BY (l -> 0)::bigint LIMIT jsonb_array_length(was))
    SELECT 'had the labels ' || string_agg(quote_literal(l ->> 1), ', ' ORDER BY n) || ', and its oldest are called '
           || (SELECT string_agg(quote_literal(name), ', ' ORDER BY n) FROM oldest) || ' now'
      FROM jsonb_array_elements(was) WITH ORDINALITY AS _ (l, n)
    HAVING array_agg(l ->> 1 ORDER BY n) <> (SELECT array_agg(name ORDER BY n) FROM oldest)
$engine$;

-- What has changed in the application's types since a run, in words; NULL where names still mean what they meant.
CREATE OR REPLACE FUNCTION pg_temp.datafix_changed_types(fix jsonb, shape jsonb)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    WITH now AS MATERIALIZED (
        SELECT pg_temp.datafix_was_here(fix, shape) AS here,
               pg_temp.datafix_own_types((fix ->> 'target_oid')::oid) AS types),
    noted AS (
        SELECT t AS was FROM jsonb_array_elements(shape -> 'types') AS t
        UNION ALL
        SELECT c || jsonb_build_object('column', c -> 'name', 'old', true, 'labels', (
                        SELECT jsonb_agg(jsonb_build_array(NULL, l)) FROM jsonb_array_elements(c -> 'labels') AS l))
          FROM jsonb_array_elements(shape -> 'columns') AS c
         WHERE NOT shape ? 'types' AND jsonb_typeof(c -> 'labels') = 'array'),
    pair AS (
        SELECT was, has, here, coalesce(here AND has -> 'oid' = was -> 'oid', false) AS same
          FROM noted CROSS JOIN now LEFT JOIN LATERAL (
               SELECT t FROM jsonb_array_elements(now.types) AS t
                WHERE t -> 'column' = was -> 'column' AND CASE WHEN was ? 'old' THEN t ? 'labels'
                          ELSE t -> 'type' = was -> 'type' OR here AND t -> 'oid' = was -> 'oid' END
                ORDER BY here AND t -> 'oid' = was -> 'oid' DESC LIMIT 1) AS _ (has) ON true),
    judged AS (
        SELECT was, CASE
            WHEN has IS NULL THEN 'has been replaced'
            WHEN was ? 'labels' THEN concat_ws('; ',
                nullif(pg_temp.datafix_other_labels(was -> 'labels', coalesce(has -> 'labels', '[]'), same, NOT here),
                       ''),
                -- a type that is younger than the audit table may have replaced the one of that time
                CASE WHEN was ? 'old' AND here AND (has -> 'oid')::bigint < (fix ->> 'audit')::regclass::oid::bigint
                     THEN pg_temp.datafix_newer_labels(was -> 'labels', has -> 'labels') END)
            WHEN has -> 'range' IS DISTINCT FROM was -> 'range' THEN
                format('was a range %s and is one %s', was ->> 'range', has ->> 'range')
            WHEN same AND has -> 'attributes' <> was -> 'attributes' THEN
                'has other attributes than it had: ' || (
                    SELECT string_agg(quote_ident(f ->> 1), ', ') FROM jsonb_array_elements(was -> 'attributes') AS f
                     WHERE NOT has -> 'attributes' @> jsonb_build_array(f)) END AS problem
          FROM pair)
    SELECT string_agg(DISTINCT format('the type %s of %I %s', was ->> 'type', was ->> 'column', problem), '; ')
      FROM judged WHERE problem <> ''
$engine$;

-- The query that tells which objects and roles a value names: kind, number and name. NULL where values of the type
-- name none. Columns of such a type are kept as numbers themselves; inside a type that is kept as text, they are
-- names.
CREATE OR REPLACE FUNCTION pg_temp.datafix_names_in(type_id oid, value text, depth integer DEFAULT 1)
RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $engine$
DECLARE
    t       pg_type;
    element text := 'datafix_value_' || depth;
    names   text;
    parts   text;
BEGIN
    SELECT * INTO STRICT t FROM pg_type WHERE oid = type_id;
    IF t.typtype = 'd' THEN
        RETURN pg_temp.datafix_names_in(t.typbasetype,
            format('(%s)::%s', value, format_type(t.typbasetype, t.typtypmod)), depth);
    ELSIF type_id < 16384 AND t.typtype = 'b' AND t.typname ~ '^reg' THEN
        RETURN format('SELECT %L, (%s)::oid, (%s)::text', t.typname, value, value);
    ELSIF type_id = 'aclitem'::regtype THEN
        RETURN format('SELECT ''regrole'', role, role::regrole::text'
            ' FROM aclexplode(CASE WHEN num_nulls(%1$s) = 0 THEN ARRAY[%1$s] END) AS a'
            ' CROSS JOIN LATERAL (VALUES (a.grantee), (a.grantor)) AS _ (role)', value);
    ELSIF t.typelem <> 0 AND t.typlen = -1 THEN
        names := pg_temp.datafix_names_in(t.typelem, element, depth + 1);
        parts := format('SELECT unnest(%s) AS %s', value, element);
    ELSIF t.typtype = 'r' THEN
        names := (SELECT pg_temp.datafix_names_in(r.rngsubtype, element, depth + 1)
                    FROM pg_range AS r WHERE r.rngtypid = type_id);
        parts := format('SELECT lower(%s) AS %s UNION ALL SELECT upper(%1$s)', value, element);
    ELSIF t.typtype = 'm' THEN
        names := (SELECT pg_temp.datafix_names_in(r.rngtypid, element, depth + 1)
                    FROM pg_range AS r WHERE r.rngmultitypid = type_id);
        parts := format('SELECT unnest(%s) AS %s', value, element);
    ELSIF t.typtype = 'c' THEN
        RETURN (SELECT string_agg(one, ' UNION ALL ') FROM pg_attribute AS a CROSS JOIN LATERAL (
                       SELECT pg_temp.datafix_names_in(a.atttypid, format('(%s).%I', value, a.attname), depth)
                       ) AS _ (one)
                 WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped);
    END IF;
    RETURN CASE WHEN names IS NOT NULL THEN
        format('SELECT n.* FROM (%s) AS datafix_parts_%s CROSS JOIN LATERAL (%s) AS n', parts, depth, names) END;
END
$engine$;

-- All objects and roles in the images of a run: the column, the kind of object, its number and its name.
CREATE OR REPLACE FUNCTION pg_temp.datafix_named_in_images(fix jsonb)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET timezone = 'UTC'
SET extra_float_digits = 1 SET bytea_output = 'hex' SET lc_monetary = 'C' SET array_nulls = on SET xmloption = 'content'
AS $engine$
DECLARE
    one   record;
    part  jsonb;
    named jsonb := '[]';
BEGIN
    FOR one IN
        SELECT a.attname AS name, query
          FROM pg_attribute AS a JOIN jsonb_array_elements(fix -> 'columns') AS c ON c ->> 'name' = a.attname
         CROSS JOIN LATERAL (
               SELECT pg_temp.datafix_names_in(a.atttypid, format('i.%I::%s', a.attname, c ->> 'type'))) AS _ (query)
         WHERE a.attrelid = (fix ->> 'target_oid')::oid AND c ->> 'made_of' IS NOT NULL AND query IS NOT NULL
    LOOP
        EXECUTE format('SELECT jsonb_agg(DISTINCT jsonb_build_array(%L, n.kind, n.number::bigint, n.name))'
            ' FROM %s AS i CROSS JOIN LATERAL (%s) AS n (kind, number, name)'
            ' WHERE i.audit_run_id = $1 AND n.number <> 0', one.name, fix ->> 'audit', one.query)
           INTO part USING (fix -> 'run')::bigint;
        named := named || coalesce(part, '[]');
    END LOOP;
    RETURN named;
END
$engine$;

-- Objects and roles in images that have other names now, in words: the name would be read back as another one.
CREATE OR REPLACE FUNCTION pg_temp.datafix_changed_names(fix jsonb, shape jsonb)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT string_agg(format('%I names the %s %s, %s', named.column, substr(named.kind, 4), named.name,
                             CASE WHEN now ~ '^[0-9]+$' THEN 'which is gone'
                                  ELSE 'which is called ' || now || ' now' END),
                      '; ' ORDER BY named.column, named.name)
      FROM (SELECT n ->> 0, n ->> 1, (n -> 2)::bigint::oid, n ->> 3 FROM jsonb_array_elements(shape -> 'names') AS n
             WHERE pg_temp.datafix_was_here(fix, shape)) AS named ("column", kind, number, name)
     CROSS JOIN LATERAL (SELECT CASE kind
            WHEN 'regclass' THEN number::regclass::text WHEN 'regcollation' THEN number::regcollation::text
            WHEN 'regconfig' THEN number::regconfig::text WHEN 'regdictionary' THEN number::regdictionary::text
            WHEN 'regnamespace' THEN number::regnamespace::text WHEN 'regoper' THEN number::regoper::text
            WHEN 'regoperator' THEN number::regoperator::text WHEN 'regproc' THEN number::regproc::text
            WHEN 'regprocedure' THEN number::regprocedure::text WHEN 'regrole' THEN number::regrole::text
            WHEN 'regtype' THEN number::regtype::text ELSE name END) AS _ (now)
     WHERE now <> name AND name !~ '^[0-9]+$'       -- a number is read back as itself
$engine$;
