"""A database whose transactions are REPEATABLE READ or SERIALIZABLE by default: a script says what a fix needs (C22)."""

from pathlib import Path

import pytest

from tests import fixes
from tests.cli.commands import answer
from tests.fixes import Context, apply_script
from tests.projects import ENV, FIX, STOCK_ENV, Project, project_with_fix
from tests.servers import Database
from tests.small_book import close, lay

ONE_TRANSACTION = ENV.replace(
    "run_migrations(context)", "run_migrations(context, transaction_per_migration=False)"
)
EACH = STOCK_ENV.replace(
    "target_metadata=target_metadata", "target_metadata=target_metadata, transaction_per_migration=True"
)
RECORDED = """
from datafixes import RecordedFix, Table
fix = RecordedFix(name="close_items", reason="r", tables=[Table("item", "item_audit", updated=2)])
"""
RECORD = "with op.record_datafix(fix) as body:\n    body.execute(\"UPDATE item SET status = 'closed', amount = amount + 100 WHERE id < 3\")"
FIXED = [(1, "closed", 110), (2, "closed", 120), (3, "open", 30)]
START = [(1, "open", 10), (2, "open", 20), (3, "open", 30)]
ITEMS = "SELECT id, status, amount::int FROM item ORDER BY id"


@pytest.fixture(params=["repeatable read", "serializable"])
def level(request: pytest.FixtureRequest, database: Database) -> str:
    """The database's default."""
    database.execute(f"ALTER DATABASE {database.name} SET default_transaction_isolation = '{request.param}'")
    assert database.value("SHOW default_transaction_isolation") == request.param
    return str(request.param)


def chain(project: Project) -> None:
    """Statements before the fix, in its own revision and in one below it."""
    project.revision(
        "b",
        "a",
        "op.execute('CREATE TABLE seen AS SELECT * FROM item')",
        "op.drop_table('seen')",
        top="# DDL",
    )
    project.revision(
        "c", "b", "op.execute('UPDATE seen SET note = 1')\nop.apply_datafix(fix)", "op.revert_datafix(fix)"
    )


@pytest.mark.parametrize("told", [(), ("-1",)], ids=["plain", "psql -1"])
@pytest.mark.parametrize("env", [ENV, ONE_TRANSACTION], ids=["each", "one"])
def test_c22_a_printed_chain_runs_in_both_layouts(
    env: str, told: tuple[str, ...], level: str, tmp_path: Path, database: Database
) -> None:
    project = project_with_fix(tmp_path, database, env)
    chain(project)
    database.psql(project.script("a:c"), "-v", "ON_ERROR_STOP=1", *told)
    assert (database.rows(ITEMS), project.versions) == (FIXED, {"c"})
    database.psql(project.script("c:a"), "-v", "ON_ERROR_STOP=1", *told)
    assert (database.rows(ITEMS), project.versions) == (START, {"a"})
    assert database.value("SHOW transaction_isolation") == level  # nothing stays


@pytest.mark.parametrize("env", [ENV, ONE_TRANSACTION], ids=["each", "one"])
def test_c22_our_env_runs_and_plans(env: str, level: str, tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database, env)
    chain(project)
    assert answer(project, "plan")["fine"]
    ran = project.alembic("upgrade", "c")
    assert (ran.code, database.rows(ITEMS)) == (0, FIXED), ran.err
    assert project.alembic("downgrade", "a").code == 0
    assert database.rows(ITEMS) == START


@pytest.mark.parametrize(
    ("up", "top"), [("op.apply_datafix(fix)", f"fix = {FIX.strip()}"), (RECORD, RECORDED)]
)
@pytest.mark.parametrize("env", [STOCK_ENV, EACH], ids=["one", "each"])
def test_c22_a_script_of_an_env_of_the_projects_own_says_so_itself(
    env: str, up: str, top: str, level: str, tmp_path: Path, database: Database
) -> None:
    project = project_with_fix(
        tmp_path, database, env.replace("connectable.connect()", CAREFUL), up=up, top=top
    )
    database.psql(project.script("a:b"), "-v", "ON_ERROR_STOP=1")
    assert (database.rows(ITEMS), project.versions) == (FIXED, {"b"})
    database.psql(project.script("b:a"), "-v", "ON_ERROR_STOP=1")
    assert (database.rows(ITEMS), project.versions) == (START, {"a"})
    database.psql(project.script("a:b", "-x", "decline=close_items: not here"), "-v", "ON_ERROR_STOP=1")
    assert project.outcomes == ["applied", "reverted", "declined"]


CAREFUL = 'connectable.connect().execution_options(isolation_level="READ COMMITTED")'


@pytest.mark.parametrize("env", [STOCK_ENV, EACH], ids=["one", "each"])
def test_c22_online_an_env_of_the_projects_own_is_told_what_to_write(
    env: str, level: str, tmp_path: Path, database: Database
) -> None:
    project = project_with_fix(tmp_path, database, env)
    words = (
        "datafix close_items: the transaction has read already and is not READ COMMITTED: it would not see what others "
        "commit while it waits for a lock"
    )
    planned = answer(project, "plan", code=3)
    assert planned["refusal"]["message"] == words
    ran = project.alembic("upgrade", "b")
    assert ran.code != 0
    assert words in ran.last_line
    assert 'isolation_level="READ COMMITTED"' in ran.last_line
    assert (database.rows(ITEMS), project.versions, project.outcomes) == (START, {"a"}, ["failed"])
    project.env(env.replace("connectable.connect()", CAREFUL))
    assert answer(project, "plan")["fine"]
    assert project.alembic("upgrade", "b").code == 0
    assert database.rows(ITEMS) == FIXED


def test_c22_a_script_by_hand_says_so_itself(level: str, database: Database) -> None:
    lay(database)
    script = apply_script(close(), Context(), fixes.LIMITS).text
    database.psql(f"BEGIN;\n{script}COMMIT;\n", "-v", "ON_ERROR_STOP=1")
    assert database.value("SELECT count(*) FROM positions WHERE status = 'closed'") == 3


@pytest.mark.parametrize("rollback", ["off", "on"])
@pytest.mark.parametrize("begin", ["BEGIN", "BEGIN ISOLATION LEVEL READ COMMITTED"])
def test_c22_behind_a_query_it_is_refused_however_psql_goes_on(
    begin: str, rollback: str, level: str, database: Database
) -> None:
    lay(database)
    script = f"{begin};\nSELECT 1;\n{apply_script(close(), Context(), fixes.LIMITS).text}COMMIT;\n"
    done = database.psql(script, "-v", f"ON_ERROR_ROLLBACK={rollback}", check=False)
    refused = begin == "BEGIN"
    assert ("SET TRANSACTION ISOLATION LEVEL must be called before any query" in done.stderr) == refused
    if refused and rollback == "on":
        assert f"the transaction is {level.upper()}, and would not see what others commit" in done.stderr
    assert database.value("SELECT count(*) FROM positions WHERE status = 'closed'") == (0 if refused else 3)
