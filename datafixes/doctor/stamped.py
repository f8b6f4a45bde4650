"""Whether every fix at or below the database's revision did run."""

from collections.abc import Collection
from pathlib import Path

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from datafixes.audit.history import ask
from datafixes.audit.stamped import StampedPast, stamped_past
from datafixes.declaration.project_fixes import FixOfRevision, of_run, revisions_below
from datafixes.doctor.env_file import read_env
from datafixes.doctor.server import VersionTable, version_table_of
from datafixes.drafting.survey import see_as_a_run
from datafixes.errors import DatafixError
from datafixes.project import CHOSEN, Project
from datafixes.report.document import Fact, attention, bad, good
from datafixes.script.literal import name, qualified, text


def versions(connection: Connection, wanted: VersionTable) -> list[str]:
    """The rows of the version table, if it exists."""
    at = qualified(wanted.schema, wanted.table) if wanted.schema else name(wanted.table)
    [(there,)] = ask(connection, f"SELECT pg_catalog.to_regclass({text(at)}) IS NOT NULL")
    return [version for (version,) in ask(connection, f"SELECT version_num FROM {at}")] if there else []


def check_known(project: Project, connection: Connection) -> None:
    """Refuse to write a revision if the database is at one without a file: Alembic could not upgrade from there.

    Raises:
        DatafixError: it is; the message names the revision, and the hint how to continue.
    """
    env = read_env(Path(project.scripts.dir, "env.py").read_text(encoding="utf-8"))
    with connection.begin_nested() as savepoint:
        see_as_a_run(connection)
        at = versions(connection, version_table_of(env))
        savepoint.rollback()  # also resets the settings of the query
    known = {one.revision for one in project.scripts.walk_revisions()}
    if strange := sorted(set(at) - known):
        heads = " ".join(project.scripts.get_heads()) or "base"
        raise DatafixError(
            f"The database is at {', '.join(strange)}, which is not a revision of this project, so a new "
            "revision could not run.",
            hint="Restore that file, or, if the database has all changes up to the head, set the version: "
            f"alembic stamp --purge {heads}",
        )


def find_stamped(project: Project, connection: Connection) -> list[StampedPast]:
    """The fixes of a project that were stamped past; empty without a readable project."""
    try:
        fixes, scripts = project.fixes(), project.scripts
        env = read_env(Path(scripts.dir, "env.py").read_text(encoding="utf-8"))
    except (DatafixError, OSError, SyntaxError, ValueError):
        return []
    try:
        with connection.begin_nested():
            see_as_a_run(connection)  # the role's own search_path finds Alembic's table
            below = revisions_below(scripts, versions(connection, version_table_of(env)))
            return stamped_past(connection, as_in_this_run(project, connection, fixes), below)
    except (DatafixError, DBAPIError):  # an auditor may lack the right to read Alembic's table
        return []


def as_in_this_run(
    project: Project, connection: Connection, fixes: Collection[FixOfRevision]
) -> list[FixOfRevision]:
    """The fixes of a project as they are applied to the database and the schema that the connection sees."""
    [(schema,)] = ask(connection, "SELECT pg_catalog.current_schema()")
    return of_run(fixes, project.config.attributes.get(CHOSEN), schema or "public")


def check_stamped(connection: Connection, fixes: Collection[FixOfRevision], below: Collection[str]) -> Fact:
    """Whether a fix was stamped past.

    Args:
        connection: in a read-only transaction.
        fixes: the project's fixes.
        below: the revisions at or below the database's.
    """
    check = "stamped past"
    try:
        with connection.begin_nested():
            found = stamped_past(connection, fixes, below)
    except DatafixError as error:
        return attention(check, f"The ledger cannot be read: {error.message}", error.hint)
    if not found:
        return good(check, "Every fix up to the database's revision has run, or was declined.")
    named = "; ".join(f"{one.fix} (revision {one.revision}): {one.why}" for one in found)
    return bad(
        check, f"The database's revision is past these fixes, but they did not run: {named}.", found[0].remedy
    )
