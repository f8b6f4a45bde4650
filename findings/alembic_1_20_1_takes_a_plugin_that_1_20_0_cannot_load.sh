#!/usr/bin/env bash
# What an entry point in the group alembic.plugins may load changed between Alembic 1.20.0 and 1.20.1.
#
# Seen with Alembic 1.18.0, 1.18.5, 1.19.0, 1.20.0 and 1.20.1 on Python 3.11 and newer: the documentation says that the
# entry point names a module with a function setup(). 1.18.0 to 1.20.0 iterate over what it loads, so that with a module
# `import alembic` itself ends with "TypeError: 'module' object is not iterable". 1.20.1 takes a module, and warns of a
# list of modules, which is all that the older ones take. A module that can also be iterated over loads in all of them.
#
# Exits with 0 while this is so, and says what changed if it is not.
set -euo pipefail

PYTHON="${PYTHON:-python3}"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT

plugin() { # plugin NAME OBJECT: a distribution of that name whose entry point loads an object of plugin_module
    mkdir -p "$folder/$1/$1-1.dist-info"
    printf 'Metadata-Version: 2.1\nName: %s\nVersion: 1\n' "$1" > "$folder/$1/$1-1.dist-info/METADATA"
    printf '[alembic.plugins]\n%s = %s\n' "$1" "$2" > "$folder/$1/$1-1.dist-info/entry_points.txt"
    cat > "$folder/$1/plugin_module.py" << 'END'
import sys
from types import ModuleType


def setup(plugin):
    print("set up")


class Both(ModuleType):
    def __iter__(self):
        yield sys.modules["plugin_module"]


both = Both("both")
both.setup = setup
listed = [sys.modules["plugin_module"]]
END
}

seen() { # seen VERSION PLUGIN: the last line of `import alembic`
    { PYTHONPATH="$folder/$2" "$folder/$1/bin/python" -W always -c 'import alembic' 2>&1 || true; } \
        | grep -E 'set up|Error|Deprecat' | sed 's/^.*DeprecationWarning/DeprecationWarning/' | paste -sd '|' \
        | sed -E "s/Plugin entrypoint '[a-z]+' refers/It refers/" | cut -c 1-72
}

plugin module plugin_module
plugin list plugin_module:listed
plugin both plugin_module:both

failed=0
expect() { # expect VERSION PLUGIN BEGINNING
    got="$(seen "$1" "$2")"
    printf 'Alembic %-7s %-7s %s\n' "$1" "$2" "$got"
    case "$got" in "$3"*) ;; *) echo "  CHANGED: it was: $3"; failed=1 ;; esac
}

for version in 1.18.0 1.18.5 1.19.0 1.20.0 1.20.1; do
    "$PYTHON" -m venv "$folder/$version"
    "$folder/$version/bin/pip" install --quiet --disable-pip-version-check "alembic==$version" "SQLAlchemy==2.0.44"
    if [ "$version" = 1.20.1 ]; then
        expect "$version" module "set up"
        expect "$version" list "DeprecationWarning"
    else
        expect "$version" module "TypeError: 'module' object is not iterable"
        expect "$version" list "set up"
    fi
    expect "$version" both "set up"
done
exit "$failed"
