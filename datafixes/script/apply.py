"""The script that applies a fix: a PL/pgSQL block that reads from top to bottom."""

from datafixes.declaration.expressions import sql
from datafixes.declaration.fix import DataFix, Delete, Insert, Update
from datafixes.script import arrival, literal
from datafixes.script.context import Context, declared
from datafixes.script.expected import actual_rows, expected_rows, identities, wanted_values
from datafixes.script.frame import Limits, Script, frame
from datafixes.script.layout import bracketed, indented, listed, own, run
from datafixes.script.masking import without_values

# The functions for updates, deletes and inserts: the same in every script of a declared fix.
_ENGINE = (
    "apply.sql",
    "datafix_check_nothing_else",
    "datafix_close",
    "datafix_constraints",
    "datafix_copy",
    "datafix_fail",
    "datafix_watch",
)

_CAPTURED = "{{captured}}"
_EXPECTED = "{{expected}}"


def apply_script(fix: DataFix, context: Context, limits: Limits) -> Script:
    """The whole script that applies a fix: guards, copy, change, checks and ledger."""
    title = title_of(fix, context)
    steps = _insert_steps(fix, fix.change) if isinstance(fix.change, Insert) else _change_steps(fix)
    block = "\n".join(
        [
            "",
            "DECLARE",
            "    fix     jsonb;     -- the engine's facts: this run, the table, its columns and its key",
            "    copied  bigint;",
            "    changed bigint;",
            "    after   bigint;",
            "BEGIN",
            *_opening(fix, context),
            "",
            *steps,
            "END",
            "",
        ]
    )
    block = without_values(block, context.masks)
    return frame(f"{title}\n{fix.reason}", f"apply {fix.name}", block, limits, *_ENGINE)


def title_of(fix: DataFix, context: Context) -> str:
    """The title of a script that applies a fix."""
    return f"datafix {fix.name}: apply" + (f", revision {context.revision}" if context.revision else "")


def facts(fix: DataFix, context: Context) -> str:
    """The facts of a run of the fix, for the engine."""
    known = declared(fix, context, f"apply {fix.name}") | {
        "change": fix.kind,
        "set": list(fix.change.set) if isinstance(fix.change, Update) else [],
        "tolerance": fix.rows.tolerance,
        "already_at_most": fix.rows.already_at_most,
        "required": fix.rows.required,
        "times_without_zone": list(fix.times_without_zone),
        **({"batches": fix.batches.facts} if fix.batches else {}),
    }
    return literal.json_body(known, "fix")


def _opening(fix: DataFix, context: Context) -> list[str]:
    known, version_table = facts(fix, context), context.version_table_oid
    comment = "-- One fix at a time; only at this revision; the table can be copied; the fix is not in force."
    if fix.batches is None:
        return [f"    {comment}", f"    fix := pg_temp.datafix_open({known},\n        {version_table});"]
    table = literal.qualified(fix.change.schema, fix.change.table)
    late = f"INSERT INTO pg_temp.datafix_late\nSELECT {{{{target.key}}}} FROM {table} WHERE {condition(fix)}"
    return [
        "    -- Where the fix ran in batches, this is its last transaction: all ranges are done. It changes the rows that began",
        "    -- to meet the condition meanwhile. Where there are no more rows than a batch has, it changes all.",
        f"    fix := pg_temp.datafix_open_last({known},\n        {version_table});",
        "    IF fix ? 'part_of' THEN",
        f"    {run('EXECUTE', late)};",
        "        fix := pg_temp.datafix_take_late(fix);",
        "        IF fix IS NULL THEN",
        "            RETURN;",
        "        END IF;",
        "    END IF;",
    ]


def captured(fix: DataFix) -> str:
    """The condition of the copied rows. In a batch they are neighbours, which PostgreSQL cannot see from their keys."""
    return f"{{{{range}}}}\n   AND {_CAPTURED}" if fix.batches else _CAPTURED


def condition(fix: DataFix) -> str:
    """The condition of an update or a delete that names no rows."""
    change = fix.change
    return bracketed(change.where) if isinstance(change, Update | Delete) else "true"


WATCH = [
    "    -- From here on, every change in any table counts as the fix's.",
    "    PERFORM pg_temp.datafix_watch();",
    "",
]


def _change_steps(fix: DataFix) -> list[str]:
    table = literal.qualified(fix.change.schema, fix.change.table)
    named = fix.rows.names_rows
    return [
        *(expected_rows(fix, table) if named else []),
        *wanted_values(fix, table),
        "    PERFORM pg_temp.datafix_prepare_captured(fix);",
        *(actual_rows(fix, table) if named else []),
        *WATCH,
        "    -- Lock and copy the rows in one statement: exactly the copied rows will be changed.",
        copied(fix, table, "before", _selection(fix, named), lock=True),
        "    fix := pg_temp.datafix_note_captured(fix, copied);",
        "",
        *(_judge_named(fix, table) if named else _judge_number(fix, table)),
        *the_change(fix, table),
        *proof(fix, table),
        *(["    PERFORM pg_temp.datafix_close_batches(fix);"] if fix.batches else []),
    ]


def _audit(fix: DataFix) -> str:
    return literal.qualified(fix.schema_of_audit, fix.audit)


def _selection(fix: DataFix, named: bool) -> str:
    change = fix.change
    conditions = ["{{range}}"] if fix.batches and not named else []
    if isinstance(change, Update | Delete) and change.where.strip():
        conditions.append(bracketed(change.where))
    if fix.rows.already:
        conditions.append(f"{bracketed(fix.rows.already)} IS NOT TRUE")
    if named:
        return "\n   AND ".join(["{{where_expected}}", *conditions])
    return "WHERE " + "\n   AND ".join(conditions)


def copied(fix: DataFix, table: str, image: str, where: str, *, lock: bool = False) -> str:
    """The line that copies rows of a table into the audit table."""
    columns = "columns" if image == "before" else "left"
    statement = (
        f"INSERT INTO {_audit(fix)} ({{{{{columns}}}}}, audit_run_id, audit_image)\n"
        f"SELECT {{{{target.{columns}}}}}, {{{{run}}}}, '{image}'\n"
        f"  FROM {table}\n"
        f" {where}" + ("\n {{locked}}" if lock else "")
    )
    variable = "copied" if image == "before" else "after"
    return f"    {variable} := pg_temp.datafix_copy(pg_temp.datafix_sql(fix, {literal.body(indented(statement))}));"


def _judge_named(fix: DataFix, table: str) -> list[str]:
    where = fix.change.where if isinstance(fix.change, Update | Delete) else ""
    columns = ["{{target.key}}", *(text for _, text in identities(fix))]
    columns.append(f"{bracketed(where.strip() or 'true')} IS TRUE")
    columns.append(f"{bracketed(fix.rows.already or 'false')} IS TRUE")
    separator = ",\n       "
    statement = (
        f"INSERT INTO pg_temp.datafix_actual\nSELECT {separator.join(columns)}\n  FROM {table}\n"
        f" WHERE {_EXPECTED}"
    )
    return [
        "    -- The rows with the expected keys. Either these are exactly the expected rows, or nothing is changed; if none",
        "    -- of them exists, the fix is not applicable in this database.",
        run("EXECUTE", statement) + ";",
        "    IF NOT pg_temp.datafix_found_the_rows(fix) THEN",
        "        RETURN;",
        "    END IF;",
        "",
    ]


def _judge_number(fix: DataFix, table: str) -> list[str]:
    where = fix.change.where if isinstance(fix.change, Update | Delete) else ""
    steps = [
        "    -- The number of rows is as expected, or nothing is changed; if there are none, the fix is not applicable.",
        "    IF NOT pg_temp.datafix_found_the_number(fix, copied) THEN",
        "        RETURN;",
        "    END IF;",
        "",
    ]
    if where.strip().lower() != "true":
        statement = f"SELECT pg_catalog.count(*) FROM {table}\n WHERE {captured(fix)}\n   AND {bracketed(where)} IS NOT TRUE"
        steps += [
            "    -- Check the condition again: other tables that it reads may have changed before the rows were locked.",
            run("EXECUTE", statement) + " INTO after;",
            f"    PERFORM pg_temp.datafix_check_ensured(fix, after, {literal.text(where)});",
            "",
        ]
    return steps


def the_change(fix: DataFix, table: str) -> list[str]:
    """The lines that change the copied rows."""
    statement = f"DELETE FROM {table}\n WHERE {captured(fix)}"
    if isinstance(fix.change, Update):
        settings = ",\n       ".join(
            f"{literal.name(name)} = {own(literal.value(value))}" for name, value in fix.change.set.items()
        )
        statement = f"UPDATE {table}\n   SET {settings}\n WHERE {captured(fix)}"
    return [
        "    -- The change, on the copied rows only.",
        "    PERFORM pg_temp.datafix_check_cascades(fix);",
        run("EXECUTE", statement) + ";",
        "    GET DIAGNOSTICS changed = ROW_COUNT;",
        "    PERFORM pg_temp.datafix_check_changed(fix, copied, changed);",
        "",
    ]


def _insert_steps(fix: DataFix, change: Insert) -> list[str]:
    table = literal.qualified(change.schema, change.table)
    columns = list(change.rows[0])
    rows = ",\n       ".join(
        f"({', '.join(own(literal.value(row[name])) for name in columns)})" for row in change.rows
    )
    insert = (
        f"WITH datafix_row AS (\nINSERT INTO {table} ({listed(map(literal.name, columns), 8)})\nVALUES {rows}\nRETURNING {{{{target.key}}}})\n"
        "INSERT INTO pg_temp.datafix_captured SELECT {{datafix_row.key}} FROM datafix_row"
    )
    return [
        "    PERFORM pg_temp.datafix_prepare_captured(fix);",
        *WATCH,
        *_meant(change),
        *(_lock(table) if fix.rows.ensure.strip() else []),
        "    -- The new rows, and their keys.",
        *arrival.check(table, change.rows),
        run("EXECUTE", insert) + ";",
        "    GET DIAGNOSTICS changed = ROW_COUNT;",
        f"    PERFORM pg_temp.datafix_check_changed(fix, {len(change.rows)}, changed);",
        "",
        *proof(fix, table),
    ]


def _lock(table: str) -> list[str]:
    return [
        "    -- No other transaction may add rows meanwhile, because the post-condition would not see them.",
        f"    LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE;",
        "",
    ]


def _meant(change: Insert) -> list[str]:
    if not change.where.strip():
        return []
    question = run("EXECUTE", f"SELECT CASE WHEN {bracketed(change.where)} THEN 1 ELSE 0 END")
    return [
        "    -- Only in the database that the rows are for; in any other, the fix is not applicable.",
        f"{question} INTO copied;",
        f"    IF NOT pg_temp.datafix_is_meant(fix, copied = 1, {literal.text(change.where)}) THEN",
        "        RETURN;",
        "    END IF;",
        "",
    ]


def proof(fix: DataFix, table: str) -> list[str]:
    """The lines that prove the change, and close the run."""
    if fix.kind == "delete":
        after = [
            run("EXECUTE", f"SELECT pg_catalog.count(*) FROM {table}\n WHERE {captured(fix)}")
            + " INTO after;"
        ]
    else:
        where = "{{where_captured}}" + ("\n   AND {{range}}" if fix.batches else "")
        after = [copied(fix, table, "after", where)]
    steps = [
        "    -- Checks: deferred constraints hold; what was written is copied into the audit table, and is as declared.",
        "    EXECUTE pg_temp.datafix_constraints(fix, 'IMMEDIATE');",
        "    EXECUTE pg_temp.datafix_constraints(fix, 'DEFERRED');",
        *after,
        "    PERFORM pg_temp.datafix_check_after(fix, changed, after);",
        "    -- No other rows changed: changes by triggers elsewhere have no copy.",
        "    PERFORM pg_temp.datafix_check_nothing_else(fix);",
    ]
    if isinstance(fix.change, Update) and any(
        not isinstance(value, sql) for value in fix.change.set.values()
    ):
        steps.append("    PERFORM pg_temp.datafix_check_wanted(fix);")
    if fix.rows.ensure:
        statement = f"SELECT pg_catalog.count(*) FROM {table}\n WHERE {captured(fix)}\n   AND {bracketed(fix.rows.ensure)} IS NOT TRUE"
        steps.append(run("EXECUTE", statement) + " INTO after;")
        steps.append(
            f"    PERFORM pg_temp.datafix_check_ensured(fix, after, {literal.text(fix.rows.ensure)});"
        )
    return [*steps, "    PERFORM pg_temp.datafix_close(fix, 'applied', changed);"]
