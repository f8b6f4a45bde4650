-- What a fix must leave alone: PostgreSQL counts the rows that a transaction inserts, updates and deletes in every table,
-- so what triggers and foreign keys do elsewhere shows.

-- Every table of the database as it is before the fix changes anything: its counts and its file.
CREATE OR REPLACE FUNCTION pg_temp.datafix_watch(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    missing text;
BEGIN
    IF NOT current_setting('track_counts')::boolean THEN
        PERFORM pg_temp.datafix_refuse('DF014', format('datafix %s: track_counts is off, so nobody can tell what changes besides the rows of the fix', fix ->> 'fix'), NULL,
            'Switch it on, as it is by default: ALTER DATABASE ... SET track_counts = on.');
    END IF;
    SELECT string_agg(format('%I.%I', o ->> 0, o ->> 1), ', ') INTO missing FROM jsonb_array_elements(fix -> 'other_tables') AS o
     WHERE pg_temp.datafix_relation(o ->> 0, o ->> 1) IS NULL;
    IF missing IS NOT NULL THEN
        PERFORM pg_temp.datafix_refuse('DF004', format('datafix %s: there is no table %s, which may differ', fix ->> 'fix', missing));
    END IF;
    CREATE TEMP TABLE datafix_watched ON COMMIT DROP AS SELECT * FROM pg_temp.datafix_counts();
    -- its cmin is where in the transaction this is
    CREATE TEMP TABLE datafix_moment ON COMMIT DROP AS SELECT pg_current_xact_id() AS transaction;
    PERFORM pg_temp.datafix_switch_triggers_off(fix);
END
$engine$;

-- What this transaction did to every table so far: what it counted, the table's file, and whether it has the table for
-- itself, as only DDL needs to. Large objects stand in a table of the system's.
CREATE OR REPLACE FUNCTION pg_temp.datafix_counts()
RETURNS TABLE (relation oid, label text, file oid, exclusive boolean, size bigint, inserted bigint, updated bigint, deleted bigint) LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT c.oid, c.oid::regclass::text, c.relfilenode, l.relation IS NOT NULL, CASE WHEN l.relation IS NOT NULL THEN pg_relation_size(c.oid) END,
           pg_stat_get_xact_tuples_inserted(c.oid), pg_stat_get_xact_tuples_updated(c.oid), pg_stat_get_xact_tuples_deleted(c.oid)
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
      LEFT JOIN pg_locks AS l ON l.locktype = 'relation' AND l.pid = pg_backend_pid() AND l.mode = 'AccessExclusiveLock' AND l.relation = c.oid
     WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND n.nspname <> 'information_schema'
       AND (n.nspname !~ '^pg_' OR c.oid = 'pg_largeobject'::regclass)
$engine$;

CREATE OR REPLACE FUNCTION pg_temp.datafix_has_triggers(fix jsonb)
RETURNS boolean LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT (fix -> 'fire_triggers')::boolean
       AND EXISTS (SELECT FROM pg_trigger WHERE NOT tgisinternal AND tgrelid IN (SELECT pg_temp.datafix_tree((fix ->> 'target_oid')::oid)))
$engine$;

-- For messages: what may have had a hand in it.
CREATE OR REPLACE FUNCTION pg_temp.datafix_name_triggers(fix jsonb)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT coalesce(string_agg(DISTINCT tgname, ', '), 'none') FROM pg_trigger
     WHERE NOT tgisinternal AND tgname !~ '^datafix_' AND tgenabled <> 'D'
       AND tgrelid IN (SELECT pg_temp.datafix_tree((one ->> 'target_oid')::oid) FROM jsonb_array_elements(fix -> 'tables') AS one)
$engine$;

-- Nothing changed but the tables that the fix names, what it says may differ, and besides, their copies and the ledger.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_nothing_else(fix jsonb, besides boolean DEFAULT true)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    known oid[] := ARRAY(
        SELECT pg_temp.datafix_tree(named.relation)
          FROM (SELECT (one ->> 'target_oid')::oid FROM jsonb_array_elements(fix -> 'tables') AS one
                UNION ALL SELECT (one ->> 'audit')::regclass FROM jsonb_array_elements(fix -> 'tables') AS one WHERE besides
                UNION ALL SELECT pg_temp.datafix_relation(o ->> 0, o ->> 1) FROM jsonb_array_elements(fix -> 'other_tables') AS o
                UNION ALL SELECT unnest(ARRAY[(fix ->> 'ledger')::regclass, (fix ->> 'ledger_tables')::regclass]) WHERE besides) AS named (relation));
    other record;
BEGIN
    SELECT string_agg(label || CASE WHEN altered THEN ' (truncated, altered or dropped)' ELSE format(' (%s)', concat_ws(', ', nullif(ins, 0) || ' inserted', nullif(upd, 0) || ' updated', nullif(del, 0) || ' deleted')) END, ', ' ORDER BY label) AS which,
           count(*) AS tables INTO other
      FROM (SELECT coalesce(was.label, now.label) AS label,
                   now.inserted - coalesce(was.inserted, 0) AS ins, now.updated - coalesce(was.updated, 0) AS upd, now.deleted - coalesce(was.deleted, 0) AS del,
                   -- others may do all that too meanwhile, but not to a table that this transaction has for itself
                   was.relation IS NOT NULL AND CASE WHEN now.relation IS NOT NULL THEN now.exclusive AND (NOT was.exclusive OR now.file <> was.file OR now.size < was.size)
                       ELSE EXISTS (SELECT FROM pg_locks AS l WHERE l.pid = pg_backend_pid() AND l.mode = 'AccessExclusiveLock' AND l.relation = was.relation) END AS altered
              FROM pg_temp.datafix_counts() AS now FULL JOIN pg_temp.datafix_watched AS was USING (relation)
             WHERE relation <> ALL (known)) AS changed
     WHERE ins <> 0 OR upd <> 0 OR del <> 0 OR altered;
    IF other.tables > 0 THEN
        PERFORM pg_temp.datafix_refuse('DF015', format('datafix %s: rows of %s other table%s changed along, without a copy: %s', fix ->> 'fix', other.tables,
            CASE other.tables WHEN 1 THEN '' ELSE 's' END, left(other.which, 500)), NULL,
            format('Nothing was changed. Name the table in the fix (RecordedFix), so that its rows are copied too, or say that it may differ: may_differ=[...]. Triggers: %s.',
                pg_temp.datafix_name_triggers(fix)));
    END IF;
END
$engine$;

-- No other rows of the table itself changed: the counts are the fix's own, or else no row but these bears its mark.
-- "ours" is the condition that tells the fix's rows "t".
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_rows(fix jsonb, inserted bigint, updated bigint, deleted bigint, ours text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    seen    record;
    others  bigint := 0;
    example text;
BEGIN
    SELECT sum(now.inserted - coalesce(was.inserted, 0)) AS ins, sum(now.updated - coalesce(was.updated, 0)) AS upd, sum(now.deleted - coalesce(was.deleted, 0)) AS del INTO seen
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
            SELECT count(*), min(concat_ws('/', %s)) FROM %s AS t
             WHERE t.cmin::text::bigint > (SELECT m.cmin::text::bigint FROM pg_temp.datafix_moment AS m) AND pg_temp.datafix_is_ours(t.xmin) AND NOT %s
        $sql$, CASE WHEN fix -> 'key' = '[]' THEN 't.ctid' ELSE '{{t.key}}' END, fix ->> 'target', ours)) INTO others, example;
    END IF;
    IF others > 0 THEN
        PERFORM pg_temp.datafix_refuse('DF008', format('datafix %s: %s other rows of %s changed along, without a copy%s', fix ->> 'fix', others, fix ->> 'target',
            coalesce(': ' || example || CASE WHEN others > 1 THEN ', ...' ELSE '' END, '')), NULL,
            format('Nothing was changed. Record the fix (RecordedFix), so that these rows are copied too, or switch its triggers off: fire_triggers=False. Triggers: %s.',
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
    CREATE TEMP TABLE datafix_silenced ON COMMIT DROP AS
    SELECT t.tgrelid, t.tgname, t.tgenabled FROM pg_trigger AS t
     WHERE NOT t.tgisinternal AND t.tgenabled <> 'D'
       AND t.tgrelid IN (SELECT pg_temp.datafix_tree((named ->> 'target_oid')::oid) FROM jsonb_array_elements(fix -> 'tables') AS named);
    FOR one IN SELECT s.tgrelid::regclass AS relation, s.tgname FROM pg_temp.datafix_silenced AS s LOOP
        EXECUTE format('ALTER TABLE ONLY %s DISABLE TRIGGER %I', one.relation, one.tgname);
    END LOOP;
END
$engine$;

CREATE OR REPLACE FUNCTION pg_temp.datafix_switch_triggers_on(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    one record;
BEGIN
    IF (fix -> 'fire_triggers')::boolean THEN
        RETURN;
    END IF;
    FOR one IN SELECT s.tgrelid::regclass AS relation, s.tgname, CASE s.tgenabled WHEN 'A' THEN 'ENABLE ALWAYS' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE' END AS state
                 FROM pg_temp.datafix_silenced AS s LOOP
        EXECUTE format('ALTER TABLE ONLY %s %s TRIGGER %I', one.relation, one.state, one.tgname);
    END LOOP;
END
$engine$;
