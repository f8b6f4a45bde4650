"""What can go wrong with the server and with Alembic's own table in it."""

import ast
import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from datafixes.audit.history import ask
from datafixes.doctor.env_file import EnvFile
from datafixes.doctor.finding import Finding, attention, bad, good
from datafixes.script.literal import name, qualified, text

_OLDEST, _NEWEST = 14, 18
_SECONDS_APART = 5
_USUAL_PATHS = ('"$user", public', "public", '"$user",public')

_STANDS = """
SELECT n.nspname, pg_catalog.pg_table_is_visible(c.oid)
  FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.relname = {table} AND c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' ORDER BY n.nspname
"""


def check_server(connection: Connection) -> list[Finding]:
    """The version, the counters that fixes rely on, and the clock."""
    [(number, counts)] = ask(
        connection,
        "SELECT current_setting('server_version_num')::int / 10000, current_setting('track_counts')::boolean",
    )
    before = dt.datetime.now(dt.UTC)
    [(theirs,)] = ask(connection, "SELECT pg_catalog.clock_timestamp()")
    after = dt.datetime.now(dt.UTC)
    return [check_version(number), check_counts(counts), check_clock(theirs, before, after)]


def check_version(number: int) -> Finding:
    """Whether this PostgreSQL is one that fixes are made for."""
    check = "PostgreSQL"
    if number < _OLDEST:
        return bad(check, f"It is version {number}.", f"Fixes need {_OLDEST} to {_NEWEST}.")
    if number > _NEWEST:
        return attention(
            check,
            f"It is version {number}; known are {_OLDEST} to {_NEWEST}.",
            "Try each fix elsewhere first.",
        )
    return good(check, f"It is version {number}.")


def check_counts(on: bool) -> Finding:
    """Whether the server counts what a transaction changes."""
    if on:
        return good("track_counts", "It is on.")
    return bad(
        "track_counts",
        "It is off, so nobody can tell what changes besides the rows of a fix, and each fix refuses.",
        "ALTER DATABASE ... SET track_counts = on",
    )


def check_clock(theirs: dt.datetime, before: dt.datetime, after: dt.datetime) -> Finding:
    """Whether the clocks agree: the ledger's times are the server's.

    Args:
        theirs: the server's time.
        before: the time here when it was asked.
        after: the time here when it had answered.
    """
    apart = max((before - theirs).total_seconds(), (theirs - after).total_seconds(), 0)
    if apart < _SECONDS_APART:
        return good("clock", "This machine and the server agree.")
    return attention(
        "clock",
        f"This machine's clock and the server's are {apart:.0f} s apart; the ledger's times are the server's.",
        "Set the clock that is wrong.",
    )


@dataclass(frozen=True)
class VersionTable:
    """Alembic's table.

    Attributes:
        table: its name.
        schema: the schema that env.py names, or an empty string: as the search_path finds it.
        unsure: whether env.py may name another one that cannot be read from it.
    """

    table: str = "alembic_version"
    schema: str = ""
    unsure: bool = False


def version_table_of(env: EnvFile | None) -> VersionTable:
    """Alembic's table, as far as env.py says which one it is."""
    if env is None:
        return VersionTable(unsure=True)
    table, schema = env.option("version_table"), env.option("version_table_schema")
    given = [one.value if isinstance(one, ast.Constant) else None for one in (table, schema)]
    unsure = (schema is not None and given[1] is None) or (env.passes_on and schema is None)
    return VersionTable(str(given[0] or "alembic_version"), str(given[1] or ""), unsure)


def check_version_table(
    connection: Connection, wanted: VersionTable, known: Collection[str], heads: Collection[str]
) -> tuple[list[Finding], int | None]:
    """Which version table this is, and whether its revision is one of the project.

    Args:
        connection: in a transaction that reads.
        wanted: what env.py says.
        known: the revisions of the project.
        heads: its heads.

    Returns:
        the findings, and how many characters the table keeps, if there is one.
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


def _path(wanted: VersionTable, path: str, schemas: dict[str, bool]) -> Finding:
    """Which version table the search_path finds; of each schema that has one, whether it can be seen."""
    check, table = "search_path", wanted.table
    mend = 'Name the schema in env.py: version_table_schema="public", or wherever it is.'
    if wanted.schema:
        return good(check, f"env.py names the version table with its schema, {wanted.schema}.")
    if len(schemas) > 1:
        return bad(
            check,
            f"There are tables {table} in {', '.join(schemas)}; the search_path ({path}) decides which one counts.",
            mend,
        )
    if schemas and not any(schemas.values()) and not wanted.unsure:
        return bad(
            check,
            f"{table} stands in {', '.join(schemas)}; the search_path ({path}) does not find it: Alembic starts anew.",
            mend,
        )
    if path not in _USUAL_PATHS:
        return attention(
            check, f"It is {path} for this role and database: another one finds another {table}.", mend
        )
    return good(check, f"It is {path}, as usual.")


def check_at(versions: list[str], known: Collection[str], heads: Collection[str]) -> Finding:
    """Whether the revision of the database is one of the project.

    Args:
        versions: what the version table holds.
        known: the revisions of the project.
        heads: its heads.
    """
    check, shown = "revision", ", ".join(sorted(versions)) or "the base"
    strange = sorted(set(versions) - set(known))
    if strange:
        return bad(
            check,
            f"The database is at {', '.join(strange)}, which no revision here is.",
            "Deploy the code that has it, or check which database this is: datafixes where",
        )
    if len(versions) != len(set(versions)):
        return bad(check, f"The version table holds a revision twice: {shown}.", "Remove the duplicate row.")
    if set(versions) == set(heads):
        return good(check, f"The database is at {shown}, the head.")
    return good(check, f"The database is at {shown}; the head is {', '.join(sorted(heads))}.")
