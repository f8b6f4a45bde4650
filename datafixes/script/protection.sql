-- What keeps audit tables and the ledger from being changed: triggers, and one function beside the ledger. They are
-- permanent, belong to the owner of the tables, and are dropped with them.

-- The function of the triggers, which any writer of the tables runs. It reads the ledger in the schema of the table
-- that it guards, so that a renamed schema changes nothing.
CREATE OR REPLACE FUNCTION pg_temp.datafix_make_append_only(audit_schema text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    name     text := format('%I.datafix_append_only()', audit_schema);
    theirs   bool := (SELECT NOT pg_has_role(proowner, 'USAGE') FROM pg_proc WHERE oid = to_regprocedure(name));
    of_table text := (SELECT pg_get_userbyid(relowner) FROM pg_class
                       WHERE oid = pg_temp.datafix_relation(audit_schema, 'datafix_run'));
BEGIN
    IF theirs THEN
        RETURN;
    END IF;
    PERFORM pg_temp.datafix_make(replace($sql$
        CREATE OR REPLACE FUNCTION {name} RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
        AS $append_only$
        DECLARE
            finished boolean;
            allowed  jsonb;
            runs     bigint[];
            other    boolean;
        BEGIN
            IF TG_LEVEL = 'ROW' THEN        -- an UPDATE of the ledger: a run completes its own lines
                EXECUTE format('SELECT finished_at IS NOT NULL FROM %I.datafix_run WHERE run_id = $1', TG_TABLE_SCHEMA)
                   INTO finished USING OLD.run_id;
                IF finished IS NOT TRUE
                   -- what a subscription applies was checked where it was written; the tables follow each by itself
                   OR EXISTS (SELECT FROM pg_stat_subscription WHERE pid = pg_backend_pid()) THEN
                    RETURN NEW;
                END IF;
            END IF;
            -- Copies are given up, or values in them: a line of this transaction names the runs. A row that is to be
            -- seen and whose transaction is in progress is this transaction's own, whatever savepoint wrote it.
            IF TG_OP IN ('UPDATE', 'DELETE') AND TG_TABLE_NAME NOT IN ('datafix_run', 'datafix_chain') THEN
                EXECUTE format($find$
                    SELECT line.says || jsonb_build_object('by', r.run_id),
                           ARRAY(SELECT (went -> 'run')::bigint FROM jsonb_array_elements(line.says -> 'runs') AS went)
                      FROM %I.datafix_run AS r
                     CROSS JOIN LATERAL (
                           SELECT CASE WHEN r.outcome = $1 AND r.started_at >= transaction_timestamp() THEN
                                  CASE WHEN pg_xact_status((
                                            $2 + (r.xmin::text::bigint - ($2 & 4294967295) + 6442450944) %% 4294967296
                                            - 2147483648)::text::xid8) = 'in progress'     -- xmin in the epoch of now
                                       THEN to_jsonb(r) -> 'declaration' -> $3 END END) AS line (says)
                     WHERE line.says ->> 'audit_table' = $4 OR $4 = 'datafix_run_table' AND line.says IS NOT NULL
                     ORDER BY r.run_id DESC LIMIT 1
                $find$, TG_TABLE_SCHEMA)
                   INTO allowed, runs
                  USING CASE TG_OP WHEN 'DELETE' THEN 'pruned' ELSE 'redacted' END,
                        pg_current_xact_id()::text::bigint,
                        CASE TG_OP WHEN 'DELETE' THEN 'gives_up' ELSE 'redacts' END, TG_TABLE_NAME::text;
            END IF;
            IF TG_LEVEL = 'ROW' THEN
                IF OLD.run_id = ANY (runs)      -- the checksum follows what a redaction takes out
                   AND to_jsonb(NEW) - ARRAY['images_digest', 'shape'] = to_jsonb(OLD) - ARRAY['images_digest', 'shape']
                   AND (to_jsonb(NEW) -> 'shape') - 'digest_by_name'
                       = (to_jsonb(OLD) -> 'shape') - 'digest_by_name' THEN
                    RETURN NEW;
                END IF;
                RAISE EXCEPTION USING ERRCODE = 'DF030',
                    MESSAGE = format('ledger %I.%I: run %s is finished, and a finished line does not change',
                                     TG_TABLE_SCHEMA, TG_TABLE_NAME, OLD.run_id),
                    HINT = 'Nothing was changed. To undo a run: op.revert_datafix, which adds a run of its own.';
            ELSIF TG_TABLE_NAME IN ('datafix_run', 'datafix_run_table', 'datafix_chain') THEN
                RAISE EXCEPTION USING ERRCODE = 'DF030',
                    MESSAGE = format('ledger %I.%I only grows: %s is refused', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP),
                    HINT = 'Nothing was changed. To undo a run: op.revert_datafix, which adds a run of its own. The '
                        'ledger is dropped with the last audit table of its schema: op.drop_audit_table.';
            ELSIF allowed IS NOT NULL AND TG_WHEN = 'BEFORE' THEN
                RETURN NULL;        -- the trigger after the statement looks at what went
            ELSIF allowed IS NOT NULL AND TG_OP = 'DELETE' THEN
                other := EXISTS (SELECT FROM gone AS g WHERE g.audit_run_id <> ALL (runs));
                IF NOT other THEN
                    RETURN NULL;
                END IF;
            ELSIF allowed IS NOT NULL AND TG_OP = 'UPDATE' THEN
                -- Only the images that the redaction noted, and they lost the columns of its line and nothing else.
                EXECUTE format($find$
                    SELECT EXISTS (
                        SELECT FROM came AS c
                         WHERE EXISTS (SELECT FROM unnest($1) AS l WHERE to_jsonb(c) -> l <> 'null')
                            OR c.audit_run_id <> ALL ($2)
                            OR NOT EXISTS (SELECT FROM %I.datafix_salt AS s
                                            WHERE s.run_id = c.audit_run_id AND s.audit_id = c.audit_id
                                              AND s.redacted_by = $3))
                        OR EXISTS (SELECT to_jsonb(c) - $1 - 'audit_redacted' FROM came AS c
                                   EXCEPT ALL SELECT to_jsonb(g) - $1 - 'audit_redacted' FROM gone AS g)
                $find$, TG_TABLE_SCHEMA)
                   INTO other
                  USING ARRAY(SELECT jsonb_array_elements_text(allowed -> 'columns')), runs, (allowed -> 'by')::bigint;
                IF NOT other THEN
                    RETURN NULL;
                END IF;
            END IF;
            RAISE EXCEPTION USING ERRCODE = 'DF030',
                MESSAGE = format('audit table %I.%I only grows: %s is refused', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP),
                HINT = 'Nothing was changed. To undo a fix: op.revert_datafix. To give up old copies: op.prune_audit. '
                    'To erase values: op.redact_audit. To drop the table: op.drop_audit_table.';
        END
        $append_only$
    $sql$, '{name}', name));
    PERFORM pg_temp.datafix_make(format('COMMENT ON FUNCTION %s IS %L', name,
        'datafixes: refuses to change audit tables and finished lines of the ledger'));
    IF of_table <> current_user THEN
        BEGIN
            PERFORM pg_temp.datafix_make(format('ALTER FUNCTION %s OWNER TO %I', name, of_table));
        EXCEPTION WHEN insufficient_privilege THEN
            NULL;       -- not a member of that role; "datafixes doctor" names the owner
        END;
    END IF;
END
$engine$;

-- Protects a table beside the ledger against UPDATE, DELETE and TRUNCATE: an audit table, or another one to which rows
-- are only added. Whatever the role and its settings: ALWAYS includes session_replication_role = replica.
CREATE OR REPLACE FUNCTION pg_temp.datafix_protect(audit_schema text, table_name text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    events text := CASE WHEN table_name IN ('datafix_run', 'datafix_run_table') THEN 'DELETE OR TRUNCATE'
                        ELSE 'UPDATE OR DELETE OR TRUNCATE' END;
BEGIN
    PERFORM pg_temp.datafix_make_append_only(audit_schema);
    PERFORM pg_temp.datafix_make(format(
        'CREATE OR REPLACE TRIGGER datafix_append_only BEFORE %3$s ON %1$I.%2$I '
        'FOR EACH STATEMENT EXECUTE FUNCTION %1$I.datafix_append_only()', audit_schema, table_name, events));
    PERFORM pg_temp.datafix_make(format('ALTER TABLE %I.%I ENABLE ALWAYS TRIGGER datafix_append_only',
                                        audit_schema, table_name));
    IF table_name NOT IN ('datafix_run', 'datafix_run_table', 'datafix_chain') THEN
        PERFORM pg_temp.datafix_make(format(
            'CREATE OR REPLACE TRIGGER datafix_pruned AFTER DELETE ON %1$I.%2$I REFERENCING OLD TABLE AS gone '
            'FOR EACH STATEMENT EXECUTE FUNCTION %1$I.datafix_append_only()', audit_schema, table_name));
        PERFORM pg_temp.datafix_make(format(
            'CREATE OR REPLACE TRIGGER datafix_redacted AFTER UPDATE ON %1$I.%2$I REFERENCING OLD TABLE AS gone '
            'NEW TABLE AS came FOR EACH STATEMENT EXECUTE FUNCTION %1$I.datafix_append_only()',
            audit_schema, table_name));
        PERFORM pg_temp.datafix_make(format('ALTER TABLE %I.%I ENABLE ALWAYS TRIGGER datafix_pruned, '
            'ENABLE ALWAYS TRIGGER datafix_redacted', audit_schema, table_name));
    END IF;
END
$engine$;

-- Protects the ledger: a line is changed by its own run only, until that is finished.
CREATE OR REPLACE FUNCTION pg_temp.datafix_protect_ledger(audit_schema text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['datafix_run', 'datafix_run_table'] LOOP
        PERFORM pg_temp.datafix_protect(audit_schema, name);
        PERFORM pg_temp.datafix_make(format(
            'CREATE OR REPLACE TRIGGER datafix_finished BEFORE UPDATE ON %1$I.%2$I '
            'FOR EACH ROW EXECUTE FUNCTION %1$I.datafix_append_only()', audit_schema, name));
        PERFORM pg_temp.datafix_make(format('ALTER TABLE %I.%I ENABLE ALWAYS TRIGGER datafix_finished',
                                            audit_schema, name));
    END LOOP;
    IF pg_temp.datafix_relation(audit_schema, 'datafix_chain') IS NOT NULL THEN
        PERFORM pg_temp.datafix_protect(audit_schema, 'datafix_chain');
    END IF;
END
$engine$;

-- Protects a ledger that was made before there was such a protection, where this role may.
CREATE OR REPLACE FUNCTION pg_temp.datafix_protect_old_ledger(audit_schema text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    IF EXISTS (SELECT FROM pg_class AS c
                WHERE c.oid IN (pg_temp.datafix_relation(audit_schema, 'datafix_run'),
                                pg_temp.datafix_relation(audit_schema, 'datafix_run_table'))
                  AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid AND tgname = 'datafix_finished'))
       AND NOT EXISTS (SELECT FROM pg_class AS c
                        WHERE c.oid IN (pg_temp.datafix_relation(audit_schema, 'datafix_run'),
                                        pg_temp.datafix_relation(audit_schema, 'datafix_run_table'),
                                        pg_temp.datafix_relation(audit_schema, 'datafix_chain'))
                          AND NOT pg_has_role(c.relowner, 'USAGE')) THEN
        PERFORM pg_temp.datafix_protect_ledger(audit_schema);
    END IF;
END
$engine$;

-- For op.protect_audit_table: an audit table that exists, and the ledger beside it.
CREATE OR REPLACE FUNCTION pg_temp.datafix_protect_audit_table(audit_schema text, audit_table text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    other record;
BEGIN
    PERFORM pg_temp.datafix_check_is_audit_table(audit_schema, audit_table);
    PERFORM pg_temp.datafix_check_on_one_server(pg_temp.datafix_relation(audit_schema, audit_table),
                                                format('%I.%I', audit_schema, audit_table), 'no trigger can guard it');
    SELECT format('%I.%I', audit_schema, c.relname) AS label, pg_get_userbyid(c.relowner) AS owner INTO other
      FROM pg_class AS c
     WHERE c.relname IN (audit_table, 'datafix_run', 'datafix_run_table', 'datafix_chain') AND c.relkind = 'r'
       AND c.relnamespace = to_regnamespace(quote_ident(audit_schema)) AND NOT pg_has_role(c.relowner, 'USAGE')
     LIMIT 1;
    IF FOUND THEN
        PERFORM pg_temp.datafix_refuse('DF006',
            format('audit table %I.%I: only %s, the owner of %s, may protect it, and this is %s',
                   audit_schema, audit_table, other.owner, other.label, current_user),
            hint => format('Nothing was changed. Let %s run this migration.', other.owner));
    END IF;
    PERFORM pg_temp.datafix_protect(audit_schema, audit_table);
    PERFORM pg_temp.datafix_protect_ledger(audit_schema);
END
$engine$;

-- For op.unprotect_audit_table: with the last audit table, the ledger is as unprotected as it was.
CREATE OR REPLACE FUNCTION pg_temp.datafix_unprotect_audit_table(audit_schema text, audit_table text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    name text;
BEGIN
    PERFORM pg_temp.datafix_check_is_audit_table(audit_schema, audit_table);
    PERFORM pg_temp.datafix_make(format('DROP TRIGGER IF EXISTS %s ON %I.%I', t, audit_schema, audit_table))
       FROM unnest(ARRAY['datafix_append_only', 'datafix_pruned', 'datafix_redacted']) AS t;
    IF EXISTS (SELECT FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
                WHERE c.relnamespace = to_regnamespace(quote_ident(audit_schema)) AND t.tgname = 'datafix_append_only'
                  AND c.relname NOT IN ('datafix_run', 'datafix_run_table', 'datafix_chain')) THEN
        RETURN;
    END IF;
    FOR name IN SELECT relname FROM pg_class
                 WHERE relname IN ('datafix_run', 'datafix_run_table', 'datafix_chain') AND relkind = 'r'
                   AND relnamespace = to_regnamespace(quote_ident(audit_schema)) LOOP
        PERFORM pg_temp.datafix_make(format('DROP TRIGGER IF EXISTS %s ON %I.%I', t, audit_schema, name))
           FROM unnest(ARRAY['datafix_append_only', 'datafix_finished']) AS t;
    END LOOP;
    PERFORM pg_temp.datafix_drop_append_only(audit_schema);
END
$engine$;

-- The function goes with the last table that it guards.
CREATE OR REPLACE FUNCTION pg_temp.datafix_drop_append_only(audit_schema text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    PERFORM pg_temp.datafix_make(format('DROP FUNCTION IF EXISTS %I.datafix_append_only()', audit_schema));
END
$engine$;

-- Refuses what is no audit table beside a ledger.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_is_audit_table(audit_schema text, audit_table text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    audit oid := pg_temp.datafix_relation(audit_schema, audit_table);
BEGIN
    IF audit IS NULL OR pg_temp.datafix_relation(audit_schema, 'datafix_run') IS NULL
       OR (SELECT count(*) FROM pg_attribute
            WHERE attrelid = audit AND attname IN ('audit_run_id', 'audit_image') AND NOT attisdropped) < 2 THEN
        PERFORM pg_temp.datafix_refuse('DF004',
            format('audit table %I.%I: %s', audit_schema, audit_table,
                   CASE WHEN audit IS NULL THEN 'it does not exist' ELSE 'it is no audit table beside a ledger' END));
    END IF;
END
$engine$;
