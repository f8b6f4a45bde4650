-- Erasure: chosen values in images become NULL, and are marked. That is a run of its own in the ledger. Its line names
-- every run with such images, and the triggers of the audit table let exactly these change.
-- Nothing keeps what went: no value, and not the condition either, which may name a person.
--
-- The proof of all other images goes on. A run's key, from which the salt of each image follows, is replaced by the
-- salts themselves (datafix_salt); an image that lost values has a new salt. Its leaf is kept as it was sealed, and can
-- no longer be guessed from a value. What is left of it has a new leaf: the line of the redaction has the digest of
-- these, so a later change of another column is seen.

-- Redacts the images that a condition means: those that meet it, and what else their runs copied of the same rows.
-- "run" holds what the ledger notes of the run: revision, reason, application, engine.
CREATE OR REPLACE FUNCTION pg_temp.datafix_redact(audit_schema text, audit_table text, condition text, columns text[],
                                                  run jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $engine$
DECLARE
    audit   text  := format('%I.%I', audit_schema, audit_table);
    ledger  text  := format('%I.datafix_run', audit_schema);
    redacts jsonb := jsonb_build_object('audit_table', audit_table, 'columns', columns);
    images  bigint;
    number  bigint;
    found   jsonb;
BEGIN
    PERFORM pg_temp.datafix_check_redactable(audit_schema, audit_table, columns);
    PERFORM pg_temp.datafix_bring_ledger_forward(audit_schema);
    PERFORM pg_temp.datafix_create_chain(audit_schema);
    PERFORM pg_temp.datafix_check_sequence(
        jsonb_build_object('fix', 'redact ' || audit_table, 'ledger', ledger), ledger::regclass, 'run_id');
    EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', audit);
    PERFORM pg_temp.datafix_drop_temporary();
    PERFORM pg_temp.datafix_make('CREATE TEMP TABLE datafix_met (run_id bigint, audit_id bigint) ON COMMIT DROP');
    PERFORM pg_temp.datafix_meet(audit, condition);
    PERFORM pg_temp.datafix_mean(audit_schema, audit_table, columns);
    PERFORM pg_temp.datafix_check_sealed(audit_schema, audit);
    SELECT count(*) INTO images FROM pg_temp.datafix_meant;
    -- The line names the runs before anything goes. It is finished last, and with it nobody can change it any more.
    EXECUTE format($sql$
        INSERT INTO %s (fix, revision, direction, outcome, rows_changed, reason, application, engine, declaration)
        VALUES ($1, $2 ->> 'revision', 'apply', $3, 0, $2 ->> 'reason', nullif($2 ->> 'application', ''),
                $2 ->> 'engine', jsonb_build_object('redacts', $4 || jsonb_build_object('runs',
                    (SELECT coalesce(jsonb_agg(DISTINCT jsonb_build_object('run', m.run_id)), '[]')
                       FROM pg_temp.datafix_meant AS m))))
        RETURNING run_id
    $sql$, ledger) INTO number
      USING 'redact ' || audit_table, run, CASE images WHEN 0 THEN 'not_applicable' ELSE 'redacted' END, redacts;
    IF images > 0 THEN
        PERFORM pg_temp.datafix_mark_redacted(audit_schema, audit_table);
        found := pg_temp.datafix_take_out(audit_schema, audit_table, columns, number);
    END IF;
    EXECUTE format('UPDATE %s SET declaration = $1, finished_at = clock_timestamp() WHERE run_id = $2', ledger)
      USING jsonb_build_object('redacts', redacts || jsonb_build_object('images', images,
                                                                         'runs', coalesce(found, '[]'))), number;
    PERFORM pg_temp.datafix_drop_temporary();
    PERFORM set_config('datafixes.told', CASE images
        WHEN 0 THEN format('audit table %s: no image has values to redact, run %s', audit, number)
        ELSE format('audit table %s: %s redacted in %s images of %s runs, run %s', audit,
                    array_to_string(columns, ', '), images, jsonb_array_length(found), number) END, true);
END
$engine$;

-- Who redacts owns the audit table, and its columns are those of images.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_redactable(audit_schema text, audit_table text, columns text[])
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    label   text := format('%I.%I', audit_schema, audit_table);
    audit   oid;
    unknown text;
BEGIN
    PERFORM pg_temp.datafix_check_is_audit_table(audit_schema, audit_table);
    audit := pg_temp.datafix_relation(audit_schema, audit_table);
    PERFORM pg_temp.datafix_check_on_one_server(audit, label, 'its values cannot be redacted');
    IF NOT (SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = audit) THEN
        PERFORM pg_temp.datafix_refuse('DF006',
            format('audit table %s: only its owner, %s, may redact it, and this is %s', label,
                   (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = audit), current_user),
            hint => 'Nothing was changed. Let that role run this migration.');
    END IF;
    SELECT string_agg(format('%I', l), ', ') INTO unknown
      FROM unnest(columns) AS l
     WHERE l IN ('audit_id', 'audit_run_id', 'audit_image', 'audit_recorded_at', 'audit_redacted') OR NOT EXISTS (
           SELECT FROM pg_attribute WHERE attrelid = audit AND attname = l AND attnum > 0 AND NOT attisdropped);
    IF unknown IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse('DF006', format('audit table %s: it copies no columns %s', label, unknown));
    END IF;
END
$engine$;

-- The images that meet the condition. It is the author's SQL, under the caller's settings. It may hold a value that is
-- to be erased, and an error would repeat it, also to the server's log.
CREATE OR REPLACE FUNCTION pg_temp.datafix_meet(audit text, condition text)
RETURNS void LANGUAGE plpgsql AS $engine$
DECLARE
    code    text;
    message text;
BEGIN
    EXECUTE pg_catalog.format(E'INSERT INTO pg_temp.datafix_met SELECT audit_run_id, audit_id FROM %s WHERE (%s\n)',
                              audit, condition);
EXCEPTION WHEN OTHERS OR ASSERT_FAILURE OR QUERY_CANCELED THEN
    GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
    PERFORM pg_temp.datafix_refuse(code, pg_catalog.format('audit table %s: where cannot be evaluated: %s', audit,
        CASE WHEN pg_catalog.left(code, 2) OPERATOR(pg_catalog.=) ANY ('{22,42,54,57}')
             THEN pg_catalog.regexp_replace(message, '".*"', '"(masked)"')
             ELSE 'the message of PostgreSQL is left out, because it may hold values' END));
END
$engine$;

-- The images that are meant: those that meet the condition, and others of the same rows in the same runs, because an
-- after-image may hold no more than the key and what the fix wrote. Only where a chosen column has a value.
CREATE OR REPLACE FUNCTION pg_temp.datafix_mean(audit_schema text, audit_table text, columns text[])
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    audit text := format('%I.%I', audit_schema, audit_table);
    own   record;
BEGIN
    ANALYZE pg_temp.datafix_met;
    FOR own IN EXECUTE format($sql$
        SELECT t.key_columns AS key, array_agg(DISTINCT t.run_id) AS runs
          FROM %I.datafix_run_table AS t
         WHERE t.run_id IN (SELECT m.run_id FROM pg_temp.datafix_met AS m) AND (parse_ident(t.audit_table))[2] = $1
           AND t.key_columns <> '{}'
         GROUP BY t.key_columns
    $sql$, audit_schema) USING audit_table
    LOOP
        EXECUTE format($sql$
            INSERT INTO pg_temp.datafix_met
            SELECT o.audit_run_id, o.audit_id
              FROM %1$s AS o
              JOIN (SELECT DISTINCT i.audit_run_id, ROW(%2$s)::text AS key
                      FROM pg_temp.datafix_met AS m JOIN %1$s AS i ON i.audit_run_id = m.run_id
                       AND i.audit_id = m.audit_id
                     WHERE i.audit_run_id = ANY ($1) AND num_nulls(%2$s) = 0) AS met
                ON met.audit_run_id = o.audit_run_id AND met.key = ROW(%3$s)::text
        $sql$, audit, (SELECT string_agg(format('i.%I', k), ', ') FROM unnest(own.key) AS k),
            (SELECT string_agg(format('o.%I', k), ', ') FROM unnest(own.key) AS k)) USING own.runs;
    END LOOP;
    PERFORM pg_temp.datafix_make(format($sql$
        CREATE TEMP TABLE datafix_meant ON COMMIT DROP AS
        SELECT a.audit_run_id AS run_id, a.audit_id FROM %s AS a
         WHERE EXISTS (SELECT FROM pg_temp.datafix_met AS m WHERE m.run_id = a.audit_run_id AND m.audit_id = a.audit_id)
           AND num_nonnulls(%s) > 0
    $sql$, audit, (SELECT string_agg(format('a.%I', l), ', ') FROM unnest(columns) AS l)));
    PERFORM pg_temp.datafix_make('CREATE INDEX ON pg_temp.datafix_meant (run_id, audit_id)');
    ANALYZE pg_temp.datafix_meant;
END
$engine$;

-- Only what is sealed is redacted: otherwise nothing would prove the rest of the run. And no run whose batches have
-- not ended.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_sealed(audit_schema text, audit text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    running text;
    open    text;
BEGIN
    EXECUTE format($sql$
        SELECT string_agg(whole.run_id::text, ', ') FROM %1$I.datafix_run AS whole
         WHERE whole.outcome IN ('started', 'running') AND EXISTS (
               SELECT FROM pg_temp.datafix_meant AS m JOIN %1$I.datafix_run AS r ON r.run_id = m.run_id
                WHERE whole.run_id IN (r.run_id, r.part_of) OR whole.reverts_run IN (r.run_id, r.part_of))
    $sql$, audit_schema) INTO running;
    IF running IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse('DF032',
            format('audit table %s: nothing is redacted while batches are to come: run %s has not ended',
                   audit, running),
            hint => 'Nothing was changed. See: datafixes follow');
    END IF;
    EXECUTE format($sql$
        SELECT string_agg(run::text, ', ' ORDER BY run) FROM (
            SELECT DISTINCT m.run_id AS run FROM pg_temp.datafix_meant AS m
             WHERE NOT EXISTS (SELECT FROM %I.datafix_chain AS c WHERE c.run_id = m.run_id)
             ORDER BY 1 LIMIT 10) AS unsealed
    $sql$, audit_schema) INTO open;
    IF open IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse('DF032',
            format('audit table %s: only sealed runs are redacted, so that the rest of them is proven: run %s is not',
                   audit, open),
            hint => 'Nothing was changed. First: datafixes seal');
    END IF;
END
$engine$;

-- Images say which of their values were redacted. The view of the changes is to show it, and the triggers are those of
-- this version.
CREATE OR REPLACE FUNCTION pg_temp.datafix_mark_redacted(audit_schema text, audit_table text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    audit   oid := pg_temp.datafix_relation(audit_schema, audit_table);
    target  oid;
    columns jsonb;
BEGIN
    IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = audit AND tgname = 'datafix_append_only') THEN
        PERFORM pg_temp.datafix_protect(audit_schema, audit_table);
    END IF;
    IF EXISTS (SELECT FROM pg_attribute WHERE attrelid = audit AND attname = 'audit_redacted' AND NOT attisdropped) THEN
        RETURN;
    END IF;
    PERFORM pg_temp.datafix_make(format('ALTER TABLE %I.%I ADD COLUMN audit_redacted text[]',
                                        audit_schema, audit_table));
    EXECUTE format('SELECT to_regclass(t.target_table) FROM %I.datafix_run_table AS t '
                   'WHERE (parse_ident(t.audit_table))[2] = $1 ORDER BY t.run_id DESC LIMIT 1', audit_schema)
       INTO target USING audit_table;
    -- Its columns are those of the audit table: the target may have lost some since.
    SELECT jsonb_agg(jsonb_build_object('name', a.attname, 'position', a.attnum,
               'type', coalesce(c ->> 'type', format_type(a.atttypid, a.atttypmod)),
               'generated', coalesce((c -> 'generated')::boolean, false)))
      INTO columns
      FROM pg_attribute AS a
      LEFT JOIN jsonb_array_elements(pg_temp.datafix_columns(target)) AS c ON c ->> 'name' = a.attname
     WHERE a.attrelid = audit AND a.attnum > 0 AND NOT a.attisdropped AND a.attname NOT IN (
           'audit_id', 'audit_run_id', 'audit_image', 'audit_recorded_at', 'audit_redacted');
    IF target IS NOT NULL AND pg_temp.datafix_relation(audit_schema, audit_table || '_changes') IS NOT NULL THEN
        PERFORM pg_temp.datafix_create_changes_view(target, columns, audit_schema, audit_table);
    END IF;
END
$engine$;

-- Takes the values out. Returns, for the line of the redaction, each run with the number of its images that lose values
-- now ("images"), that have lost some ("redacted"), and the digest of the latter.
CREATE OR REPLACE FUNCTION pg_temp.datafix_take_out(audit_schema text, audit_table text, columns text[], number bigint)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    audit  text  := format('%I.%I', audit_schema, audit_table);
    parts  jsonb := '[]';
    sealed jsonb;
BEGIN
    FOR sealed IN EXECUTE format($sql$
        SELECT jsonb_build_object('run', c.run_id) || part
          FROM %1$I.datafix_chain AS c CROSS JOIN jsonb_array_elements(c.shape::jsonb -> 'tables') AS part
         WHERE c.run_id IN (SELECT m.run_id FROM pg_temp.datafix_meant AS m)
         ORDER BY c.run_id, (part -> 'position')::integer
    $sql$, audit_schema)
    LOOP
        PERFORM pg_temp.datafix_keep_salts(audit_schema, sealed);
        IF (parse_ident(sealed ->> 'audit'))[2] = audit_table THEN
            PERFORM pg_temp.datafix_check_proven(audit_schema, sealed);
            PERFORM pg_temp.datafix_renew_leaves(audit_schema, audit, sealed, number);
            parts := parts || sealed;
        END IF;
    END LOOP;
    EXECUTE format('DELETE FROM %I.datafix_key WHERE run_id IN (SELECT m.run_id FROM pg_temp.datafix_meant AS m)',
                   audit_schema);
    EXECUTE format($sql$
        UPDATE %1$s AS a SET %2$s, audit_redacted = ARRAY(
               SELECT DISTINCT l FROM unnest(coalesce(a.audit_redacted, '{}') || ARRAY[%3$s]) AS l
                WHERE l IS NOT NULL ORDER BY l)
          FROM pg_temp.datafix_meant AS m WHERE m.run_id = a.audit_run_id AND m.audit_id = a.audit_id
    $sql$, audit, (SELECT string_agg(format('%I = NULL', l), ', ') FROM unnest(columns) AS l),
        (SELECT string_agg(format('CASE WHEN num_nulls(a.%1$I) = 0 THEN %1$L END', l), ', ')
           FROM unnest(columns) AS l));
    PERFORM pg_temp.datafix_renew_checksums(audit_schema, audit_table);
    RETURN (SELECT jsonb_agg(jsonb_build_object('run', part -> 'run', 'position', part -> 'position',
                                 'images', (SELECT count(*) FROM pg_temp.datafix_meant AS m
                                             WHERE m.run_id = (part -> 'run')::bigint),
                                 'redacted', leaves -> 'redacted', 'sha256', leaves -> 'redacted_sha256')
                             ORDER BY (part -> 'run')::bigint, (part -> 'position')::integer)
              FROM jsonb_array_elements(parts) AS part
             CROSS JOIN LATERAL (SELECT pg_temp.datafix_leaves(audit_schema, part) OFFSET 0) AS _ (leaves));
END
$engine$;

-- At the first redaction in a run: its key is to go, so the salts that follow from it are kept.
CREATE OR REPLACE FUNCTION pg_temp.datafix_keep_salts(audit_schema text, sealed jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    audit text := format('%I.%I', audit_schema, (parse_ident(sealed ->> 'audit'))[2]);
BEGIN
    IF to_regclass(audit) IS NOT NULL THEN
        EXECUTE format($sql$
            INSERT INTO %1$I.datafix_salt (run_id, position, audit_id, salt)
            SELECT k.run_id, $2, a.audit_id, sha256(k.key || int4send($2) || int8send(a.audit_id))
              FROM %1$I.datafix_key AS k JOIN %2$s AS a ON a.audit_run_id = k.run_id
             WHERE k.run_id = $1
        $sql$, audit_schema, audit) USING (sealed -> 'run')::bigint, (sealed -> 'position')::integer;
    END IF;
END
$engine$;

-- The images of a run in an audit table ("sealed", from the chain): their number and the digest of their leaves, as
-- they were sealed; and the same of those that lost values, as they are now. See datafixes.audit.chain.forms.
CREATE OR REPLACE FUNCTION pg_temp.datafix_leaves(audit_schema text, sealed jsonb)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET timezone = 'UTC'
SET extra_float_digits = 1 SET bytea_output = 'hex' SET lc_monetary = 'C' AS $engine$
DECLARE
    found jsonb;
BEGIN
    EXECUTE format($sql$
        SELECT jsonb_build_object('images', coalesce(sum(images), 0),
                   'sha256', encode(sha256(coalesce(string_agg(digest, ''::bytea ORDER BY block), '')), 'hex'),
                   'redacted', coalesce(sum(redacted), 0),
                   'redacted_sha256', encode(sha256(coalesce(string_agg(anew, ''::bytea ORDER BY block), '')), 'hex'))
          FROM (SELECT l.audit_id >> 16 AS block, count(*) AS images, count(l.sealed_leaf) AS redacted,
                       sha256(string_agg(coalesce(l.sealed_leaf, l.leaf), ''::bytea ORDER BY l.audit_id)) AS digest,
                       string_agg(int8send(l.audit_id) || l.sealed_leaf || l.leaf, ''::bytea
                                  ORDER BY l.audit_id) AS anew
                  FROM (SELECT a.audit_id, s.sealed_leaf, sha256(s.salt || %3$s) AS leaf
                          FROM %2$s AS a
                          LEFT JOIN %1$I.datafix_salt AS s
                                 ON s.run_id = $1 AND s.position = $2 AND s.audit_id = a.audit_id
                         WHERE a.audit_run_id = $1) AS l
                 GROUP BY 1) AS blocks
    $sql$, audit_schema, format('%I.%I', audit_schema, (parse_ident(sealed ->> 'audit'))[2]),
        pg_temp.datafix_image_text(sealed))
       INTO found USING (sealed -> 'run')::bigint, (sealed -> 'position')::integer;
    RETURN found;
END
$engine$;

-- The expression for the bytes of the image "a": the columns that were sealed, and what was redacted.
CREATE OR REPLACE FUNCTION pg_temp.datafix_image_text(sealed jsonb)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT format('convert_to(CASE WHEN a.audit_redacted IS NULL THEN ROW(%1$s)::text '
                  'ELSE ROW(%1$s, a.audit_redacted)::text END, %2$L)',
                  string_agg(format('a.%I', name), ', ' ORDER BY n),
                  CASE current_setting('server_encoding') WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END)
      FROM jsonb_array_elements_text(sealed -> 'columns') WITH ORDINALITY AS _ (name, n)
$engine$;

-- The images are those that were sealed, and what the redaction before this one left.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_proven(audit_schema text, sealed jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    found  jsonb := pg_temp.datafix_leaves(audit_schema, sealed);
    before jsonb;
BEGIN
    EXECUTE format($sql$
        SELECT went -> 'sha256' FROM %I.datafix_run AS r
         CROSS JOIN jsonb_array_elements(r.declaration -> 'redacts' -> 'runs') AS went
         WHERE r.outcome = 'redacted' AND r.finished_at IS NOT NULL AND went -> 'run' = $1 AND went -> 'position' = $2
         ORDER BY r.run_id DESC LIMIT 1
    $sql$, audit_schema) INTO before USING sealed -> 'run', sealed -> 'position';
    IF found -> 'images' <> sealed -> 'images' OR found -> 'sha256' <> sealed -> 'sha256'
       OR found -> 'redacted_sha256' <> coalesce(before, to_jsonb(encode(sha256(''), 'hex'))) THEN
        PERFORM pg_temp.datafix_refuse('DF011',
            format('audit table %s: the images of run %s are not those that were sealed', sealed ->> 'audit',
                   sealed ->> 'run'),
            hint => 'Nothing was changed. datafixes verify-audit says more.');
    END IF;
END
$engine$;

-- The images that are to lose values: their leaves are kept as they were sealed, and they get new salts.
CREATE OR REPLACE FUNCTION pg_temp.datafix_renew_leaves(audit_schema text, audit text, sealed jsonb, number bigint)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET timezone = 'UTC'
SET extra_float_digits = 1 SET bytea_output = 'hex' SET lc_monetary = 'C' AS $engine$
BEGIN
    EXECUTE format($sql$
        UPDATE %1$I.datafix_salt AS s
           SET sealed_leaf = coalesce(s.sealed_leaf, sha256(s.salt || %3$s)), redacted_by = $3,
               -- two random numbers of 122 bits each
               salt = decode(replace(concat(gen_random_uuid(), gen_random_uuid()), '-', ''), 'hex')
          FROM pg_temp.datafix_meant AS m JOIN %2$s AS a ON a.audit_run_id = m.run_id AND a.audit_id = m.audit_id
         WHERE m.run_id = $1 AND s.run_id = $1 AND s.position = $2 AND s.audit_id = m.audit_id
    $sql$, audit_schema, audit, pg_temp.datafix_image_text(sealed))
      USING (sealed -> 'run')::bigint, (sealed -> 'position')::integer, number;
END
$engine$;

-- The ledger's checksums of these runs: a revert compares them, and a value could be guessed from the old ones. No seal
-- covers them.
CREATE OR REPLACE FUNCTION pg_temp.datafix_renew_checksums(audit_schema text, audit_table text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    audit text := format('%I.%I', audit_schema, audit_table);
    one   record;
BEGIN
    FOR one IN EXECUTE format($sql$
        SELECT t.* FROM %I.datafix_run_table AS t
         WHERE t.run_id IN (SELECT m.run_id FROM pg_temp.datafix_meant AS m) AND (parse_ident(t.audit_table))[2] = $1
    $sql$, audit_schema) USING audit_table
    LOOP
        EXECUTE format($sql$
            UPDATE %I.datafix_run_table AS t SET images_digest = $1,
                   shape = t.shape || CASE WHEN t.shape ? 'digest_by_name'
                                           THEN jsonb_build_object('digest_by_name', $2) ELSE '{}' END
             WHERE t.run_id = $3 AND t.position = $4
        $sql$, audit_schema)
          USING (SELECT d.digest FROM pg_temp.datafix_digest(audit, one.shape -> 'columns', one.run_id,
                     CASE WHEN one.shape ? 'types' THEN 'numbers' ELSE '0.1' END) AS d),
                (SELECT d.digest FROM pg_temp.datafix_digest(audit, one.shape -> 'columns', one.run_id, 'names') AS d
                  WHERE one.shape ? 'digest_by_name'),
                one.run_id, one.position;
    END LOOP;
END
$engine$;

-- The runs that redacted images of a run, each once; NULL where none did.
CREATE OR REPLACE FUNCTION pg_temp.datafix_redacted_by(fix jsonb, run bigint)
RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    told text;
BEGIN
    EXECUTE format($sql$
        SELECT string_agg(r.run_id::text, ', ' ORDER BY r.run_id)
          FROM %s AS r
         WHERE r.outcome = 'redacted'
           AND EXISTS (SELECT FROM jsonb_array_elements(r.declaration -> 'redacts' -> 'runs') AS went
                        WHERE (went -> 'run')::bigint = $1)
    $sql$, fix ->> 'ledger') INTO told USING run;
    RETURN told;
END
$engine$;
