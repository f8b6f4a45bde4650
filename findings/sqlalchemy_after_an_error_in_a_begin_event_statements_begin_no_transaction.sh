#!/usr/bin/env bash
# SQLAlchemy begins a transaction by itself at the first statement (autobegin), and calls the listeners of "begin".
# Once a listener has raised an error, later statements begin none: the listeners are not called, in_transaction() stays
# false. An explicit Connection.begin() puts it right.
# Exits 0 while that is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH PYTHONHOME
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "sqlalchemy==2.0.43"
"$folder/venv/bin/python" - <<'PYTHON'
import sqlalchemy
from sqlalchemy import create_engine, event

print("SQLAlchemy", sqlalchemy.__version__)
calls = []
with create_engine("sqlite://").connect() as connection:

    @event.listens_for(connection, "begin")
    def begin(_):
        calls.append("begin")
        if len(calls) == 1:
            raise KeyError("not now")

    try:
        connection.exec_driver_sql("SELECT 1")
    except KeyError:
        print("the first statement raises the listener's error")
    connection.exec_driver_sql("SELECT 1")
    print("after the next statement: listener called", len(calls), "time(s), in_transaction:", connection.in_transaction())
    unbegun = len(calls) == 1 and not connection.in_transaction()
    connection.begin()
    print("after begin(): listener called", len(calls), "times, in_transaction:", connection.in_transaction())
    raise SystemExit(0 if unbegun and connection.in_transaction() else 1)
PYTHON
# Seen:
#   SQLAlchemy 2.0.43
#   the first statement raises the listener's error
#   after the next statement: listener called 1 time(s), in_transaction: False
#   after begin(): listener called 2 times, in_transaction: True
