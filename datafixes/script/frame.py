"""A script: the one text that a plan shows, that ``alembic upgrade --sql`` prints and that the server receives.

Every script has the same frame. A commit fuse is lit first: from there on nothing can be committed unless the block
ran to its end, whatever the client does with an error in between (B2, B3, B6). Time-outs come as a statement of their
own, because they cannot be changed from inside the block (B38). The last statement takes away what the session would keep;
of the settings `datafixes.*`, which end with the transaction, it keeps the names, and no values.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

from datafixes.script import literal

_FUNCTION = re.compile(r"^CREATE OR REPLACE FUNCTION pg_temp\.(\w+)", re.MULTILINE)
_CALL = re.compile(r"\bpg_temp\.(datafix_\w+)\s*\(")
_FILES = (
    "engine.sql",
    "masking.sql",
    "names.sql",
    "keys.sql",
    "guards.sql",
    "sequences.sql",
    "ledger.sql",
    "surroundings.sql",
    "decline.sql",
    "apply.sql",
    "record.sql",
    "recall.sql",
    "revert.sql",
    "conflicts.sql",
    "views.sql",
    "ledger_table.sql",
    "audit_table.sql",
)

# What a fix changes for its own transaction and puts back afterwards (B35). transaction_timeout exists from 17 on.
_PINNED = (
    "lock_timeout",
    "statement_timeout",
    "idle_in_transaction_session_timeout",
    "transaction_timeout",
    "row_security",
    "synchronous_commit",
    "quote_all_identifiers",
    "array_nulls",
    "default_table_access_method",
    "work_mem",
)

# Never less than the session has.
_ENOUGH_MEMORY = (
    "CASE WHEN pg_catalog.pg_size_bytes(pg_catalog.current_setting('work_mem')) OPERATOR(pg_catalog.<) 67108864"
    " THEN '64MB' ELSE pg_catalog.current_setting('work_mem') END"
)


@dataclass(frozen=True)
class Limits:
    """How long a script may wait and run, in PostgreSQL's notation: ``5s``, ``10min``, ``0`` for no limit."""

    lock_timeout: str = "5s"
    statement_timeout: str = "10min"


@dataclass(frozen=True)
class Script:
    """SQL statements in order, each to be sent by itself and without parameters.

    Attributes:
        fuse: what the block must finish: ``"apply NAME"`` or ``"revert NAME"``.
        before: what prepares the block: the fuse, the time-outs, the engine's functions.
        block: the one statement that does everything; it can be tried again as it stands.
        after: what puts the settings back, drops the functions and puts the fuse out.
    """

    fuse: str
    before: tuple[str, ...]
    block: str
    after: tuple[str, ...]

    @property
    def direction(self) -> str:
        """``apply`` or ``revert``, as the ledger has it; for audit tables ``create`` or ``drop``."""
        first = self.fuse.split()[0]
        return "apply" if first == "decline" else first

    @property
    def statements(self) -> tuple[str, ...]:
        """All statements, in order, without trailing semicolons."""
        return (*self.before, self.block, *self.after)

    @property
    def text(self) -> str:
        """The whole script as it is printed."""
        return "".join(f"{statement};\n\n" for statement in self.statements)


def frame(title: str, fuse: str, block: str, limits: Limits) -> Script:
    """Put a block into the frame.

    Args:
        title: prose for the head of the script.
        fuse: what the block must finish, ``"apply NAME"``; the block ends with telling the fuse so.
        block: the body of the block, from DECLARE to the last statement before END.
        limits: the time-outs.
    """
    return Script(
        fuse=fuse,
        before=(
            f"{literal.comment(title)}\n{_fuse(fuse)}",
            _pin(limits),
            *_functions_called_by(block),
        ),
        block=f"DO {literal.body(block, 'datafix')}",
        after=(_end(fuse),),
    )


def _cursor(fuse: str) -> str:
    """The name of the fuse's cursor, as a literal."""
    name = f"datafixes {fuse}"
    if len(name.encode()) > 63:  # PostgreSQL would cut it off, and not find it again
        name = f"{name[:12]}{hashlib.sha256(fuse.encode()).hexdigest()[:32]}"
    return literal.text(name)


def _fuse(fuse: str) -> str:
    cursor = _cursor(fuse)
    query = (
        "SELECT CASE WHEN pg_catalog.strpos(pg_catalog.current_setting('datafixes.finished', true), %1$L) OPERATOR(pg_catalog.>) 0 THEN 0 "
        "ELSE CAST(%2$L OPERATOR(pg_catalog.||) pg_catalog.left(coalesce(pg_catalog.current_setting('datafixes.finished', true), ''), 0) AS integer) END"
    )
    return f"""\
-- The commit fuse: a cursor that is read when the transaction commits, and fails there unless the block below has
-- said that it finished. It needs no table and no privilege, and no client can skip it. The last statement closes it.
DO $fuse$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE name OPERATOR(pg_catalog.=) {cursor}) THEN
        EXECUTE pg_catalog.format('CLOSE %I', {cursor});
    END IF;
    PERFORM pg_catalog.set_config('datafixes.finished', pg_catalog.replace(coalesce(pg_catalog.current_setting('datafixes.finished', true), ''), {literal.text(f"<{fuse}>")}, ''), true);
    EXECUTE pg_catalog.format('DECLARE %I NO SCROLL CURSOR WITH HOLD FOR ', {cursor})
         OPERATOR(pg_catalog.||) pg_catalog.format({literal.text(query)}, {literal.text(f"<{fuse}>")}, {literal.text(f"datafix {fuse} did not finish: nothing of this transaction is committed")});
END
$fuse$"""


def _pin(limits: Limits) -> str:
    values = (limits.lock_timeout, limits.statement_timeout, "0", "0", "off", "on", "off", "on", "heap")
    fixed = [literal.text(value) for value in values]
    pinned = ",\n        ".join(
        f"('{name}', {value})" for name, value in zip(_PINNED, [*fixed, _ENOUGH_MEMORY], strict=True)
    )
    return f"""\
-- Bounded waiting; row-level security must not hide rows from a copy (an error instead); a commit is on disk;
-- the names of types and of what a regclass points at are written in one way, and NULL in an array is read as one;
-- images and temporary tables are ordinary tables; memory for comparing some 100,000 rows. The search_path is noted for
-- event triggers: they find what they find after any other statement.
DO $settings$
BEGIN
    PERFORM pg_catalog.set_config('datafixes.search_path', pg_catalog.current_setting('search_path'), true);
    PERFORM pg_catalog.set_config('datafixes.' OPERATOR(pg_catalog.||) pinned.name, pg_catalog.current_setting(pinned.name), true), pg_catalog.set_config(pinned.name, pinned.value, true)
       FROM (VALUES
        {pinned}) AS pinned (name, value)
      WHERE pg_catalog.current_setting(pinned.name, true) IS NOT NULL;
END
$settings$"""


def _end(fuse: str) -> str:
    # synchronous_commit counts when the transaction commits, and ends with it.
    pinned = ", ".join(f"('{name}')" for name in _PINNED if name != "synchronous_commit")
    return f"""\
-- The settings as they were: other migrations may follow in this transaction. The outcome is told here and not in the
-- block: drivers that read a notice may lose the Ctrl-C that waits for a statement to end. The fuse goes out only where
-- the block has finished; it and the functions would stay in the session, which may be a pooler's.
DO $end$
DECLARE
    function pg_catalog.regprocedure;
BEGIN
    IF pg_catalog.current_setting('datafixes.told', true) OPERATOR(pg_catalog.<>) '' THEN
        RAISE NOTICE '%', pg_catalog.current_setting('datafixes.told');
        PERFORM pg_catalog.set_config('datafixes.told', '', true);
    END IF;
    PERFORM pg_catalog.set_config(pinned.name, pg_catalog.current_setting('datafixes.' OPERATOR(pg_catalog.||) pinned.name), true)
       FROM (VALUES {pinned}) AS pinned (name)
      WHERE pg_catalog.current_setting(pinned.name, true) IS NOT NULL;
    FOR function IN SELECT p.oid FROM pg_catalog.pg_proc AS p WHERE p.pronamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()
                       AND pg_catalog.starts_with(p.proname, 'datafix_') LOOP
        EXECUTE pg_catalog.concat('DROP FUNCTION ', function);
    END LOOP;
    IF pg_catalog.strpos(pg_catalog.current_setting('datafixes.finished', true), {literal.text(f"<{fuse}>")}) OPERATOR(pg_catalog.>) 0
       AND EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE name OPERATOR(pg_catalog.=) {_cursor(fuse)}) THEN
        EXECUTE pg_catalog.format('CLOSE %I', {_cursor(fuse)});
    END IF;
END
$end$"""


def _functions_called_by(block: str) -> tuple[str, ...]:
    """The engine's functions that a block needs, in the order in which they stand in the engine's files."""
    library = _library()
    needed: set[str] = set()
    waiting = set(_CALL.findall(block))
    while waiting:
        name = waiting.pop()
        if name not in needed and name in library:
            needed.add(name)
            waiting |= set(_CALL.findall(library[name]))
    return tuple(text for name, text in library.items() if name in needed)


@cache
def _library() -> dict[str, str]:
    functions: dict[str, str] = {}
    for file in _FILES:
        source = resources.files("datafixes.script").joinpath(file).read_text("ascii")
        for chunk in re.split(r"(?<=\n\$engine\$;)\n", source):
            if found := _FUNCTION.search(chunk):
                functions[found[1]] = chunk[_start(chunk, found.start()) :].strip().removesuffix(";")
    return functions


def _start(chunk: str, position: int) -> int:
    """Where the comment right above a function begins."""
    blank = chunk.rfind("\n\n", 0, position)
    return 0 if blank < 0 else blank
