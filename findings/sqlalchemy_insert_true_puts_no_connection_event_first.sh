#!/usr/bin/env bash
# event.listen(..., insert=True) does not put a listener in front for the events of connections and engines.
#
# Seen with SQLAlchemy 2.0.0, 2.0.44 and 2.1.0: the documentation of event.listen() says that a listener with insert=True
# is called before those that listen already. For events of a pool it is. For the events of a connection or an engine
# ("commit", "rollback", "before_execute") it is called after them, without an error or a warning, so that who wants to
# see a commit before other listeners do cannot rely on it.
#
# Exits with 0 while this is so, and says what changed if it is not.
set -euo pipefail

PYTHON="${PYTHON:-python3}"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT

cat > "$folder/listeners.py" << 'END'
from sqlalchemy import create_engine, event, text
from sqlalchemy.pool import NullPool


def order(target, name, act):
    called = []
    event.listen(target, name, lambda *_: called.append("earlier"))
    event.listen(target, name, lambda *_: called.append("inserted"), insert=True)
    act()
    return ", ".join(called)


def commit(engine):
    with engine.begin() as connection:
        connection.execute(text("SELECT 1"))


engine = create_engine("sqlite://", poolclass=NullPool)
print("checkout:", order(engine.pool, "checkout", lambda: engine.connect().close()))
for name in ("commit", "before_cursor_execute"):
    engine = create_engine("sqlite://")
    print(f"{name}:", order(engine, name, lambda: commit(engine)))
END

failed=0
for version in 2.0.0 2.0.44 2.1.0; do
    "$PYTHON" -m venv "$folder/$version"
    "$folder/$version/bin/pip" install --quiet --disable-pip-version-check "SQLAlchemy==$version"
    got="$("$folder/$version/bin/python" "$folder/listeners.py" 2>&1 | paste -sd '|')"
    printf 'SQLAlchemy %-7s %s\n' "$version" "$got"
    expected="checkout: inserted, earlier|commit: earlier, inserted|before_cursor_execute: earlier, inserted"
    [ "$got" = "$expected" ] || { echo "  CHANGED: it was: $expected"; failed=1; }
done
exit "$failed"
