"""Hazards of revisions: branches, stamps, edited files, several runs at once, and who finds the operations."""

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import alembic
from tests.projects import ENV, FIX, STOCK_ENV, TABLE, Project, new_project, our_project, project_with_fix
from tests.servers import LEDGER, Database

START = [(1, "open", 10), (2, "open", 20), (3, "open", 30)]
FIXED = [(1, "closed", 110), (2, "closed", 120), (3, "open", 30)]
STOP = ("-v", "ON_ERROR_STOP=1")


def items(database: Database) -> list[tuple[object, ...]]:
    return database.rows("SELECT id, status, amount FROM public.item ORDER BY id")


def fix_named(name: str, expect: str, where: str = "status = 'open'") -> str:
    text = FIX.strip().replace("close_items", name).replace('{1: "QCOM", 2: "NOW"}', expect)
    return f"fix = {text}".replace("status = 'open'", where)


def run(project: Project, *arguments: str) -> None:
    ran = project.alembic(*arguments)
    assert ran.code == 0, ran.out + ran.err


def refused(project: Project, *arguments: str) -> str:
    """Run a command that must fail and change nothing; what the user is told last."""
    before = project.database.dump(*LEDGER)
    ran = project.alembic(*arguments)
    assert ran.code == 255
    assert "Traceback" not in ran.err
    assert project.database.dump(*LEDGER) == before
    return ran.last_line


# --- several runs at once


def test_b19_b20_b21_b22_runs_at_once_do_everything_once(database: Database, tmp_path: Path) -> None:
    database.psql(TABLE, *STOP)
    project = new_project(tmp_path, database)
    batches = (
        "with op.get_context().autocommit_block():\n    op.execute('UPDATE item SET amount = amount + 1')"
    )
    project.revision("a", None, 'op.create_audit_table("item", name="item_audit")')
    project.revision("b", "a", "op.apply_datafix(fix)")
    project.revision("c", "b", batches, top="fix = None")
    running = [
        subprocess.Popen(
            project.command_line("upgrade", "head"), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(3)
    ]
    ended = [(*process.communicate(timeout=60), process.returncode) for process in running]
    assert [code for *_, code in ended] == [0, 0, 0], ended
    assert (project.versions, project.outcomes) == ({"c"}, ["applied"])
    assert items(database) == [(1, "closed", 111), (2, "closed", 121), (3, "open", 31)]


# --- identifiers


@pytest.mark.parametrize("online", [True, False], ids=["online", "offline"])
def test_b28_a_revision_id_that_does_not_fit_is_refused_before_anything_runs(
    online: bool, database: Database, tmp_path: Path
) -> None:
    project = project_with_fix(tmp_path, database)
    long_id = "b" * 36
    (tmp_path / "migrations/versions/b.py").unlink()
    project.revision(long_id, "a", "op.apply_datafix(fix)")
    words = "has 36 characters, and public.alembic_version keeps 32"
    if online:
        assert words in refused(project, "upgrade", "head")
    else:
        done = database.psql(project.script(f"a:{long_id}"), *STOP, check=False)
        assert words in done.stderr
    assert (items(database), project.versions) == (START, {"a"})


def test_relative_and_shortened_revisions(database: Database, tmp_path: Path) -> None:
    project = project_with_fix(tmp_path, database)
    (tmp_path / "migrations/versions/b.py").unlink()
    project.revision("bead1234", "a", "op.apply_datafix(fix)", "op.revert_datafix(fix)")
    for up, down in (("+1", "-1"), ("bead", "a"), ("head", "bead1234-1")):
        run(project, "upgrade", up)
        assert items(database) == FIXED
        run(project, "downgrade", down)
        assert items(database) == START
    database.psql(project.alembic("upgrade", "a:+1", "--sql").out, *STOP)
    assert (items(database), project.versions) == (FIXED, {"bead1234"})
    database.psql(project.alembic("downgrade", "bead:-1", "--sql").out, *STOP)
    assert (items(database), project.versions) == (START, {"a"})


# --- branches


@pytest.fixture
def branches(database: Database, tmp_path: Path) -> Project:
    """Two fixes on two branches over the same rows, and a merge with a fix of its own."""
    project = project_with_fix(tmp_path, database)
    project.revision("x", "a", "op.apply_datafix(fix)", "op.revert_datafix(fix)",
                     top=fix_named("on_the_branch", '{2: "NOW", 3: "SPY"}', "amount > 0"))  # fmt: skip
    return project


def merge(project: Project) -> None:
    top = fix_named("in_the_merge", '{1: "QCOM"}', "amount > 0") + "\n"
    project.revision("m", None, "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=top)
    file = project.directory / "migrations/versions/m.py"
    file.write_text(
        file.read_text(encoding="utf-8").replace("down_revision = None", 'down_revision = ("b", "x")'),
        encoding="utf-8",
    )


def test_b29_fixes_on_two_branches_revert_in_order_or_not_at_all(
    branches: Project, database: Database
) -> None:
    assert "Multiple head revisions are present" in refused(branches, "upgrade", "head")
    run(branches, "upgrade", "b")
    run(branches, "upgrade", "x")
    assert branches.versions == {"b", "x"}
    both = [(1, "closed", 110), (2, "closed", 220), (3, "closed", 130)]
    assert items(database) == both
    # b came first: what it left in row 2 is not there any more, and the refusal names the fix that came later.
    ran = branches.alembic("downgrade", "b@a")
    assert ran.code == 255
    assert "2 changed since" in ran.last_line
    assert "on_the_branch (run 2)" in ran.err
    assert (branches.versions, items(database)) == ({"b", "x"}, both)
    run(branches, "downgrade", "x@a")
    run(branches, "downgrade", "a")
    assert (branches.versions, items(database)) == ({"a"}, START)


def test_b29_a_merge_with_a_fix_goes_up_and_down(branches: Project, database: Database) -> None:
    merge(branches)
    for name in ("b", "x", "head"):
        run(branches, "upgrade", name)
    assert branches.versions == {"m"}
    top = items(database)
    assert top[0] == (1, "closed", 210)
    run(branches, "downgrade", "b")
    assert branches.versions == {"b", "x"}
    database.execute("DELETE FROM alembic_version WHERE version_num = 'x'")
    script = branches.alembic("upgrade", "b:m", "--sql")
    assert "this runs at b, x only" in database.psql(script.out, check=False).stderr
    assert branches.versions == {"b"}
    database.execute("INSERT INTO alembic_version VALUES ('x')")
    run(branches, "upgrade", "m")
    for name in ("b", "x@a", "a"):  # the fix that came last goes first
        run(branches, "downgrade", name)
    assert (branches.versions, items(database)) == ({"a"}, START)


def test_b29_a_fix_behind_a_revision_that_another_branch_depends_on(
    database: Database, tmp_path: Path
) -> None:
    project = project_with_fix(tmp_path, database)
    project.revision("z", None, "pass", top="depends_on = 'a'")
    run(project, "upgrade", "z")
    assert project.versions == {"z"}  # a is implied
    run(project, "upgrade", "b")
    assert (project.versions, items(database)) == ({"b", "z"}, FIXED)
    run(project, "downgrade", "b@a")
    assert items(database) == START


@pytest.mark.parametrize("start", ["the other branch", "base"])
def test_b29_a_script_from_a_branch_point_needs_the_point(
    start: str, branches: Project, database: Database
) -> None:
    script = branches.script("a:b")
    if start == "base":
        database.execute("DELETE FROM alembic_version")
    else:
        run(branches, "upgrade", "x")
    before = database.dump()
    for how in ("", "\\set ON_ERROR_ROLLBACK on\n"):
        database.psql(how + script, check=False)
        assert database.dump() == before


# --- the version table is not the truth about fixes


def test_b30_another_search_path_does_not_run_a_fix_again(database: Database, tmp_path: Path) -> None:
    project = project_with_fix(tmp_path, database, STOCK_ENV)
    run(project, "upgrade", "b")
    database.execute("CREATE SCHEMA other", f"ALTER DATABASE {database.name} SET search_path = other")
    # Alembic finds no version table there, and makes one.
    assert "a relation of that name already exists" in refused(project, "upgrade", "head")
    run(project, "stamp", "a")
    assert "applied already, by run 1" in refused(project, "upgrade", "head")
    assert items(database) == FIXED
    database.execute("DROP SCHEMA other CASCADE")
    # Ours names the version table with its schema.
    project.env(ENV.replace("(context)", '(context, version_table_schema="public")'))
    run(project, "upgrade", "head")
    run(project, "downgrade", "a")
    assert items(database) == START


@pytest.mark.parametrize("online", [True, False], ids=["online", "offline"])
def test_b30_a_version_table_of_another_name_is_the_one_that_counts(
    online: bool, database: Database, tmp_path: Path
) -> None:
    database.psql(TABLE + 'CREATE SCHEMA "Ops";', *STOP)
    named = '(context, version_table="my Versions", version_table_schema="Ops")'
    project = new_project(tmp_path, database, ENV.replace("(context)", named))
    project.revision("a", None, 'op.create_audit_table("item", name="item_audit")')
    project.revision("b", "a", "op.apply_datafix(fix)", "op.revert_datafix(fix)")
    run(project, "upgrade", "a")
    # One that Alembic does not read must not decide.
    database.execute(
        "CREATE TABLE alembic_version (version_num text)", "INSERT INTO alembic_version VALUES ('b')"
    )
    for command, step, rows in (("upgrade", "a:b", FIXED), ("downgrade", "b:a", START)):
        if online:
            run(project, command, step[-1])
        else:
            database.psql(project.script(step), *STOP)
        assert items(database) == rows
        assert database.value('SELECT version_num FROM "Ops"."my Versions"') == step[-1]


def test_b31_a_stamp_back_does_not_run_a_fix_again(database: Database, tmp_path: Path) -> None:
    project = project_with_fix(tmp_path, database)
    run(project, "upgrade", "b")
    run(project, "stamp", "a")
    told = refused(project, "upgrade", "head")
    assert "datafix close_items: applied already, by run 1" in told
    assert "alembic stamp b" in told
    run(project, "stamp", "b")
    run(project, "upgrade", "head")
    run(project, "downgrade", "a")
    run(project, "stamp", "b")
    assert "there is nothing to revert: run" in refused(project, "downgrade", "a")
    assert items(database) == START


def test_b31_a_version_table_with_a_duplicate_or_unknown_revision_is_refused(
    database: Database, tmp_path: Path
) -> None:
    project = project_with_fix(tmp_path, database)
    script = project.script("a:b")
    database.execute(
        "ALTER TABLE alembic_version DROP CONSTRAINT alembic_version_pkc",
        "INSERT INTO alembic_version VALUES ('a')",
    )
    assert "holds a revision twice: a, a" in refused(project, "upgrade", "b")
    assert "holds a revision twice: a, a" in database.psql(script, check=False).stderr
    database.execute("UPDATE alembic_version SET version_num = 'rolled_back'")
    for command in ("upgrade", "downgrade"):
        assert "Can't locate revision identified by 'rolled_back'" in refused(project, command, "a")
    assert items(database) == START


def test_b36_a_revision_edited_after_it_ran_gives_back_what_ran(database: Database, tmp_path: Path) -> None:
    project = project_with_fix(tmp_path, database)
    run(project, "upgrade", "b")
    edited = f"fix = {FIX.strip()}".replace("+ 100", "+ 1")
    project.revision("b", "a", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=edited)
    run(project, "stamp", "a")
    assert "the name was used before, by run 1 (revision b) with other content" in refused(
        project, "upgrade", "b"
    )
    assert items(database) == FIXED
    # A script knows no more than the file; the ledger decides there too.
    script = project.script("b:a")
    run(project, "stamp", "b")
    done = project.alembic("downgrade", "a")
    assert (done.code, items(database)) == (0, START)
    [warned] = [line for line in done.err.splitlines() if "its declaration has changed since it ran" in line]
    assert len(re.findall("[0-9a-f]{12}", warned)) == 2
    run(project, "upgrade", "b")
    project.revision("b", "a", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=f"fix = {FIX.strip()}")
    database.psql(script, "-v", "ON_ERROR_STOP=1")
    assert items(database) == START
    # Prose may be put right.
    run(project, "upgrade", "b")
    project.revision(
        "b",
        "a",
        "pass",
        "op.revert_datafix(fix)",
        top=f"fix = {FIX.strip()}".replace("by hand", "by two hands"),
    )
    done = project.alembic("downgrade", "a")
    assert "another one" not in done.err
    assert items(database) == START


def test_a_later_revision_may_revert_an_earlier_fix(database: Database, tmp_path: Path) -> None:
    project = project_with_fix(tmp_path, database)
    project.revision("c", "b", "op.revert_datafix(fix)", "op.apply_datafix(fix)")
    run(project, "upgrade", "head")
    assert (items(database), project.versions) == (START, {"c"})
    database.psql(project.script("c:b"), *STOP)
    assert (items(database), project.versions) == (FIXED, {"b"})
    database.psql(project.script("b:c"), *STOP)
    database.psql(project.script("b:c"), check=False)
    assert (items(database), project.versions) == (START, {"c"})
    assert project.outcomes == ["applied", "reverted", "applied", "reverted"]


def test_a_helper_module_may_hold_the_declaration(database: Database, tmp_path: Path) -> None:
    project = project_with_fix(tmp_path, database, up="shared(op)", top=(
        f"fix = {FIX.strip()}\n\n\ndef shared(op, **kw):\n    [op.apply_datafix(one) for one in (fix,)]\n"
    ))  # fmt: skip
    run(project, "upgrade", "b")
    assert database.rows("SELECT revision, outcome FROM datafix_run") == [("b", "applied")]


# --- autogenerate


@pytest.mark.parametrize("env", ["ours", "stock with the hook"])
def test_b32_autogenerate_leaves_audit_tables_and_ledger_alone(
    env: str, database: Database, tmp_path: Path
) -> None:
    model = """
import sqlalchemy as sa
target_metadata = sa.MetaData()
sa.Table("item", target_metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("symbol", sa.Text, nullable=False),
         sa.Column("status", sa.Text, nullable=False), sa.Column("note", sa.Text), sa.Column("amount", sa.Numeric(12, 2)))
"""
    ours = model + ENV.replace("(context)", "(context, target_metadata=target_metadata)")
    hook = "target_metadata=target_metadata, include_object=leave_audit_tables_alone"
    stock = STOCK_ENV.replace("target_metadata = None", model).replace(
        "target_metadata=target_metadata", hook
    )
    stock = "from datafixes.environment import leave_audit_tables_alone\n" + stock
    project = project_with_fix(tmp_path, database)
    project.env(ours if env == "ours" else stock)
    run(project, "upgrade", "b")
    run(project, "check")
    # What is none of ours is still seen: a table of somebody else, and one that only looks like a ledger.
    database.execute(
        "CREATE TABLE stray (id int)",
        "CREATE SCHEMA x",
        "CREATE TABLE decoy (audit_id int, audit_image text)",
    )
    ran = project.alembic("check")
    assert ran.code == 255
    assert "stray" in ran.last_line
    assert "decoy" in ran.last_line
    for name in ("item_audit", "datafix_run", "datafix_run_table"):
        assert name not in ran.last_line
    shutil.copy(Path(alembic.__file__).parent / "templates/generic/script.py.mako", tmp_path / "migrations")
    run(project, "revision", "--autogenerate", "--rev-id", "n", "-m", "new", "--head", "head")
    written = next((tmp_path / "migrations/versions").glob("n_*.py")).read_text(encoding="utf-8")
    assert "op.drop_table('stray')" in written
    assert "item_audit" not in written
    assert "datafix_run" not in written


# --- who finds the operations


def test_b33_the_operations_are_there_without_an_import(database: Database, tmp_path: Path) -> None:
    if find_spec("alembic.runtime.plugins") is None:
        pytest.skip("this Alembic has no plugins")
    project = project_with_fix(tmp_path, database)
    project.env(STOCK_ENV.removeprefix("import datafixes.operations\n"))
    project.revision(
        "b", "a", "import sys\nassert 'datafixes.environment' not in sys.modules\nop.apply_datafix(fix)"
    )
    ran = project.process("upgrade", "b")
    assert ran.code == 0, ran.err
    assert items(database) == FIXED


def test_b33_one_import_does_where_alembic_has_no_plugins(database: Database, tmp_path: Path) -> None:
    project = project_with_fix(tmp_path, database)
    # What such an Alembic is like: nobody loads the entry point.
    block = "import importlib.metadata as metadata\nmetadata.entry_points = lambda **_: ()\n"
    (tmp_path / "sitecustomize.py").write_text(block, encoding="utf-8")
    alone = {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    project.env(STOCK_ENV.removeprefix("import datafixes.operations\n"))
    ran = project.process("upgrade", "b", environment=alone)
    assert "apply_datafix" in ran.last_line
    project.env(STOCK_ENV)
    ran = project.process("upgrade", "b", environment=alone)
    assert ran.code == 0, ran.err
    assert items(database) == FIXED


def test_b34_the_directory_alembic_hides_no_library(database: Database) -> None:
    project = our_project(database)
    assert not (project.directory / "alembic/__init__.py").exists()
    ran = project.process("heads")
    assert (ran.code, ran.out) == (0, "015 (head)\n"), ran.err
    done = subprocess.run(
        [sys.executable, "-c", "import alembic.command, alembic; print(alembic.__version__)"],
        cwd=project.directory, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("1.")
