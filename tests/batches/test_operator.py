"""A fix that is half applied, as an operator meets it: what is refused meanwhile, what is told, and who may end it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from tests.batches.many import ROWS, is_whole, many_project
from tests.faults.deploys import one_clear_line
from tests.projects import Project, Ran, new_project
from tests.servers import Database

STATE = (
    "SELECT (SELECT string_agg(version_num, ' ') FROM alembic_version), (SELECT count(*) FROM datafix_run), "
    "(SELECT count(*) FROM many WHERE done), (SELECT count(*) FROM many_audit)"
)


def half_applied(directory: Path, database: Database, batches: str = "rows=100") -> Project:
    """A project whose fix was refused in the middle, for a reason that is gone now."""
    project = many_project(directory, database, batches)
    project.revision("o", "n", "op.execute('CREATE TABLE later ()')", "op.execute('DROP TABLE later')")
    database.execute("ALTER TABLE many ADD CONSTRAINT small CHECK (v < 1100)")
    ran = project.alembic("upgrade", "head")
    assert (ran.code, project.versions) == (255, {"m"}), ran.err
    database.execute("ALTER TABLE many DROP CONSTRAINT small")
    assert 0 < database.value("SELECT count(*) FROM many WHERE done") < ROWS
    return project


def is_refused(ran: Ran, revision: str, way: str) -> bool:
    """One line says what is half applied, and both ways on."""
    line = ran.last_line
    return (
        ran.code == 255
        and line.startswith("datafix double_many is half applied: ")
        and " batches, 500 of 1,000 rows (run 1, last progress " in line
        and f"revision {revision} is not {way}. Nothing was changed." in line
        and line.endswith(
            "To go on with it: alembic upgrade n. To take it back: alembic -x undo=double_many upgrade head."
        )
    )


@pytest.mark.parametrize(
    ("command", "step", "way"),
    [
        (("downgrade", "-1"), "m", "downgraded"),
        (("downgrade", "base"), "m", "downgraded"),
        (("-x", "undo=double_many", "downgrade", "a"), "m", "downgraded"),
        (("upgrade", "beside"), "beside", "upgraded"),
        (("-x", "undo=double_many", "upgrade", "beside"), "beside", "upgraded"),
    ],
)
def test_every_other_step_is_refused_while_a_fix_is_half_applied(
    tmp_path: Path, database: Database, command: tuple[str, ...], step: str, way: str
) -> None:
    project = half_applied(tmp_path, database)
    project.revision("beside", "a", "op.execute('CREATE TABLE beside ()')")
    before = database.rows(STATE)

    ran = project.alembic(*command)

    assert is_refused(ran, step, way), ran.last_line
    assert database.rows(STATE) == before
    assert database.value("SELECT to_regclass('beside')") is None


def test_the_upgrade_of_the_fix_goes_on(tmp_path: Path, database: Database) -> None:
    project = half_applied(tmp_path, database)

    ran = project.alembic("upgrade", "head")

    assert (ran.code, project.versions) == (0, {"o"}), ran.err
    assert is_whole(database)
    assert project.alembic("downgrade", "-1").code == 0


@contextmanager
def asked() -> Iterator[list[str]]:
    """The questions about ledgers that are sent meanwhile."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "datafix_range" in statement:
            sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def test_where_nothing_is_to_run_nothing_is_asked(tmp_path: Path, database: Database) -> None:
    project = half_applied(tmp_path, database)

    with asked() as sent:
        for command in (("current",), ("upgrade", "m"), ("downgrade", "m"), ("stamp", "m"), ("history",)):
            ran = project.alembic(*command)
            assert ran.code == 0, ran.err
    assert sent == []


def test_a_project_without_a_ledger_is_asked_one_question(tmp_path: Path, database: Database) -> None:
    project = new_project(tmp_path, database)
    project.revision("a", None, "op.execute('CREATE TABLE one ()')", "op.execute('DROP TABLE one')")
    project.revision("b", "a", "op.execute('CREATE TABLE two ()')", "op.execute('DROP TABLE two')")

    with asked() as sent:
        ran = project.alembic("upgrade", "head")

    assert (ran.code, len(sent)) == (0, 1), ran.err


def test_what_cannot_be_taken_back_is_told(tmp_path: Path, database: Database) -> None:
    project = half_applied(tmp_path, database)

    ran = project.alembic("-x", "undo=double_many", "upgrade", "m")

    assert ran.code == 0
    assert "-x undo: fix double_many was not due to run, so nothing was taken back." in ran.err


def test_a_printed_script_asks_no_database(tmp_path: Path, database: Database) -> None:
    project = half_applied(tmp_path, database)

    assert "DROP TABLE" in project.alembic("downgrade", "m:a", "--sql").out


def test_another_tenants_half_applied_fix_is_its_own(tmp_path: Path, database: Database) -> None:
    """A schema with a version table of its own is migrated by itself."""
    project = half_applied(tmp_path, database)
    database.execute("CREATE SCHEMA other")
    project.env(
        "from alembic import context\nfrom datafixes.environment import run_migrations\n"
        "run_migrations(context, version_table_schema='other')\n"
    )
    project.revision("z", None, "op.execute('CREATE TABLE other.z ()')", "op.execute('DROP TABLE other.z')")

    up = project.alembic("upgrade", "z")
    down = project.alembic("downgrade", "z@base")

    assert (up.code, down.code) == (0, 0), up.err + down.err


def test_a_role_that_may_not_read_the_ledger_migrates_as_before(tmp_path: Path, database: Database) -> None:
    project = half_applied(tmp_path, database)
    database.execute(
        "CREATE ROLE plain LOGIN",
        "GRANT ALL ON alembic_version TO plain",
        "GRANT CREATE, USAGE ON SCHEMA public TO plain",
    )
    project.revision("y", None, "op.execute('CREATE TABLE y ()')", "op.execute('DROP TABLE y')")

    ran = project.alembic("-x", f"url={database.url_for(role='plain')}", "upgrade", "y")

    assert ran.code == 0, ran.err


@pytest.mark.parametrize("command", [("-x", "undo=double_many", "upgrade", "head"), ("downgrade", "m")])
def test_a_connection_that_is_lost_before_it_begins_is_one_line(
    tmp_path: Path, database: Database, command: tuple[str, ...]
) -> None:
    """As when the server crashes between Alembic's last statement and the first one of the fix."""
    project = half_applied(tmp_path, database)
    if "downgrade" in command:
        assert project.alembic("upgrade", "n").code == 0
    before = database.rows(STATE)
    killed = (
        "pid = op.get_bind().connection.dbapi_connection.info.backend_pid\n"
        f"with sa.create_engine({project.url!r}).connect() as other:\n"
        "    other.exec_driver_sql(f'SELECT pg_terminate_backend({pid}, 5000)')\n"
    )
    top = (
        (tmp_path / "migrations/versions/n.py")
        .read_text("utf-8")
        .split("depends_on = None")[1]
        .split("def upgrade")[0]
    )
    project.revision("n", "m", f"{killed}op.apply_datafix(fix)", f"{killed}op.revert_datafix(fix)", top=top)

    one_clear_line(
        project.alembic(*command), "datafix double_many: the connection to the database was lost: "
    )

    assert database.rows(STATE) == before
