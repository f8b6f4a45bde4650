-- The sequences behind the numbers of runs and images.

-- The next numbers of the ledger and of the audit tables are not taken yet.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_sequences(fix jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
BEGIN
    PERFORM pg_temp.datafix_check_sequence(fix, (fix ->> 'ledger')::regclass, 'run_id');
    -- the highest numbers of an audit table are those of its newest run: it need not be read as a whole
    PERFORM pg_temp.datafix_check_sequence(fix, (one ->> 'audit')::regclass, 'audit_id', format(
                'WHERE audit_run_id = (SELECT max(t.run_id) FROM %s AS t WHERE t.audit_table = %L AND t.images > 0)',
                fix ->> 'ledger_tables', one ->> 'audit'))
       FROM pg_temp.datafix_tables(fix) AS one;
END
$engine$;

-- Logical replication and a restore of data alone bring rows, and leave sequences as they are: then the next numbers
-- are those of old rows. Where the role may not read the sequence, PostgreSQL itself refuses the number of a run that
-- is taken; images are told apart by their run too.
CREATE OR REPLACE FUNCTION pg_temp.datafix_check_sequence(fix jsonb, relation regclass, numbered text,
                                                          among text DEFAULT '')
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $engine$
DECLARE
    sequence regclass := pg_get_serial_sequence(relation::text, numbered);
    taken    bigint;
    next     bigint;
BEGIN
    IF sequence IS NULL OR NOT has_sequence_privilege(sequence, 'SELECT') THEN
        RETURN;
    END IF;
    EXECUTE format('SELECT max(%I) FROM %s %s', numbered, relation, among) INTO taken;
    EXECUTE format('SELECT last_value + is_called::integer FROM %s', sequence) INTO next;
    IF next <= taken THEN
        PERFORM pg_temp.datafix_refuse_fix(fix, 'DF020',
            format('the sequence %s would hand out %s next, and %s has numbers up to %s, as after a switchover by '
                   'logical replication or a restore of data alone',
                   sequence, next, relation, taken),
            hint => format('Nothing was changed. Bring it forward: SELECT setval(%L, (SELECT max(%I) FROM %s));',
                           sequence, numbered, relation));
    END IF;
END
$engine$;
