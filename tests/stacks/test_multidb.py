"""A project made by `alembic init -t multidb`: two databases, one chain of revisions."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import alembic
from tests.cli.commands import answer, datafixes
from tests.projects import FIX, TABLE, Project, Ran, new_project
from tests.servers import Database, Server
from tests.tampering import tamper

TEMPLATE = Path(alembic.__file__).parent / "templates/multidb"
REVISION = """
from alembic import op
from datafixes import DataFix, Rows, Update, sql

revision = {revision!r}
down_revision = {after!r}
fix = {fix}

def upgrade(engine_name):
    globals()["upgrade_%s" % engine_name]()

def downgrade(engine_name):
    globals()["downgrade_%s" % engine_name]()

def upgrade_engine1():
    {up}

def downgrade_engine1():
    {down}

def upgrade_engine2():
    {up}

def downgrade_engine2():
    {down}
"""


@dataclass(frozen=True)
class Two:
    """A project, and its second database."""

    project: Project
    second: Database


@pytest.fixture
def two(tmp_path: Path, server: Server, database: Database) -> Iterator[Two]:
    with server.database(f"{database.name}_too") as second:
        for one in (database, second):
            one.psql(TABLE, "-v", "ON_ERROR_STOP=1")
        project = new_project(tmp_path, database)
        env = (TEMPLATE / "env.py").read_text("utf-8").replace("fileConfig(config.config_file_name)", "pass")
        project.env(f"import datafixes.operations\n{env}")
        (tmp_path / "migrations/script.py.mako").write_text(
            (TEMPLATE / "script.py.mako").read_text("utf-8"), "utf-8"
        )
        sections = "".join(
            f"[{name}]\nsqlalchemy.url = {one.url.replace('%', '%%')}\n"
            for name, one in (("engine1", database), ("engine2", second))
        )
        (tmp_path / "alembic.ini").write_text(
            f"[alembic]\nscript_location = %(here)s/migrations\npath_separator = os\ndatabases = engine1, engine2\n{sections}",
            "utf-8",
        )
        yield Two(project, second)


def write(project: Project) -> None:
    make = 'op.create_audit_table("item", name="item_audit")', 'op.drop_audit_table("item_audit")'
    acts = "op.apply_datafix(fix)", "op.revert_datafix(fix)"
    for revision, after, fix, (up, down) in (("a", None, "None", make), ("b", "a", FIX.strip(), acts)):
        text = REVISION.format(revision=revision, after=after, fix=fix, up=up, down=down)
        (project.directory / f"migrations/versions/{revision}.py").write_text(text, "utf-8")


def upgrade(project: Project) -> None:
    ran = project.process("upgrade", "head")
    assert ran.code == 0, ran.err


def test_a_plan_shows_every_database_and_keeps_nothing(two: Two) -> None:
    write(two.project)
    before = [one.dump() for one in (two.project.database, two.second)]
    planned = answer(two.project, "plan")
    assert [(one["name"], one["plan"]["database"].split()[0]) for one in planned["plans"]] == [
        ("engine1", two.project.database.name),
        ("engine2", two.second.name),
    ]
    runs = [step["runs"] for one in planned["plans"] for step in one["plan"]["steps"] if step["runs"]]
    assert [run["reversal"]["proven"] for [run] in runs] == [True, True]
    assert [one.dump() for one in (two.project.database, two.second)] == before
    upgrade(two.project)
    for one in (two.project.database, two.second):
        assert one.value("SELECT count(*) FROM item WHERE status = 'closed'") == 2
    two.second.execute("UPDATE item SET status = 'other' WHERE id = 1")
    down = datafixes(two.project, "plan", "--downgrade", "a")
    assert (down.code, "engine2: b would be refused" in down.out, "engine1: b" in down.out) == (3, True, True)


def test_a_fix_is_written_for_one_of_the_databases_and_undone(two: Two) -> None:
    words = "new", "close", "--table", "item", "--where", "id = 1", "--set", "status=closed"
    unchosen = _run(two.project, *words)
    assert unchosen.code == 1  # which database is not said
    new = _run(two.project, "-n", "engine2", *words)
    assert new.code == 0, new.err
    assert len(list(two.project.directory.glob("migrations/versions/*.py"))) == 2
    # Each database has copies of its own: those of engine2 will exist, those of engine1 will not.
    for name, files in (("engine2", 1), ("engine1", 2)):
        other = _run(two.project, "-n", name, "new", f"close 2 of {name}", *words[2:5], "id = 2", *words[6:])
        assert len(other.out.splitlines()) == files, other.err
    planned = _run(two.project, "plan")
    assert (planned.code, "Can be reverted  ✓ yes" in planned.out) == (0, True), planned.err
    upgrade(two.project)
    for one, closed in ((two.project.database, [(2,)]), (two.second, [(1,), (2,)])):
        assert one.rows("SELECT id FROM item WHERE status = 'closed' ORDER BY id") == closed
    assert "close" in _run(two.project, "-n", "engine2", "history").out
    # Of the other database, the fix is not missing.
    assert [one["plan"]["stamped_past"] for one in answer(two.project, "plan")["plans"]] == [[], []]
    # Where the URL is given in another way, the database's name is still needed.
    reverted = _run(two.project, "-x", f"url={two.second.url}", "revert", "close")
    assert (reverted.code, reverted.last_line) == (
        1,
        "FAILED: This project has several databases: engine1, engine2. Choose one: datafixes -n engine1 ...",
    )
    assert _run(two.project, "-n", "engine2", "revert", "close").code == 0
    upgrade(two.project)
    assert two.second.value("SELECT status FROM item WHERE id = 1") == "open"
    # In its own database, it would be.
    tamper(two.second, "DELETE FROM datafix_run_table; DELETE FROM datafix_run")
    past = [one["plan"]["stamped_past"] for one in answer(two.project, "plan")["plans"]]
    assert [[one["fix"] for one in found] for found in past] == [[], ["close", "close_2_of_engine2"]]


def _run(project: Project, *words: str) -> Ran:
    return datafixes(None, "-c", str(project.directory / "alembic.ini"), *words)
