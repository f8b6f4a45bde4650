"""A ledger follows the package: what version 0.1 wrote stays readable and revertible, and 0.1 keeps off what is newer."""

from pathlib import Path

import pytest

from tests.cli.commands import answer
from tests.projects import Project, new_project
from tests.servers import Database

VERSION_0_1 = Path(__file__).parents[1] / "fixtures/version_0_1"
"""What 0.1 left: run 1 closed orders 1 and 2, run 2 deleted order 4 with its lines, run 3 reverted run 2."""

ORDERS = "SELECT id, stage::text, total FROM orders ORDER BY id"
CLOSED = [(1, "closed", 11), (2, "closed", 21), (3, "closed", 30.5), (4, "open", None)]
OPEN = [(1, "open", 10), (2, "open", 20), *CLOSED[2:]]

A2 = """
from datafixes import DataFix, Rows, Update, sql
fix = DataFix(name="close_orders", reason="Closed by hand.", audit="orders_audit",
    change=Update("orders", set={"stage": "closed", "total": sql("coalesce(total, 0) + 1")}, where="stage = 'open'"),
    rows=Rows(key="id", identity={"number": "number"}, expect={1: "A-1", 2: "A-2"}), housekeeping=["updated_at"])
"""
A3 = """
fix = DataFix(name="name_lines", reason="A name.", audit="lines_audit",
    change=Update("lines", set={"what": "three"}, where="true"), rows=Rows(key="id", expect=[3]))
"""


@pytest.fixture
def project(tmp_path: Path, database: Database) -> Project:
    """The database that 0.1 left at a2, and its project, with a next fix."""
    database.psql((VERSION_0_1 / "database.sql").read_text(), "-v", "ON_ERROR_STOP=1")
    project = new_project(tmp_path, database)
    project.revision("a1", None, "pass")
    project.revision("a2", "a1", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=A2)
    project.revision("a3", "a2", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=A3)
    assert database.rows(ORDERS) == CLOSED
    return project


def version(database: Database) -> list[str]:
    return [
        name
        for (name,) in database.rows(
            "SELECT substring(conname FROM 'version_[0-9]+') FROM pg_constraint WHERE conname LIKE 'datafix_run_is_version%'"
        )
    ]


def columns(database: Database) -> list[tuple[str, ...]]:
    return database.rows(
        "SELECT attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid) FROM pg_attribute"
        " LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum"
        " WHERE attrelid = 'datafix_run'::regclass AND attnum > 0 ORDER BY attnum"
    )


def ran(project: Project, *order: str) -> str:
    done = project.alembic(*order)
    assert done.code == 0, done.out + done.err
    return done.err


def test_the_next_fix_brings_the_ledger_forward_and_the_old_one_is_reverted(project: Project) -> None:
    database = project.database
    ran(project, "upgrade", "head")
    assert version(database) == ["version_3"]
    assert database.rows(
        "SELECT run_id, fix, outcome, engine, logged_in_as FROM datafix_history ORDER BY 1"
    ) == [
        (1, "close_orders", "applied", "0.1", None),
        (2, "delete_load_test", "applied", "0.1", None),
        (3, "delete_load_test", "reverted", "0.1", None),
        (4, "name_lines", "applied", "0.2.0", "postgres"),
    ]
    # What 0.1 knew is still what counts: the housekeeping column stays, and the row's identity is compared.
    database.execute("UPDATE orders SET updated_at = '2026-05-05' WHERE id = 2")
    ran(project, "downgrade", "a1")
    assert database.rows(ORDERS) == OPEN
    assert database.value("SELECT count(*) FROM orders WHERE updated_at = '2026-05-05'") == 1


def test_the_old_one_is_reverted_first(project: Project) -> None:
    ran(project, "downgrade", "a1")
    assert (project.database.rows(ORDERS), version(project.database)) == (OPEN, ["version_3"])


def test_a_pasted_script_brings_the_ledger_forward(project: Project) -> None:
    project.database.psql(project.script("a2:a3"), "-v", "ON_ERROR_STOP=1")
    assert version(project.database) == ["version_3"]
    assert project.outcomes[-1] == "applied"


def test_an_old_run_whose_file_was_edited_is_reverted_by_its_images(project: Project) -> None:
    """015 itself is such a file: what it tolerates changed after some had run it."""
    project.revision(
        "a2", "a1", "op.apply_datafix(fix)", "op.revert_datafix(fix)",
        top=A2.replace('expect={', 'already="true", already_at_most=2, expect={'),
    )  # fmt: skip
    assert "has changed since it ran" in ran(project, "downgrade", "a1")
    assert project.database.rows(ORDERS) == OPEN


def test_an_old_run_without_a_file_gives_back_only_rows_that_are_as_it_left_them(project: Project) -> None:
    """0.1 kept neither identities nor housekeeping: a row that differs in any column may be another one."""
    project.database.execute("UPDATE orders SET updated_at = '2026-05-05' WHERE id = 2")
    project.revision("a3", "a2", "op.revert_datafix(run=1)")
    refused = project.alembic("upgrade", "head")
    assert refused.code == 255
    assert "1 of 2 rows of public.orders cannot be restored: 2 changed since" in refused.last_line
    assert project.database.rows(ORDERS) == CLOSED
    project.database.execute("UPDATE orders SET updated_at = NULL WHERE id = 2")
    ran(project, "upgrade", "head")
    assert project.database.rows(ORDERS) == OPEN


def test_what_takes_back_a_revert_by_images_knows_no_more_than_it_did(project: Project) -> None:
    database = project.database
    project.revision("a2", "a1", "pass", top="# Its declaration is gone.")
    project.revision(
        "a3", "a2", "op.revert_datafix(run=1)", 'op.revert_datafix("close_orders")', top="# None."
    )
    ran(project, "upgrade", "head")
    assert database.rows(ORDERS) == OPEN
    database.execute("UPDATE orders SET number = 'B-77' WHERE id = 2")  # another order under the same key
    refused = project.alembic("downgrade", "a2")
    assert "2 changed since" in refused.last_line
    assert database.rows(ORDERS) == OPEN


def test_a_refused_fix_leaves_the_ledger_as_it_was_and_its_failure_in_it(project: Project) -> None:
    project.revision("a3", "a2", "op.apply_datafix(fix)", top=A3.replace("[3]", "[3, 4]"))
    was = columns(project.database)
    assert project.alembic("upgrade", "head").code == 255
    assert (columns(project.database), version(project.database)) == (was, [])
    assert project.outcomes[-1] == "failed"


def test_a_ledger_that_was_brought_forward_is_like_a_new_one(
    project: Project, tmp_path: Path, database: Database
) -> None:
    ran(project, "upgrade", "head")
    forward, views = (
        columns(database),
        database.rows("SELECT viewname, definition FROM pg_views WHERE viewname LIKE 'datafix%' ORDER BY 1"),
    )
    constraints = "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'datafix_run'::regclass AND contype <> 'n' ORDER BY 1"
    kept = database.rows(constraints)
    database.execute(
        "DROP SCHEMA public CASCADE", "CREATE SCHEMA public", "CREATE TABLE item (id integer PRIMARY KEY)"
    )
    fresh = new_project(tmp_path / "fresh", database)
    fresh.revision("a", None, 'op.create_audit_table("item", name="item_audit")')
    ran(fresh, "upgrade", "head")
    assert columns(database) == forward
    assert database.rows(constraints) == kept
    assert {name for name, _ in views} == {
        name for (name,) in database.rows("SELECT viewname FROM pg_views WHERE viewname LIKE 'datafix%'")
    }
    assert dict(views)["datafix_history"] == database.value(
        "SELECT definition FROM pg_views WHERE viewname = 'datafix_history'"
    )


def test_rights_on_the_views_and_what_stands_on_them_stay(project: Project) -> None:
    database = project.database
    database.execute(
        "CREATE ROLE auditor_of_01 LOGIN",
        "GRANT SELECT ON datafix_history, datafix_run TO auditor_of_01",
        "CREATE VIEW own AS SELECT fix, outcome FROM datafix_history",
    )
    try:
        ran(project, "upgrade", "head")
        assert database.value("SELECT count(*) FROM datafix_history", role="auditor_of_01") == 4
        assert database.value("SELECT count(*) FROM own") == 4
    finally:
        database.execute("DROP OWNED BY auditor_of_01", "DROP ROLE auditor_of_01")


def test_version_0_1_refuses_a_newer_ledger_in_one_line(project: Project) -> None:
    database = project.database
    project.revision("a3", "a2", "op.update_ledger()")
    ran(project, "upgrade", "head")
    assert version(database) == ["version_3"]
    database.execute("UPDATE alembic_version SET version_num = 'a2'")
    was = database.rows(ORDERS)
    done = database.psql((VERSION_0_1 / "apply_a3.sql").read_text(), "-v", "ON_ERROR_STOP=1", check=False)
    assert done.returncode != 0
    [error] = [line for line in done.stderr.splitlines() if "ERROR:" in line]
    assert 'violates check constraint "datafix_run_is_version_3__upgrade_the_package_datafixes"' in error
    assert (database.rows(ORDERS), project.versions) == (was, {"a2"})


def test_a_ledger_of_version_2_gets_what_batches_need(project: Project) -> None:
    database = project.database
    ran(project, "upgrade", "head")
    made = columns(database)
    database.execute(
        "DROP VIEW datafix_row, datafix_open, datafix_history",
        "DROP TABLE datafix_range",
        "ALTER TABLE datafix_run DROP COLUMN part_of, DROP COLUMN wish,"
        " DROP CONSTRAINT datafix_run_is_version_3__upgrade_the_package_datafixes,"
        " ADD CONSTRAINT datafix_run_is_version_2__upgrade_the_package_datafixes CHECK (engine IS NOT NULL)",
    )
    ran(project, "downgrade", "a1")
    found = [column for column in columns(database) if "pg.dropped" not in column[0]]
    assert (database.rows(ORDERS), version(database), found) == (OPEN, ["version_3"], made)


def test_a_ledger_of_a_later_version_is_refused_in_one_line(project: Project) -> None:
    ran(project, "upgrade", "head")
    project.database.execute(
        "ALTER TABLE datafix_run ADD CONSTRAINT datafix_run_is_version_4__upgrade_the_package_datafixes CHECK (true)"
    )
    refused = project.alembic("downgrade", "a2")
    assert refused.code == 255
    assert refused.last_line.endswith(
        "ledger public.datafix_run has version 4, and this version of datafixes writes version 3."
        " Nothing was changed. Upgrade the package: pip install --upgrade datafixes."
    )


def test_a_role_that_does_not_own_the_ledger_names_who_does(project: Project) -> None:
    database = project.database
    database.execute(
        "CREATE ROLE deployer_of_01 LOGIN",
        "ALTER TABLE lines OWNER TO deployer_of_01",
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO deployer_of_01",
        "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO deployer_of_01",
    )
    try:
        theirs = project.process("-x", f"url={database.url_for('deployer_of_01')}", "upgrade", "head")
        assert theirs.code == 255
        assert "which only its owner postgres may do" in theirs.last_line
        assert "Let postgres run this migration once" in theirs.last_line
        project.revision("a3", "a2", "op.update_ledger()")
        ran(project, "upgrade", "head")
        project.revision("a4", "a3", "op.apply_datafix(fix)", top=A3)
        theirs = project.process("-x", f"url={database.url_for('deployer_of_01')}", "upgrade", "head")
        assert theirs.code == 0, theirs.err
        assert database.rows(
            "SELECT applied_by, logged_in_as FROM datafix_run WHERE run_id = (SELECT max(run_id) FROM datafix_run)"
        ) == [("deployer_of_01", "deployer_of_01")]
    finally:
        database.execute(
            "REASSIGN OWNED BY deployer_of_01 TO postgres",
            "DROP OWNED BY deployer_of_01",
            "DROP ROLE deployer_of_01",
        )


def of_doctor(project: Project, **more: str) -> tuple[str, str]:
    found = answer(
        project, *(part for flag in more.items() for part in ("-x", "=".join(flag))), "doctor", code=None
    )
    [ledger] = [one for one in found["findings"] if one["check"] == "ledger"]
    return ledger["state"], ledger["evidence"]


def test_doctor_says_which_version_a_ledger_is(project: Project) -> None:
    database = project.database
    assert of_doctor(project) == (
        "good",
        "public.datafix_run has version 1, and this package writes version 3: the next run of a fix upgrades it.",
    )
    ran(project, "upgrade", "head")
    assert of_doctor(project) == ("good", "public.datafix_run has version 3.")
    database.execute("ALTER TABLE datafix_run ADD CONSTRAINT datafix_run_is_version_4__ CHECK (true)")
    assert of_doctor(project)[0] == "bad"


def test_update_ledger_without_a_ledger(tmp_path: Path, database: Database) -> None:
    project = new_project(tmp_path, database)
    project.revision("a", None, "op.update_ledger()")
    refused = project.alembic("upgrade", "head")
    assert refused.code == 255
    assert "ledger public.datafix_run does not exist" in refused.last_line


def test_who_logged_in_is_kept_beside_the_role_that_was_set(project: Project) -> None:
    """`ALTER ROLE ... SET role` makes every session of a person one of the owner's: only session_user is the person."""
    database = project.database
    database.execute(
        "CREATE ROLE ada_of_01 LOGIN IN ROLE postgres", "ALTER ROLE ada_of_01 SET role = postgres"
    )
    try:
        done = project.process("-x", f"url={database.url_for('ada_of_01')}", "upgrade", "head")
        assert done.code == 0, done.err
        assert database.rows(
            "SELECT applied_by, logged_in_as FROM datafix_history WHERE fix = 'name_lines'"
        ) == [("postgres", "ada_of_01")]
    finally:
        database.execute("DROP ROLE ada_of_01")
