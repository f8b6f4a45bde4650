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
    [(table,)] = ask(connection, "SELECT CAST(pg_catalog.to_regclass('alembic_version') AS text)")
    at = {version for (version,) in ask(connection, f"SELECT version_num FROM {table}")} if table else set()
    heads = set(project.scripts.get_heads())
    if at != heads:
        shown = [", ".join(sorted(one)) or "the base" for one in (at, heads)]
        lines.append(
            f"It is at {shown[0]}, and the project's head is {shown[1]}: revisions in between may change the rows."
        )
    return lines
