"""What was found by attacking the commands, each with the attack that found it."""

import os
import stat
from pathlib import Path

import pytest

from tests.cli.commands import answer, datafixes
from tests.projects import STOCK_ENV, Project, new_project, project_with_fix
from tests.servers import Database

TOP = "# The statements stand below."
TWO = (
    'from datafixes import RecordedFix, Table\nfix = RecordedFix(name="two", reason="r", tables=[Table("one", "one_audit", key="id", updated=2),'
    ' Table("other", "other_audit", {})])'
)


def two_tables(directory: Path, database: Database, other: str, change: str) -> Project:
    """A recorded fix of two tables, applied."""
    project = new_project(directory, database)
    database.psql(
        f"CREATE TABLE one (id integer PRIMARY KEY, v text); INSERT INTO one VALUES (1, 'a'), (2, 'b'); {other}"
    )
    audits = "\n".join(f'op.create_audit_table("{name}", name="{name}_audit")' for name in ("one", "other"))
    project.revision("a", None, audits, top=TOP)
    body = (
        f"with op.record_datafix(fix) as body:\n    body.execute(\"UPDATE one SET v = v || '!'; {change}\")"
    )
    project.revision(
        "b",
        "a",
        body,
        "op.revert_datafix(fix)",
        top=TWO.format("deleted=1" if "DELETE" in change else "updated=1"),
    )
    ran = project.alembic("upgrade", "head")
    assert ran.code == 0, ran.err
    return project


@pytest.mark.parametrize(
    ("other", "change"),
    [
        ("CREATE TABLE other (id integer PRIMARY KEY, v text); INSERT INTO other VALUES (1, 'x');", "UPDATE other SET v = 'y'"),
        ("CREATE TABLE other (v text); INSERT INTO other VALUES ('x');", "DELETE FROM other"),
    ],
    ids=["with a key", "without a key"],
)  # fmt: skip
def test_a_row_of_one_of_several_tables_is_undone(
    tmp_path: Path, database: Database, other: str, change: str
) -> None:
    project = two_tables(tmp_path, database, other, change)
    left = database.rows("SELECT v FROM other")
    done = datafixes(project, "revert", "two", "--rows", "one:1")
    assert done.code == 0, done.err
    assert 'rows={"one": [1]})' in Path(done.out.strip()).read_text()
    ran = project.alembic("upgrade", "head")
    assert ran.code == 0, ran.err
    assert database.rows("SELECT v FROM one ORDER BY id") == [("a",), ("b!",)]
    assert database.rows("SELECT v FROM other") == left


def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    pipe, link, file = tmp_path / "pipe", tmp_path / "link", tmp_path / "file"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert datafixes(project, "history", "--output", str(pipe)).code == 0
        assert b"no fix has run in this database" in os.read(reader, 65536)
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    link.symlink_to(file)
    assert datafixes(project, "history", "--output", str(link)).code == 0
    assert link.is_symlink()
    assert "no fix has run in this database" in file.read_text()
    assert "no fix has run in this database" in datafixes(project, "history", "--output", "-").out


SECRET = """
fix = DataFix(
    name="close_items", reason="r", change=Update("item", set={"status": "closed", "note": "SECRET-new"}),
    rows=Rows(key="id", identity={"symbol": "symbol"}, expect={1: "SECRET-1", 2: "SECRET-2"}), audit="item_audit",
)
"""


def with_secrets(directory: Path, database: Database) -> Project:
    project = project_with_fix(directory, database, top=SECRET)
    project.revision("a", None, 'op.create_audit_table("item", name="item_audit")', "pass", top=TOP)
    database.execute("UPDATE item SET symbol = 'SECRET-' || id, note = 'SECRET-old'")
    return project


MASK = ("-x", "mask=symbol,note")


def test_masks_hold_in_logs_conflicts_and_refusals(tmp_path: Path, database: Database) -> None:
    project = with_secrets(tmp_path, database)
    said = [project.alembic(*MASK, "upgrade", "head")]
    assert "status open → closed" in said[0].err
    database.execute("UPDATE item SET note = 'SECRET-later' WHERE id = 1")
    said.append(project.alembic(*MASK, "downgrade", "a"))
    assert "1    changed since  note    (masked)" in said[-1].err
    said.append(datafixes(project, *MASK, "revert", "close_items"))
    assert "changed since" in said[-1].err
    assert "SECRET" not in "".join(ran.out + ran.err for ran in said)


def test_masks_hold_where_a_row_is_another_one(tmp_path: Path, database: Database) -> None:
    project = with_secrets(tmp_path, database)
    database.execute("UPDATE item SET symbol = 'SECRET-else' WHERE id = 2")
    for ran in (project.alembic(*MASK, "upgrade", "head"), datafixes(project, *MASK, "plan")):
        assert "symbol is (masked)" in " ".join((ran.out + ran.err).split())
        assert "SECRET" not in ran.out + ran.err
    assert "SECRET" not in str(database.rows("SELECT error FROM datafix_run"))


def test_masks_hold_in_what_postgresql_says_of_a_key(tmp_path: Path, database: Database) -> None:
    project = with_secrets(tmp_path, database)
    database.execute("CREATE UNIQUE INDEX ON item (note) WHERE status = 'closed'")
    ran = project.alembic(*MASK, "upgrade", "head")
    assert "Key (note)=(masked) already exists" in ran.out
    assert "SECRET" not in ran.out + ran.err


@pytest.mark.parametrize(
    "how",
    [
        "c = op.get_bind().connection.dbapi_connection\nc.rollback()\nop.execute('CREATE TABLE evil (a integer)')\nc.commit()",
        "c = op.get_bind().connection.dbapi_connection\nc.rollback()\nc.cursor().execute('CREATE TABLE evil (a integer)')\nc.commit()",
    ],
)
def test_a_transaction_after_the_plans_own_can_only_read(
    tmp_path: Path, database: Database, how: str
) -> None:
    project = project_with_fix(tmp_path, database)
    project.revision("c", "b", how, top=TOP)
    assert datafixes(project, "plan").code == 3
    assert database.value("SELECT to_regclass('evil')") is None


def test_some_rows_are_reverted_once_whatever_is_stamped(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    project.revision(
        "c",
        "b",
        'op.revert_datafix("close_items", revision="b", rows=[2])',
        'op.revert_datafix("close_items")',
        top=TOP,
    )
    assert project.alembic("upgrade", "head").code == 0
    project.alembic("stamp", "b")
    again = project.alembic("upgrade", "head")
    assert again.code == 255
    assert "run 2 of this revision reverted these rows already" in again.last_line
    project.alembic("stamp", "c")
    assert project.alembic("downgrade", "b").code == 0
    assert database.value("SELECT status FROM item WHERE id = 2") == "closed"


def test_a_downgrade_that_drops_the_ledger_is_no_crash(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    project.alembic("downgrade", "base")
    for name in "ab":
        (tmp_path / f"migrations/versions/{name}.py").unlink()
    up = 'op.create_audit_table("item", name="item_audit")\nop.apply_datafix(fix)'
    project.revision("a", None, up, 'op.revert_datafix(fix)\nop.drop_audit_table("item_audit", discard=True)')
    [run] = answer(project, "plan", code=3)["steps"][0]["runs"]
    assert "drops the ledger" in run["reversal"]["words"]


def test_where_nothing_can_be_written_it_says_so(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    database.execute(f'ALTER DATABASE "{database.name}" SET default_transaction_read_only = on')
    assert datafixes(project, "plan").code == 0  # a preference, and the plan keeps nothing
    project.env(STOCK_ENV.replace("with connectable.connect() as connection:", "with connectable.connect().execution_options(isolation_level='AUTOCOMMIT') as connection:"))  # fmt: skip
    ran = datafixes(project, "plan")
    assert (ran.code, "AUTOCOMMIT" in ran.err, len(ran.err.splitlines())) == (1, True, 1)


def test_other_tables_called_datafix_run_do_no_harm(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    database.execute("CREATE SCHEMA zz", "CREATE TABLE zz.datafix_run (id integer)", "CREATE SCHEMA yy", "CREATE TABLE yy.datafix_run (run_id integer)")  # fmt: skip
    assert datafixes(project, "plan").code == 0


def test_a_migration_that_exits_or_prints_spoils_nothing(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    project.revision("b", "a", "print('HELLO')\nop.apply_datafix(fix)", "op.revert_datafix(fix)")
    assert answer(project, "plan")["fine"]
    project.revision("c", "b", "raise SystemExit(0)", top=TOP)
    assert "SystemExit" in answer(project, "plan", code=3)["refusal"]["message"]


def test_a_key_cannot_forge_a_line_of_the_log(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    database.psql(
        "CREATE TABLE t (k text PRIMARY KEY, v integer); INSERT INTO t VALUES (E'n\\nINFO forged\\x1b[31m', 1);"
    )
    project.revision("c", "b", 'op.create_audit_table("t", name="t_audit")', "pass", top=TOP)
    fix = 'fix = DataFix(name="t", reason="r", change=Update("t", set={"v": 2}, where="true"), rows=Rows(key="k", expect=1), audit="t_audit")'
    project.revision("d", "c", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=fix)
    ran = project.alembic("upgrade", "head")
    assert ran.code == 0, ran.err
    assert "\\nINFO forged" in ran.err
    assert "\x1b" not in ran.err


def test_revisions_that_cannot_be_read_are_one_line(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    (tmp_path / "migrations/versions/c.py").write_text(
        "import no_such_module\nrevision = 'c'\ndown_revision = 'b'\n"
    )
    for command in (["plan"], ["revert", "close_items"]):
        ran = datafixes(project, *command)
        assert ran.code == 1
        assert ran.err.startswith("FAILED: The revisions cannot be read: ModuleNotFoundError")
        assert len(ran.err.splitlines()) == 1


def test_a_relative_revision_is_planned_as_alembic_takes_it(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    project.alembic("upgrade", "head")
    assert answer(project, "plan", "--downgrade", "-1")["steps"][0]["runs"][0]["outcome"] == "reverted"
