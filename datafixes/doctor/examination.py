"""Runs all checks: of the project first, then of its database, if it can be reached."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from datafixes.declaration.project_fixes import FixOfRevision, revisions_below
from datafixes.doctor.citus import check_citus
from datafixes.doctor.env_file import EnvFile
from datafixes.doctor.ledgers import check_ledgers, check_running, check_seals, check_sequences
from datafixes.doctor.plugin import alembic_version, check_autogenerate, plugin_is_installed
from datafixes.doctor.project_checks import check_env_file, check_fixes, check_folder, check_revisions
from datafixes.doctor.protection import check_protection
from datafixes.doctor.rights import check_audit_tables, check_rights
from datafixes.doctor.server import check_server, check_version_table, version_table_of
from datafixes.doctor.stamped import as_in_this_run, check_stamped, versions
from datafixes.drafting.survey import see_as_a_run
from datafixes.errors import DatabaseNotFound, DatafixError
from datafixes.project import Project, unreadable
from datafixes.report.document import Fact, attention, bad


@dataclass(frozen=True)
class Examination:
    """The findings.

    Attributes:
        project: about the files.
        database: about the database.
    """

    project: tuple[Fact, ...]
    database: tuple[Fact, ...]

    @property
    def findings(self) -> tuple[Fact, ...]:
        """All findings."""
        return (*self.project, *self.database)

    @property
    def is_fine(self) -> bool:
        """Whether nothing must be fixed."""
        return all(one.state != "bad" for one in self.findings)


@dataclass
class _Known:
    """Results of the project's checks that those of the database need."""

    env: EnvFile | None = None
    revisions: frozenset[str] = frozenset()
    heads: tuple[str, ...] = ()
    fixes: tuple[FixOfRevision, ...] = ()
    unreadable: bool = False
    ledgers: bool = False


def examine(project: Project) -> Examination:
    """Check a project and its database; nothing is changed."""
    known = _Known()
    files = [check_folder(*dict.fromkeys((project.directory, Path.cwd())))]
    try:
        found, known.env = check_env_file(Path(project.scripts.dir))
        files += found
        known.revisions = frozenset(one.revision for one in project.scripts.walk_revisions())
        known.heads = tuple(project.scripts.get_heads())
        known.fixes = tuple(project.fixes())
        files.append(check_fixes(list(known.fixes)))
    except DatafixError as error:
        known.unreadable = True
        files.append(bad("revisions", error.message, error.hint))
    except Exception as error:  # a revision's own code may raise anything
        known.unreadable = True
        told = unreadable(error)
        files.append(bad("revisions", told.message, told.hint))
    database, width = _database(project, known)
    if known.env is not None and known.env.calls:
        used = known.ledgers or bool(known.fixes)
        files.append(check_autogenerate(known.env, alembic_version(), plugin_is_installed(), used))
    if not known.unreadable:
        files += check_revisions(project.scripts, width or 32)
    return Examination(tuple(files), tuple(database))


def _database(project: Project, known: _Known) -> tuple[list[Fact], int | None]:
    findings: list[Fact] = []
    width = None
    try:
        with project.reading() as connection:
            see_as_a_run(connection)
            fixes = as_in_this_run(project, connection, known.fixes)
            findings += check_server(connection)
            findings += check_citus(connection)
            if not known.unreadable:
                found, width = check_version_table(
                    connection, version_table_of(known.env), known.revisions, known.heads
                )
                findings += found
                below = revisions_below(project.scripts, versions(connection, version_table_of(known.env)))
                findings.append(check_stamped(connection, fixes, below))
            findings += check_rights(connection, [one.fix for one in fixes])
            findings += check_audit_tables(connection)
            findings += check_protection(connection)
            ledgers = check_ledgers(connection)
            known.ledgers = bool(ledgers)
            findings += ledgers
            findings += check_seals(connection)
            findings += check_running(connection)
            findings += check_sequences(connection, [one.fix for one in fixes])
    except DatabaseNotFound:
        findings.append(attention("database", "None is configured, so none was checked.", "datafixes where"))
    except DatafixError as error:
        why = " ".join(error.message.split())
        findings.append(bad("database", f"It cannot be queried: {why}", error.hint or "datafixes where"))
    return findings, width
