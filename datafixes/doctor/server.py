"""Checks of the server and of Alembic's version table."""

import ast
import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from datafixes.audit.history import ask
from datafixes.doctor.env_file import EnvFile
from datafixes.report.document import Fact, attention, bad, good
from datafixes.script.literal import name, qualified, text

_OLDEST, _NEWEST = 14, 18
_SECONDS_APART = 5
_USUAL_PATHS = ('"$user", public', "public", '"$user",public')

_STANDS = """
SELECT n.nspname, pg_catalog.pg_table_is_visible(c.oid)
  FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.relname = {table} AND c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' ORDER BY n.nspname
"""


def check_server(connection: Connection) -> list[Fact]:
    """The version, the counters that fixes need, and the clock."""
    [(number, counts)] = ask(
        connection,
        "SELECT current_setting('server_version_num')::int / 10000, current_setting('track_counts')::boolean",
    )
    before = dt.datetime.now(dt.UTC)
    [(theirs,)] = ask(connection, "SELECT pg_catalog.clock_timestamp()")
    after = dt.datetime.now(dt.UTC)
    return [check_version(number), check_counts(counts), check_clock(theirs, before, after)]


def check_version(number: int) -> Fact:
    """Whether this version of PostgreSQL is supported."""
    check = "PostgreSQL"
    if number < _OLDEST:
        return bad(check, f"It is version {number}.", f"Use version {_OLDEST} to {_NEWEST}.")
    if number > _NEWEST:
        return attention(
            check,
            f"It is version {number}; tested are {_OLDEST} to {_NEWEST}.",
            "Try each fix on another database first.",
        )
    return good(check, f"It is version {number}.")


def check_counts(on: bool) -> Fact:
    """Whether the server counts what a transaction changes."""
    if on:
        return good("track_counts", "It is on.")
    return bad(
        "track_counts",
        "It is off, so changes to other rows than those of a fix could not be found, and each fix is refused.",
        "ALTER DATABASE ... SET track_counts = on",
    )


def check_clock(theirs: dt.datetime, before: dt.datetime, after: dt.datetime) -> Fact:
    """Whether the clocks agree: the ledger's times are the server's.

    Args:
        theirs: the server's time.
        before: the local time before the query.
        after: the local time after the answer.
    """
    apart = max((before - theirs).total_seconds(), (theirs - after).total_seconds(), 0)
    if apart < _SECONDS_APART:
        return good("clock", "This machine and the server agree.")
    return attention(
        "clock",
        f"This machine's clock and the server's differ by {apart:.0f} s; the ledger's times are the server's.",
        "Correct the clock that is wrong.",
    )


@dataclass(frozen=True)
class VersionTable:
    """Alembic's version table.

    Attributes:
        table: its name.
        schema: the schema that env.py names, or an empty string: the search_path decides.
        unsure: whether env.py may name another table in a way that cannot be analysed.
    """

    table: str = "alembic_version"
    schema: str = ""
    unsure: bool = False


def version_table_of(env: EnvFile | None) -> VersionTable:
    """Alembic's version table, according to env.py."""
    if env is None:
        return VersionTable(unsure=True)
    table, schema = env.option("version_table"), env.option("version_table_schema")
    given = [one.value if isinstance(one, ast.Constant) else None for one in (table, schema)]
    unsure = (schema is not None and given[1] is None) or (env.passes_on and schema is None)
    return VersionTable(str(given[0] or "alembic_version"), str(given[1] or ""), unsure)


def check_version_table(
    connection: Connection, wanted: VersionTable, known: Collection[str], heads: Collection[str]
) -> tuple[list[Fact], int | None]:
    """Which version table is used, and whether its revision is one of the project.

    Args:
        connection: in a read-only transaction.
        wanted: the version table according to env.py.
        known: the revisions of the project.
        heads: its heads.

    Returns:
        the findings, and the length of the version column, if the table exists.
    """
    [(path,)] = ask(connection, "SELECT current_setting('search_path')")
    schemas = dict(tuple(row) for row in ask(connection, _STANDS.format(table=text(wanted.table))))
    findings = [_path(wanted, path, schemas)]
    at = qualified(wanted.schema, wanted.table) if wanted.schema else name(wanted.table)
    [(there,)] = ask(connection, f"SELECT CAST(pg_catalog.to_regclass({text(at)}) AS oid)::bigint")
    if there is None:
        return [
            *findings,
            attention("revision", "The database is at no revision yet.", "alembic upgrade head"),
        ], None
    versions = [version for (version,) in ask(connection, f"SELECT version_num FROM {at}")]
    [(width,)] = ask(
        connection,
        "SELECT a.atttypmod - 4 FROM pg_catalog.pg_attribute AS a"
        f" WHERE a.attrelid = {there} AND a.attname = 'version_num'",
    )
    return [*findings, check_at(versions, known, heads)], width if width > 0 else 10**9


def _path(wanted: VersionTable, path: str, schemas: dict[str, bool]) -> Fact:
    """Which version table the search_path finds, among all schemas that have one."""
    check, table = "search_path", wanted.table
    remedy = 'Name the schema in env.py: version_table_schema="public", or wherever it is.'
    if wanted.schema:
        return good(check, f"env.py names the version table with its schema, {wanted.schema}.")
    if len(schemas) > 1:
        return bad(
            check,
            f"{', '.join(schemas)} each have a table {table}; the search_path ({path}) decides which one counts.",
            remedy,
        )
    if schemas and not any(schemas.values()) and not wanted.unsure:
        return bad(
            check,
            f"{table} is in {', '.join(schemas)}, where the search_path ({path}) does not find it: "
            "Alembic would start from base.",
            remedy,
        )
    if path not in _USUAL_PATHS:
        return attention(
            check, f"It is {path} for this role and database: other roles may find another {table}.", remedy
        )
    return good(check, f"It is {path}, as usual.")


def check_at(versions: list[str], known: Collection[str], heads: Collection[str]) -> Fact:
    """Whether the revision of the database is one of the project.

    Args:
        versions: the rows of the version table.
        known: the revisions of the project.
        heads: its heads.
    """
    check, shown = "revision", ", ".join(sorted(versions)) or "the base"
    strange = sorted(set(versions) - set(known))
    if strange:
        return bad(
            check,
            f"The database is at {', '.join(strange)}, which is not a revision of this project.",
            "Deploy the code that has it, or check which database is used: datafixes where",
        )
    if len(versions) != len(set(versions)):
        return bad(
            check, f"The version table contains a revision twice: {shown}.", "Remove the duplicate row."
        )
    if set(versions) == set(heads):
        return good(check, f"The database is at {shown}, the head.")
    return good(check, f"The database is at {shown}; the head is {', '.join(sorted(heads))}.")
