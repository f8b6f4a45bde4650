"""The script that takes a fix back: by its images, whatever they are images of."""

from collections.abc import Mapping, Sequence

from datafixes.declaration.expressions import Value
from datafixes.declaration.fix import DataFix
from datafixes.declaration.recorded import Fix
from datafixes.declaration.table import Table
from datafixes.script import literal
from datafixes.script.context import Context, declared
from datafixes.script.frame import Limits, Script, frame
from datafixes.script.layout import run

_BLOCK = """
DECLARE
    fix      jsonb;
    restored bigint;
BEGIN
    -- One fix at a time; this revision and no other; applied and not yet reverted; the images and the tables are as
    -- they were. NULL: the fix changed nothing when it ran, so there is nothing to give back.
    fix := pg_temp.datafix_open_revert({declaration}, {version_table});
    IF fix IS NULL THEN
        RETURN;
    END IF;

{chosen}    -- Lock the rows, and compare each column as the fix found it, as the fix left it and as it is now. Whoever changed
    -- a value since must not lose it.
    fix := pg_temp.datafix_compare(fix);{identity}
    PERFORM pg_temp.datafix_settle_conflicts(fix);

    -- Copy before the change: a revert adds images like any other run, so that it can be reverted too.
    PERFORM pg_temp.datafix_copy_restored(fix, 'before');

    -- Take back what was inserted, restore what was changed, insert again what was deleted: in one statement, at the end
    -- of which foreign keys are checked.
    EXECUTE pg_temp.datafix_restore_sql(fix) INTO restored;

    -- The proof: deferred constraints hold, the rows as they are now are copied, and every value is back.
    EXECUTE pg_temp.datafix_constraints(fix, 'IMMEDIATE');
    EXECUTE pg_temp.datafix_constraints(fix, 'DEFERRED');
    PERFORM pg_temp.datafix_copy_restored(fix, 'after');
    PERFORM pg_temp.datafix_check_restored(fix, restored);
    -- Whatever triggers did elsewhere has no copy.
    PERFORM pg_temp.datafix_check_nothing_else(fix);
    PERFORM pg_temp.datafix_close(fix, 'reverted', restored);
END
"""

_IDENTITY = """
    -- A key alone is no proof of identity: a row that somebody put under one of these keys since is not ours (C31).
    PERFORM pg_temp.datafix_keep_left({one});
    EXECUTE pg_temp.datafix_sql({one}, {then});
    EXECUTE pg_temp.datafix_sql({one}, {now});
    PERFORM pg_temp.datafix_mark_others({one});"""


def revert_script(fix: Fix, context: Context, limits: Limits) -> Script:
    """The script that reverts the last run of a fix, whole: guards, comparison, copy, restoration, proof, ledger."""
    facts = declared(fix, context) | {"change": "revert", "set": [], "on_conflict": context.on_conflict}
    if context.undoes:
        facts["undoes"] = context.undoes
    if context.chosen is not None:
        facts["rows_chosen"] = _chosen_as_text(context.chosen)
    block = _BLOCK.format(
        chosen="" if context.chosen is None else _chosen(fix, context.chosen),
        declaration=literal.json_body(facts, "fix"),
        version_table=context.version_table_oid,
        identity="".join(
            _identity(number, table) for number, table in enumerate(fix.tables, 1) if table.identity
        ),
    )
    kind = "" if isinstance(fix, DataFix) else "recorded "
    title = f"{kind}datafix {fix.name}: revert" + (
        f", revision {context.revision}" if context.revision else ""
    )
    return frame(f"{title}\n{fix.reason}", f"revert {fix.name}", block, limits)


def _chosen(fix: Fix, chosen: Mapping[str, Sequence[tuple[Value, ...]]]) -> str:
    """Names the rows, in the types of the key."""
    lines = ["    -- Some of the rows, and no others."]
    for number, table in enumerate(fix.tables, 1):
        one = f"pg_temp.datafix_table(fix, {number})"
        if table.table not in chosen:
            lines.append(run("EXECUTE", "DELETE FROM pg_temp.datafix_pair_{{n}}", one) + ";")
            continue
        name = literal.qualified(table.schema, table.table)
        statement = f"CREATE TEMP TABLE datafix_chosen_{{{{n}}}} ON COMMIT DROP AS\nSELECT {{{{target.key}}}} FROM {name} WITH NO DATA"
        keys = [f"({', '.join(literal.value(part) for part in key)})" for key in chosen[table.table]]
        lines += [
            f"    PERFORM pg_temp.datafix_check_keyed({one});",
            run("EXECUTE", statement, one) + ";",
            f"    INSERT INTO pg_temp.datafix_chosen_{number} VALUES {', '.join(keys)};",
            f"    PERFORM pg_temp.datafix_choose({one});",
        ]
    return "\n".join(lines) + "\n\n"


def _chosen_as_text(chosen: Mapping[str, Sequence[tuple[Value, ...]]]) -> str:
    keys = {table: ", ".join("/".join(map(str, key)) for key in keys) for table, keys in chosen.items()}
    return next(iter(keys.values())) if len(keys) == 1 else "; ".join(f"{t}: {k}" for t, k in keys.items())


def _identity(number: int, table: Table) -> str:
    """What tells the rows apart, evaluated on them as the fix left them and as they are."""
    name, alias = literal.qualified(table.schema, table.table), literal.name(table.table)
    columns = ", ".join(
        [
            "{{target.key}}",
            *(f"({text}\n) AS {literal.name(name)}" for name, text in table.identity.items()),
        ]
    )
    select = "\n        CREATE TEMP TABLE datafix_{}_{{{{n}}}} ON COMMIT DROP AS SELECT {} FROM {}{}\n    "
    known = (
        "\n         WHERE EXISTS (SELECT FROM pg_temp.datafix_pair_{{n}} AS datafix_pair"
        " WHERE {{datafix_pair.key = target.key}})"
    )
    return _IDENTITY.format(
        one=f"pg_temp.datafix_table(fix, {number})",
        then=literal.body(select.format("then", columns, f"pg_temp.datafix_left_{{{{n}}}} AS {alias}", "")),
        now=literal.body(select.format("now", columns, name, known)),
    )
