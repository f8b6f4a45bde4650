"""The layout of three roles, by the page's own script: fixes run as a writer that cannot undo the protection."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commands import answer
from tests.docs.pages import ROOT, blocks
from tests.projects import FIX, TABLE, Project, new_project
from tests.servers import Database

PAGE = ROOT / "docs/how-to/protect-the-audit.md"
MADE = 'op.create_audit_table("item", name="item_audit", audit_schema="audit")'
TOP = "fix = " + FIX.replace('audit="item_audit"', 'audit="item_audit", audit_schema="audit"').strip()


@pytest.fixture
def project(tmp_path: Path, database: Database) -> Iterator[Project]:
    """The administrator made an audit table and handed it over; the project works as the pipeline."""
    project = new_project(tmp_path, database)
    database.psql(TABLE, "-v", "ON_ERROR_STOP=1")
    database.execute(
        "CREATE SCHEMA audit", "CREATE ROLE pipeline LOGIN", "CREATE ROLE auditor_of_copies LOGIN"
    )
    project.revision("a", None, MADE, top="# Copies.")
    project.revision("b", "a", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=TOP)
    assert project.alembic("upgrade", "a").code == 0
    roles, hand_over = (block.text for block in blocks(PAGE, "sql"))
    database.execute(
        *(statement for statement in roles.strip().splitlines()), hand_over, "GRANT datafixes_writer TO pipeline",
        "GRANT datafixes_reader TO auditor_of_copies", "ALTER TABLE item OWNER TO pipeline",
        "ALTER TABLE alembic_version OWNER TO pipeline",
    )  # fmt: skip
    yield project
    everybody = "pipeline, auditor_of_copies, datafixes_owner, datafixes_writer, datafixes_reader"
    database.execute(f"DROP OWNED BY {everybody} CASCADE", f"DROP ROLE {everybody}")


def as_pipeline(project: Project) -> str:
    return f"url={project.database.url_for('pipeline')}"


def test_fixes_reverts_and_questions_run_as_the_writer(project: Project) -> None:
    database, pipeline = project.database, as_pipeline(project)
    was = database.rows("TABLE item ORDER BY id")
    for step, reverts in (("upgrade b", False), ("downgrade a", True), ("upgrade b", False)):
        ran = project.process("-x", pipeline, *step.split())
        assert ran.code == 0, ran.err
        assert (database.rows("TABLE item ORDER BY id") == was) is reverts
    assert database.value("SELECT applied_by FROM audit.datafix_run LIMIT 1") == "pipeline"
    [found] = answer(project, "-x", pipeline, "open")["fixes"]
    assert found["can_be_reverted"]
    assert len(database.rows("TABLE audit.datafix_show", role="auditor_of_copies")) == 12


def test_doctor_is_content_with_it(project: Project) -> None:
    found = answer(project, "-x", as_pipeline(project), "doctor", code=None)["findings"]
    told = {one["check"]: (one["state"], one["evidence"]) for one in found}
    assert told["owner"] == ("good", "pipeline runs fixes, and owns neither the copies nor their schema.")
    assert told["append-only"][0] == told["privileges"][0] == "good"
    assert [one for one in found if one["state"] == "bad"] == []


@pytest.mark.parametrize("role", ["pipeline", "auditor_of_copies"])
def test_neither_writer_nor_reader_can_undo_it(project: Project, role: str) -> None:
    database = project.database
    assert project.process("-x", as_pipeline(project), "upgrade", "b").code == 0
    before = database.dump()
    for statement in (
        "UPDATE audit.item_audit SET note = 'forged'",
        "DELETE FROM audit.item_audit",
        "TRUNCATE audit.item_audit",
        "UPDATE audit.datafix_run SET reason = 'forged'",
        "DELETE FROM audit.datafix_run_table",
        "ALTER TABLE audit.item_audit DISABLE TRIGGER ALL",
        "DROP TRIGGER datafix_append_only ON audit.item_audit",
        "DROP FUNCTION audit.datafix_append_only() CASCADE",
        "DROP TABLE audit.item_audit CASCADE",
        "DROP SCHEMA audit CASCADE",
        "SET ROLE datafixes_owner",
        "CREATE RULE swallow AS ON INSERT TO audit.item_audit DO INSTEAD NOTHING",
    ):
        with pytest.raises(Exception, match=r"permission denied|must be owner|does not change"):
            database.execute(statement, role=role)
    assert database.dump() == before
