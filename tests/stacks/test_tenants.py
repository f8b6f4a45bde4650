"""Projects that run each revision for several schemas: by search_path, by schema_translate_map, by a printed script."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.commands import answer, datafixes
from tests.projects import FIX, Project, new_project
from tests.servers import Database

SEARCH_PATH = """
    connection.execute(sa.text(f"SET search_path TO {tenant}"))
    connection.commit()
    connection.dialect.default_schema_name = tenant
    context.configure(connection=connection, transaction_per_migration=True)
"""
TRANSLATED = """
    connection = connection.execution_options(schema_translate_map={None: tenant})
    context.configure(connection=connection, version_table_schema=tenant, transaction_per_migration=True)
"""
ENV = """
import sqlalchemy as sa
from alembic import context
import datafixes.operations

connection = sa.create_engine(context.config.get_main_option("sqlalchemy.url")).connect()
for tenant in ("north", "south"):
{each}
    with context.begin_transaction():
        context.run_migrations()
connection.close()
"""
TABLES = "".join(
    f"CREATE SCHEMA {tenant}; CREATE TABLE {tenant}.item (id integer PRIMARY KEY, symbol text, status text, amount numeric);"
    f"INSERT INTO {tenant}.item VALUES (1, 'QCOM', 'open', {amount}), (2, 'NOW', 'open', {amount});"
    for tenant, amount in (("north", 1), ("south", 2))
)
TOP = f"from datafixes.operations import schema_of_run\nfix = {FIX.strip()}"
MAKE = 'op.create_audit_table("item", name="item_audit", schema=schema_of_run(op), audit_schema=None)'
DROP = 'op.drop_audit_table("item_audit", schema=schema_of_run(op), audit_schema=None)'


@pytest.fixture(params=[SEARCH_PATH, TRANSLATED], ids=["search_path", "schema_translate_map"])
def project(request: pytest.FixtureRequest, tmp_path: Path, database: Database) -> Project:
    database.psql(TABLES, "-v", "ON_ERROR_STOP=1")
    laid = new_project(tmp_path, database, ENV.format(each=request.param))
    laid.revision("a", None, MAKE, DROP, top="from datafixes.operations import schema_of_run")
    up, down = (f"op.{verb}_datafix(fix.in_schema(schema_of_run(op)))" for verb in ("apply", "revert"))
    laid.revision("b", "a", up, down, top=TOP)
    return laid


def test_one_fix_is_each_tenants_with_a_ledger_in_each_schema(project: Project) -> None:
    ran = project.alembic("upgrade", "head")
    assert ran.code == 0, ran.err
    rows = "SELECT status, amount::int FROM {}.item ORDER BY id"
    for tenant, amount in (("north", 101), ("south", 102)):
        assert project.database.rows(rows.format(tenant)) == [("closed", amount)] * 2
        [run] = answer(project, "history", "--schema", tenant)["runs"]
        assert (run["fix"], run["rows_changed"]) == ("close_items", 2)
    prints = project.database.rows(
        "SELECT fingerprint FROM north.datafix_run UNION SELECT fingerprint FROM south.datafix_run"
    )
    assert len(prints) == 1  # one declaration
    assert [one["plan"]["stamped_past"] for one in answer(project, "plan")["plans"]] == [[], []]
    assert datafixes(project, "check").code == 0
    down = project.alembic("-x", "discard=item_audit", "downgrade", "base")
    assert down.code == 0, down.err
    for tenant, amount in (("north", 1), ("south", 2)):
        assert project.database.rows(rows.format(tenant)) == [("open", amount)] * 2
        assert project.database.value(f"SELECT to_regclass('{tenant}.item_audit')") is None
        assert project.database.value(f"SELECT to_regclass('{tenant}.datafix_run')") is None


def test_a_plan_shows_every_tenant_and_keeps_nothing(project: Project) -> None:
    before = project.database.dump()
    planned = answer(project, "plan")
    assert [(one["name"], len(one["plan"]["steps"])) for one in planned["plans"]] == [
        ("north", 2),
        ("south", 2),
    ]
    runs = [step["runs"] for one in planned["plans"] for step in one["plan"]["steps"] if step["runs"]]
    assert [run["reversal"]["proven"] for [run] in runs] == [True, True]
    assert project.database.dump() == before
    shown = datafixes(project, "plan").out
    assert "✓ 2 plans: north, south." in shown
    # An upgrade is bound to all of them at once.
    digest = planned["digest"]
    assert digest == "-".join(one["plan"]["digest"] for one in planned["plans"])
    assert shown.count(f"To run exactly these plans  alembic -x plan={digest} upgrade head") == 1
    assert "exactly this plan" not in shown
    bound = _plan_sh(project)
    assert bound == f"PLAN_DIGEST={digest}\nPLAN_REVISION=head\n"
    # A row that is not the expected one stops one tenant's plan; the other's is shown all the same.
    project.database.execute("UPDATE south.item SET symbol = 'OTHER' WHERE id = 2")
    refused = datafixes(project, "plan")
    assert "exactly" not in refused.out
    assert (refused.code, "south: b would be refused" in refused.out, "north: b" in refused.out) == (
        3,
        True,
        True,
    )
    project.database.execute("UPDATE south.item SET symbol = 'NOW' WHERE id = 2")
    ran = project.alembic("-x", f"plan={digest}", "upgrade", "head")
    assert ran.code == 0, ran.out


def _plan_sh(project: Project) -> str:
    """What the script of the pipelines writes for the deploy."""
    script = Path(__file__).parents[2] / "docs/how-to/pipeline/plan.sh"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    told = {**os.environ, "PATH": path, "DATABASE_URL": project.url}
    subprocess.run(["sh", str(script)], cwd=project.directory, env=told, check=True, capture_output=True)
    return (project.directory / "plan.env").read_text("utf-8")


def test_new_writes_a_fix_for_the_schema_of_the_run(project: Project) -> None:
    """One that named its schema would run once for each tenant, and the second run would be refused."""
    for path in project.directory.glob("migrations/versions/*.py"):
        path.unlink()
    for row, files in ((1, 2), (2, 1)):  # the second one sees the audit table that the first will create
        change = "--table", "item", "--where", f"id = {row}", "--set", "status=closed"
        new = datafixes(project, "new", f"close {row}", "--schema", "north", *change)
        assert (new.code, len(new.out.splitlines())) == (0, files), new.err
        assert 'write in both functions: if schema_of_run(op) == "north": ...' in new.err
    ran = project.alembic("upgrade", "head")
    assert ran.code == 0, ran.err
    for tenant in ("north", "south"):
        assert project.database.value(f"SELECT count(*) FROM {tenant}.item WHERE status = 'closed'") == 2
    # A revert is of one tenant, and the others' runs pass it by.
    undone = datafixes(project, "revert", "close_1", "--schema", "north")
    assert undone.code == 0, undone.err
    ran = project.alembic("upgrade", "head")
    assert ran.code == 0, ran.err
    for tenant, left in (("north", [(2,)]), ("south", [(1,), (2,)])):
        assert (
            project.database.rows(f"SELECT id FROM {tenant}.item WHERE status = 'closed' ORDER BY id") == left
        )
    down = project.alembic("-x", "discard=item_audit", "downgrade", "base")
    assert down.code == 0, down.err
    assert project.database.value("SELECT count(*) FROM south.item WHERE status = 'open'") == 2


def test_an_env_that_commits_between_its_runs_is_told_so(tmp_path: Path, database: Database) -> None:
    database.psql(TABLES, "-v", "ON_ERROR_STOP=1")
    begun = SEARCH_PATH.replace("context.configure", "connection.begin()\n    context.configure")
    env = ENV.format(each=begun) + "    connection.commit()\n"
    project = new_project(tmp_path, database, env.replace("connection.close()\n", ""))
    project.revision("a", None, MAKE, DROP, top="from datafixes.operations import schema_of_run")
    assert project.alembic("upgrade", "head").code == 0
    ran = datafixes(project, "plan")
    assert (ran.code, "env.py commits between its runs of the migrations" in ran.err) == (1, True), ran.out
