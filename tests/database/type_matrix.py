"""Tables with a column for every type, the states that they can be in, and a comparison bit by bit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests import fixes
from tests.images import whole_images
from tests.servers import Database
from tests.tampering import tamper


@dataclass(frozen=True)
class Column:
    """A column of a matrix.

    Attributes:
        name: its name.
        type_: its type, as in CREATE TABLE.
        values: SQL expressions: row 0 has the first, row 1 the second, and so on in a circle.
        options: what follows the type in CREATE TABLE.
        generated: whether the options generate it.
    """

    name: str
    type_: str
    values: Sequence[str] = ()
    options: str = ""
    generated: bool = False


@dataclass(frozen=True)
class Matrix:
    """A table `things` in a schema of its own, and beside it the states that it can be in.

    Their names: `was`, as the table is; `wanted`, where each row has the next one's values; `touched`, where only the
    note is another one; `nothing`, which has no rows.
    """

    schema: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ("id",)

    @property
    def count(self) -> int:
        """How many rows it has: each column's values stand in some row."""
        return max(len(column.values) for column in self.columns)

    @property
    def written(self) -> list[str]:
        """The columns that a statement may write, besides the id and the note."""
        return [column.name for column in self.columns if not column.generated]

    def table(self, name: str) -> str:
        return f"{self.schema}.{name}"


def lay_out(database: Database, matrix: Matrix, *constraints: str) -> Matrix:
    """Make the tables of a matrix, and its audit table."""
    things, names = matrix.table("things"), ", ".join(column.name for column in matrix.columns)
    written = [column for column in matrix.columns if not column.generated]
    definitions = [f"{column.name} {column.type_} {column.options}" for column in matrix.columns]
    definitions += [f"PRIMARY KEY ({', '.join(matrix.key)})", *constraints]
    database.execute(
        f"CREATE SCHEMA {matrix.schema}",
        f"CREATE TABLE {things} (id integer, note text, {', '.join(definitions)})",
        # A statement for each row: a value of one row must not decide how another row's is read.
        *(
            f"INSERT INTO {things} (id, note, {', '.join(matrix.written)}) VALUES ({row}, 'note', "
            + ", ".join(column.values[row % len(column.values)] for column in written)
            + ")"
            for row in range(matrix.count)
        ),
        f"CREATE TABLE {matrix.table('was')} AS TABLE {things}",
        f"CREATE TABLE {matrix.table('nothing')} AS TABLE {things} WITH NO DATA",
        f"CREATE TABLE {matrix.table('touched')} AS SELECT id, 'touched' AS note, {names} FROM {things}",
        f"CREATE TABLE {matrix.table('wanted')} AS"
        f" SELECT (id + {matrix.count} - 1) % {matrix.count} AS id, note, {names} FROM {things}",
    )
    fixes.create_audit_table(database, "things", "things_audit", schema=matrix.schema)
    return matrix


def reset(database: Database, matrix: Matrix, state: str) -> None:
    """Put the table into one of its states, without images and without a past."""
    let_sessions_start_with(database, {})
    names = ", ".join(("id", "note", *matrix.written))
    tables = ", ".join(matrix.table(name) for name in ("things", "things_audit", "datafix_run"))
    tamper(
        database,
        f"TRUNCATE {tables} CASCADE",
        f"INSERT INTO {matrix.table('things')} ({names}) SELECT {names} FROM {matrix.table(state)}",
    )


def differing(database: Database, matrix: Matrix, left: str, right: str) -> dict[str, list[int]]:
    """Where two relations differ in any bit: type → rows; rows that only one of them has are there as `row`."""
    sides = {"row": ("l.id", "r.id"), "note": ("l.note", "r.note")}
    sides |= {c.name: (f"l.{c.name}", f"r.{c.name}") for c in matrix.columns}
    checks = ", ".join(
        f"array_agg(coalesce(l.id, r.id)) FILTER (WHERE record_image_ne(ROW({one}), ROW({other})))"
        for one, other in sides.values()
    )
    [(more, *found)] = database.rows(
        f"SELECT (SELECT count(*) FROM {left} AS l) - (SELECT count(*) FROM {right} AS r), {checks}"
        f" FROM {left} AS l FULL JOIN {right} AS r ON l.id = r.id"
    )
    types = {c.name: f"{c.type_} {c.options}".strip() for c in matrix.columns}
    named = {types.get(name, name): rows for name, rows in zip(sides, found, strict=True) if rows is not None}
    return named | ({"number of rows": [more]} if more else {})


def images(database: Database, matrix: Matrix, direction: str, image: str) -> str:
    """The images of the last run in this direction, in the types of the table that they are images of."""
    kept_otherwise = {
        name
        for (name,) in database.rows(
            "SELECT t.attname FROM pg_attribute AS t JOIN pg_attribute AS a USING (attname)"
            f" WHERE t.attrelid = '{matrix.table('things')}'::regclass AND a.attrelid = '{matrix.table('things_audit')}'::regclass"
            " AND t.atttypid <> a.atttypid"
        )
    }
    columns = ", ".join(
        f"{c.name}::{c.type_} AS {c.name}" if c.name in kept_otherwise else c.name for c in matrix.columns
    )
    names = ["id", "note", *(c.name for c in matrix.columns)]
    whole = whole_images(matrix.schema, "things_audit", names, ["id"])
    run = f"(SELECT max(run_id) FROM {matrix.table('datafix_run')} WHERE direction = '{direction}')"
    return (
        f"(SELECT id, note, {columns} FROM {whole} AS i"
        f" WHERE audit_image = '{image}' AND audit_run_id = {run})"
    )


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
    "search_path": "decoy, pg_catalog, public",
    "plpgsql.variable_conflict": "use_column",
    "client_encoding": "LATIN1",
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
    "transform_null_equals": "on",
}
NORTH = {
    "datestyle": "Postgres, MDY",
    "intervalstyle": "postgres_verbose",
    "extra_float_digits": "3",
    "timezone": "<-1245>+12:45",  # an offset, and no name of a zone
    "bytea_output": "escape",
    "array_nulls": "off",
    "backslash_quote": "off",
    "search_path": "elsewhere",
    "plpgsql.variable_conflict": "use_variable",
    "plpgsql.extra_errors": "all",
    "default_text_search_config": "pg_catalog.german",
    "plan_cache_mode": "force_generic_plan",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}

DECOYS = (
    "CREATE SCHEMA decoy",
    "CREATE TABLE decoy.things (id integer PRIMARY KEY)",
    "CREATE TABLE decoy.datafix_run (run_id integer)",
    "CREATE DOMAIN decoy.numeric AS numeric(3,1)",
    "CREATE DOMAIN decoy.interval AS interval(0)",
    "CREATE FUNCTION decoy.format(text, text) RETURNS text LANGUAGE sql AS 'SELECT ''SELECT'''",
    "CREATE FUNCTION decoy.differs(integer, integer) RETURNS boolean LANGUAGE sql AS 'SELECT $1 <> $2'",
    "CREATE OPERATOR decoy.= (LEFTARG = integer, RIGHTARG = integer, FUNCTION = decoy.differs)",
)
"""What stands before PostgreSQL's own names in some of these sessions."""


def let_sessions_start_with(database: Database, settings: Mapping[str, str]) -> None:
    """Let every new session in the database start with these settings, and no others."""
    known = {name for (name,) in database.rows("SELECT lower(name) FROM pg_settings")}
    database.execute(
        f"ALTER DATABASE {database.name} RESET ALL",
        *(
            # A list is one element for each name, unquoted; everything else is a text.
            f"ALTER DATABASE {database.name} SET {name} TO "
            + (value if name == "search_path" else f"'{value}'")
            for name, value in settings.items()
            if name in known or "." in name
        ),
    )
