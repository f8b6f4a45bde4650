"""Tables that change between a fix and its revert, and audit tables that follow a target that has gained columns."""

from pathlib import Path

import pytest

from tests.projects import Project, project_with_fix
from tests.servers import LEDGER, Database

RECORDED = """
from datafixes import RecordedFix, Table

fix = RecordedFix(name="close_items", reason="Closed.", tables=[Table("item", "item_audit", updated=2)])
"""
BODY = "with op.record_datafix(fix) as body:\n    body.execute(\"UPDATE item SET status = 'closed' WHERE id < 3\")"

both = pytest.mark.parametrize("recorded", [False, True], ids=["declared", "recorded"])


def made(directory: Path, database: Database, recorded: bool) -> Project:
    if recorded:
        return project_with_fix(directory, database, up=BODY, top=RECORDED)
    return project_with_fix(directory, database)


def refused(project: Project, *command: str) -> str:
    """The line of a command that fails and changes nothing."""
    before = project.database.dump(*LEDGER)
    ran = project.alembic(*command)
    assert ran.code == 255
    assert project.database.dump(*LEDGER) == before
    [line] = ran.out.strip().splitlines()
    return line


@both
def test_c30_an_audit_table_that_is_behind_refuses_and_says_which_operation_helps(
    tmp_path: Path, database: Database, recorded: bool
) -> None:
    project = made(tmp_path, database, recorded)
    database.execute(
        "ALTER TABLE item ADD COLUMN weight numeric DEFAULT 1.50", "ALTER TABLE item ADD COLUMN mood text"
    )
    line = refused(project, "upgrade", "head")
    assert "weight numeric is missing there; mood text is missing there" in line
    assert "op.update_audit_table('item', name='item_audit')" in line
    project.revision(
        "b",
        "u",
        BODY if recorded else "op.apply_datafix(fix)",
        "op.revert_datafix(fix)",
        top=RECORDED if recorded else "",
    )
    project.revision("u", "a", 'op.update_audit_table("item", name="item_audit")')
    database.psql(project.script("a:u"), "-v", "ON_ERROR_STOP=1")
    before = database.dump("public.item_audit", "public.alembic_version", *LEDGER)
    assert project.alembic("upgrade", "head").code == 0
    assert database.rows("SELECT DISTINCT weight, mood FROM item_audit WHERE audit_image = 'before'") == [
        (database.value("SELECT 1.50"), None)
    ]
    database.execute("UPDATE item SET mood = 'x' WHERE id = 1")
    assert project.alembic("downgrade", "a").code == 0
    assert database.value("SELECT mood FROM item WHERE id = 1") == "x"
    database.execute("UPDATE item SET mood = NULL")
    assert database.dump("public.item_audit", "public.alembic_version", *LEDGER) == before
    assert project.alembic("upgrade", "head").code == 0


def test_an_audit_table_that_was_brought_up_to_date_keeps_its_copies_and_shows_the_new_columns(
    tmp_path: Path, database: Database
) -> None:
    project = project_with_fix(tmp_path, database)
    assert project.alembic("upgrade", "head").code == 0
    role = f"auditor_{database.name}"
    database.execute(f"CREATE ROLE {role} LOGIN", f"GRANT SELECT ON item_audit_changes TO {role}")
    try:
        copies = database.rows("SELECT id, symbol, status, audit_id FROM item_audit ORDER BY audit_id")
        project.revision(
            "c", "b", 'op.execute("ALTER TABLE item ADD COLUMN extra integer")\nop.update_audit_table("item", name="item_audit")',
            'op.execute("ALTER TABLE item DROP COLUMN extra")',
        )  # fmt: skip
        second = 'fix = DataFix(name="second", reason="x", change=Update("item", set={"extra": 5}), rows=Rows(key="id", expect=[3]), audit="item_audit")'
        project.revision("d", "c", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=second)
        assert project.alembic("upgrade", "head").code == 0
        assert (
            database.rows("SELECT id, symbol, status, audit_id FROM item_audit ORDER BY audit_id")[:4]
            == copies
        )
        changes = "SELECT key, column_name, before, after FROM item_audit_changes WHERE column_name = 'extra'"
        assert database.rows(changes, role=role) == [("3", "extra", None, "5")]
        # down through all of it: the column goes, the copies of the first fix are read without it
        assert project.alembic("downgrade", "a").code == 0
        assert database.rows("SELECT id, status FROM item ORDER BY id") == [
            (1, "open"),
            (2, "open"),
            (3, "open"),
        ]
        assert project.alembic("upgrade", "head").code == 0
    finally:
        database.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_an_audit_table_does_not_follow_a_column_of_another_type(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    database.execute("ALTER TABLE item ALTER COLUMN amount TYPE text")
    project.revision("b", "a", 'op.update_audit_table("item", name="item_audit")')
    line = refused(project, "upgrade", "head")
    assert "have other types now: amount is text, and numeric(12,2) there" in line
    project.revision("b", "a", 'op.update_audit_table("item", name="no_audit")')
    assert "table public.no_audit does not exist" in refused(project, "upgrade", "head")


@both
@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("ALTER TABLE item DROP COLUMN note CASCADE", "note is gone"),
        ("ALTER TABLE item RENAME COLUMN status TO state", "status is called state now"),
        ("ALTER TABLE item ALTER COLUMN amount TYPE numeric(20,1)", "amount was numeric(12,2) and is numeric(20,1)"),
        ("ALTER TABLE item ALTER COLUMN symbol TYPE varchar(9)", "symbol was text and is character varying(9)"),
        ("ALTER TABLE item DROP COLUMN note, ADD COLUMN note text", "note is another column than it was"),
        ("ALTER TABLE item RENAME TO thing", "table public.item does not exist"),
        ("CREATE TABLE new (LIKE item INCLUDING ALL); INSERT INTO new TABLE item; DROP TABLE item; ALTER TABLE new RENAME TO item", "the table was dropped and made again"),
        ("DROP TABLE item", "table public.item does not exist"),
        ("ALTER TABLE item DROP CONSTRAINT item_pkey", "has no unique index over (id)"),
        ("ALTER TYPE kind RENAME VALUE 'x' TO 'z'", "the type public.kind of kind has no label 'x' any more"),
    ],
)  # fmt: skip
def test_c30_a_table_of_another_shape_refuses_the_revert_by_name(
    tmp_path: Path, database: Database, recorded: bool, statement: str, words: str
) -> None:
    project = made(tmp_path, database, recorded)
    database.execute(
        "CREATE TYPE kind AS ENUM ('x', 'y')",
        "ALTER TABLE item ADD COLUMN kind kind DEFAULT 'x'",
        "ALTER TABLE item_audit ADD COLUMN kind text",
    )
    assert project.alembic("upgrade", "head").code == 0
    database.psql(statement, "-v", "ON_ERROR_STOP=1")
    line = refused(project, "downgrade", "a")
    assert words in line, line
    if "RENAME TO thing" in statement:
        assert "It is called public.thing now" in line


@both
def test_c30_a_column_that_came_later_keeps_its_value(
    tmp_path: Path, database: Database, recorded: bool
) -> None:
    project = made(tmp_path, database, recorded)
    assert project.alembic("upgrade", "head").code == 0
    database.execute(
        "ALTER TABLE item ADD COLUMN later integer NOT NULL DEFAULT 7",
        "UPDATE item SET later = 8 WHERE id = 1",
    )
    line = refused(project, "downgrade", "a")
    assert "later integer is missing there" in line
    database.execute("ALTER TABLE item_audit ADD COLUMN later integer")
    assert project.alembic("downgrade", "a").code == 0
    assert database.rows("SELECT id, status, later FROM item ORDER BY id") == [
        (1, "open", 8),
        (2, "open", 7),
        (3, "open", 7),
    ]
