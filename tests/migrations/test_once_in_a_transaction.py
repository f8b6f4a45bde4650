"""What is the same for every script goes to a transaction once, online and in a script, and is gone when it ends."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import Connection

from datafixes.running.execution import execute
from datafixes.script.apply import apply_script
from datafixes.script.context import Context
from datafixes.script.frame import Script
from datafixes.script.revert import revert_script
from datafixes.script.tables import AuditTable, create_script
from tests import fixes
from tests.projects import ENV, FIX, TABLE, Project, new_project, our_project
from tests.servers import Database
from tests.unit.test_script import small

STOP = ("-v", "ON_ERROR_STOP=1")
MADE = re.compile(r"CREATE OR REPLACE FUNCTION pg_temp\.(\w+)")
MAKE, DROP = (
    'op.create_audit_table("item", name="item_audit")',
    'op.drop_audit_table("item_audit", discard=True)',
)
OTHER = """
DataFix(name="note_items", reason="r", change=Update("item", set={"note": "seen"}, where="note IS NULL"),
        rows=Rows(key="id", expect=[1, 3]), audit="item_audit")
"""
ONE_TRANSACTION = ENV.replace("(context)", "(context, transaction_per_migration=False)")


def project_with_three_operations(directory: Path, database: Database, env: str = ENV) -> Project:
    """A revision that makes the audit table and applies two fixes, and one that takes one of them back."""
    project = new_project(directory, database, env)
    project.revision(
        "a", None, f"{MAKE}\nop.apply_datafix(fix)\nop.apply_datafix(other)",
        f"op.revert_datafix(other)\nop.revert_datafix(fix)\n{DROP}", top=f"fix = {FIX.strip()}\nother = {OTHER.strip()}",
    )  # fmt: skip
    project.revision("b", "a", "op.revert_datafix('note_items')", "op.revert_datafix('note_items')")
    database.psql(TABLE, *STOP)
    return project


def made(text: str) -> Counter[str]:
    """How often each function of the engine is made."""
    return Counter(MADE.findall(text))


def parts(script: str) -> list[str]:
    """A script, cut at the ends of its transactions."""
    return re.split(r"(?m)^COMMIT;", script)


def test_a_script_holds_each_function_once_in_each_transaction(database: Database, tmp_path: Path) -> None:
    project = project_with_three_operations(tmp_path, database)
    script = project.script("base:b")
    first, second, rest = parts(script)
    assert set(made(first).values()) == set(made(second).values()) == {1}
    assert made(first)["datafix_begin"] == made(second)["datafix_begin"] == 1
    assert first.count("CALL pg_temp.datafix_run()") == 3
    assert not made(rest)
    database.psql(script, *STOP)
    assert project.outcomes == ["applied", "applied", "reverted"]
    database.psql(project.script("b:base"), *STOP)
    assert database.rows("SELECT status, note, amount FROM item ORDER BY id") == [
        ("open", None, 10), ("open", "x", 20), ("open", None, 30),
    ]  # fmt: skip


def test_where_all_migrations_are_one_transaction_they_share_the_functions(
    database: Database, tmp_path: Path
) -> None:
    project = project_with_three_operations(tmp_path, database, ONE_TRANSACTION)
    script = project.script("base:b")
    assert len(parts(script)) == 2
    assert set(made(script).values()) == {1}
    database.psql(script, *STOP)
    assert project.outcomes == ["applied", "applied", "reverted"]


def test_a_script_that_commits_within_a_revision_sends_the_functions_again(
    database: Database, tmp_path: Path
) -> None:
    project = new_project(tmp_path, database)
    block = 'with op.get_context().autocommit_block():\n    op.execute("CREATE TABLE elsewhere (n integer)")'
    project.revision("a", None, f"{MAKE}\n{block}\nop.apply_datafix(fix)")
    database.psql(TABLE, *STOP)
    script = project.script("base:a")
    first, second, *_ = (made(part) for part in parts(script) if "CALL" in part)
    assert "datafix_refuse" in first.keys() & second.keys()
    database.psql(script, *STOP)
    assert project.outcomes == ["applied"]


def test_online_each_function_is_sent_once_in_each_transaction(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = project_with_three_operations(tmp_path, database)
    script = project.script("base:a")
    sent: list[str] = []
    execute_directly = Connection.exec_driver_sql

    def listening(connection: Connection, statement: str, *rest: object) -> object:
        sent.append(statement.replace("%%", "%"))
        return execute_directly(connection, statement, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Connection, "exec_driver_sql", listening)
    ran = project.alembic("upgrade", "a")
    assert ran.code == 0, ran.err
    monkeypatch.undo()
    assert set(made("".join(sent)).values()) == {1}
    # The very statements of the script, in its order.
    position = 0
    for statement in sent:
        if "pg_temp." in statement and not statement.startswith("SELECT"):
            position = script.index(f"{statement};", position) + len(statement)
    assert script.count("CALL", position) == 0


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    """One session, as a pooler hands it from one client to the next."""
    database.psql(
        "CREATE TABLE t (id integer PRIMARY KEY, status text); INSERT INTO t VALUES (1, 'open')", *STOP
    )
    engine = create_engine(database.url)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def audit_table() -> Script:
    """The script that makes the audit table of the fix."""
    return create_script(AuditTable("t", "t_audit", "public", "public"), fixes.LIMITS)


def functions(connection: Connection) -> int:
    """How many functions the session has for itself."""
    counted = connection.exec_driver_sql(
        "SELECT count(*) FROM pg_proc WHERE pronamespace = pg_my_temp_schema()"
    )
    return int(counted.scalar_one())


def test_what_a_savepoint_took_back_is_sent_again(connection: Connection) -> None:
    savepoint = connection.begin_nested()
    execute(connection, audit_table(), "t_audit", fixes.ONCE)
    assert functions(connection) == len(audit_table().engine.functions)
    savepoint.rollback()
    assert functions(connection) == 0
    execute(connection, audit_table(), "t_audit", fixes.ONCE)
    execute(connection, apply_script(small(), Context(), fixes.LIMITS), "small", fixes.ONCE)
    connection.commit()
    assert functions(connection) == 0
    assert connection.exec_driver_sql("SELECT status FROM t").scalar_one() == "closed"


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_the_session_keeps_nothing_however_the_transaction_ends(connection: Connection, end: str) -> None:
    execute(connection, audit_table(), "t_audit", fixes.ONCE)
    execute(connection, apply_script(small(), Context(), fixes.LIMITS), "small", fixes.ONCE)
    execute(connection, revert_script(small(), Context(), fixes.LIMITS), "small", fixes.ONCE)
    assert functions(connection) > 100
    getattr(connection, end)()
    left = connection.exec_driver_sql(
        "SELECT relname::text FROM pg_class WHERE relnamespace = pg_my_temp_schema() UNION ALL "
        "SELECT proname FROM pg_proc WHERE pronamespace = pg_my_temp_schema() UNION ALL "
        "SELECT name FROM pg_cursors WHERE name LIKE 'datafix%%'"
    )
    assert left.all() == []


def test_what_another_version_left_in_the_session_is_not_called(connection: Connection) -> None:
    """Version 0.1 could leave functions in a pooled session; with fewer arguments, they would be found first."""
    for signature in (
        "datafix_watch()",
        "datafix_close(fix jsonb, outcome text, changed bigint DEFAULT 0)",
    ):
        connection.exec_driver_sql(
            f"CREATE FUNCTION pg_temp.{signature} RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'not me'; END $$"
        )
    connection.commit()
    execute(connection, audit_table(), "t_audit", fixes.ONCE)
    execute(connection, apply_script(small(), Context(), fixes.LIMITS), "small", fixes.ONCE)
    connection.commit()
    assert connection.exec_driver_sql("SELECT status FROM t").scalar_one() == "closed"
    assert functions(connection) == 0


def test_the_fix_begins_on_the_first_screen_of_a_script(database: Database) -> None:
    lines = our_project(database).script("014:015").splitlines()
    assert next(n for n, line in enumerate(lines, 1) if line.startswith("-- The fix.")) <= 60
    assert [line for line in lines if len(line) > 120] == []
