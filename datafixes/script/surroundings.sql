-- What a fix must leave alone. PostgreSQL counts the rows that a transaction inserts, updates and deletes in a table:
-- these counts show what triggers and foreign keys do elsewhere.

-- Prepares the watch, before the fix changes anything. All that the engine creates for itself exists before the watch
-- begins: an event trigger may log each of these statements, and that is not the fix's doing.
CREATE OR REPLACE FUNCTION pg_temp.datafix_prepare_watch(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    missing text;
BEGIN
    IF NOT current_setting('track_counts')::boolean THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF014',
            'track_counts is off, so changes to other rows than those of the fix could not be found',
            hint => 'Switch it on, as it is by default: ALTER DATABASE ... SET track_counts = on.');
    END IF;
    SELECT string_agg(format('%I.%I', o ->> 0, o ->> 1), ', ') INTO missing
      FROM jsonb_array_elements(fix -> 'other_tables') AS o
     WHERE pg_temp.datafix_relation(o ->> 0, o ->> 1) IS NULL;
    IF missing IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF004', format('may_differ names %s, which does not exist', missing));
    END IF;
    PERFORM pg_temp.datafix_make('CREATE TEMP TABLE datafix_watched ON COMMIT DROP AS '
        'SELECT * FROM pg_temp.datafix_counts() WITH NO DATA');
    PERFORM pg_temp.datafix_make('CREATE TEMP TABLE datafix_moment (transaction xid8) ON COMMIT DROP');
    PERFORM pg_temp.datafix_switch_triggers_off(fix);
END
$engine$;

-- From here on, whatever changes in any table is the fix's doing: notes every table of the database as it is.
CREATE OR REPLACE FUNCTION pg_temp.datafix_watch()
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    INSERT INTO pg_temp.datafix_watched SELECT * FROM pg_temp.datafix_counts();
    -- its cmin is where in the transaction this is
    INSERT INTO pg_temp.datafix_moment VALUES (pg_current_xact_id());
END
$engine$;

-- Runs a statement of the engine's own that creates, alters or drops. An event trigger that it fires finds
-- unqualified names as after any other statement of this session; the statement's own names are found in pg_catalog
-- first.
CREATE OR REPLACE FUNCTION pg_temp.datafix_make(statement text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    IF EXISTS (SELECT FROM pg_event_trigger WHERE evtenabled <> 'D') THEN       -- until this function ends
        PERFORM set_config('search_path',
            concat_ws(', ', 'pg_catalog, pg_temp', nullif(current_setting('datafixes.search_path', true), '')), true);
    END IF;
    EXECUTE statement;
END
$engine$;

-- The relations whose changes PostgreSQL does not count in this transaction, and why: the rows are elsewhere, or are
-- kept by code that need not count them. Citus distributes rows of ordinary tables, and knows which.
CREATE OR REPLACE FUNCTION pg_temp.datafix_uncounted()
RETURNS TABLE (relation oid, why text) LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    distributed oid[] := '{}';
BEGIN
    IF to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL THEN
        EXECUTE 'SELECT array_agg(logicalrelid::oid) FROM pg_catalog.pg_dist_partition' INTO distributed;
    ELSIF EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN     -- in a form that is not known here
        distributed := ARRAY(SELECT c.oid FROM pg_class AS c WHERE c.relkind IN ('r', 'p') AND c.oid >= 16384);
    END IF;
    RETURN QUERY
    SELECT c.oid, CASE WHEN c.oid = ANY (distributed) THEN 'is a table of Citus'
                       WHEN c.relkind = 'f' THEN 'is a foreign table'
                       ELSE format('is kept by the access method %I', am.amname) END
      FROM pg_class AS c LEFT JOIN pg_am AS am ON am.oid = c.relam
     WHERE c.oid = ANY (distributed) OR c.relkind = 'f'
        OR c.relkind IN ('r', 'm') AND am.amhandler <> 'pg_catalog.heap_tableam_handler'::regproc;
END
$engine$;

-- What this transaction did to every table so far: the rows that were counted, the table's file, and whether it holds
-- the table exclusively, as only DDL needs to. Large objects are rows of a system table. Where nothing is counted,
-- the locks tell that rows may have been written.
CREATE OR REPLACE FUNCTION pg_temp.datafix_counts()
RETURNS TABLE (relation oid, label text, file oid, exclusive boolean, size bigint, inserted bigint, updated bigint,
               deleted bigint, uncounted text, locks text[])
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT c.oid, c.oid::regclass::text, c.relfilenode, held.exclusive IS TRUE,
           CASE WHEN held.exclusive AND c.relkind <> 'f' THEN pg_relation_size(c.oid) END,
           pg_stat_get_xact_tuples_inserted(c.oid), pg_stat_get_xact_tuples_updated(c.oid),
           pg_stat_get_xact_tuples_deleted(c.oid), u.why, coalesce(held.locks, '{}')
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
      LEFT JOIN (SELECT l.relation, array_agg(l.mode) AS locks, bool_or(l.mode = 'AccessExclusiveLock') AS exclusive
                   FROM pg_locks AS l
                  WHERE l.locktype = 'relation' AND l.pid = pg_backend_pid()
                    AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
                  GROUP BY l.relation) AS held ON held.relation = c.oid
      LEFT JOIN pg_temp.datafix_uncounted() AS u ON u.relation = c.oid
     WHERE c.relkind IN ('r', 'm', 'f') AND c.relpersistence <> 't' AND n.nspname <> 'information_schema'
       AND (n.nspname !~ '^pg_' OR c.oid = 'pg_largeobject'::regclass)
$engine$;

-- Whether triggers of the table, or of its partitions, fire: they may change more than the fix does.
CREATE OR REPLACE FUNCTION pg_temp.datafix_has_triggers(fix jsonb)
RETURNS boolean LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT (fix -> 'fire_triggers')::boolean
       AND EXISTS (SELECT FROM pg_trigger
                    WHERE NOT tgisinternal
                      AND tgrelid IN (SELECT pg_temp.datafix_tree((fix ->> 'target_oid')::oid)))
$engine$;

-- For messages: the triggers that may have caused it.
CREATE OR REPLACE FUNCTION pg_temp.datafix_name_triggers(fix jsonb)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT coalesce(string_agg(format('%I on %s', t.tgname, t.tgrelid::regclass), ', '
                               ORDER BY t.tgname, t.tgrelid), 'none')
      FROM pg_trigger AS t
     WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND t.tgname !~ '^datafix_' AND t.tgenabled <> 'D'
       AND t.tgrelid IN (
           SELECT pg_temp.datafix_tree(target::oid)
             FROM jsonb_array_elements_text(coalesce(fix -> 'all_oids', jsonb_path_query_array(
                      fix, '$.tables[*].target_oid'))) AS target)
$engine$;

-- Only the tables of the fix and those that it allows to differ have changed; with "besides", also the audit tables
-- and the ledger.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_nothing_else(fix jsonb, besides boolean DEFAULT true)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    known oid[] := ARRAY(
        SELECT pg_temp.datafix_tree(named.relation)
          FROM (SELECT (one ->> 'target_oid')::oid FROM jsonb_array_elements(fix -> 'tables') AS one
                UNION ALL
                SELECT (one ->> 'audit')::regclass FROM jsonb_array_elements(fix -> 'tables') AS one WHERE besides
                UNION ALL
                SELECT pg_temp.datafix_relation(o ->> 0, o ->> 1) FROM jsonb_array_elements(fix -> 'other_tables') AS o
                UNION ALL
                SELECT unnest(ARRAY[(fix ->> 'ledger')::regclass, (fix ->> 'ledger_tables')::regclass])
                 WHERE besides) AS named (relation));
    other record;
BEGIN
    SELECT count(*) FILTER (WHERE counted) AS tables,
           string_agg(label || CASE WHEN altered THEN ' (truncated, altered or dropped)'
                                    ELSE format(' (%s)', concat_ws(', ', nullif(ins, 0) || ' inserted',
                                                                   nullif(upd, 0) || ' updated',
                                                                   nullif(del, 0) || ' deleted')) END,
                      ', ' ORDER BY label)
               FILTER (WHERE counted) AS which,
           count(*) FILTER (WHERE uncounted IS NOT NULL) AS unknown,
           string_agg(format('%s %s%s', label, uncounted,
                             CASE WHEN before THEN ', and this transaction wrote to it before the fix began' END),
                      '; ' ORDER BY label)
               FILTER (WHERE uncounted IS NOT NULL) AS which_unknown
      INTO other
      FROM (SELECT coalesce(was.label, now.label) AS label,
                   now.inserted - coalesce(was.inserted, 0) AS ins,
                   now.updated - coalesce(was.updated, 0) AS upd,
                   now.deleted - coalesce(was.deleted, 0) AS del,
                   -- others may do all that too meanwhile, but not to a table that this transaction locks exclusively
                   was.relation IS NOT NULL
                   AND CASE WHEN now.relation IS NOT NULL
                            THEN now.exclusive AND (NOT was.exclusive OR now.file <> was.file OR now.size < was.size)
                            ELSE EXISTS (SELECT FROM pg_locks AS l
                                          WHERE l.pid = pg_backend_pid() AND l.mode = 'AccessExclusiveLock'
                                            AND l.relation = was.relation) END AS altered,
                   -- a table that DDL had locked before is locked again, in another mode, by a statement that writes
                   -- rows
                   CASE WHEN 'RowExclusiveLock' = ANY (now.locks) OR NOT now.locks <@ was.locks
                        THEN now.uncounted END AS uncounted,
                   'RowExclusiveLock' = ANY (was.locks) AS before
              FROM pg_temp.datafix_counts() AS now FULL JOIN pg_temp.datafix_watched AS was USING (relation)
             WHERE relation <> ALL (known)) AS changed
     CROSS JOIN LATERAL (SELECT ins <> 0 OR upd <> 0 OR del <> 0 OR altered) AS _ (counted);
    IF other.tables > 0 THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF015',
            format('rows of %s other table%s changed too, without a copy: %s',
                   other.tables, CASE other.tables WHEN 1 THEN '' ELSE 's' END, left(other.which, 500)),
            hint => format('Nothing was changed. Name the table in the fix (RecordedFix), so that its rows are copied '
                           'too, or allow it to differ: may_differ=[...]. Triggers: %s.',
                           pg_temp.datafix_name_triggers(fix)));
    ELSIF other.unknown > 0 THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF015',
            format('rows of %s other table%s may have changed too, where PostgreSQL does not count changes: %s',
                   other.unknown, CASE other.unknown WHEN 1 THEN '' ELSE 's' END, left(other.which_unknown, 500)),
            hint => format('Nothing was changed. Keep the fix from writing there, or allow it: may_differ=[...]. Move '
                           'other statements that write there to another migration. Triggers: %s.',
                           pg_temp.datafix_name_triggers(fix)));
    END IF;
    PERFORM pg_temp.datafix_check_shards(fix, known);
END
$engine$;

-- No other rows of the table itself changed: the counts are the fix's own, or else no other row was written by this
-- transaction. "ours" is the condition that tells the fix's rows "t".
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_rows(fix jsonb, inserted bigint, updated bigint, deleted bigint,
                                                      ours text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    seen    record;
    others  bigint := 0;
    example text;
BEGIN
    IF fix ? 'citus' THEN       -- nothing is counted here, and there are no triggers that could change other rows
        RETURN;
    END IF;
    SELECT sum(now.inserted - coalesce(was.inserted, 0)) AS ins,
           sum(now.updated - coalesce(was.updated, 0)) AS upd,
           sum(now.deleted - coalesce(was.deleted, 0)) AS del
      INTO seen
      FROM pg_temp.datafix_counts() AS now LEFT JOIN pg_temp.datafix_watched AS was USING (relation)
     WHERE now.relation IN (SELECT pg_temp.datafix_tree((fix ->> 'target_oid')::oid));
    IF seen.ins = inserted AND seen.upd = updated AND seen.del = deleted THEN
        RETURN;
    END IF;
    -- A row that moves to another partition is counted as deleted and inserted.
    IF seen.del - deleted <> seen.ins - inserted AND seen.del > deleted THEN
        others := seen.del - deleted;
    ELSE
        EXECUTE pg_temp.datafix_sql(fix, format($sql$
            SELECT count(*), min(%s)
              FROM %s AS t
             WHERE t.cmin::text::bigint > (SELECT m.cmin::text::bigint FROM pg_temp.datafix_moment AS m)
               AND pg_temp.datafix_is_ours(t.xmin) AND NOT %s
        $sql$, CASE WHEN fix -> 'key' = '[]' THEN 't.ctid::text' ELSE '{{t.shown}}' END, fix ->> 'target', ours))
           INTO others, example;
    END IF;
    IF others > 0 THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF008',
            format('%s other row%s of %s changed too, without a copy%s',
                   others, CASE others WHEN 1 THEN '' ELSE 's' END, fix ->> 'target',
                   coalesce(': ' || example || CASE WHEN others > 1 THEN ', ...' ELSE '' END, '')),
            hint => format(CASE fix ->> 'change'
                WHEN 'revert' THEN 'Nothing was changed. Disable the trigger that did it for this downgrade '
                                   '(ALTER TABLE ... DISABLE TRIGGER), and enable it afterwards. Triggers: %s.'
                ELSE 'Nothing was changed. Record the fix (RecordedFix), so that these rows are copied too, or '
                     'switch its triggers off: fire_triggers=False. Triggers: %s.' END,
                pg_temp.datafix_name_triggers(fix)));
    END IF;
END
$engine$;

-- Whether a row that is visible was written by this transaction, subtransactions included: its number is one of this
-- transaction's, and that one has not ended.
CREATE OR REPLACE FUNCTION pg_temp.datafix_is_ours(writer xid)
RETURNS boolean LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT full_number >= pg_current_xact_id()::text::bigint AND pg_xact_status(full_number::text::xid8) = 'in progress'
      FROM (SELECT (pg_current_xact_id()::text::bigint >> 32 << 32) + writer::text::bigint AS full_number) AS _
$engine$;

-- "fire_triggers" is false: the tables' own triggers are switched off until the fix ends. Those of foreign keys stay.
CREATE OR REPLACE FUNCTION pg_temp.datafix_switch_triggers_off(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    one record;
BEGIN
    IF (fix -> 'fire_triggers')::boolean THEN
        RETURN;
    END IF;
    PERFORM pg_temp.datafix_make('CREATE TEMP TABLE datafix_silenced ON COMMIT DROP AS '
        'SELECT tgrelid, tgname, tgenabled FROM pg_trigger WITH NO DATA');
    INSERT INTO pg_temp.datafix_silenced
    SELECT t.tgrelid, t.tgname, t.tgenabled FROM pg_trigger AS t
     WHERE NOT t.tgisinternal AND t.tgenabled <> 'D'
       AND t.tgrelid IN (SELECT pg_temp.datafix_tree((named ->> 'target_oid')::oid)
                           FROM jsonb_array_elements(fix -> 'tables') AS named);
    FOR one IN SELECT s.tgrelid::regclass AS relation, s.tgname FROM pg_temp.datafix_silenced AS s LOOP
        PERFORM pg_temp.datafix_make(format('ALTER TABLE ONLY %s DISABLE TRIGGER %I', one.relation, one.tgname));
    END LOOP;
END
$engine$;

-- Switches them on as they were.
CREATE OR REPLACE FUNCTION pg_temp.datafix_switch_triggers_on(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    one record;
BEGIN
    IF (fix -> 'fire_triggers')::boolean THEN
        RETURN;
    END IF;
    FOR one IN
        SELECT s.tgrelid::regclass AS relation, s.tgname,
               CASE s.tgenabled WHEN 'A' THEN 'ENABLE ALWAYS' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE' END AS state
          FROM pg_temp.datafix_silenced AS s
    LOOP
        PERFORM pg_temp.datafix_make(format('ALTER TABLE ONLY %s %s TRIGGER %I', one.relation, one.state, one.tgname));
    END LOOP;
END
$engine$;
