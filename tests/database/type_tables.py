"""The matrices: which columns stand in which table, so that every type stands in some, in every role."""

from collections.abc import Iterator, Mapping

from tests.database.every_type import (
    EXTENSIONS,
    NO_ORDER,
    NOT_NULL,
    OWN_TYPES,
    STATISTICS,
    own,
    scalars,
    with_arrays,
)
from tests.database.type_matrix import DECOYS, Column, Matrix, lay_out
from tests.servers import Database

# Relations of PostgreSQL's own whose row type no column can have, because a column of theirs has a pseudo-type.
WITH_PSEUDO_TYPES = (
    "pg_attribute",
    "pg_statistic",
    "pg_statistic_ext_data",
    "pg_stats",
    "pg_stats_ext_exprs",
)

# One operator compares all arrays; these stand for the others.
SOME_ARRAYS = (
    "text[]",
    "numrange[]",
    "information_schema.cardinal_number[]",
    "app.mood[]",
    "app.place[]",
    "app.price[]",
)


# Types of the application's own that are tried as a key one by one: their text depends on settings, or is a domain over an enum.
KEYS_OF_THEIR_OWN = ("app.feeling", "app.visit", "app.visit[]", "app.route[]", "app.numbers[]")


# Whether PostgreSQL makes a table with such a column.
CAN_BE_A_COLUMN = """
    CREATE FUNCTION elsewhere.can_be_a_column(type_id oid) RETURNS boolean LANGUAGE plpgsql AS $$
    BEGIN
        EXECUTE format('CREATE TEMP TABLE tried (c %s)', format_type(type_id, NULL));
        DROP TABLE tried;
        RETURN true;
    EXCEPTION WHEN invalid_table_definition THEN
        RETURN false;
    END $$
"""


def matrices(database: Database) -> Iterator[Matrix]:
    """Lay out every matrix in a fresh database."""
    extensions = install(database)
    built_in, others = scalars(database.server_version), own(extensions)
    types = with_arrays({**built_in, **others})
    yield lay_out(database, Matrix("types", columns_of(types)))
    yield lay_out(database, Matrix("catalogs", row_types(database)))
    yield lay_out(database, Matrix("generated", copies(built_in, others, database.server_version)))
    yield lay_out(database, Matrix("large", large(database)))
    for number, columns in enumerate(keys(types)):
        names = tuple(column.name for column in columns)
        yield lay_out(
            database, Matrix(f"keys{number}", columns, ("id", *names)), f"UNIQUE ({', '.join(names)})"
        )


def install(database: Database) -> list[str]:
    """Schemas and types; returns the extensions that this server has."""
    available = {name for (name,) in database.rows("SELECT name FROM pg_available_extensions")}
    extensions = [name for name in EXTENSIONS if name in available]
    database.execute(
        *DECOYS,
        "CREATE SCHEMA elsewhere",
        CAN_BE_A_COLUMN,
        "CREATE TABLE public.things ()",  # the values have its regclass
        *OWN_TYPES,
        *(f"CREATE EXTENSION {name} SCHEMA app" for name in extensions),
    )
    return extensions


def columns_of(types: Mapping[str, list[str]]) -> tuple[Column, ...]:
    """A column for each type, with its values and a null."""
    return tuple(
        Column(f"c{number}", type_, values if type_ in NOT_NULL else [*values, "NULL"])
        for number, (type_, values) in enumerate(types.items())
    )


def row_types(database: Database) -> tuple[Column, ...]:
    """A column for the row type of each of PostgreSQL's own tables and views, and for the array of it."""
    relations = database.rows(
        "SELECT format_type(t.oid, NULL), c.relkind = 'r' FROM pg_type AS t JOIN pg_class AS c ON c.oid = t.typrelid"
        f" WHERE t.oid < 16384 AND c.relname <> ALL ('{{{','.join(WITH_PSEUDO_TYPES)}}}') ORDER BY t.oid"
    )
    columns = []
    for number, (name, is_table) in enumerate(relations):
        # Of a view a row of nulls: some read what this server or machine does not have.
        value = f"jsonb_populate_record(NULL::{name}, '{{}}')"
        if is_table:
            value = f"coalesce((SELECT r FROM {name} AS r LIMIT 1), {value})"
        columns += [
            Column(f"c{number}", name, [value, "NULL"]),
            # In the other row, so that each row fits on a page.
            Column(f"a{number}", f"{name}[]", ["NULL", f"ARRAY[NULL, {value}]"]),
        ]
    return tuple(columns)


def copies(
    built_in: Mapping[str, list[str]], others: Mapping[str, list[str]], version: int
) -> tuple[Column, ...]:
    """For each type a column, one that is generated from it and stored and, where there are such, a virtual one."""
    columns = []
    for column in columns_of({**built_in, **others}):
        columns.append(column)
        # A virtual column cannot be of an application's type, or of a domain.
        can_be_virtual = version >= 18 and column.type_ in built_in and "_schema." not in column.type_
        for kind in ("stored", "virtual") if can_be_virtual else ("stored",):
            generation = f"GENERATED ALWAYS AS ({column.name}) {kind}"
            columns.append(Column(f"{column.name}_{kind}", column.type_, (), generation, generated=True))
    return tuple(columns)


def large(database: Database) -> tuple[Column, ...]:
    """Values of megabytes, out of line and compressed in every way that the server knows."""
    random = "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, {}) AS n)"
    series = "(SELECT {} FROM generate_series(1, {}) AS n)"
    compressions = database.value("SELECT enumvals FROM pg_settings WHERE name = 'default_toast_compression'")
    texts = ["", *(f"COMPRESSION {name}" for name in compressions)]
    if database.server_version >= 16:  # before, ALTER TABLE only
        texts += [f"STORAGE {name}" for name in ("PLAIN", "EXTERNAL", "MAIN", "EXTENDED")]
    values = {
        "bytea": ["decode(repeat('00ff', 200000), 'hex')"],
        "json": [series.format("json_agg(md5(n::text))", 4000)],
        "jsonb": [series.format("jsonb_agg(md5(n::text))", 4000)],
        "integer[]": [series.format("array_agg(n)", 20000)],
        "text[]": [series.format("array_agg(md5(n::text))", 5000)],
        "numeric": ["repeat('9', 30000)::numeric"],
        "bit varying": ["repeat('10', 200000)::varbit"],
        "tsvector": [f"array_to_tsvector({series.format('array_agg(md5(n::text))', 3000)})"],
        "polygon": ["polygon(5000, circle '<(0,0),1>')"],
        "int8multirange": [series.format("range_agg(int8range(2 * n, 2 * n + 1))", 4000)],
        "app.place": [f"ROW(NULL, NULL, {random.format(3000)}, NULL, NULL, NULL, NULL, NULL, NULL)::app.place"],
    }  # fmt: skip
    return (
        Column("huge", "text", [random.format(100000), "repeat('ab', 1500000)", "NULL"]),
        *(
            Column(f"t{n}", "text", [random.format(200 if "PLAIN" in how else 3000), "'small'", "NULL"], how)
            for n, how in enumerate(texts)
        ),
        *columns_of(values),
    )


def keys(types: Mapping[str, list[str]]) -> Iterator[tuple[Column, ...]]:
    """A column for each type that a key can have, with two small values, in groups that an index has room for."""
    left_out = (*STATISTICS, *NO_ORDER, *KEYS_OF_THEIR_OWN)
    columns = [
        Column(f"c{number}", type_, values[1:3] if type_ in SOME_ARRAYS else (values * 2)[:2])
        for number, (type_, values) in enumerate(types.items())
        if type_ in SOME_ARRAYS or (type_ not in left_out and not type_.endswith("[]"))
    ]
    for first in range(0, len(columns), 31):
        yield tuple(columns[first : first + 31])
