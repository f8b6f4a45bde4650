"""What every supported Alembic must do: an upgrade, a downgrade, a script, a plan, a revert, as a pipeline runs them."""

from pathlib import Path

import pytest

from tests.cli.commands import datafixes
from tests.matrix.test_loading import HAS_PLUGINS
from tests.projects import ENV, STOCK_ENV, Project, our_project, project_with_fix
from tests.servers import LEDGER, Database

START = [(1, "open", 10), (2, "open", 20), (3, "open", 30)]
FIXED = [(1, "closed", 110), (2, "closed", 120), (3, "open", 30)]

RECORDED = """
from datafixes import RecordedFix, Table

fix = RecordedFix(name="record_items", reason="By hand.", tables=[Table("item", "item_audit", updated=2)])
"""
RECORD = """
with op.record_datafix(fix) as body:
    body.execute("UPDATE item SET status = 'closed', amount = amount + 100 WHERE id < 3")
"""

# Where Alembic has plugins, env.py is what `alembic init` writes, to the letter.
ENVS = {
    "ours": ENV,
    "stock": STOCK_ENV.removeprefix("import datafixes.operations\n") if HAS_PLUGINS else STOCK_ENV,
}


def items(database: Database) -> list[tuple[object, ...]]:
    return database.rows("SELECT id, status, amount FROM item ORDER BY id")


def run(project: Project, *arguments: str) -> None:
    ran = project.alembic(*arguments)
    assert ran.code == 0, ran.err


@pytest.mark.parametrize("env", ENVS)
def test_up_and_down_and_up(env: str, database: Database, tmp_path: Path) -> None:
    project = project_with_fix(tmp_path, database, ENVS[env])
    for command, wanted, version in (("upgrade", FIXED, "b"), ("downgrade", START, "a")):
        ran = project.process(command, version)
        assert ran.code == 0, ran.err
        assert (items(database), project.versions) == (wanted, {version})
    run(project, "upgrade", "head")
    run(project, "downgrade", "a")
    assert (items(database), project.outcomes) == (START, ["applied", "reverted"] * 2)


def test_a_recorded_fix(database: Database, tmp_path: Path) -> None:
    project = project_with_fix(tmp_path, database, up=RECORD, top=RECORDED)
    run(project, "upgrade", "head")
    assert items(database) == FIXED
    run(project, "downgrade", "a")
    assert items(database) == START


@pytest.mark.parametrize("env", ENVS)
def test_the_script_does_what_a_run_does(env: str, database: Database, tmp_path: Path) -> None:
    project = project_with_fix(tmp_path, database, ENVS[env])
    printed = {}
    for step, command in (("a:b", "upgrade"), ("b:a", "downgrade")):
        ran = project.alembic(command, step, "--sql")
        assert ran.code == 0, ran.err
        printed[step] = ran.out
    database.psql(printed["a:b"], "-v", "ON_ERROR_STOP=1")
    assert (items(database), project.versions) == (FIXED, {"b"})
    database.psql(printed["b:a"], "-v", "ON_ERROR_STOP=1")
    assert (items(database), project.versions) == (START, {"a"})


def test_a_refusal_is_one_line_and_changes_nothing(database: Database, tmp_path: Path) -> None:
    project = project_with_fix(tmp_path, database)
    database.execute("UPDATE item SET symbol = 'SNOW' WHERE id = 2")
    before = database.dump(*LEDGER)
    ran = project.alembic("upgrade", "head")
    assert ran.code == 255
    assert "Traceback" not in ran.err
    assert "SNOW" in ran.last_line
    assert database.dump(*LEDGER) == before


def test_a_plan_keeps_nothing_and_a_revert_is_a_revision(database: Database, tmp_path: Path) -> None:
    project = project_with_fix(tmp_path, database)
    before = database.dump()
    ran = datafixes(project, "plan")
    assert (ran.code, "status" in ran.out) == (0, True), ran.err
    assert database.dump() == before
    run(project, "upgrade", "head")
    ran = datafixes(project, "revert", "close_items")
    assert ran.code == 0, ran.err
    run(project, "upgrade", "head")
    assert items(database) == START
    assert project.outcomes == ["applied", "reverted"]


def test_our_own_migrations(database: Database) -> None:
    project = our_project(database)
    book = (project.directory / "tests/fixtures/book.sql").read_text(encoding="utf-8")
    run(project, "upgrade", "013")
    database.psql(book, "-v", "ON_ERROR_STOP=1")
    before = database.dump("public.alembic_version", *LEDGER)
    run(project, "upgrade", "head")
    assert (
        database.value("SELECT count(*) FROM active_positions WHERE close_reason = 'manual_reconciliation'")
        == 7
    )
    run(project, "downgrade", "014")
    after = database.dump("public.alembic_version", "public.position_reconciliation_audit", *LEDGER)
    assert after == before
