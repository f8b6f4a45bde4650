"""Promise 5, to the bit: every type, nasty values, applied under one session's settings and reverted under another's."""

from collections.abc import Mapping

import pytest

from datafixes import DataFix, Rows, Update, sql
from tests.database.nasty_values import BUILT_IN, INTERNAL, OWN_TYPES, columns
from tests.fixes import apply, create_audit_table, revert
from tests.servers import Database
from tests.tampering import tamper

PLAIN: dict[str, str] = {}
SOUTH = {
    "datestyle": "SQL, DMY",
    "intervalstyle": "sql_standard",
    "extra_float_digits": "-15",
    "timezone": "America/New_York",
    "bytea_output": "escape",
    "lc_monetary": "C.UTF-8",
    "xmloption": "document",
    "xmlbinary": "hex",
    "array_nulls": "off",
    "standard_conforming_strings": "off",
    "escape_string_warning": "off",
    "search_path": "elsewhere",
    "plpgsql.variable_conflict": "use_column",
}
EAST = {
    "datestyle": "German, YMD",
    "intervalstyle": "iso_8601",
    "extra_float_digits": "0",
    "timezone": "Asia/Kolkata",
    "search_path": "app, public",
    "quote_all_identifiers": "on",
    "row_security": "off",
    "plpgsql.check_asserts": "off",
}


def use(database: Database, settings: Mapping[str, str]) -> None:
    """Let every new session in the database start with these settings, and no others."""
    database.execute(
        f"ALTER DATABASE {database.name} RESET ALL",
        *(
            # A list is one element for each name, unquoted; everything else is a text.
            f"ALTER DATABASE {database.name} SET {name} TO "
            + (value if name == "search_path" else f"'{value}'")
            for name, value in settings.items()
        ),
    )


def things(database: Database) -> int:
    """A table with a column of every type; in `wanted` the same values, each one row further. Returns the number of rows."""
    made = columns()
    count = max(len(values) for _, values in made.values()) + 1
    definitions = ", ".join(f"{name} {type_}" for name, (type_, _) in made.items())
    database.execute(*OWN_TYPES, f"CREATE TABLE public.things (id integer PRIMARY KEY, {definitions})")
    rows = [
        f"({row}, {', '.join(values[row] if row < len(values) else 'NULL' for _, values in made.values())})"
        for row in range(count)
    ]
    # A statement for each row: a value of one row must not decide how another row's is read.
    database.execute(*(f"INSERT INTO public.things VALUES {row}" for row in rows))
    names = ", ".join(made)
    database.execute(
        f"CREATE TABLE public.wanted AS SELECT (id + 1) % {count} AS id, {names} FROM public.things",
        "CREATE TABLE public.was AS TABLE public.things",
    )
    create_audit_table(database, "things", "things_audit")
    return count


def every_column(count: int) -> DataFix:
    values = {
        name: sql(f"(SELECT w.{name} FROM public.wanted AS w WHERE w.id = things.id)") for name in columns()
    }
    return DataFix(
        name="every_column",
        reason="Every column gets another row's value.",
        change=Update("things", set=values),
        rows=Rows(key="id", expect=list(range(count))),
        audit="things_audit",
    )


def differing(database: Database, left: str, right: str, on: str = "l.id = r.id") -> set[str]:
    """Types of columns in which two tables differ in any bit."""
    checks = ", ".join(f"bool_or(record_image_ne(ROW(l.{name}), ROW(r.{name})))" for name in columns())
    [found] = database.rows(f"SELECT {checks} FROM {left} AS l JOIN {right} AS r ON {on}")
    return {
        type_ for (type_, _), differs in zip(columns().values(), found, strict=True) if differs is not False
    }


@pytest.mark.parametrize(
    ("at_apply", "at_revert"),
    [
        pytest.param(PLAIN, SOUTH, id="plain-south"),
        pytest.param(SOUTH, EAST, id="south-east"),
        pytest.param(EAST, SOUTH, id="east-south"),
    ],
)
def test_a1_a2_a5_a6_a7_a17_every_type_comes_back_whatever_the_settings(
    database: Database, at_apply: dict[str, str], at_revert: dict[str, str]
) -> None:
    count = things(database)
    fix = every_column(count)

    use(database, at_apply)
    apply(database, fix)
    use(database, PLAIN)
    assert differing(database, "public.things", "public.wanted") == set(), "not what the fix wanted"
    assert len(differing(database, "public.things", "public.was")) == len(
        {type_ for type_, _ in columns().values()}
    )

    use(database, at_revert)
    revert(database, fix)
    use(database, PLAIN)
    assert differing(database, "public.things", "public.was") == set()
    assert database.value("SELECT count(*) FROM public.things") == count


def test_a6_the_images_do_not_depend_on_the_session_that_wrote_them(database: Database) -> None:
    fix = every_column(things(database))
    for settings in (SOUTH, EAST):
        use(database, settings)
        apply(database, fix)
        use(database, PLAIN)
        revert(database, fix)
    first, _, second, _ = (
        run for (run,) in database.rows("SELECT run_id FROM public.datafix_run ORDER BY run_id")
    )
    for image in ("before", "after"):
        images = f"(SELECT * FROM public.things_audit WHERE audit_image = '{image}' AND audit_run_id = {{}})"
        assert differing(database, images.format(first), images.format(second)) == set()


def test_a6_a_value_that_looks_changed_only_through_the_session_is_no_conflict(database: Database) -> None:
    fix = every_column(things(database))
    apply(database, fix)
    use(database, SOUTH)
    revert(database, fix, "skip")
    assert database.rows("SELECT rows_skipped, rows_changed = rows_expected FROM public.datafix_run WHERE direction = 'revert'") == [
        (0, True)
    ]  # fmt: skip


def test_a15_what_has_no_binary_form_is_in_the_digest_too(database: Database) -> None:
    """The digest of the images covers aclitem, which record_send() refuses."""
    fix = every_column(things(database))
    apply(database, fix)
    [column] = [name for name, (type_, _) in columns().items() if type_ == "aclitem"]
    tamper(
        database,
        f"UPDATE public.things_audit SET {column} = makeaclitem(10, 10, 'UPDATE', false) WHERE {column} IS NOT NULL",
    )
    with pytest.raises(Exception, match="are not the ones it wrote"):
        revert(database, fix)


def test_the_matrix_has_every_type_that_a_column_can_have(database: Database) -> None:
    named = database.rows(
        "SELECT DISTINCT format_type(oid, NULL) FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace AND typisdefined"
        " AND typtype IN ('b', 'r', 'm') AND NOT (typcategory = 'A' AND typelem <> 0 AND typlen = -1 AND typname LIKE '\\_%')"
    )
    covered = {
        name
        for (name,) in database.rows(
            "SELECT format_type(t::regtype, NULL) FROM unnest(ARRAY["
            + ", ".join("'" + type_.replace("'", "''") + "'" for type_ in BUILT_IN)
            + "]) AS t"
        )
    }
    assert {name for (name,) in named} - covered - INTERNAL == set()
