-- A fix that an operator declined for a database. The ledger keeps who declined it, and why.

-- Records it. Nothing of the fix is checked, not even its tables: they may be why it cannot run.
CREATE OR REPLACE FUNCTION pg_temp.datafix_decline(declared jsonb, version_table regclass)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $engine$
DECLARE
    fix jsonb;
BEGIN
    IF pg_temp.datafix_relation(declared ->> 'audit_schema', 'datafix_run') IS NULL THEN
        PERFORM pg_temp.datafix_refuse_fix(declared, 'DF006',
            format('ledger %I.datafix_run does not exist, so declining the fix cannot be recorded',
                   declared ->> 'audit_schema'),
            hint => 'An earlier migration makes it, with the first op.create_audit_table of its schema.');
    END IF;
    fix := pg_temp.datafix_begin(declared || '{"direction": "apply", "tables": []}', version_table);
    PERFORM pg_temp.datafix_close(pg_temp.datafix_open_run(fix), 'declined');
END
$engine$;

-- The hint of refusals where the rows are not those that the fix was written for: how a deploy can go on.
CREATE OR REPLACE FUNCTION pg_temp.datafix_ways_on(fix jsonb)
RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $engine$
    SELECT format('Nothing was changed. Correct its revision if it has run nowhere yet, or decline it here: '
                  'alembic -x decline=%L upgrade head', (fix ->> 'fix') || ': WHY')
$engine$;
