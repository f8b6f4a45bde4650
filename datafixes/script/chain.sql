-- The chain of seals beside the ledger. Nothing here hashes: a run is sealed after its commit (datafixes.audit.chain).

-- The chain: one entry for each finished run, only ever inserted. The head of an entry is the SHA-256 of its other
-- columns, of which one is the head before it. So whoever keeps a head outside of the database knows whether any
-- entry up to it is another one.
-- Beside it, one key for each run: the leaf of an image is the SHA-256 of a salt and the image, and the salt follows
-- from the run's key. Without the key, an image that is gone cannot be guessed from its leaf. Where values of a run are
-- redacted, its key goes, and only the salts of the other images are kept (datafix_salt).
CREATE OR REPLACE FUNCTION pg_temp.datafix_create_chain(audit_schema text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    IF pg_temp.datafix_relation(audit_schema, 'datafix_chain') IS NULL THEN
        PERFORM pg_temp.datafix_make(replace($sql$
            CREATE TABLE {chain} (
                position      bigint      PRIMARY KEY CHECK (position > 0),
                kind          text        NOT NULL CHECK (kind IN ('run', 'pruned', 'redacted')),
                run_id        bigint      NOT NULL UNIQUE,
                line          text        NOT NULL,    -- SHA-256 of the ledger's lines of the run, as shape names them
                shape         text        NOT NULL,    -- JSON: what was hashed; the columns, the images of each table
                images        bigint      NOT NULL,
                images_sha256 text        NOT NULL,
                details       text,                    -- JSON: what was pruned or redacted
                sealed_at     timestamptz NOT NULL,
                ledger        uuid        NOT NULL,    -- the same in every copy of this database
                database      text        NOT NULL,
                cluster       text,                    -- the server's system identifier; NULL: not to be read
                timeline      bigint,
                previous      text        NOT NULL UNIQUE,     -- so no two entries follow one
                head          text        NOT NULL UNIQUE
            )
        $sql$, '{chain}', format('%I.datafix_chain', audit_schema)));
        PERFORM pg_temp.datafix_make(format('COMMENT ON TABLE %I.datafix_chain IS %L', audit_schema,
            'datafixes: the chain of seals, one entry for each finished run'));
        PERFORM pg_temp.datafix_keep_private(format('%I.datafix_chain', audit_schema));
    END IF;
    IF pg_temp.datafix_relation(audit_schema, 'datafix_key') IS NULL THEN
        PERFORM pg_temp.datafix_make(replace($sql$
            CREATE TABLE {key} (
                run_id bigint PRIMARY KEY,
                key    bytea  NOT NULL CHECK (length(key) = 32)
            )
        $sql$, '{key}', format('%I.datafix_key', audit_schema)));
        PERFORM pg_temp.datafix_make(format('COMMENT ON TABLE %I.datafix_key IS %L', audit_schema,
            'datafixes: the key of each run, from which the salts of its images follow'));
        PERFORM pg_temp.datafix_keep_private(format('%I.datafix_key', audit_schema));
    END IF;
    IF pg_temp.datafix_relation(audit_schema, 'datafix_salt') IS NULL THEN
        PERFORM pg_temp.datafix_make(replace($sql$
            CREATE TABLE {salt} (
                run_id      bigint  NOT NULL,
                position    integer NOT NULL,
                audit_id    bigint  NOT NULL,
                salt        bytea   NOT NULL CHECK (length(salt) = 32),
                sealed_leaf bytea   CHECK (length(sealed_leaf) = 32),   -- of an image that lost values: before it did
                redacted_by bigint,                                     -- and the run that took them out last
                PRIMARY KEY (run_id, position, audit_id)
            )
        $sql$, '{salt}', format('%I.datafix_salt', audit_schema)));
        PERFORM pg_temp.datafix_make(format('COMMENT ON TABLE %I.datafix_salt IS %L', audit_schema,
            'datafixes: the salts of the images of runs of which values were redacted'));
        PERFORM pg_temp.datafix_keep_private(format('%I.datafix_salt', audit_schema));
    END IF;
    IF to_regprocedure(format('%I.datafix_append_only()', audit_schema)) IS NOT NULL THEN
        PERFORM pg_temp.datafix_protect(audit_schema, 'datafix_chain');
    END IF;
END
$engine$;
