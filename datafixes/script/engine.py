"""The engine: the functions in ``pg_temp`` that scripts call. A transaction gets each of them once.

They depend on a temporary table that PostgreSQL drops at the end of the transaction, and the functions with it: each has
a last argument of that table's row type, which no call gives. So the session, which may be a pooler's, keeps nothing.
"""

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType

from datafixes import __version__

_FUNCTION = re.compile(r"^CREATE OR REPLACE FUNCTION pg_temp\.(\w+)\(", re.MULTILINE)
_CALL = re.compile(r"\bpg_temp\.(datafix_\w+)\s*\(")
_FOR_A_TRIGGER = re.compile(r"\)\s*RETURNS trigger\b")
# PostgreSQL checks an SQL function when it is created: the functions that it calls must come first.
_FILES = (
    "engine.sql",
    "masking.sql",
    "names.sql",
    "keys.sql",
    "guards.sql",
    "citus.sql",
    "sequences.sql",
    "ledger.sql",
    "surroundings.sql",
    "batches.sql",
    "decline.sql",
    "apply.sql",
    "record.sql",
    "recall.sql",
    "revert.sql",
    "conflicts.sql",
    "batches_revert.sql",
    "views.sql",
    "protection.sql",
    "chain.sql",
    "ledger_table.sql",
    "audit_table.sql",
    "prune.sql",
    "redact.sql",
)
_WIDTH = 118
_OWNER = "engine pg_temp.datafixes_engine DEFAULT NULL"

SENT = """\
SELECT proname FROM pg_catalog.pg_proc
 WHERE pronamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()
   AND pg_catalog.to_regclass('pg_temp.datafixes_engine') IS NOT NULL"""
"""The functions that the transaction already has."""


@dataclass(frozen=True)
class Engine:
    """The functions for one kind of script, the same for every script of that kind.

    Attributes:
        functions: the statement that creates each function, by name, in a valid order.
        of_triggers: the same for trigger functions, which take no arguments, so that the script drops them itself.
    """

    functions: Mapping[str, str]
    of_triggers: Mapping[str, str]

    @property
    def digest(self) -> str:
        """The SHA-256 of the statements, to compare two scripts."""
        text = "".join(f"{statement};\n\n" for statement in self.functions.values())
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def statements(self, sent: Collection[str] = ()) -> tuple[str, ...]:
        """The statements for functions that this transaction does not have yet."""
        missing = [statement for name, statement in self.functions.items() if name not in sent]
        return (f"{_heading(self, len(missing))}\n{_TABLE}", *missing) if missing else ()


def _heading(engine: Engine, missing: int) -> str:
    rest = (
        f" The {missing} that this transaction does not have yet:" if missing < len(engine.functions) else ""
    )
    return f"""\
-- The engine of datafixes {__version__}, which the fix calls: {len(engine.functions)} functions, the same for every
-- script of this kind, sha256 {engine.digest}.{rest}
-- Each has an argument of this table's row type, which no call gives: PostgreSQL drops the table at the end of the
-- transaction, and the functions with it."""


# Another version may have left functions in this session, which would be called instead.
_TABLE = """\
DO $engine$
DECLARE
    left_behind pg_catalog.regprocedure;
BEGIN
    IF pg_catalog.to_regclass('pg_temp.datafixes_engine') IS NULL THEN
        FOR left_behind IN
            SELECT oid FROM pg_catalog.pg_proc
             WHERE pronamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()
               AND pg_catalog.starts_with(proname, 'datafix_') AND prokind OPERATOR(pg_catalog.=) 'f'
               AND prorettype OPERATOR(pg_catalog.<>) CAST('pg_catalog.trigger' AS pg_catalog.regtype)
        LOOP
            EXECUTE pg_catalog.concat('DROP FUNCTION ', left_behind);
        END LOOP;
        CREATE TEMPORARY TABLE datafixes_engine () ON COMMIT DROP;
    END IF;
END
$engine$"""


@cache
def engine_of(*roots: str) -> Engine:
    """All functions of some of the engine's files, some further functions, and those that they call.

    Args:
        roots: names of files, and of functions.
    """
    library, files = _library()
    needed: set[str] = set()
    waiting = {name for root in roots for name in files.get(root, (root,))}
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting |= {called for called in _CALL.findall(library[name]) if called in library}
    found = {name: text for name, text in library.items() if name in needed}
    ours = {name: text for name, text in found.items() if not _FOR_A_TRIGGER.search(text)}
    theirs = {name: text for name, text in found.items() if name not in ours}
    return Engine(
        MappingProxyType({name: _with_owner(name, text) for name, text in ours.items()}),
        MappingProxyType(theirs),
    )


def called_by(text: str) -> frozenset[str]:
    """The engine's functions that a text calls."""
    library, _ = _library()
    return frozenset(name for name in _CALL.findall(text) if name in library)


def _with_owner(name: str, statement: str) -> str:
    """A function that is dropped with the engine's table."""
    opening = f"FUNCTION pg_temp.{name}("
    start = position = statement.index(opening) + len(opening)
    depth = 1
    while depth:
        depth += {"(": 1, ")": -1}.get(statement[position], 0)
        position += 1
    before, after = statement[: position - 1], statement[position - 1 :]
    width = len(before.rpartition("\n")[2]) + len(_OWNER) + len(after.partition("\n")[0])
    separator = "" if not before[start:].strip() else ", " if width < _WIDTH else ",\n    "
    return f"{before}{separator}{_OWNER}{after}"


@cache
def _library() -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """All functions by name, and the names by file."""
    functions: dict[str, str] = {}
    files: dict[str, tuple[str, ...]] = {}
    for file in _FILES:
        source = resources.files("datafixes.script").joinpath(file).read_text("ascii")
        before = len(functions)
        for chunk in re.split(r"(?<=\n\$engine\$;)\n", source):
            if found := _FUNCTION.search(chunk):
                functions[found[1]] = chunk[_start(chunk, found.start()) :].strip().removesuffix(";")
        files[file] = tuple(functions)[before:]
    return functions, files


def _start(chunk: str, position: int) -> int:
    """The start of the comment right above a function."""
    blank = chunk.rfind("\n\n", 0, position)
    return 0 if blank < 0 else blank
