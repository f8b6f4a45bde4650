"""What the database says no to, outside of a fix: one line and an exit code, in every command and in an upgrade."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commands import datafixes
from tests.projects import ENV, FIX, STOCK_ENV, TABLE, Ran, new_project, project_with_fix
from tests.servers import Database

COMMANDS: list[tuple[str, ...]] = [
    ("plan",),
    ("plan", "--downgrade", "a"),
    ("new", "another_fix", "--table", "item", "--where", "id = 3", "--set", "status=held"),
    ("new", "sql_fix", "--sql", "UPDATE item SET note = 'x' WHERE id = 3"),
    ("revert", "close_items"),
    ("doctor",),
    ("history",),
    ("show", "1"),
    ("open",),
    ("row", "item", "1"),
    ("report", "1"),
]

# What stands in the way, as statements of a superuser; {role} is who runs the commands.
NO_RIGHTS = "SELECT 1"
SITUATIONS = {
    "no rights": NO_RIGHTS,
    "reads only": "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}; "
    "ALTER ROLE {role} SET default_transaction_read_only = on",
    "no ledger": "DROP TABLE datafix_run, datafix_run_table CASCADE; ALTER ROLE {role} SUPERUSER",
    "no audit table": "DROP TABLE item_audit CASCADE; ALTER ROLE {role} SUPERUSER",
    "no temporary objects": "GRANT ALL ON ALL TABLES IN SCHEMA public TO {role};"
    " REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC",
    "no time": "ALTER ROLE {role} SUPERUSER; ALTER ROLE {role} SET statement_timeout = '1ms'",
    "no connection": "ALTER ROLE {role} CONNECTION LIMIT 0",
}


@pytest.fixture
def role(database: Database) -> Iterator[str]:
    name = f"role_{database.name}"
    database.execute(f"CREATE ROLE {name} LOGIN")
    yield name
    database.execute(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def one_line(ran: Ran) -> None:
    assert ran.code != 0, ran.out + ran.err
    assert "Traceback" not in ran.out + ran.err
    assert "FAILED: " in [line[:8] for line in (ran.out + ran.err).splitlines()], ran.out + ran.err
    for noise in ("sqlalche.me", "[SQL:", "psycopg2.errors", "DO $"):
        assert noise not in ran.out + ran.err


@pytest.mark.parametrize("situation", SITUATIONS)
def test_every_command_says_so_in_a_line(
    situation: str, tmp_path: Path, database: Database, role: str
) -> None:
    project = project_with_fix(tmp_path, database)
    assert project.alembic("upgrade", "b").code == 0
    second = FIX.strip().replace("close_items", "second").replace("'open'", "'closed'")
    project.revision("c", "b", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=f"fix = {second}")
    for statement in SITUATIONS[situation].format(role=role, database=database.name).split(";"):
        database.execute(statement)
    url = ("-x", f"url={database.url_for(role)}")
    for command in COMMANDS:
        ran = datafixes(project, *url, *command)
        assert ran.code in (0, 1, 3), (command, ran)
        assert "Traceback" not in ran.out + ran.err, command
        if ran.code == 1:
            one_line(ran)
        if situation in ("no rights", "no connection") and command != ("doctor",):
            assert ran.code == 1, (command, ran)


@pytest.mark.parametrize("command", [("upgrade", "head"), ("downgrade", "a"), ("current",), ("stamp", "c")])
@pytest.mark.parametrize(
    "given", ["", "SELECT", "SELECT, UPDATE, DELETE"], ids=["nothing", "reading", "no inserting"]
)
def test_alembic_says_so_in_a_line(
    given: str, command: tuple[str, ...], tmp_path: Path, database: Database, role: str
) -> None:
    project = project_with_fix(tmp_path, database)
    assert project.alembic("upgrade", "b").code == 0
    project.revision("c", "b", "pass", top="fix = None")
    if given:
        database.execute(f"GRANT {given} ON ALL TABLES IN SCHEMA public TO {role}")
    ran = project.alembic("-x", f"url={database.url_for(role)}", *command)
    if ran.code != 0 or not given:
        one_line(ran)
        assert "permission denied" in ran.last_line or "must be owner" in ran.last_line


def test_a_first_upgrade_that_may_not_make_anything(tmp_path: Path, database: Database, role: str) -> None:
    database.psql(TABLE)
    project = new_project(tmp_path, database)
    project.revision("a", None, "pass", top="fix = None")
    url = ("-x", f"url={database.url_for(role)}")
    database.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    ran = project.alembic(*url, "upgrade", "head")
    one_line(ran)
    assert "permission denied for schema public" in ran.last_line
    database.execute(f"ALTER ROLE {role} SET default_transaction_read_only = on")
    ran = project.alembic(*url, "upgrade", "head")
    one_line(ran)
    assert "read-only transaction" in ran.last_line


def test_the_projects_own_errors_keep_their_traceback(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    project.revision("c", "b", "op.execute('SELECT 1 / 0')", top="fix = None")
    ran = project.alembic("upgrade", "head")
    assert ran.code == 1
    assert "Traceback" in ran.err
    assert "op.execute('SELECT 1 / 0')" in ran.err


TIMEOUTS = {
    "statement_timeout": "700ms",
    "lock_timeout": "3ms",
    "idle_in_transaction_session_timeout": "700ms",
    "transaction_timeout": "700ms",
}


@pytest.mark.parametrize("env", [ENV, STOCK_ENV], ids=["ours", "stock"])
@pytest.mark.parametrize("setting", TIMEOUTS)
def test_b38_a_plan_is_not_refused_by_what_an_upgrade_survives(
    setting: str, env: str, tmp_path: Path, database: Database
) -> None:
    """Each transaction of the upgrade is short; the plan is one, and has more to do in it."""
    if setting == "transaction_timeout" and database.server_version < 17:
        pytest.skip("came with PostgreSQL 17")
    project = project_with_fix(tmp_path, database, env)
    for name, after in (("c", "b"), ("d", "c")):
        thinks = f"import time\ntime.sleep(0.4)\nassert op.get_bind().exec_driver_sql('SHOW {setting}').scalar() != "
        project.revision(name, after, f"{thinks}{TIMEOUTS[setting]!r}", top="fix = None")
    database.execute(f"ALTER DATABASE {database.name} SET {setting} = '{TIMEOUTS[setting]}'")
    ran = datafixes(project, "plan")
    assert ran.code == 0, ran.out + ran.err
