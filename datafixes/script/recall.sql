-- What a revert knows of the run that it takes back: from the ledger alone. The file that declared the fix may be
-- gone, or may have changed.

-- Finds the ledger, the run in it, and what the ledger keeps of the fix.
CREATE OR REPLACE FUNCTION pg_temp.datafix_recall(fix jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    last jsonb;
BEGIN
    fix := pg_temp.datafix_in_ledger(fix, coalesce(nullif(fix ->> 'audit_schema', ''),
                                                   pg_temp.datafix_find_ledger(fix)));
    IF pg_temp.datafix_relation(fix ->> 'audit_schema', 'datafix_run') IS NULL THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF010',
            format('there is nothing to revert: ledger %s does not exist', fix ->> 'ledger'),
            hint => 'Check which database this is.');
    END IF;
    last := pg_temp.datafix_run_to_revert(fix);
    IF last IS NULL THEN
        RETURN fix || '{"last": null, "tables": []}';
    END IF;
    IF last ->> 'outcome' IN ('pruned', 'redacted') OR last -> 'declaration' ? 'redacts' THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF010',
            format('run %s %s, which cannot be taken back', last ->> 'run_id',
                   CASE last ->> 'outcome' WHEN 'pruned' THEN 'gave up old copies' ELSE 'redacted values' END));
    END IF;
    fix := fix || jsonb_build_object('last', last, 'fix', last -> 'fix',
        'reason', coalesce(fix -> 'reverted_because', last -> 'reason'),
        -- where the fix knew a bound, its run knows the number
        'rows_expected', CASE WHEN last -> 'declaration' ? 'at_most' THEN last -> 'rows_changed'
                              ELSE last -> 'rows_expected' END,
        'fingerprint', coalesce(fix -> 'fingerprint', last -> 'fingerprint'),
        'on_conflict', coalesce(fix -> 'overruled' -> (last ->> 'fix'), fix -> 'on_conflict'));
    IF jsonb_typeof(last -> 'declaration') = 'object' THEN
        fix := fix || pg_temp.datafix_trusted(fix, last);
    -- datafixes 0.1 kept no declaration: the file's counts while it is the same, or else the images alone
    ELSIF NOT fix ? 'tables' OR fix ->> 'fingerprint' IS DISTINCT FROM last ->> 'fingerprint' THEN
        fix := fix || pg_temp.datafix_declaration_by_images(fix, (last -> 'run_id')::bigint);
    END IF;
    RETURN pg_temp.datafix_take_keys(fix - 'at_most');
END
$engine$;

-- What the ledger keeps of the fix, as far as it can be trusted: identities are SQL, which runs with the rights of
-- the role that reverts. While the file is unchanged, it and the ledger must agree. Without the file, the identities
-- count where only the owner may write to the ledger; otherwise the revert touches only rows that are as the fix left
-- them, in every column.
CREATE OR REPLACE FUNCTION pg_temp.datafix_trusted(fix jsonb, last jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    kept  jsonb := last -> 'declaration';
    asked text  := '{target_schema,target_table,audit_table,identity,identity_sql,housekeeping}';
    others text;
BEGIN
    IF fix ? 'tables' AND fix ->> 'fingerprint' = last ->> 'fingerprint' THEN
        IF (SELECT jsonb_agg((SELECT jsonb_object_agg(k, t -> k) FROM unnest(asked::text[]) AS k))
              FROM jsonb_array_elements(fix -> 'tables') AS t)
           <> (SELECT jsonb_agg((SELECT jsonb_object_agg(k, t -> k) FROM unnest(asked::text[]) AS k))
                 FROM jsonb_array_elements(kept -> 'tables') AS t)
           AND NOT kept ? 'unidentified' THEN
            PERFORM pg_temp.datafix_refuse_fix(fix, 'DF011',
                format('the ledger and its file declare it differently, though both have the fingerprint %s',
                       left(fix ->> 'fingerprint', 12)),
                hint => format('Nothing was changed. Compare: SELECT declaration FROM %s WHERE run_id = %s',
                               fix ->> 'ledger', last ->> 'run_id'));
        END IF;
        RETURN kept;
    END IF;
    SELECT string_agg(DISTINCT CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(acl.grantee) END, ', ')
      INTO others
      FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS acl
     WHERE c.oid = (fix ->> 'ledger')::regclass AND acl.privilege_type IN ('INSERT', 'UPDATE')
       AND acl.grantee <> c.relowner;
    IF others IS NULL OR kept ? 'unidentified' THEN
        RETURN kept;
    END IF;
    RETURN kept || jsonb_build_object('unidentified', true, 'tables',
        (SELECT jsonb_agg(t || '{"identity": [], "identity_sql": []}')
           FROM jsonb_array_elements(kept -> 'tables') AS t));
END
$engine$;

-- The schema of the one ledger that knows the run, or runs of the fix.
CREATE OR REPLACE FUNCTION pg_temp.datafix_find_ledger(fix jsonb)
RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    ledger  record;
    knows   boolean;
    knowing text[] := '{}';
    others  text[] := '{}';
BEGIN
    FOR ledger IN
        SELECT n.nspname AS schema, c.oid::regclass AS name
          FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
         WHERE c.relname = 'datafix_run' AND c.relkind = 'r'
           AND pg_temp.datafix_relation(n.nspname, 'datafix_run_table') IS NOT NULL
           -- a ledger that this role may not read belongs to somebody else
           AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
         ORDER BY 1
    LOOP
        EXECUTE format($sql$
            SELECT EXISTS (SELECT FROM %s AS r WHERE r.outcome NOT IN ('started', 'failed') AND %s)
        $sql$, ledger.name, CASE WHEN fix ? 'of_run' THEN format('r.run_id = %s', fix -> 'of_run')
                                 ELSE format('r.fix = %L', fix ->> 'fix') END) INTO knows;
        IF knows THEN
            knowing := knowing || ledger.schema::text;
        ELSE
            others := others || ledger.schema::text;
        END IF;
    END LOOP;
    IF cardinality(knowing) > 1 THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF010',
            format('the ledgers of several schemas have runs of it: %s', array_to_string(knowing, ', ')),
            hint => format('Nothing was changed. Say which: audit_schema=%L.', knowing[1]));
    ELSIF knowing = '{}' THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF010',
            format('there is nothing to revert: %s',
                   CASE WHEN others = '{}' THEN 'this database has no ledger (datafix_run)'
                 ELSE format('no ledger knows it (schemas searched: %s)', array_to_string(others, ', ')) END),
            hint => 'Check which database this is.');
    END IF;
    RETURN knowing[1];
END
$engine$;

-- What the images tell of a fix that 0.1 applied: its tables. The identities of its rows are not known, so a revert
-- may only touch rows that are as the fix left them, in every column.
CREATE OR REPLACE FUNCTION pg_temp.datafix_declaration_by_images(fix jsonb, run bigint)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    tables jsonb;
BEGIN
    EXECUTE format($sql$
        SELECT jsonb_agg(jsonb_build_object(
                   'target_schema', target[1], 'target_table', target[2], 'audit_table', audit[2],
                   'key', to_jsonb(t.key_columns), 'identity', '[]'::jsonb, 'identity_sql', '[]'::jsonb,
                   'housekeeping', '[]'::jsonb) ORDER BY t.position)
          FROM %s AS t
         CROSS JOIN LATERAL (SELECT parse_ident(t.target_table) AS target, parse_ident(t.audit_table) AS audit) AS name
         WHERE t.run_id = $1
    $sql$, fix ->> 'ledger_tables') INTO tables USING run;
    RETURN jsonb_build_object('tables', coalesce(tables, '[]'), 'other_tables', '[]'::jsonb,
                              'fire_triggers', true, 'unidentified', true);
END
$engine$;

-- The keys that the ledger noted when the fix was applied, and what its tables are called now.
CREATE OR REPLACE FUNCTION pg_temp.datafix_take_keys(fix jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    noted jsonb;
BEGIN
    FOR n IN 1 .. jsonb_array_length(fix -> 'tables') LOOP
        EXECUTE format($sql$
            SELECT to_jsonb(t) || jsonb_build_object('renamed', (t.shape -> 'target')::bigint::oid::regclass)
              FROM %s AS t
             WHERE t.run_id = $1 AND t.position = $2
        $sql$, fix ->> 'ledger_tables') INTO noted USING (fix -> 'last' -> 'run_id')::bigint, n;
        IF noted IS NOT NULL THEN
            fix := jsonb_set(fix, ARRAY['tables', (n - 1)::text], (fix -> 'tables' -> (n - 1))
                || jsonb_build_object('key', noted -> 'key_columns', 'noted', noted)
                || CASE WHEN noted -> 'key_columns' = '[]' THEN '{"by_image": true}' ELSE '{}' END::jsonb
                || CASE WHEN noted ->> 'renamed' ~ '^[0-9]+$' THEN '{}'
                        ELSE jsonb_build_object('renamed', noted -> 'renamed') END);
        END IF;
    END LOOP;
    RETURN fix;
END
$engine$;
