"""A script: the same text for the plan, for ``alembic upgrade --sql`` and for the server.

Every script has the same frame. That of a fix says READ COMMITTED, which must be before any query. Then comes the commit
fuse: from there on nothing can be committed unless the fix ran to its end, however the client handles an error. Time-outs are a separate statement, because they cannot be
changed from inside a statement. Then follow the fix, as a procedure; the engine that it calls; and the line that runs
it. The last statement resets the settings; of those named ``datafixes.*``, which end with the transaction, the session
keeps the names without values.
"""

import hashlib
import textwrap
from collections.abc import Collection
from dataclasses import dataclass

from datafixes import __version__
from datafixes.script import literal
from datafixes.script.engine import Engine, called_by, engine_of

# Settings that a fix changes for its transaction and resets afterwards. transaction_timeout exists from 17 on.
_FIXED = {
    "idle_in_transaction_session_timeout": "0",
    "transaction_timeout": "0",
    "row_security": "off",
    "synchronous_commit": "on",
    "quote_all_identifiers": "off",
    "array_nulls": "on",
    "default_table_access_method": "heap",
    "jit": "off",
    "citus.create_object_propagation": "deferred",  # else each function of the engine is a warning
}
_PINNED = ("lock_timeout", "statement_timeout", *_FIXED, "work_mem")

# Audit tables can be created in any transaction.
_OF_A_FIX = ("apply", "open", "revert", "decline")

_READ_COMMITTED = """\
-- Whatever the database prefers, because what is read after a lock must be current. It cannot follow a query.
SET TRANSACTION ISOLATION LEVEL READ COMMITTED"""

# Never less than in the session.
_ENOUGH_MEMORY = """('work_mem', CASE WHEN pg_size_bytes(current_setting('work_mem')) < pg_size_bytes('64MB')
                                     THEN '64MB' ELSE current_setting('work_mem') END)"""


@dataclass(frozen=True)
class Limits:
    """How long a script may wait and run, in PostgreSQL's notation: ``5s``, ``10min``, ``0`` for no limit."""

    lock_timeout: str = "5s"
    statement_timeout: str = "10min"


@dataclass(frozen=True)
class Script:
    """SQL statements in order, each to be sent separately and without parameters.

    Attributes:
        fuse: the name of the fuse: ``"apply NAME"`` or ``"revert NAME"``.
        before: of a fix, the isolation level; the fuse and the time-outs.
        own: the procedure of the fix; for a recording, also its other statements.
        engine: the functions that the procedure calls.
        run: the line that calls the procedure; it can be retried.
        after: resets the settings, drops the fix's own routines and closes the fuse.
        limits: the time-outs.
    """

    fuse: str
    before: tuple[str, ...]
    own: tuple[str, ...]
    engine: Engine
    run: str
    after: tuple[str, ...]
    limits: Limits

    @property
    def direction(self) -> str:
        """``apply`` or ``revert``, as in the ledger; for audit tables ``create`` or ``drop``."""
        first = self.fuse.split()[0]
        return "apply" if first in ("decline", "open") else first

    def preparation(self, sent: Collection[str] = ()) -> tuple[str, ...]:
        """The statements between those of ``before`` and the line that runs the fix.

        Args:
            sent: the engine's functions that this transaction already has.
        """
        return (*self.own, *self.engine.statements(sent))

    def statements(self, sent: Collection[str] = ()) -> tuple[str, ...]:
        """All statements, in order, without trailing semicolons."""
        return (*self.before, *self.preparation(sent), self.run, *self.after)

    @property
    def text(self) -> str:
        """The whole script, as printed."""
        return "".join(f"{statement};\n\n" for statement in self.statements())


def frame(title: str, fuse: str, block: str, limits: Limits, *roots: str) -> Script:
    """Put a block into the frame.

    Args:
        title: prose for the head of the script.
        fuse: the name of the fuse, ``"apply NAME"``; the block's last statement marks it as finished.
        block: the body of the fix, from DECLARE to the last statement before END.
        limits: the time-outs.
        roots: the engine's files and functions that blocks of this kind may call, so that all are the same.
    """
    engine = engine_of(*roots, *sorted(called_by(block)))
    opening = [_READ_COMMITTED] if fuse.split()[0] in _OF_A_FIX else []
    first, *rest = [*opening, _fuse(fuse), _pin(limits)]
    return Script(
        fuse=fuse,
        before=(f"{literal.comment(title)}\n\n{first}", *rest),
        own=(
            f"-- The fix. The line that calls it stands below, behind the engine.\n{procedure('datafix_run', block)}",
            *engine.of_triggers.values(),
        ),
        engine=engine,
        run=call("datafix_run", engine),
        after=(_end(fuse),),
        limits=limits,
    )


def procedure(name: str, block: str, arguments: str = "") -> str:
    """The statement that creates a procedure from a block."""
    opening = f"CREATE OR REPLACE PROCEDURE pg_temp.{name}({arguments}) LANGUAGE plpgsql"
    return f"{opening} AS {literal.body(block, 'datafix')}"


def finished(fuse: str) -> str:
    """The statement by which a block says that it ran to its end."""
    return (
        "PERFORM pg_catalog.set_config('datafixes.finished',\n"
        "        pg_catalog.concat(pg_catalog.current_setting('datafixes.finished', true),\n"
        f"                          {literal.text(f'<{fuse}>')}), true);"
    )


def call(name: str, engine: Engine) -> str:
    """The line that runs a procedure."""
    return f"-- With the engine of datafixes {__version__}, sha256 {engine.digest}:\nCALL pg_temp.{name}()"


def _cursor(fuse: str) -> str:
    """The name of the fuse's cursor."""
    name = f"datafixes {fuse}"
    if len(name.encode()) > 63:  # PostgreSQL would truncate it, and not find it again
        name = f"{name[:12]}{hashlib.sha256(fuse.encode()).hexdigest()[:32]}"
    return name


def _fuse(fuse: str) -> str:
    cursor, mark = _cursor(fuse), literal.text(f"<{fuse}>")
    message = literal.text(f"datafix {fuse} did not finish")
    declare = f"""
        DECLARE {literal.name(cursor)} NO SCROLL CURSOR WITH HOLD FOR
        SELECT CASE WHEN strpos(finished, {mark}) > 0 THEN 0
                    ELSE CAST(concat({message},
                         ': nothing of this transaction is committed', left(finished, 0)) AS integer) END
          FROM current_setting('datafixes.finished', true) AS finished
    """
    return f"""\
-- The commit fuse: a cursor that PostgreSQL reads when the transaction commits, and that fails there unless the fix
-- below has finished. It needs no table and no privilege, and no client can skip it. The last statement closes it.
DO $fuse$
DECLARE
    path     pg_catalog.text := pg_catalog.current_setting('search_path');
    finished pg_catalog.text := pg_catalog.current_setting('datafixes.finished', true);
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    IF EXISTS (SELECT FROM pg_cursors WHERE name = {literal.text(cursor)}) THEN
        EXECUTE {literal.body(f"CLOSE {literal.name(cursor)}", "cursor")};
    END IF;
    PERFORM set_config('datafixes.finished',
                       replace(coalesce(finished, ''), {mark}, ''), true);
    EXECUTE {literal.body(declare, "cursor")};
    PERFORM set_config('search_path', path, true);
END
$fuse$"""


def commit_guard(fuses: Collection[str]) -> tuple[str, str]:
    """The statements right before the COMMIT of a printed script, behind the UPDATE of the version.

    They are for a runner that goes on after an error, which may have lost a fuse with the rest of a transaction: its
    UPDATE of the version is not committed. The first one holds where the second one is cut into pieces.

    Args:
        fuses: the fuses of all scripts in the transaction.
    """
    unfinished = f"""\
FROM (VALUES {", ".join(f"({literal.text(fuse)})" for fuse in fuses)}) AS expected (fuse)
 WHERE pg_catalog.strpos(pg_catalog.concat(pg_catalog.current_setting('datafixes.finished', true)),
                         pg_catalog.concat('<', fuse, '>')) OPERATOR(pg_catalog.=) 0"""
    return (
        f"""\
-- Nothing is committed, the new version included, unless all of these have finished in this transaction.
DECLARE "datafixes commit" NO SCROLL CURSOR WITH HOLD FOR
SELECT CAST(pg_catalog.concat('datafix ', fuse, ' did not finish: nothing of this transaction is committed')
            AS pg_catalog.int4)
  {unfinished}""",
        f"""\
DO $commit$
BEGIN
    IF NOT EXISTS (
        SELECT {textwrap.indent(unfinished, " " * 8).strip()}) THEN
        EXECUTE 'CLOSE "datafixes commit"';
    END IF;
END
$commit$""",
    )


def pinned(limits: Limits, **more: str) -> str:
    """The settings of a fix and their values, and more of them, as rows of VALUES."""
    values = {
        "lock_timeout": limits.lock_timeout,
        "statement_timeout": limits.statement_timeout,
        **_FIXED,
        **more,
    }
    pairs = [f"({literal.text(name)}, {literal.text(value)}), " for name, value in values.items()]
    lines = ("".join(pairs[n : n + 2]).rstrip() for n in range(0, len(pairs), 2))
    fixed = "".join(f"{line}\n                    " for line in lines)
    return f"{fixed}{_ENOUGH_MEMORY}"


def _pin(limits: Limits) -> str:
    return f"""\
-- Time limits; row-level security is an error and hides no rows; a commit is durable; types, regclass, NULL in arrays
-- have one form; new tables are heap tables; no query is compiled just in time, which takes seconds; memory for 100,000
-- rows; the search_path is noted, for event triggers.
DO $settings$
DECLARE
    path pg_catalog.text := pg_catalog.current_setting('search_path');
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    PERFORM set_config('datafixes.search_path', path, true);
    PERFORM set_config('datafixes.' || name, current_setting(name), true), set_config(name, value, true)
       FROM (VALUES {pinned(limits)}) AS pinned (name, value)
      WHERE current_setting(name, true) IS NOT NULL;
    PERFORM set_config('search_path', path, true);
END
$settings$"""


def _end(fuse: str) -> str:
    cursor = _cursor(fuse)
    # synchronous_commit takes effect when the transaction commits, and ends with it.
    names = [literal.text(name) for name in _PINNED if name != "synchronous_commit"]
    pinned = ",\n                         ".join(", ".join(names[n : n + 3]) for n in range(0, len(names), 3))
    return f"""\
-- Reset the settings, because other migrations may follow in this transaction. Report the outcome here and not in the
-- fix, because a driver that reads a notice may lose a Ctrl-C that waits for the end of a statement. Drop the fix's own
-- routines and close the fuse of a finished fix: they would stay in the session, which may be a pooler's.
DO $end$
DECLARE
    path pg_catalog.text := pg_catalog.current_setting('search_path');
    own  pg_catalog.regprocedure;
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    IF current_setting('datafixes.told', true) <> '' THEN
        RAISE NOTICE '%', current_setting('datafixes.told');
        PERFORM set_config('datafixes.told', '', true);
    END IF;
    PERFORM set_config(name, current_setting('datafixes.' || name), true)
       FROM unnest(ARRAY[{pinned}]) AS pinned (name)
      WHERE current_setting(name, true) IS NOT NULL;
    IF strpos(current_setting('datafixes.finished', true), {literal.text(f"<{fuse}>")}) > 0
       AND EXISTS (SELECT FROM pg_cursors WHERE name = {literal.text(cursor)}) THEN
        EXECUTE {literal.body(f"CLOSE {literal.name(cursor)}", "cursor")};
    END IF;
    PERFORM set_config('search_path', path, true);
    FOR own IN SELECT oid FROM pg_catalog.pg_proc
                WHERE pronamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()
                  AND pg_catalog.starts_with(proname, 'datafix_') AND pronargs OPERATOR(pg_catalog.=) 0 LOOP
        EXECUTE pg_catalog.concat('DROP ROUTINE ', own);
    END LOOP;
END
$end$"""
