"""A fix that cannot run, or must not, is no dead end: an operator declines it, and the ledger keeps who and why."""

from pathlib import Path

import pytest

from tests.cli.commands import datafixes
from tests.projects import STOCK_ENV, Project, project_with_fix
from tests.servers import Database

MISSING = """
fix = DataFix(
    name="close_items", reason="Closed by hand.", audit="item_audit",
    change=Update("item", set={"status": "closed"}, where="status = 'open'"),
    rows=Rows(key="id", identity={"symbol": "symbol"}, expect={1: "QCOM", 33: "NOW"}),
)
"""
RECORDED = """
from datafixes import RecordedFix, Table
fix = RecordedFix(name="close_items", reason="Closed by hand.", tables=[Table("item", "item_audit", updated=2)])
"""
BODIES = {
    "body": "body.execute(\"UPDATE item SET status = 'closed' WHERE id < 3\")",
    "op.execute": "op.execute(\"UPDATE item SET status = 'closed' WHERE id < 3\")",
    "op.bulk_insert": "op.bulk_insert(sa.table('item', sa.column('id'), sa.column('symbol'), sa.column('status')),"
    " [{'id': 9, 'symbol': 'X', 'status': 'open'}])",
    "bind": "op.get_bind().execute(sa.text(\"UPDATE item SET status = 'closed'\"))",
    "bind that reads": "ids = [i for (i,) in op.get_bind().execute(sa.text('SELECT id FROM item'))]\n"
    "    op.execute(f'DELETE FROM item WHERE id IN {tuple(ids)}')",
    "bind from before": "bind.execute(sa.text(\"UPDATE item SET status = 'closed'\"))",
    "session": "from sqlalchemy.orm import Session\n"
    "    Session(bind=bind).execute(sa.text(\"UPDATE item SET status = 'closed'\"))",
    "failing": "raise ValueError('the rows are not there')",
    "cursor of the driver": "bind.connection.cursor().execute(\"UPDATE item SET status = 'closed'\")",
    "cursor from before": "cursor.execute(\"UPDATE item SET status = 'closed'\")",
}
NEVER = "close_items: the broker closed them itself"


@pytest.fixture
def project(tmp_path: Path, database: Database) -> Project:
    """A fix whose rows are not here: row 33 became 47."""
    project = project_with_fix(tmp_path, database, top=MISSING)
    project.revision(
        "c", "b", 'op.execute("CREATE TABLE later (id integer)")', "op.drop_table('later')", top="# No fix."
    )
    return project


def test_a_refusal_of_named_rows_ends_with_the_command_that_goes_on(project: Project) -> None:
    refused = project.alembic("upgrade", "head")
    assert refused.code == 255
    assert "33 is missing" in refused.last_line
    assert refused.last_line.endswith(
        "or decline it here: alembic -x decline='close_items: WHY' upgrade head."
    )


@pytest.mark.parametrize("offline", [False, True], ids=["online", "offline"])
def test_declined_the_version_moves_and_the_ledger_keeps_who_and_why(project: Project, offline: bool) -> None:
    database = project.database
    was = database.rows("TABLE item")
    if offline:
        database.psql(project.script("a:head", "-x", f"decline={NEVER}"), "-v", "ON_ERROR_STOP=1")
    else:
        ran = project.alembic("-x", f"decline={NEVER}", "upgrade", "head")
        assert ran.code == 0, ran.err
        assert (
            "datafix close_items: declined, so nothing was changed (run 1): the broker closed them itself"
            in ran.err
        )
    assert project.versions == {"c"}
    assert database.rows("TABLE item") == was
    assert database.rows(
        "SELECT fix, revision, direction, outcome, declined_because, reason, rows_changed, applied_by FROM datafix_run"
    ) == [
        (
            "close_items",
            "b",
            "apply",
            "declined",
            "the broker closed them itself",
            "Closed by hand.",
            0,
            "postgres",
        )
    ]
    assert database.value("SELECT count(*) FROM datafix_open") == 0
    # Nothing to give back, and the way up is free again.
    ran = project.alembic("downgrade", "a")
    assert ran.code == 0, ran.err
    assert project.outcomes == ["declined", "not_applicable"]
    assert project.alembic("upgrade", "head").code == 255


def test_a_declined_fix_needs_none_of_its_tables(project: Project) -> None:
    project.database.execute("DROP TABLE item CASCADE")
    assert project.alembic("-x", f"decline={NEVER}", "upgrade", "head").code == 0


def test_without_a_ledger_there_is_nowhere_to_write_it(project: Project) -> None:
    project.database.execute("DROP TABLE datafix_run, datafix_run_table CASCADE")
    refused = project.alembic("-x", f"decline={NEVER}", "upgrade", "head")
    assert refused.code == 255
    assert (
        "ledger public.datafix_run does not exist, so declining the fix cannot be recorded"
        in refused.last_line
    )


def test_what_is_in_force_is_not_declined(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    assert project.alembic("upgrade", "head").code == 0
    project.alembic("stamp", "a")
    refused = project.alembic("-x", f"decline={NEVER}", "upgrade", "head")
    assert "applied already, by run 1" in refused.last_line
    assert project.outcomes[0] == "applied"


def test_a_plan_shows_it_and_keeps_nothing(project: Project) -> None:
    done = datafixes(project, "-x", f"decline={NEVER}", "plan")
    assert done.code == 0, done.err
    shown = " ".join(done.out.split())
    assert "declined, so nothing changes: the broker closed them itself" in shown
    # What is pasted from it declines too.
    assert f"alembic -x 'decline={NEVER}' -x plan=" in shown
    assert project.outcomes == []


@pytest.mark.parametrize("way", BODIES)
@pytest.mark.parametrize("env", ["ours", "stock"])
def test_nothing_of_a_declined_recorded_fix_reaches_the_database(
    tmp_path: Path, database: Database, way: str, env: str
) -> None:
    up = f"bind = op.get_bind()\ncursor = bind.connection.cursor()\nwith op.record_datafix(fix) as body:\n    {BODIES[way]}\nop.execute('CREATE TABLE after_it ()')"
    project = project_with_fix(
        tmp_path, database, *([STOCK_ENV] if env == "stock" else []), up=up, top=RECORDED
    )
    was = database.rows("TABLE item ORDER BY id")
    ran = project.alembic("-x", f"decline={NEVER}", "upgrade", "head")
    assert ran.code == 0, ran.err
    assert database.rows("TABLE item ORDER BY id") == was
    assert project.outcomes == ["declined"]
    # What stands behind the block runs.
    assert database.value("SELECT to_regclass('after_it') IS NOT NULL")


def test_a_declined_recorded_fix_in_a_script(tmp_path: Path, database: Database) -> None:
    up = f"with op.record_datafix(fix) as body:\n    {BODIES['body']}\nop.execute('CREATE TABLE after_it ()')"
    project = project_with_fix(tmp_path, database, up=up, top=RECORDED)
    script = project.script("a:b", "-x", f"decline={NEVER}")
    assert "UPDATE item" not in script
    database.psql(script, "-v", "ON_ERROR_STOP=1")
    assert project.outcomes == ["declined"]
    assert database.value("SELECT to_regclass('after_it') IS NOT NULL")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("close_item: why", "-x decline: no revision declares a fix close_item. Did you mean close_items?"),
        ("close_items", "write 'FIX: reason', with semicolons between several"),
        ("close_items:", "write 'FIX: reason', with semicolons between several"),
        ("close_items: WHY", "the reason is required, because the ledger keeps it"),
        ("close_items: a; close_items: b", "write 'FIX: reason', with semicolons between several"),
    ],
)
def test_what_does_not_say_which_fix_and_why(project: Project, given: str, words: str) -> None:
    refused = project.alembic("-x", f"decline={given}", "upgrade", "head")
    assert refused.code == 255
    assert words in refused.last_line
    assert project.versions == {"a"}


def test_several_fixes_are_declined_at_once(project: Project) -> None:
    top = MISSING.replace("close_items", "second")
    project.revision("c", "b", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=top)
    ran = project.alembic("-x", f"decline={NEVER}; second: neither this, nor that", "upgrade", "head")
    assert ran.code == 0, ran.err
    assert project.database.rows("SELECT declined_because FROM datafix_run ORDER BY run_id") == [
        ("the broker closed them itself",),
        ("neither this, nor that",),
    ]


def test_a_secret_in_the_reason_is_not_kept(project: Project) -> None:
    ran = project.alembic("-x", "decline=close_items: see https://me:hunter2@example.com/x", "upgrade", "b")
    assert ran.code == 0
    assert "hunter2" not in ran.err + project.database.value("SELECT declined_because FROM datafix_run")


def test_a_decline_that_met_no_fix_is_told(project: Project) -> None:
    ran = project.alembic("-x", f"decline={NEVER}", "upgrade", "a")
    assert ran.code == 0
    assert "-x decline: fix close_items was not due to run, so it was not declined." in ran.err


def test_the_downgrade_of_a_declined_fix_says_that_there_is_nothing_to_give_back(project: Project) -> None:
    project.alembic("-x", f"decline={NEVER}", "upgrade", "head")
    ran = project.alembic("downgrade", "a")
    assert (
        "datafix close_items: nothing to restore: the run that it reverts changed nothing (run 2)" in ran.err
    )


@pytest.mark.parametrize("ends", ["commit", "rollback"])
@pytest.mark.parametrize("env", ["ours", "stock"])
def test_a_declined_block_that_ends_the_transaction_is_refused(
    tmp_path: Path, database: Database, ends: str, env: str
) -> None:
    """What the migration did before would be lost, or kept without its version."""
    up = f"bind = op.get_bind()\nop.execute('CREATE TABLE before_it ()')\nwith op.record_datafix(fix) as body:\n    bind.{ends}()"
    project = project_with_fix(
        tmp_path, database, *([STOCK_ENV] if env == "stock" else []), up=up, top=RECORDED
    )
    refused = project.alembic("-x", f"decline={NEVER}", "upgrade", "head")
    assert refused.code == 255
    assert f"the fix was declined, but its block runs {ends}()" in refused.last_line
    assert database.value("SELECT to_regclass('before_it')") is None
    assert (project.versions, project.outcomes) == ({"a"}, [])
