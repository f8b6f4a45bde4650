"""Connects to the book: to PostgreSQL itself, or through the query Lambda, which only answers SELECT."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from datafixes.book.rows.query_lambda import Row, pages, query, selected
from datafixes.book.settings import BookSettings
from datafixes.errors import DatafixError, SettingError, diagnosis_of, sqlstate
from datafixes.project import Project
from datafixes.script import literal
from datafixes.script.parameters import verbatim

Ask = Callable[[str], Iterator[Row]]
"""Sends a SELECT, and yields its rows."""

_DEFAULT_LAMBDA = "ops-pipeline-db-query"
_AT_ONCE = 1000  # rows
_NO_SUCH_BOOK = (
    "Upgrade the database (alembic upgrade head), or set another table: -x book_table=SCHEMA.TABLE"
)
_HINTS = {
    "42P01": _NO_SUCH_BOOK,
    "42703": _NO_SUCH_BOOK,
    "3F000": _NO_SUCH_BOOK,
    "42501": "The role needs SELECT on it; if row security hides rows, also ownership or BYPASSRLS.",
}
"""The hint for an SQLSTATE."""


def book_table(settings: BookSettings) -> tuple[str, str]:
    """The schema and the name of the book's table."""
    schema, dot, name = settings.book_table.partition(".")
    if not all((schema, name)) and dot:
        raise SettingError(
            f"book_table is {settings.book_table!r} ({settings.origins['book_table']}): write SCHEMA.TABLE"
        )
    return (schema, name) if dot else ("public", schema)


def lambda_of(settings: BookSettings) -> str:
    """The Lambda through which the book is read; empty for PostgreSQL itself.

    Raises:
        SettingError: the setting is neither.
    """
    how, _, name = settings.book.partition(":")
    if how == "lambda":
        return name or _DEFAULT_LAMBDA
    if settings.book != "postgres":
        raise SettingError(
            f"book is {settings.book!r} ({settings.origins['book']}): write postgres, or lambda:NAME"
        )
    return ""


@contextmanager
def asking(project: Project) -> Iterator[Ask]:
    """A function that queries the book, according to the settings.

    Raises:
        DatafixError: the database or the Lambda does not answer, or the table does not exist.
    """
    function = lambda_of(BookSettings.of(project.settings))
    if function:
        yield lambda select: iter(query(project.settings, function, select))
        return
    with project.reading() as connection:
        # Then PostgreSQL refuses to read if a policy would hide rows.
        connection.exec_driver_sql("SET LOCAL row_security = off")
        yield lambda select: _stream(connection, select, BookSettings.of(project.settings))


def rows_by_id(ask: Ask, settings: BookSettings, columns: Mapping[str, str], where: str) -> Iterator[Row]:
    """The rows of the book's table that meet a condition, by id.

    Raises:
        DatafixError: the answer is not complete.
    """
    table = book_table(settings)
    if lambda_of(settings):
        return pages(ask, table, columns, where)
    return ask(f"SELECT {selected(columns)} FROM {literal.qualified(*table)} WHERE {where} ORDER BY id")


def book_columns(project: Project) -> dict[str, str]:
    """The columns of the book, each with its type in SQL."""
    schema, table = map(literal.text, book_table(BookSettings.of(project.settings)))
    select = (
        "SELECT CAST(a.attname AS text) AS name, pg_catalog.format_type(a.atttypid, a.atttypmod) AS type"
        " FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid"
        " JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
        f" WHERE n.nspname = {schema} AND c.relname = {table} AND a.attnum > 0 AND NOT a.attisdropped"
        " ORDER BY a.attnum"
    )
    with asking(project) as ask:
        return {str(row["name"]): str(row["type"]) for row in ask(select)}


def alembic_versions(project: Project) -> list[str]:
    """The database's revisions; empty if Alembic has never run there."""
    where = (
        "SELECT CAST(pg_catalog.quote_ident(n.nspname) AS text) AS schema FROM pg_catalog.pg_class AS c"
        " JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE c.relname = 'alembic_version' AND c.relkind IN ('r', 'p') ORDER BY n.nspname"
    )
    with asking(project) as ask:
        schemas = [str(row["schema"]) for row in ask(where)]
        return [
            str(row["version_num"])
            for schema in schemas
            for row in ask(f"SELECT version_num FROM {schema}.alembic_version ORDER BY version_num")
        ]


def _stream(connection: Connection, select: str, settings: BookSettings) -> Iterator[Row]:
    options = {"stream_results": True, "yield_per": _AT_ONCE}
    try:
        found = connection.exec_driver_sql(verbatim(connection, select), execution_options=options)
        names = tuple(found.keys())
        for row in found:
            yield dict(zip(names, row, strict=True))
    except DBAPIError as error:
        hint = _HINTS.get(sqlstate(error))
        if hint is None:
            raise
        raise DatafixError(
            f"The book {settings.book_table} cannot be read: {diagnosis_of(error).message}",
            hint=hint,
        ) from None
