-- The ledger itself: how it is created, and how it is upgraded.

-- The ledger: one row for each run of each fix, and one for each table of each run, written by the run itself. It is
-- created as version 1 and upgraded from there: a new ledger and an upgraded one are the same.
CREATE OR REPLACE FUNCTION pg_temp.datafix_create_ledger(audit_schema text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    IF pg_temp.datafix_relation(audit_schema, 'datafix_run') IS NOT NULL THEN
        PERFORM pg_temp.datafix_bring_ledger_forward(audit_schema);
        PERFORM pg_temp.datafix_create_chain(audit_schema);
        RETURN;
    END IF;
    PERFORM pg_temp.datafix_make(replace($sql$
        CREATE TABLE {ledger} (
            run_id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- a gap: a run that was rolled back
            fix              text        NOT NULL,
            revision         text,
            direction        text        NOT NULL CHECK (direction IN ('apply', 'revert')),
            outcome          text        NOT NULL CHECK (outcome IN (
                'started', 'applied', 'reverted', 'not_applicable', 'already', 'failed')),
            rows_expected    bigint,
            rows_found       bigint,
            rows_changed     bigint,
            rows_already     bigint,                   -- as wanted before the run, and left alone
            rows_skipped     bigint,                   -- in conflict, and left alone because somebody said so
            rows_overwritten bigint,                   -- in conflict, and restored because somebody said so
            reason           text,
            applied_by       text        NOT NULL DEFAULT current_user,
            application      text,                     -- who and what ran it: commit, pipeline
            fingerprint      text,                     -- SHA-256 of the declaration
            started_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
            finished_at      timestamptz,
            reverts_run      bigint      REFERENCES {ledger},
            on_conflict      text,
            rows_chosen      text,                     -- of a revert of some rows only: which
            already          text,                     -- the first of the rows that were as wanted already
            error            text
        )
    $sql$, '{ledger}', format('%I.datafix_run', audit_schema)));
    PERFORM pg_temp.datafix_make(replace($sql$
        CREATE TABLE {ledger}_table (
            run_id           bigint      NOT NULL REFERENCES {ledger},
            position         integer     NOT NULL,
            target_table     text        NOT NULL,
            audit_table      text        NOT NULL,
            key_columns      text[]      NOT NULL,     -- empty: rows are told apart by their whole image
            rows_inserted    bigint,
            rows_updated     bigint,
            rows_deleted     bigint,
            written_columns  text[],                   -- NULL: the images tell
            images           bigint,                   -- how many images the run wrote, and their digest:
            images_digest    numeric,                  -- a checksum against accidents
            shape            jsonb       NOT NULL,     -- the target's columns when the run copied them
            PRIMARY KEY (run_id, position)
        )
    $sql$, '{ledger}', format('%I.datafix_run', audit_schema)));
    PERFORM pg_temp.datafix_make(format('CREATE INDEX datafix_run_fix_idx ON %I.datafix_run (fix, run_id)',
                                        audit_schema));
    PERFORM pg_temp.datafix_make(format('COMMENT ON TABLE %I.datafix_run IS %L', audit_schema,
        'datafixes: the ledger, one row for each run of a data fix'));
    PERFORM pg_temp.datafix_make(format('COMMENT ON TABLE %I.datafix_run_table IS %L', audit_schema,
        'datafixes: the ledger, one row for each table of each run'));
    PERFORM pg_temp.datafix_make(format('CREATE INDEX datafix_run_reverts_run_idx ON %I.datafix_run (reverts_run)',
                                        audit_schema));
    PERFORM pg_temp.datafix_keep_private(format('%I.datafix_run', audit_schema));
    PERFORM pg_temp.datafix_keep_private(format('%I.datafix_run_table', audit_schema));
    PERFORM pg_temp.datafix_bring_ledger_forward(audit_schema);
    PERFORM pg_temp.datafix_keep_private(format('%I.datafix_history', audit_schema));
    PERFORM pg_temp.datafix_keep_private(format('%I.datafix_open', audit_schema));
    PERFORM pg_temp.datafix_create_chain(audit_schema);
END
$engine$;

-- The version of a ledger. The name of a constraint holds it: it is part of every copy of a database, and it stops a
-- version of datafixes that does not write what the constraint wants (0.1).
CREATE OR REPLACE FUNCTION pg_temp.datafix_ledger_version(audit_schema text)
RETURNS integer LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT coalesce(max(substring(conname FROM '^datafix_run_is_version_([0-9]+)')::integer), 1)
      FROM pg_constraint WHERE conrelid = (SELECT pg_temp.datafix_relation(audit_schema, 'datafix_run'))
$engine$;

-- For op.update_ledger: the ledger must be there.
CREATE OR REPLACE FUNCTION pg_temp.datafix_update_ledger(audit_schema text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    IF pg_temp.datafix_relation(audit_schema, 'datafix_run') IS NULL THEN
        PERFORM pg_temp.datafix_refuse('DF006',
            format('ledger %I.datafix_run does not exist', audit_schema),
            hint => 'An earlier migration makes it, with the first op.create_audit_table of its schema.');
    END IF;
    PERFORM pg_temp.datafix_bring_ledger_forward(audit_schema);
    PERFORM pg_temp.datafix_create_chain(audit_schema);
END
$engine$;

-- Version 2 adds: who logged in, which version of datafixes wrote the row, what a revert needs to know of the fix
-- (so that it needs no file), and why a fix was declined.
CREATE OR REPLACE FUNCTION pg_temp.datafix_add_version_2(audit_schema text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    ledger text := format('%I.datafix_run', audit_schema);
BEGIN
    PERFORM pg_temp.datafix_make(replace($sql$
        ALTER TABLE {ledger}
            ADD COLUMN logged_in_as     text,
            ADD COLUMN engine           text  DEFAULT '0.1',
            ADD COLUMN declaration      jsonb,
            ADD COLUMN declined_because text,
            DROP CONSTRAINT datafix_run_outcome_check,
            ADD CONSTRAINT datafix_run_outcome_check CHECK (outcome IN
                ('started', 'applied', 'reverted', 'not_applicable', 'declined', 'already', 'failed')),
            ADD CONSTRAINT datafix_run_is_version_2__upgrade_the_package_datafixes CHECK (engine IS NOT NULL)
    $sql$, '{ledger}', ledger));
    PERFORM pg_temp.datafix_make(format(
        'ALTER TABLE %s ALTER COLUMN engine DROP DEFAULT, ALTER COLUMN logged_in_as SET DEFAULT session_user', ledger));
    PERFORM pg_temp.datafix_make(format('COMMENT ON COLUMN %s.applied_by IS %L', ledger,
        'the role whose rights counted (current_user)'));
    PERFORM pg_temp.datafix_make(format('COMMENT ON COLUMN %s.logged_in_as IS %L', ledger,
        'the role that logged in (session_user)'));
    PERFORM pg_temp.datafix_make(format('COMMENT ON COLUMN %s.engine IS %L', ledger,
        'the version of datafixes that wrote the row'));
    PERFORM pg_temp.datafix_make(format('COMMENT ON COLUMN %s.declaration IS %L', ledger,
        'what a revert needs to know of the fix: tables, keys, identities, housekeeping, triggers; or what went'));
    PERFORM pg_temp.datafix_make(format('COMMENT ON COLUMN %s.declined_because IS %L', ledger,
        'why the fix is not to run here'));
END
$engine$;

-- Version 3 adds copies that were given up, and batches. A fix in batches is one run, "running" until its last
-- transaction; each batch is a run of its own besides, part of that one. The ranges share the keys of the table among
-- the workers.
CREATE OR REPLACE FUNCTION pg_temp.datafix_add_version_3(audit_schema text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    PERFORM pg_temp.datafix_make(replace($sql$
        ALTER TABLE {ledger}
            ADD COLUMN part_of bigint REFERENCES {ledger},
            ADD COLUMN wish    text   CHECK (wish IN ('pause', 'stop')),
            DROP CONSTRAINT datafix_run_outcome_check,
            ADD CONSTRAINT datafix_run_outcome_check CHECK (outcome IN
                ('started', 'running', 'applied', 'reverted', 'taken_back', 'not_applicable', 'declined', 'already',
                 'failed', 'pruned', 'redacted')),
            DROP CONSTRAINT datafix_run_is_version_2__upgrade_the_package_datafixes,
            ADD CONSTRAINT datafix_run_is_version_3__upgrade_the_package_datafixes CHECK (engine IS NOT NULL)
    $sql$, '{ledger}', format('%I.datafix_run', audit_schema)));
    PERFORM pg_temp.datafix_make(format('CREATE INDEX datafix_run_part_of_idx ON %I.datafix_run (part_of)',
                                        audit_schema));
    PERFORM pg_temp.datafix_make(format('COMMENT ON COLUMN %I.datafix_run.part_of IS %L', audit_schema,
        'the run that this batch is a part of'));
    PERFORM pg_temp.datafix_make(format('COMMENT ON COLUMN %I.datafix_run.wish IS %L', audit_schema,
        'what somebody wants of a running fix: datafixes pause, datafixes stop'));
    PERFORM pg_temp.datafix_make(replace($sql$
        CREATE TABLE {schema}.datafix_range (
            run_id       bigint      NOT NULL REFERENCES {schema}.datafix_run,
            n            integer     NOT NULL,
            above        text[],                       -- it begins above this key; NULL: at the first row
            up_to        text[],                       -- it ends with this key; NULL: at the last row
            reached      text[],                       -- all rows up to this key are done
            reverts_run  bigint      REFERENCES {schema}.datafix_run,  -- of a revert: the batch that it takes back
            batches      bigint      NOT NULL DEFAULT 0,
            rows_changed bigint      NOT NULL DEFAULT 0,
            done         boolean     NOT NULL DEFAULT false,
            worker       text,                         -- who made the last batch, and when
            beat         timestamptz,
            PRIMARY KEY (run_id, n)
        )
    $sql$, '{schema}', quote_ident(audit_schema)));
    PERFORM pg_temp.datafix_make(format('COMMENT ON TABLE %I.datafix_range IS %L', audit_schema,
        'datafixes: how far a fix in batches is, one row for each range of keys'));
    PERFORM pg_temp.datafix_keep_private(format('%I.datafix_range', audit_schema));
END
$engine$;

-- Upgrades a ledger to the version that this engine writes, in the transaction of the run that needs it: both are
-- committed, or neither is.
CREATE OR REPLACE FUNCTION pg_temp.datafix_bring_ledger_forward(audit_schema text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    ledger  text    := format('%I.datafix_run', audit_schema);
    version integer := pg_temp.datafix_ledger_version(audit_schema);
    -- of the ledger, or of a view on it
    owner   text    := (SELECT string_agg(DISTINCT pg_get_userbyid(relowner), ', ') FROM pg_class
                         WHERE oid IN (pg_temp.datafix_relation(audit_schema, 'datafix_run'),
                                       pg_temp.datafix_relation(audit_schema, 'datafix_history'),
                                       pg_temp.datafix_relation(audit_schema, 'datafix_open'))
                           AND NOT pg_has_role(relowner, 'USAGE'));
BEGIN
    IF version > 3 THEN
        PERFORM pg_temp.datafix_refuse('DF017',
            format('ledger %s has version %s, and this version of datafixes writes version 3',
                   ledger, version),
            hint => 'Nothing was changed. Upgrade the package: pip install --upgrade datafixes');
    ELSIF version = 3 THEN
        RETURN;
    ELSIF owner IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse('DF017',
            format('ledger %s has version %s and must be upgraded to version 3, which only its owner %s may do',
                   ledger, version, owner),
            hint => format('Nothing was changed. Let %s run this migration once, or add a revision with '
                           'op.update_ledger(%s) before this one, for that role to run.',
                           owner,
                           CASE audit_schema WHEN 'public' THEN '' ELSE format('audit_schema=%L', audit_schema) END));
    END IF;
    IF version = 1 THEN
        PERFORM pg_temp.datafix_add_version_2(audit_schema);
    END IF;
    PERFORM pg_temp.datafix_add_version_3(audit_schema);
    PERFORM pg_temp.datafix_create_ledger_views(audit_schema);
    PERFORM pg_temp.datafix_protect_ledger(audit_schema);
END
$engine$;
