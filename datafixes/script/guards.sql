-- What is checked before a fix may run: the transaction, the revision, the tables, their keys and their audit tables.

-- Checks everything before a run is opened: one fix at a time in this database (a second one waits here, and checks
-- again), the right revision, the tables and their audit tables. Adds to each table what only the catalog knows.
CREATE OR REPLACE FUNCTION pg_temp.datafix_begin(fix jsonb, version_table regclass)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    one jsonb;
BEGIN
    -- a batch has no part in the version: the last transaction of the fix has
    IF NOT fix ? 'in_batches' THEN
        PERFORM pg_temp.datafix_check_fuse(fix);
    END IF;
    IF to_regclass('pg_temp.datafix_recording') IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF014',
            'another fix is being recorded; a fix inside a fix would be copied twice',
            hint => 'Run one after the other.');
    END IF;
    PERFORM pg_temp.datafix_check_transaction(fix);
    IF fix ? 'part_of' THEN     -- its workers make batches side by side
        PERFORM pg_advisory_xact_lock_shared(hashtextextended('datafixes fix', 0));
    ELSE
        PERFORM pg_advisory_xact_lock(hashtextextended('datafixes fix', 0));
    END IF;
    fix := pg_temp.datafix_check_revision(fix, version_table);
    IF fix ->> 'direction' = 'revert' THEN
        fix := pg_temp.datafix_recall(fix);
    ELSE
        fix := pg_temp.datafix_in_ledger(fix, fix ->> 'audit_schema');
        IF NOT fix ? 'part_of' THEN
            PERFORM pg_temp.datafix_check_not_in_force(fix);
        END IF;
    END IF;
    FOR n IN 1 .. jsonb_array_length(fix -> 'tables') LOOP
        one := pg_temp.datafix_check_target(pg_temp.datafix_table(fix, n));
        fix := pg_temp.datafix_put(fix, n, pg_temp.datafix_check_audit_table(one));
    END LOOP;
    IF NOT fix ? 'part_of' THEN     -- batches look once for each statement that makes them
        PERFORM pg_temp.datafix_check_sequences(fix);
    END IF;
    RETURN fix;
END
$engine$;

-- The commit fuse is lit: the script runs from its first statement on.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_fuse(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    -- By the text of the cursor, not by its name: PostgreSQL truncates long names.
    IF NOT EXISTS (SELECT FROM pg_cursors WHERE strpos(statement, format('<%s>', fix ->> 'fuse')) > 0
                     AND creation_time >= transaction_timestamp()) THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF014',
            'the commit fuse is not lit',
            hint => 'Run the whole script, from its first statement on, in one transaction.');
    END IF;
END
$engine$;

-- The transaction is one in which a fix can be safe: READ COMMITTED, so that what is read after a lock is current.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_transaction(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF014',
            format('the transaction is %s, and would not see what others commit while it waits for a lock',
                   upper(current_setting('transaction_isolation'))),
            hint => 'Nothing was changed. Begin it with BEGIN ISOLATION LEVEL READ COMMITTED, or let env.py create its '
                    'engine with isolation_level="READ COMMITTED".');
    END IF;
END
$engine$;

-- The database is where this revision starts from (in an upgrade), or at this revision (in a downgrade). Adds what
-- the version table holds.
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
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF001',
            format('this database has no table %s, so it is not at revision %s',
                   fix ->> 'version_table', coalesce(wanted[1], '(base)')),
            hint => 'Check which database and which search_path this is, or run the migrations before this one first.');
    END IF;
    EXECUTE format('SELECT array_agg(version_num::text ORDER BY version_num) FROM %s', version_table) INTO present;
    present := coalesce(present, '{}');
    IF (SELECT count(*) <> count(DISTINCT v) FROM unnest(present) AS v) THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF001',
            format('%s holds a revision twice: %s', version_table, array_to_string(present, ', ')),
            hint => 'Remove the duplicate row first.');
    END IF;
    IF (fix -> 'upgrading')::boolean AND revision = ANY (present) THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF001',
            format('the database is at revision %s already', revision),
            hint => 'Another run was faster, or this script ran before. Nothing was changed.');
    END IF;
    IF NOT wanted <@ present THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF001',
            format('the database is at revision %s, and this runs at %s only',
                   coalesce(nullif(array_to_string(present, ', '), ''), '(base)'), array_to_string(wanted, ', ')),
            hint => 'Another run was faster, or this script is for another state of the database. Nothing was '
                    'changed.');
    END IF;
    SELECT a.atttypmod - 4 INTO longest
      FROM pg_attribute AS a
     WHERE a.attrelid = version_table AND a.attname = 'version_num' AND a.atttypmod > 0;
    IF length(revision) > longest THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF001',
            format('the revision id %s has %s characters, and %s keeps %s',
                   revision, length(revision), version_table, longest),
            hint => 'Give the revision a shorter id.');
    END IF;
    RETURN fix || jsonb_build_object('versions', present, 'version_table_oid', version_table::oid::bigint);
END
$engine$;

-- Names the ledger of a schema, and upgrades it to the version that this engine writes.
CREATE OR REPLACE FUNCTION pg_temp.datafix_in_ledger(fix jsonb, audit_schema text)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    IF pg_temp.datafix_relation(audit_schema, 'datafix_run') IS NOT NULL THEN
        PERFORM pg_temp.datafix_bring_ledger_forward(audit_schema);
    END IF;
    RETURN fix || jsonb_build_object('audit_schema', audit_schema, 'ledger', format('%I.datafix_run', audit_schema),
                                     'ledger_tables', format('%I.datafix_run_table', audit_schema));
END
$engine$;

-- A fix that is in force already is not applied again.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_not_in_force(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    last jsonb;
BEGIN
    IF pg_temp.datafix_relation(fix ->> 'audit_schema', 'datafix_run') IS NULL THEN
        RETURN;
    END IF;
    last := pg_temp.datafix_in_force(fix);
    IF last ->> 'outcome' = 'running' THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF021',
            format('run %s has applied a part of it, in batches, and has not ended', last ->> 'run_id'),
            hint => format('Nothing was changed. Go on with it: alembic upgrade %s; or take that part back: alembic -x '
                           'undo=%s upgrade head', last ->> 'revision', fix ->> 'fix'));
    ELSIF last IS NOT NULL THEN
        IF last ->> 'fingerprint' <> fix ->> 'fingerprint' THEN
            PERFORM pg_temp.datafix_refuse_fix(fix, 'DF003',
                format('the name was used before, by run %s (revision %s) with other content: fingerprint %s there, '
                       '%s here',
                       last ->> 'run_id', last ->> 'revision', left(last ->> 'fingerprint', 12),
                       left(fix ->> 'fingerprint', 12)),
                hint => 'Give the new fix a name of its own.');
        END IF;
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF002',
            format('applied already, by run %s at %s (%s rows)',
                   last ->> 'run_id', last ->> 'finished_at', last ->> 'rows_changed'),
            hint => format('Nothing was changed. If alembic_version was set back by hand: alembic stamp %s',
                           fix ->> 'revision'));
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
    SELECT c.* INTO target
      FROM pg_class AS c
     WHERE c.oid = pg_temp.datafix_relation(fix ->> 'target_schema', fix ->> 'target_table');
    IF target.oid IS NULL THEN
        SELECT string_agg(format('%I.%I', n.nspname, c.relname), ', ' ORDER BY n.nspname) INTO elsewhere
          FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
         WHERE c.relname = fix ->> 'target_table' AND c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_';
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF004',
            format('table %s does not exist', label),
            hint => coalesce('It is called ' || (fix ->> 'renamed') || ' now. Rename it back for the revert: a fix is '
                             || 'reverted under the name under which it was applied.',
                             'There is ' || elsewhere || ': name it with schema="...".'));
    END IF;
    IF target.relkind IN ('r', 'p') THEN
        -- The table that is checked here is the one that is copied: from now on, nobody can alter it. Where a fix is
        -- recorded, nobody else can write to it either: whatever changes until the end, the fix changed.
        EXECUTE format(CASE WHEN fix ->> 'change' = 'record' THEN 'LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE'
                            ELSE 'LOCK TABLE ONLY %s IN ROW EXCLUSIVE MODE' END, label);
        SELECT c.* INTO target
          FROM pg_class AS c
         WHERE c.oid = pg_temp.datafix_relation(fix ->> 'target_schema', fix ->> 'target_table');
    END IF;
    fix := pg_temp.datafix_check_citus(fix, target, label);
    problem := CASE
        WHEN target.relkind = 'v' THEN 'is a view'
        WHEN target.relkind = 'm' THEN 'is a materialized view'
        WHEN target.relkind = 'f' THEN 'is a foreign table'
        WHEN target.relkind NOT IN ('r', 'p') THEN 'is not a table'
        WHEN target.relpersistence = 't' THEN 'is a temporary table'
        WHEN target.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = target.oid) THEN
            'has tables that inherit from it, whose own columns a copy would lose'
        WHEN EXISTS (SELECT FROM pg_partition_tree(target.oid::regclass) AS p JOIN pg_class AS c ON c.oid = p.relid
                      WHERE c.relkind = 'f') THEN
            'has a partition that is a foreign table'
        WHEN fix ->> 'change' = 'record' AND EXISTS (SELECT FROM pg_inherits WHERE inhrelid = target.oid) THEN
            (SELECT format('is a part of %s, and statements that name that table would not be recorded; name %1$s '
                           'instead', inhparent::regclass)
               FROM pg_inherits WHERE inhrelid = target.oid LIMIT 1)
        WHEN EXISTS (SELECT FROM pg_rewrite WHERE ev_class = target.oid) THEN
            (SELECT format('has a rule (%s), which would change something else than the statement says',
                           string_agg(rulename, ', '))
               FROM pg_rewrite WHERE ev_class = target.oid)
        ELSE (SELECT CASE WHEN u.relation = target.oid THEN u.why
                          ELSE format('has the part %s, which %s', u.relation::regclass, u.why) END
                     || ', and PostgreSQL does not count what changes there'
                FROM pg_temp.datafix_uncounted() AS u
               WHERE u.relation IN (SELECT pg_temp.datafix_tree(target.oid))
                 AND NOT (fix ? 'citus' AND u.relation = target.oid)
               ORDER BY 1 LIMIT 1)
        END;
    IF problem IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF004',
            format('%s %s; a fix needs an ordinary or a partitioned table', label, problem));
    END IF;
    fix := fix || jsonb_build_object('target', label, 'rows', label, 'target_alias', quote_ident(target.relname),
                                     'target_oid', target.oid::bigint,
                                     'columns', pg_temp.datafix_columns(target.oid));
    fix := pg_temp.datafix_mask(fix);
    PERFORM pg_temp.datafix_check_column_names(fix);
    RETURN pg_temp.datafix_leave_uncopied(pg_temp.datafix_check_key(fix));
END
$engine$;

-- Leaves columns out of the copies (without). From here on, the fix does not know them.
CREATE OR REPLACE FUNCTION pg_temp.datafix_leave_uncopied(fix jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    keys text;
BEGIN
    IF NOT fix ? 'without' THEN
        RETURN fix;
    END IF;
    SELECT string_agg(quote_ident(w), ', ') INTO keys
      FROM jsonb_array_elements_text(fix -> 'without') AS w
     WHERE w = ANY (pg_temp.datafix_first_key((fix ->> 'target_oid')::oid));
    IF keys IS NOT NULL AND fix ->> 'change' <> 'revert' THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF006',
            format('without names %s, a part of the key of %s: the views of the audit go by it',
                   keys, fix ->> 'target'));
    END IF;
    RETURN fix || jsonb_build_object('columns', (SELECT jsonb_agg(c) FROM jsonb_array_elements(fix -> 'columns') AS c
                                                  WHERE NOT fix -> 'without' ? (c ->> 'name')));
END
$engine$;

-- The columns that the fix names exist, and no column has a name that the engine uses itself.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_column_names(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    problem text;
BEGIN
    SELECT string_agg(quote_ident(named.name), ', ') INTO problem
      FROM (SELECT jsonb_array_elements_text(fix -> 'key')
            UNION SELECT jsonb_array_elements_text(coalesce(fix -> 'set', '[]'))
            UNION SELECT jsonb_array_elements_text(coalesce(fix -> 'without', '[]'))
                   WHERE fix ->> 'change' <> 'revert'
            UNION SELECT jsonb_array_elements_text(fix -> 'housekeeping')) AS named (name)
     WHERE named.name NOT IN (SELECT c ->> 'name' FROM jsonb_array_elements(fix -> 'columns') AS c);
    IF problem IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF006',
            format('%s has no column %s', fix ->> 'target', problem),
            hint => format('Its columns: %s.',
                           (SELECT string_agg(quote_ident(c ->> 'name'), ', ' ORDER BY (c -> 'position')::int)
                                          FROM jsonb_array_elements(fix -> 'columns') AS c)));
    END IF;
    SELECT string_agg(quote_ident(c ->> 'name'), ', ') INTO problem
      FROM jsonb_array_elements(fix -> 'columns') AS c
     WHERE c ->> 'name' ~ '^datafix_(state|action|image|leaf|place|nth|text|group|balance|differs|kind|matches|'
                          'already|before|after|inserted|deleted|present|late|as_before|as_after|to_undo|contested|'
                          'left_[0-9]+|key_[0-9]+)$|'
                          '[{][{]([[:alnum:]_]+[.])?(columns|left|key|shown|lock|run|n|range|size|order|'
                          'restore|counted|(where_)?(expected|captured)|locked)( = [[:alnum:]_]+[.]key)?[}][}]';
    IF problem IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF006',
            format('the column %s of %s has a name that the engine reserves', problem, fix ->> 'target'),
            hint => 'Rename the column first.');
    END IF;
    SELECT string_agg(format('%I (%s)', c ->> 'name', c ->> 'type'), ', ') INTO problem
      FROM jsonb_array_elements(fix -> 'columns') AS c
     WHERE fix -> 'times_without_zone' ? (c ->> 'name') AND c ->> 'type' ~ 'with time zone';
    IF problem IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF006',
            format('a time without a zone is given for %s; its meaning would depend on the session''s time zone',
                   problem),
            hint => 'Write the offset, for example ''2026-02-03 16:00+00''.');
    END IF;
END
$engine$;

-- The audit table exists, and keeps what is written there as it was written.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_audit_table(fix jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $engine$
DECLARE
    audit    oid  := pg_temp.datafix_relation(fix ->> 'audit_schema', fix ->> 'audit_table');
    ledger   oid  := pg_temp.datafix_relation(fix ->> 'audit_schema', 'datafix_run');
    label    text := format('%I.%I', fix ->> 'audit_schema', fix ->> 'audit_table');
    beside   jsonb;
    problems text;
BEGIN
    IF fix ? 'citus' AND pg_temp.datafix_spread(audit) = pg_temp.datafix_spread((fix ->> 'target_oid')::oid) THEN
        beside := pg_temp.datafix_spread(audit);
    END IF;
    IF audit IS NULL OR ledger IS NULL THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF006',
            format('audit table %s does not exist',
                   CASE WHEN audit IS NULL THEN label ELSE format('%I.datafix_run', fix ->> 'audit_schema') END),
            hint => format('An earlier migration makes it: op.create_audit_table(%s, name=%s).',
                           quote_literal(fix ->> 'target_table'), quote_literal(fix ->> 'audit_table')));
    END IF;
    -- What is written there must survive as it was written, even a crash.
    SELECT string_agg(p.problem, '; ') INTO problems
      FROM pg_class AS c
     CROSS JOIN LATERAL (
           SELECT 'it is not an ordinary, logged table'
            WHERE c.relkind NOT IN ('r', 'p') OR c.relpersistence <> 'p'
           UNION ALL
           SELECT 'it has the rule ' || rulename
             FROM pg_rewrite WHERE ev_class = c.oid AND c.relkind IN ('r', 'p')
           UNION ALL
           SELECT 'its trigger ' || tgname || ' can change what is written'
             FROM pg_trigger
            WHERE tgrelid = c.oid AND NOT tgisinternal AND tgtype & 7 = 7      -- for each row, before, insert
           UNION ALL
           SELECT 'it ' || u.why
             FROM pg_temp.datafix_uncounted() AS u
            WHERE u.relation = c.oid AND c.relkind IN ('r', 'p') AND beside IS NULL) AS p (problem)
     WHERE c.oid = audit;
    IF problems IS NULL THEN
        EXECUTE format('LOCK TABLE ONLY %s IN ROW EXCLUSIVE MODE', label);
    ELSE
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF006',
            format('audit table %s would not keep copies: %s', label, problems));
    END IF;
    RETURN fix || jsonb_build_object('audit', label, 'copies', label)
               || CASE WHEN beside IS NULL THEN '{}' ELSE jsonb_build_object('beside', beside) END;
END
$engine$;

-- The audit table can hold the target's rows exactly: the same columns, in the types in which they are kept.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_audit_columns(fix jsonb)
RETURNS jsonb LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $engine$
DECLARE
    audit    oid := (fix ->> 'audit')::regclass;
    problems text;
BEGIN
    fix := fix || jsonb_build_object('columns', pg_temp.datafix_columns_in(audit, fix -> 'columns'));
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
                  WHERE a.attrelid = audit AND a.attnum > 0 AND NOT a.attisdropped) AS have (name, type)
             ON have.name = want ->> 'name'
     WHERE have.type IS DISTINCT FROM want ->> 'kept';
    IF problems IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF006',
            format('the audit table %s does not match %s: %s', fix ->> 'audit', fix ->> 'target', problems),
            hint => CASE WHEN fix ->> 'direction' = 'revert'
                         THEN 'Nothing was changed. Downgrade the migration that changed the table first, or update '
                              'the audit table: '
                         ELSE 'Update the audit table in a migration before this one: ' END
                    || format('op.update_audit_table(%s, name=%s). A column whose type changed needs a new audit '
                              'table.',
                              quote_literal(fix ->> 'target_table'), quote_literal(fix ->> 'audit_table')));
    END IF;
    RETURN fix;
END
$engine$;
