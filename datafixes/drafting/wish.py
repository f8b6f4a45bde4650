"""The wishes of an author, and the draft made from them."""

from dataclasses import dataclass

from sqlalchemy.engine import Connection

from datafixes.audit.history import ask
from datafixes.declaration.recorded import Declared
from datafixes.declaration.rows import AtMost
from datafixes.drafting.copies import Copies
from datafixes.drafting.survey import TableSeen
from datafixes.errors import DatafixError
from datafixes.project import Project
from datafixes.settings.values import masked

OF_VERSIONS = frozenset({"version_num"})
"""The columns of Alembic's version table, which has the name and the schema that env.py gives it."""

_VERSION_TABLES = f"""
SELECT CAST(CAST(c.oid AS pg_catalog.regclass) AS pg_catalog.text) FROM pg_catalog.pg_class AS c
 WHERE c.relkind IN ('r', 'p') AND pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE')
   AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
   AND ARRAY(SELECT a.attname FROM pg_catalog.pg_attribute AS a
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) = '{{{",".join(OF_VERSIONS)}}}'
 ORDER BY NOT pg_catalog.pg_table_is_visible(c.oid), c.relname <> 'alembic_version', 1
"""


@dataclass(frozen=True)
class Wish:
    """The wishes of an author.

    Attributes:
        message: what the revision does, in a few words.
        table: the table of a declared fix.
        schema: its schema.
        sets: ``column=value``, each.
        expressions: ``column=expression``, each.
        where: the condition for the rows.
        delete: whether to delete the rows.
        statements: the SQL of a recorded fix.
        reason: why.
        name: the name of the fix.
        audit: the name of the audit table.
        key: the columns of the key, separated by commas.
        at_most: accept any number of rows up to this, instead of the rows found.
        force: write a declared fix even if no row matches.
    """

    message: str
    table: str = ""
    schema: str | None = None
    sets: tuple[str, ...] = ()
    expressions: tuple[str, ...] = ()
    where: str = ""
    delete: bool = False
    statements: str = ""
    reason: str | None = None
    name: str | None = None
    audit: str | None = None
    key: str | None = None
    at_most: int | None = None
    force: bool = False


@dataclass(frozen=True)
class Draft:
    """A draft of a fix.

    Attributes:
        fix: the declaration.
        copies: its tables, each with its audit table.
        notes: the findings, in lines for the author.
    """

    fix: Declared
    copies: tuple[tuple[TableSeen, Copies], ...]
    notes: tuple[str, ...]


def bound(at_most: int, found: int, what: str) -> AtMost:
    """The bound that the author wishes.

    Raises:
        DatafixError: more rows were found.
    """
    if found > at_most:
        raise DatafixError(f"{what}: {found} rows were found, more than --at-most {at_most}.")
    return AtMost(at_most)


def looked_at(connection: Connection, project: Project) -> list[str]:
    """The database; and a warning if it is not at the head, because later revisions may change the rows."""
    lines = [f"Database: {masked(connection.engine.url.render_as_string(hide_password=True))}"]
    at, heads = _versions(connection, project), set(project.scripts.get_heads())
    if at != heads:
        shown = [", ".join(sorted(one)) or "the base" for one in (at, heads)]
        lines.append(
            f"It is at {shown[0]}, and the project's head is {shown[1]}: revisions in between may change the rows."
        )
    return lines


def _versions(connection: Connection, project: Project) -> set[str]:
    """The database's revisions: of the version tables, those that hold revisions of this project; or else none."""
    known = {one.revision for one in project.scripts.walk_revisions()}
    tables = [table for (table,) in ask(connection, _VERSION_TABLES)]
    found = [
        {version for (version,) in ask(connection, f"SELECT version_num FROM {table}")} for table in tables
    ]
    return next((at for at in found if at and at <= known), found[0] if found else set())
