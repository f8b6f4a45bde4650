"""Whether every fix that the version table counts as run did run."""

from collections.abc import Collection
from pathlib import Path

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from datafixes.audit.history import ask
from datafixes.audit.stamped import StampedPast, stamped_past
from datafixes.declaration.project_fixes import FixOfRevision, revisions_below
from datafixes.doctor.env_file import read_env
from datafixes.doctor.finding import Finding, attention, bad, good
from datafixes.doctor.server import VersionTable, version_table_of
from datafixes.drafting.survey import see_as_a_run
from datafixes.errors import DatafixError
from datafixes.project import Project
from datafixes.script.literal import name, qualified, text


def versions(connection: Connection, wanted: VersionTable) -> list[str]:
    """What the version table holds; nothing where there is none."""
    at = qualified(wanted.schema, wanted.table) if wanted.schema else name(wanted.table)
    [(there,)] = ask(connection, f"SELECT pg_catalog.to_regclass({text(at)}) IS NOT NULL")
    return [version for (version,) in ask(connection, f"SELECT version_num FROM {at}")] if there else []


def check_known(project: Project, connection: Connection) -> None:
    """Refuse to write a revision where the database is at one that no file declares: Alembic would not find the way.

    Raises:
        DatafixError: it is; the message names the revision, and the ways on.
    """
    env = read_env(Path(project.scripts.dir, "env.py").read_text(encoding="utf-8"))
    with connection.begin_nested() as savepoint:
        see_as_a_run(connection)
        at = versions(connection, version_table_of(env))
        savepoint.rollback()  # the settings of a question come back with it
    known = {one.revision for one in project.scripts.walk_revisions()}
    if strange := sorted(set(at) - known):
        heads = " ".join(project.scripts.get_heads()) or "base"
        raise DatafixError(
            f"The database is at {', '.join(strange)}, which no revision here is, so a new revision could not run.",
            hint="Bring that file back, or set the version to one that is here, if its changes are all there: "
            f"alembic stamp --purge {heads}",
        )


def find_stamped(project: Project, connection: Connection) -> list[StampedPast]:
    """The fixes of a project that were stamped past; none where there is no project, or it cannot be read."""
    try:
        fixes, scripts = project.fixes(), project.scripts
        env = read_env(Path(scripts.dir, "env.py").read_text(encoding="utf-8"))
    except (DatafixError, OSError, SyntaxError, ValueError):
        return []
    try:
        with connection.begin_nested():
            see_as_a_run(connection)  # Alembic's table stands where the role's own search_path finds it
            below = revisions_below(scripts, versions(connection, version_table_of(env)))
            return stamped_past(connection, fixes, below)
    except (DatafixError, DBAPIError):  # an auditor need not be able to read Alembic's table
        return []


def check_stamped(
    connection: Connection, fixes: Collection[FixOfRevision], below: Collection[str]
) -> Finding:
    """Whether a fix was stamped past.

    Args:
        connection: in a transaction that reads.
        fixes: what the project declares.
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
    told = "; ".join(f"{one.fix} (revision {one.revision}): {one.why}" for one in found)
    return bad(
        check, f"The database's revision says that these ran, and they did not: {told}.", found[0].remedy
    )
