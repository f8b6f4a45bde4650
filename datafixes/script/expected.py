"""Temporary tables with a declared fix's expected rows and new values, in the types of the target's columns."""

from collections.abc import Iterator

from datafixes.declaration.expressions import sql
from datafixes.declaration.fix import DataFix, Update
from datafixes.script import arrival, literal
from datafixes.script.layout import bracketed, listed, run


def expected_rows(fix: DataFix, table: str) -> list[str]:
    """The lines that put the expected rows, by key and identity, into a temporary table."""
    columns = [f"{expression} AS {literal.name(name)}" for name, expression in identities(fix)]
    rows = ",\n        ".join(
        f"({', '.join(literal.value(part) for part in (*key, *(identity if fix.rows.identity else ())))})"
        for key, identity in fix.rows.expected()
    )
    return [
        "    -- The rows that this fix was written for.",
        run(
            "EXECUTE",
            "CREATE TEMP TABLE datafix_expected ON COMMIT DROP AS\n"
            f"SELECT {listed(['{{target.key}}', *columns], 7)}\n  FROM {table} WITH NO DATA",
        )
        + ";",
        *arrival.check("pg_temp.datafix_expected", _named_values(fix)),
        f"    INSERT INTO pg_temp.datafix_expected VALUES\n        {rows};",
        "",
    ]


def _named_values(fix: DataFix) -> Iterator[dict[str, object]]:
    names = (*fix.rows.key_columns, *fix.rows.identity)
    for key, identity in fix.rows.expected():
        yield dict(zip(names, (*key, *(identity if fix.rows.identity else ())), strict=True))


def identities(fix: DataFix) -> list[tuple[str, str]]:
    """The names and the expressions of the rows' identities."""
    return [(name, bracketed(expression)) for name, expression in fix.rows.identity.items()]


def wanted_values(fix: DataFix, table: str) -> list[str]:
    """The lines that put the plain values of an update into a temporary table."""
    values = {
        name: value
        for name, value in (fix.change.set.items() if isinstance(fix.change, Update) else ())
        if not isinstance(value, sql)
    }
    if not values:
        return []
    names = [literal.name(name) for name in values]
    row = listed([literal.value(value) for value in values.values()], 12)
    return [
        "    -- The plain values that it sets, in the columns' own types, for a comparison at the end.",
        run(
            "EXECUTE",
            f"CREATE TEMP TABLE datafix_wanted ON COMMIT DROP AS\nSELECT {listed(names, 7)}\n  FROM {table} WITH NO DATA",
        )
        + ";",
        *arrival.check("pg_temp.datafix_wanted", [values]),
        f"    INSERT INTO pg_temp.datafix_wanted ({listed(names, 40)})\n    VALUES ({row});",
        "",
    ]


def actual_rows(fix: DataFix, table: str) -> list[str]:
    """The lines that create the table for the rows found under the expected keys."""
    columns = ["{{target.key}}", *(f"{text} AS {literal.name(name)}" for name, text in identities(fix))]
    statement = (
        "CREATE TEMP TABLE datafix_actual ON COMMIT DROP AS\n"
        f"SELECT {listed([*columns, 'true AS datafix_matches', 'true AS datafix_already'], 7)}\n  FROM {table} WITH NO DATA"
    )
    return [run("EXECUTE", statement) + ";"]
