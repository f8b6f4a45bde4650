"""``datafixes revert``: a revision on top that undoes one earlier fix, refused where others stand on it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.commands import answer, datafixes
from tests.projects import Project, Ran, project_with_fix
from tests.servers import Database
from tests.tampering import tamper

START = [(1, "open", 10), (2, "open", 20), (3, "open", 30)]
CLOSED = [(1, "closed", 110), (2, "closed", 120), (3, "open", 30)]
NEXT = """
DataFix(
    name="{name}", reason="r", change=Update("item", set={{"amount": sql("amount * 2")}}),
    rows=Rows(key="id", expect={rows}), audit="item_audit",
)
"""


def rows(project: Project) -> list[tuple[object, ...]]:
    return project.database.rows("SELECT id, status, amount::int FROM item ORDER BY id")


def applied(directory: Path, database: Database) -> Project:
    project = project_with_fix(directory, database)
    project.revision(
        "a",
        None,
        'op.create_audit_table("item", name="item_audit")',
        'op.drop_audit_table("item_audit")',
        top="# Copies.",
    )
    assert project.alembic("upgrade", "head").code == 0
    return project


def with_next_fix(project: Project, name: str, revision: str, after: str, expect: str) -> None:
    project.revision(
        revision,
        after,
        "op.apply_datafix(fix)",
        "op.revert_datafix(fix)",
        top=f"fix = {NEXT.format(name=name, rows=expect).strip()}",
    )
    ran = project.alembic("upgrade", "head")
    assert ran.code == 0, ran.err


def written(project: Project, *arguments: str) -> Path:
    ran = datafixes(project, "revert", *arguments)
    assert ran.code == 0, ran.err
    path = Path(ran.out.strip())
    assert path.parent == project.directory / "migrations/versions"
    return path


def up(project: Project, to: str = "head") -> Ran:
    ran = project.alembic("upgrade", to)
    assert ran.code == 0, ran.err
    return ran


def down(project: Project, to: str) -> None:
    ran = project.alembic("downgrade", to)
    assert ran.code == 0, ran.err


def test_one_fix_is_undone_and_the_undo_undone(tmp_path: Path, database: Database) -> None:
    project = applied(tmp_path, database)
    before = rows(project)
    why = 'It was the wrong customer; see "17".'
    first = written(project, "close_items", "--rev-id", "c", "--reason", why)
    assert rows(project) == before
    text = first.read_text()
    assert 'op.revert_datafix(\n        "close_items",\n        revision="b",\n' in text
    assert f"        reason='{why}',\n" in text
    up(project)
    assert rows(project) == START
    reasons = "SELECT reason FROM datafix_run ORDER BY run_id"
    assert project.database.rows(reasons) == [("Closed by hand.",), (why,)]
    refused = datafixes(project, "revert", "close_items")
    assert refused.code == 1
    assert (
        "not in force: run 2 (revision c) reverted it. To undo that: datafixes revert close_items --of c"
        in refused.err
    )
    written(project, "close_items", "--of", "c", "--rev-id", "d")
    up(project)
    assert rows(project) == CLOSED
    down(project, "a")
    assert rows(project) == START


def test_what_is_written_passes_ruff(tmp_path: Path, database: Database) -> None:
    project = applied(tmp_path, database)
    path = written(project, "close_items", "--rows", "2")
    check = ("check", "--select", "E,F,I,UP,B,Q", "--ignore", "E501", "--isolated")
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *check, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_some_rows_are_undone(tmp_path: Path, database: Database) -> None:
    project = applied(tmp_path, database)
    path = written(project, "close_items", "--rows", "2")
    assert "rows=[2])" in path.read_text()
    up(project)
    assert rows(project) == [(1, "closed", 110), (2, "open", 20), (3, "open", 30)]
    shown = datafixes(project, "open", "--format", "json").out
    assert '"rows_reverted": "2"' in shown
    assert '"rows_changed": 2' in shown
    assert '"rows_given_back": 1' in shown
    assert re.search(r"close_items .* 1 of 2 +yes", datafixes(project, "open").out)


def test_a_later_fix_of_the_same_rows_is_named_and_reverted_first(tmp_path: Path, database: Database) -> None:
    project = applied(tmp_path, database)
    with_next_fix(project, "double", "c", "b", "[2, 3]")
    refused = datafixes(project, "revert", "close_items")
    assert refused.code == 3
    assert refused.err.splitlines() == [
        "double (revision c, run 2) changed the same rows later: 2",
        "FAILED: Revert that first: datafixes revert double --of c",
    ]
    assert not list((tmp_path / "migrations/versions").glob("*revert*"))
    # The rows that nobody touched can be undone by themselves, and all of them once the later fix is undone.
    written(project, "close_items", "--rows", "1", "--rev-id", "d")
    up(project)
    written(project, "double", "--rev-id", "e")
    up(project)
    written(project, "close_items", "--rows", "2", "--rev-id", "f")
    up(project)
    assert rows(project) == START
    for revision in "edcba":
        down(project, revision)
    assert rows(project) == START


def test_a_row_that_somebody_changed_refuses_and_shows_it(tmp_path: Path, database: Database) -> None:
    project = applied(tmp_path, database)
    database.execute("UPDATE item SET status = 'lost' WHERE id = 2")
    refused = datafixes(project, "revert", "close_items")
    assert refused.code == 3
    assert refused.err.splitlines()[1].split() == [
        "2",
        "changed",
        "since",
        "status",
        "open",
        "closed",
        "lost",
    ]
    assert "1 of 2 rows of public.item cannot be restored: 2 changed since" in refused.err
    path = written(project, "close_items", "--on-conflict", "skip")
    assert 'on_conflict="skip")' in path.read_text()
    up(project)
    assert rows(project) == [(1, "open", 10), (2, "lost", 120), (3, "open", 30)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["close_item"], "The fix close_item has not run in this database. Did you mean close_items?"),
        (
            ["close_items", "--of", "z"],
            "No run of close_items by revision z is in force. In force: b.",
        ),
        (["close_items", "--rows", "7"], "run 1 did not change these rows of public.item: 7"),
        (["close_items", "--rows", "x"], "invalid input syntax for type integer"),
        (["close_items", "--rows", ","], "names no row of item"),
        (["close_items", "--rev-id", "b"], "Revision b already exists."),
        (["close_items", "--rev-id", "x" * 33], "is not a valid revision id"),
        (["close_items", "--head", "a"], "a is not a head of this project."),
    ],
)
def test_what_makes_no_sense_is_one_line_and_writes_nothing(
    tmp_path: Path, database: Database, arguments: list[str], words: str
) -> None:
    project = applied(tmp_path, database)
    before = sorted((tmp_path / "migrations/versions").iterdir())
    refused = datafixes(project, "revert", *arguments)
    assert refused.code in (1, 3)
    assert words in refused.err
    assert len(refused.err.splitlines()) == 1
    assert sorted((tmp_path / "migrations/versions").iterdir()) == before


def test_a_fix_that_never_ran_here_is_told(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    refused = datafixes(project, "revert", "close_items")
    assert (refused.code, "has not run in this database" in refused.err) == (1, True)


def test_keys_of_two_columns_and_text(tmp_path: Path, database: Database) -> None:
    project = applied(tmp_path, database)
    database.psql(
        "CREATE TABLE pair (a text, b integer, v integer, PRIMARY KEY (a, b)); INSERT INTO pair VALUES ('x', 1, 1), ('y\"', 2, 2);"
    )
    project.revision(
        "c",
        "b",
        'op.create_audit_table("pair", name="pair_audit")',
        'op.drop_audit_table("pair_audit")',
        top="# Copies.",
    )
    fix = 'fix = DataFix(name="p", reason="r", change=Update("pair", set={"v": 0}, where="true"), rows=Rows(key=("a", "b"), expect=2), audit="pair_audit")'
    project.revision("d", "c", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=fix)
    up(project)
    path = written(project, "p", "--rows", 'y"/2')
    assert "rows=[('y\"', 2)]" in path.read_text()
    up(project)
    assert database.rows("SELECT v FROM pair ORDER BY a") == [(0,), (2,)]


# --- a fix whose file is gone


def without_its_file(project: Project) -> Project:
    """The history was squashed: one base revision stands for all."""
    for path in (project.directory / "migrations/versions").glob("*.py"):
        path.unlink()
    project.database.execute("UPDATE alembic_version SET version_num = 'base2'")
    project.revision("base2", None, "pass", top="# No fix.")
    return project


@pytest.mark.parametrize("given", ["1", "close_items"])
def test_a_fix_that_no_file_declares_is_undone_by_its_run_or_its_name(
    tmp_path: Path, database: Database, given: str
) -> None:
    project = project_with_fix(tmp_path, database)
    was = rows(project)
    up(project, "b")
    fixed = rows(project)
    without_its_file(project)
    assert [(one["fix"], one["can_be_reverted"]) for one in answer(project, "open")["fixes"]] == [
        ("close_items", True)
    ]
    path = written(project, given)
    assert 'op.revert_datafix("close_items", revision="b", audit_schema="public")' in path.read_text()
    assert 'op.revert_datafix("close_items", audit_schema="public")' in path.read_text()
    up(project)
    assert rows(project) == was
    down(project, "base2")
    assert rows(project) == fixed


def test_some_rows_of_a_run(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    up(project, "b")
    without_its_file(project)
    assert "rows=[2]" in written(project, "1", "--rows", "2").read_text()
    up(project)
    assert [status for _, status, *_ in rows(project)] == ["closed", "open", "open"]


def test_a_run_by_its_number_while_its_file_is_there(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    was = rows(project)
    up(project, "b")
    # Its revision means the same in every database; its number does not.
    assert 'op.revert_datafix("close_items", revision="b")' in written(project, "1").read_text()
    up(project)
    assert rows(project) == was


def test_a_run_that_its_revision_does_not_lead_to_is_named_by_its_number(
    tmp_path: Path, database: Database
) -> None:
    project = project_with_fix(tmp_path, database)
    was = rows(project)
    up(project, "b")
    project.revision(
        "r", "b", 'op.revert_datafix("close_items", revision="b", rows=[1])', top="# Not declared here."
    )
    up(project)
    project.revision(
        "s", "r", 'op.revert_datafix("close_items", run=1, rows=[2])', top="# Not declared here."
    )
    up(project)
    assert rows(project) == was
    # In another database, the run of that number may be another fix's.
    tamper(database, "UPDATE datafix_run SET fix = 'another' WHERE run_id = 1")
    project.revision("t", "s", 'op.revert_datafix("close_items", run=1)', top="# Not declared here.")
    refused = project.alembic("upgrade", "head")
    assert "run 1 in public.datafix_run is a run of another: the numbers of runs differ" in refused.last_line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("9",), "The ledger public.datafix_run has no run 9. The nearest are 1."),
        (("1", "--of", "b"), "--of b goes with the name of a fix, not with run 1."),
        (("close_item",), "The fix close_item has not run in this database. Did you mean close_items?"),
    ],
)
def test_what_names_no_run(
    tmp_path: Path, database: Database, arguments: tuple[str, ...], words: str
) -> None:
    project = project_with_fix(tmp_path, database)
    up(project, "b")
    ran = datafixes(project, "revert", *arguments)
    assert ran.code == 1
    assert words in ran.err


def test_a_database_at_a_revision_that_no_file_is_gets_no_revision_that_could_not_run(
    tmp_path: Path, database: Database
) -> None:
    project = project_with_fix(tmp_path, database)
    was = rows(project)
    up(project, "b")
    for path in (project.directory / "migrations/versions").glob("*.py"):
        path.unlink()
    ran = datafixes(project, "revert", "1")
    assert ran.code == 1
    assert "The database is at b, which is not a revision of this project" in ran.err
    assert "alembic stamp --purge base" in ran.err
    assert list((project.directory / "migrations/versions").glob("*.py")) == []
    # What it says is a way on.
    assert project.alembic("stamp", "--purge", "base").code == 0
    written(project, "1")
    up(project)
    assert rows(project) == was


@pytest.mark.parametrize("by", ["1", "close_items"])
def test_a_fix_that_was_declined_has_nothing_to_undo(tmp_path: Path, database: Database, by: str) -> None:
    project = project_with_fix(tmp_path, database)
    assert project.alembic("-x", "decline=close_items: nobody needs it", "upgrade", "b").code == 0
    ran = datafixes(project, "revert", by)
    assert ran.code == 1
    assert "declined" in ran.err
    assert "Did you mean" not in ran.err
