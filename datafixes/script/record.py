"""The scripts of a recorded fix: opening and closing the recording, or both in one block around plain SQL."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from datafixes.declaration.recorded import RecordedFix
from datafixes.declaration.rows import names_rows
from datafixes.declaration.table import KINDS, Table
from datafixes.script import arrival, literal
from datafixes.script.context import Context, declared
from datafixes.script.frame import Limits, Script, call, frame, procedure
from datafixes.script.layout import bracketed, listed, run
from datafixes.script.masking import without_values

_ENGINE = (
    "record.sql",
    "datafix_check_arrival",
    "datafix_check_ensured",
    "datafix_close",
    "datafix_fail",
    "datafix_sql",
    "datafix_table",
)


@dataclass(frozen=True)
class Recording:
    """The scripts before and after the statements of a fix.

    Attributes:
        opening: runs the guards, opens the run and begins to record.
        closing: writes the images, checks them, closes the run and resets the settings.
    """

    opening: Script
    closing: Script


def recording(fix: RecordedFix, context: Context, limits: Limits) -> Recording:
    """The two scripts between which the statements of a fix run."""
    whole = _framed(fix, context, limits, "")
    opening, closing = (
        without_values("\n".join([*lines, "END", ""]), context.masks)
        for lines in (
            ["", "DECLARE", "    fix jsonb;", "BEGIN", *_opening(fix, context)],
            [*_DECLARATIONS, "BEGIN", *_closing(fix)],
        )
    )
    # Both procedures are created before the recording begins, because an event trigger may log their creation.
    own = (procedure("datafix_run", opening), procedure("datafix_prove", closing), *whole.own[1:])
    return Recording(
        opening=replace(whole, own=own, after=()),
        closing=replace(whole, before=(), own=(), run=call("datafix_prove", whole.engine)),
    )


def recorded_script(fix: RecordedFix, statements: Sequence[str], context: Context, limits: Limits) -> Script:
    """One script with the statements in it, atomic like that of a declared fix."""
    return _framed(
        fix,
        context,
        limits,
        "\n".join(
            [
                "    -- The statements of the fix.",
                *(
                    f"    EXECUTE {literal.body(_on_lines(statement), 'statement')};"
                    for statement in statements
                ),
                "",
            ]
        ),
    )


_DECLARATIONS = [
    "",
    "DECLARE",
    "    fix     jsonb;     -- the engine's facts: this run, its tables, their columns and keys",
    "    one     jsonb;     -- one of the tables",
    "    failing bigint;",
    "    holds   boolean;",
]


def _framed(fix: RecordedFix, context: Context, limits: Limits, statements: str) -> Script:
    title = f"recorded datafix {fix.name}: apply" + (
        f", revision {context.revision}" if context.revision else ""
    )
    block = "\n".join(
        [*_DECLARATIONS, "BEGIN", *_opening(fix, context), "", statements, *_closing(fix), "END", ""]
    )
    block = without_values(block, context.masks)
    return frame(f"{title}\n{fix.reason}", f"apply {fix.name}", block, limits, *_ENGINE)


def _on_lines(statement: str) -> str:
    return f"\n{statement}\n    " if "\n" in statement else statement


def _opening(fix: RecordedFix, context: Context) -> list[str]:
    facts = declared(fix, context, f"apply {fix.name}")
    described = [
        {**facts_of, **_expectations(table)}
        for facts_of, table in zip(facts["tables"], fix.tables, strict=True)  # type: ignore[call-overload]
    ]
    facts |= {"tables": described, "change": "record", "required": fix.required}
    return [
        "    -- One fix at a time; only at this revision; the tables can be copied; the fix is not in force.",
        "    -- From here on no other session can write to these tables, and triggers note every row that changes in them.",
        f"    fix := pg_temp.datafix_open_recording({literal.json_body(facts, 'fix')},",
        f"        {context.version_table_oid}, pg_temp.datafix_surroundings());",
    ]


def _expectations(table: Table) -> dict[str, object]:
    named = [kind for kind in KINDS if names_rows(getattr(table, kind))]
    return {
        **{kind: table.count(kind) for kind in KINDS},
        "tolerance": table.tolerance,
        "named": bool(named),
        "named_kinds": named,
        **({"bounded": list(table.bounded)} if table.bounded else {}),
    }


def _closing(fix: RecordedFix) -> list[str]:
    tables = list(enumerate(fix.tables, 1))
    named = [(number, table) for number, table in tables if any(True for _ in table.named())]
    lines = [
        "    -- Run deferred constraints and triggers, whose changes belong to the fix. Then stop recording, and check that",
        "    -- only the tables of the fix have changed.",
        f"    EXECUTE pg_temp.datafix_settle_recording({literal.text(fix.name)}, 'IMMEDIATE');",
        f"    EXECUTE pg_temp.datafix_settle_recording({literal.text(fix.name)}, 'DEFERRED');",
        f"    fix := pg_temp.datafix_stop_recording({literal.text(fix.name)}, pg_temp.datafix_surroundings());",
        "",
        "    -- The images: each changed row, before and after.",
        *(
            f"    PERFORM pg_temp.datafix_write_images(pg_temp.datafix_table(fix, {number}));"
            for number, _ in tables
        ),
        "",
        *(line for number, table in named for line in _named_rows(number, table)),
        "    -- If nothing changed because none of the rows exists, the fix is not applicable in this database.",
        "    IF NOT pg_temp.datafix_changed_anything(fix) THEN",
        "        PERFORM pg_temp.datafix_drop_triggers(fix);",
        "        RETURN;",
        "    END IF;",
        "",
        "    -- Checks: the rows are those that the fix was written for, the post-conditions hold, and the number of changed",
        "    -- rows is as expected.",
        *(line for number, table in named for line in _judge(number, table)),
        *(line for number, table in tables if table.ensure for line in _ensure(number, table)),
    ]
    if fix.ensure:
        lines += [
            f"    EXECUTE {literal.body(f'SELECT ({fix.ensure}{chr(10)})')} INTO holds;",
            f"    PERFORM pg_temp.datafix_check_condition(fix, holds, {literal.text(fix.ensure)});",
        ]
    return [
        *lines,
        "    PERFORM pg_temp.datafix_close(fix, 'applied', pg_temp.datafix_check_counts(fix));",
        "    -- Wait until nobody reads the tables, and drop the triggers: from here to the commit, others wait to read.",
        "    PERFORM pg_temp.datafix_drop_triggers(fix);",
    ]


def _named_rows(number: int, table: Table) -> list[str]:
    name = literal.qualified(table.schema, table.table)
    columns = ["{{target.key}}", *_identities(table), "''::text AS datafix_kind"]
    rows = ",\n        ".join(
        f"({', '.join(literal.value(part) for part in (*key, *identity))}, '{kind}')"
        for kind, key, identity in table.named()
    )
    values = [
        dict(zip((*table.key_columns, *table.identity), (*key, *identity), strict=True))
        for _, key, identity in table.named()
    ]
    return [
        f"    -- The rows of {name} that this fix was written for.",
        f"    one := pg_temp.datafix_table(fix, {number});",
        run(
            "EXECUTE",
            f"CREATE TEMP TABLE datafix_expected_{number} ON COMMIT DROP AS\n"
            f"SELECT {listed(columns, 7)}\n  FROM {name} WITH NO DATA",
            "one",
        )
        + ";",
        *arrival.check(f"pg_temp.datafix_expected_{number}", values),
        f"    INSERT INTO pg_temp.datafix_expected_{number} VALUES\n        {rows};",
        "",
    ]


def _identities(table: Table) -> list[str]:
    return [f"{bracketed(expression)} AS {literal.name(name)}" for name, expression in table.identity.items()]


def _judge(number: int, table: Table) -> list[str]:
    columns = ",\n       ".join(["{{target.key}}", *_identities(table), "datafix_kind"])
    return [
        f"    one := pg_temp.datafix_table(fix, {number});",
        "    PERFORM pg_temp.datafix_keep_found(one);",
        run(
            "EXECUTE",
            f"CREATE TEMP TABLE datafix_actual_{number} ON COMMIT DROP AS\nSELECT {columns}\n"
            f"  FROM pg_temp.datafix_found_{number} AS {literal.name(table.table)}",
            "one",
        )
        + ";",
        "    PERFORM pg_temp.datafix_check_named(one);",
    ]


def _ensure(number: int, table: Table) -> list[str]:
    changed = (
        f"EXISTS (SELECT FROM pg_temp.datafix_pair_{number} AS datafix_pair\n"
        "                WHERE datafix_pair.datafix_after IS NOT NULL AND {{datafix_pair.key = target.key}})"
    )
    statement = (
        f"SELECT pg_catalog.count(*) FROM {literal.qualified(table.schema, table.table)}\n"
        f" WHERE {changed}\n   AND {bracketed(table.ensure)} IS NOT TRUE"
    )
    return [
        f"    one := pg_temp.datafix_table(fix, {number});",
        run("EXECUTE", statement, "one") + " INTO failing;",
        f"    PERFORM pg_temp.datafix_check_ensured(one, failing, {literal.text(table.ensure)});",
    ]
