"""The scripts of a fix in batches.

The first one opens its run, in a transaction of its own. Then one statement is repeated until no range is left: it makes
one batch after the other, each in a transaction, for a few seconds. The last transaction is that of the ordinary script
(:mod:`datafixes.script.apply`), which also moves the version.
"""

import hashlib
from collections.abc import Sequence

from datafixes import __version__
from datafixes.declaration.fix import DataFix
from datafixes.declaration.recorded import Fix
from datafixes.script import literal
from datafixes.script.apply import WATCH, captured, condition, copied, facts, proof, the_change, title_of
from datafixes.script.context import Context
from datafixes.script.engine import called_by, engine_of
from datafixes.script.expected import wanted_values
from datafixes.script.frame import Limits, Script, finished, frame, pinned, procedure
from datafixes.script.layout import run
from datafixes.script.masking import without_values
from datafixes.script.tables import RANGES

_SECONDS = 20
"""So long one statement makes batches. Autovacuum sees what it did only afterwards; in psql and behind a pooler, a shorter
one makes the engine anew more often."""

NEXT_KEYS = """\
SELECT {{{{target.key}}}}
  FROM {table}
 WHERE {{{{range}}}}
   AND {condition}
 ORDER BY {{{{order}}}}
 LIMIT {{{{size}}}}"""
"""The keys of the rows of a batch: of the next ones in its range."""

_NEXT = f"INSERT INTO pg_temp.datafix_next\n{NEXT_KEYS}"

_END = """\
INSERT INTO pg_temp.datafix_next
SELECT {{{{target.key}}}}
  FROM {table}
 WHERE {condition}
 ORDER BY {{{{order}}}}
 LIMIT 1"""


def opening_script(fix: DataFix, context: Context, limits: Limits) -> Script:
    """The script that opens the run of a fix in batches, in a transaction of its own; or goes on with it."""
    table = literal.qualified(fix.change.schema, fix.change.table)
    count = f"SELECT pg_catalog.count(*) FROM {table}\n WHERE {condition(fix)}"
    end = _END.format(table=table, condition=condition(fix))
    block = "\n".join(
        [
            "",
            "DECLARE",
            "    fix     jsonb;",
            "    counted bigint;",
            "BEGIN",
            "    -- Only at this revision; the table can be copied, in the order of its key; the fix is not in force. NULL: its",
            "    -- run goes on.",
            f"    fix := pg_temp.datafix_open_batches({facts(fix, context)},\n        {context.version_table_oid});",
            "    IF fix IS NOT NULL THEN",
            "        -- The number of rows is as expected, or nothing is changed. A plan is bound to the keys of the first and the",
            "        -- last of them.",
            "    " + run("EXECUTE", count) + " INTO counted;",
            "    " + run("EXECUTE", end) + ";",
            "    " + run("EXECUTE", end, "pg_temp.datafix_downwards(fix)") + ";",
            "        PERFORM pg_temp.datafix_begin_batches(fix, counted);",
            "    END IF;",
            f"    {finished(f'open {fix.name}')}",
            "END",
            "",
        ]
    )
    block = without_values(block, context.masks)
    return frame(f"{title_of(fix, context)}, in batches\n{fix.reason}", f"open {fix.name}", block, limits)


def batch_procedure(fix: DataFix, context: Context) -> str:
    """The procedure of one batch."""
    table = literal.qualified(fix.change.schema, fix.change.table)
    block = "\n".join([*_taking(fix, context, table), *_changing(fix, table), "END", ""])
    block = without_values(block, context.masks)
    return procedure("datafix_batch", block, "INOUT batch jsonb")


def _taking(fix: DataFix, context: Context, table: str) -> list[str]:
    return [
        "",
        "DECLARE",
        "    fix     jsonb;     -- the engine's facts: this batch, the table, its columns and its key",
        "    counted bigint;",
        "    copied  bigint;",
        "    changed bigint;",
        "    after   bigint;",
        "BEGIN",
        "    -- Only at this revision; a range of keys that nobody works on, and whose row is locked until the batch ends.",
        f"    fix := pg_temp.datafix_take_range({facts(fix, context)},\n        {context.version_table_oid}, batch);",
        "    batch := fix -> 'batch';",
        "    IF NOT fix ? 'range' THEN",
        "        RETURN;",
        "    END IF;",
        "",
        "    -- The next rows of the range, in the order of the key. The batch ends with the last of them.",
        run("EXECUTE", _NEXT.format(table=table, condition=condition(fix))) + ";",
        "    GET DIAGNOSTICS counted = ROW_COUNT;",
        "    fix := pg_temp.datafix_open_batch(fix, counted);",
        "    IF counted = 0 THEN",
        "        batch := pg_temp.datafix_end_batch(fix, 0);",
        "        RETURN;",
        "    END IF;",
        "",
    ]


def _changing(fix: DataFix, table: str) -> list[str]:
    return [
        *wanted_values(fix, table),
        "    PERFORM pg_temp.datafix_prepare_captured(fix);",
        *WATCH,
        "    -- Lock and copy the rows in one statement: exactly the copied rows will be changed.",
        copied(fix, table, "before", f"WHERE {{{{range}}}}\n   AND {condition(fix)}", lock=True),
        "    fix := pg_temp.datafix_note_captured(fix, copied);",
        "    IF NOT pg_temp.datafix_found_in_batch(fix, copied) THEN",
        "        batch := pg_temp.datafix_end_batch(fix, 0);",
        "        RETURN;",
        "    END IF;",
        "",
        *the_change(fix, table),
        *_no_longer(fix, table),
        *proof(fix, table),
        "    batch := pg_temp.datafix_end_batch(fix, changed);",
    ]


def _no_longer(fix: DataFix, table: str) -> list[str]:
    if fix.kind == "delete" or fix.batches is None or not fix.batches.keys_move:
        return []
    statement = f"SELECT pg_catalog.count(*) FROM {table}\n WHERE {captured(fix)}\n   AND {condition(fix)}"
    return [
        "    -- The condition is false now: a row whose key somebody moves ahead is not changed twice.",
        run("EXECUTE", statement) + " INTO after;",
        f"    PERFORM pg_temp.datafix_check_no_longer(fix, after, {literal.text(fix.change.where)});",
        "",
    ]


def work_statement(fix: DataFix, context: Context, limits: Limits) -> str:
    """The statement that makes batches for a few seconds. It is sent again until no range is left.

    Everything that it needs is in it, because behind a pooler each statement may come to another connection.
    """
    return repeated(fix, batch_procedure(fix, context), limits, ENGINE)


def repeated(fix: Fix, own: str, limits: Limits, roots: Sequence[str]) -> str:
    """The statement that calls ``datafix_batch`` for a few seconds.

    Args:
        fix: the fix.
        own: the statement that creates that procedure.
        limits: the time-outs of a batch.
        roots: the engine's files and functions that batches of this kind may call.
    """
    engine = engine_of("batches.sql", *roots, *sorted(called_by(own)))
    made = "\n".join(
        f"            EXECUTE {literal.body(f'{chr(10)}{text}{chr(10)}', 'create')};"
        for text in (own, *engine.functions.values())
    )
    mark = f"of {hashlib.sha256(made.encode()).hexdigest()[:32]}"
    return _WORK.format(
        seconds=_SECONDS,
        mark=literal.text(mark),
        marked=literal.name(mark),
        name=literal.text(f"datafixes {fix.name[:30]}, run"),
        ranges=literal.qualified(fix.schema_of_audit, RANGES),
        pinned=pinned(limits, enable_seqscan="off"),
        made=made,
        version=__version__,
        digest=engine.digest,
        count=len(engine.functions),
    )


ENGINE = (
    "apply.sql",
    "datafix_check_nothing_else",
    "datafix_close",
    "datafix_constraints",
    "datafix_copy",
    "datafix_fail",
    "datafix_watch",
)

_WORK = """\
-- Batches for {seconds} seconds. Each is a transaction of its own: its rows, their copies and how far it came are committed
-- together, or not at all. Repeat this statement until no range is left: it goes on where the last batch ended. A new audit
-- table has no statistics yet: without enable_seqscan = off, each batch would read all of it.
DO $work$
DECLARE
    path    pg_catalog.text := pg_catalog.current_setting('search_path');
    -- never more than half of what a statement may take
    ending  pg_catalog.timestamptz := pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) least(
                pg_catalog.make_interval(secs => {seconds}), nullif(CAST(pg_catalog.current_setting('statement_timeout')
                AS pg_catalog.interval), pg_catalog.make_interval()) OPERATOR(pg_catalog./) 2);
    began   pg_catalog.timestamptz;
    shown   pg_catalog.text := {name};    -- in pg_stat_activity
    batch   pg_catalog.jsonb := pg_catalog.jsonb_build_object(
                'worker', pg_catalog.concat('pid ', pg_catalog.pg_backend_pid()));
    code    pg_catalog.text;
    message pg_catalog.text;
    detail  pg_catalog.text;
    hint    pg_catalog.text;
BEGIN
    LOOP
        COMMIT;
        SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
        PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
        PERFORM set_config('datafixes.search_path', path, true), set_config('application_name', shown, true);
        PERFORM set_config(name, value, true)
           FROM (VALUES {pinned}) AS pinned (name, value)
          WHERE current_setting(name, true) IS NOT NULL AND name <> 'statement_timeout';
        IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('pg_temp.datafixes_engine')
                                                  AND attname = {mark}) THEN
            -- The batch, and the engine of datafixes {version} that it calls: {count} functions, sha256 {digest}.
            PERFORM set_config('search_path', concat_ws(', ', 'pg_catalog, pg_temp', nullif(path, '')), true);
            IF to_regclass('pg_temp.datafixes_engine') IS NOT NULL THEN     -- of another fix
                SET LOCAL client_min_messages = warning;
                DROP TABLE pg_temp.datafixes_engine CASCADE;
            END IF;
            CREATE TEMPORARY TABLE datafixes_engine ({marked} bool);
{made}
        END IF;
        PERFORM set_config('search_path', path, true);
        began := pg_catalog.clock_timestamp();
        code := NULL;
        BEGIN
            CALL pg_temp.datafix_batch(batch);
        EXCEPTION WHEN OTHERS OR QUERY_CANCELED THEN     -- a Ctrl-C, too: below, what this statement made is removed
            GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL,
                                    hint = PG_EXCEPTION_HINT;
        END;
        batch := pg_temp.datafix_after_batch(batch, pg_catalog.clock_timestamp() - began, code);
        shown := coalesce(batch OPERATOR(pg_catalog.->>) 'name', shown);
        COMMIT;
        -- A pause in slices: a transaction that sleeps would keep VACUUM from its work. Whoever follows the run sees by the
        -- name and the lock that somebody waits.
        FOR nap IN 1 .. CAST(batch OPERATOR(pg_catalog.->>) 'slices' AS pg_catalog.int4) LOOP
            BEGIN
                PERFORM pg_catalog.set_config('application_name', pg_catalog.concat(shown, ', waits'), true);
                LOCK TABLE {ranges} IN ROW SHARE MODE;
                PERFORM pg_catalog.pg_sleep(0.1);
            EXCEPTION WHEN QUERY_CANCELED THEN
                GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
                batch := pg_temp.datafix_after_batch(batch, pg_catalog.make_interval(), code);
            END;
            COMMIT;
            EXIT WHEN code OPERATOR(pg_catalog.=) '57014';
        END LOOP;
        EXIT WHEN NOT CAST(batch OPERATOR(pg_catalog.->>) 'goes_on' AS pg_catalog.bool)
                  OR code IS NULL AND pg_catalog.clock_timestamp() OPERATOR(pg_catalog.>) ending;
    END LOOP;
    -- A client that is not behind a pooler keeps them for its next statement, and removes them itself: what PostgreSQL
    -- compiled of a function stays in the memory of the session, also when the function is gone.
    IF pg_catalog.concat(pg_catalog.current_setting('datafixes.keeps_engine', true)) OPERATOR(pg_catalog.<>) 'on' THEN
        SET LOCAL client_min_messages = warning;
        DROP TABLE pg_temp.datafixes_engine CASCADE;
        DROP PROCEDURE pg_temp.datafix_batch;
    END IF;
    COMMIT;
    IF NOT CAST(batch OPERATOR(pg_catalog.->>) 'goes_on' AS pg_catalog.bool) AND code IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message, DETAIL = detail, HINT = hint;
    END IF;
END
$work$"""
