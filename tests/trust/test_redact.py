"""Values in images are erased by a run of its own; all other images stay proven, and are reverted."""

from pathlib import Path

import pytest

from tests.cli.commands import answer, datafixes
from tests.projects import Project
from tests.servers import Database
from tests.trust.audits import states, three_runs

SECRET = "note = 'x'"


@pytest.fixture
def project(tmp_path: Path, database: Database) -> Project:
    """Runs 1 to 3 applied, reverted and applied a fix of items 1 and 2; the note of item 2 is personal."""
    return three_runs(tmp_path, database)


def redact(project: Project, arguments: str, *, name: str = "c", after: str = "b", offline: bool = False) -> str:
    """Write the revision and run it; what the log says."""
    project.revision(name, after, f'op.redact_audit("item_audit", {arguments})', top="# Erasure.")
    if offline:
        return project.database.psql(project.script(f"{after}:{name}"), "-v", "ON_ERROR_STOP=1").stderr
    ran = project.alembic("upgrade", name)
    assert ran.code == 0, ran.out + ran.err
    return ran.err


def test_first(project: Project) -> None:
    database = project.database
    print(redact(project, f'where="{SECRET}", columns=["note"], reason="Asked for."'))
    print(database.rows("SELECT * FROM item_audit ORDER BY audit_id"))
    print(database.rows("SELECT * FROM datafix_run ORDER BY run_id DESC LIMIT 1"))
    print(database.rows("SELECT run_id, position, audit_id, redacted_by FROM datafix_salt"))
    print(datafixes(project, "verify-audit").out)
    print(database.rows("SELECT * FROM datafix_show"))
    assert states(project) == {1: "redacted", 2: "redacted", 3: "redacted", 4: "proven"}
