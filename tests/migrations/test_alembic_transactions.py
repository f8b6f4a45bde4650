"""Hazards of transactions: the version never moves without the fix, nor the fix without the version."""

from pathlib import Path

import pytest

from datafixes.script.tables import RECORDS
from tests.projects import ENV, FIX, STOCK_ENV, TABLE, Project, new_project, project_with_fix
from tests.servers import Database

START = [(1, "open", 10), (2, "open", 20), (3, "open", 30)]
FIXED = [(1, "closed", 110), (2, "closed", 120), (3, "open", 30)]
# The caller begins the transaction and commits it: Alembic keeps out of it.
CALLER_COMMITS = STOCK_ENV.replace("connectable.connect() as", "connectable.begin() as")
ONE_TRANSACTION = ENV.replace("(context)", "(context, transaction_per_migration=False)")
# A statement before configure() begins a transaction that nobody commits.
STATEMENT_FIRST = STOCK_ENV.replace(
    "as connection:\n", "as connection:\n        connection.exec_driver_sql(\"SET lock_timeout = '4s'\")\n"
)
ENVIRONMENTS = {
    "ours": ENV, "one transaction": ONE_TRANSACTION, "stock": STOCK_ENV, "the caller commits": CALLER_COMMITS,
}  # fmt: skip
assert len({*ENVIRONMENTS.values(), STATEMENT_FIRST}) == 5


def items(database: Database) -> list[tuple[object, ...]]:
    return database.rows("SELECT id, status, amount FROM item ORDER BY id")


def nothing_happened(project: Project) -> None:
    assert items(project.database) == START
    assert project.versions == {"a"}
    assert project.database.value("SELECT count(*) FROM item_audit") == 0


# --- errors that somebody swallows

SWALLOWED = {
    "plainly": """
        try:
            op.apply_datafix(fix)
        except Exception:
            pass
    """,
    "around a savepoint": """
        try:
            with op.get_bind().begin_nested():
                op.apply_datafix(fix)
        except Exception:
            pass
    """,
    "with a savepoint in SQL": """
        op.execute("SAVEPOINT mine")
        try:
            op.apply_datafix(fix)
        except Exception:
            op.execute("ROLLBACK TO SAVEPOINT mine")
    """,
    "with a rollback": """
        try:
            op.apply_datafix(fix)
        except Exception:
            op.get_bind().rollback()
    """,
}


@pytest.mark.filterwarnings("ignore:nested transaction already deassociated")
@pytest.mark.parametrize(
    ("env", "swallowed"),
    [
        *(("ours", swallowed) for swallowed in SWALLOWED),
        ("one transaction", "plainly"),
        ("stock", "plainly"),
        ("stock", "with a rollback"),
        ("the caller commits", "around a savepoint"),
        ("the caller commits", "with a savepoint in SQL"),
    ],
)
def test_b3_a_swallowed_error_comes_again_and_the_version_stays(
    env: str, swallowed: str, tmp_path: Path, database: Database
) -> None:
    project = project_with_fix(tmp_path, database, ENVIRONMENTS[env], up=SWALLOWED[swallowed])
    project.revision("c", "b", "pass")
    database.execute("UPDATE item SET symbol = 'ZZ' WHERE id = 1")
    ran = project.alembic("upgrade", "head")
    assert ran.code != 0
    assert ran.out.startswith("FAILED: datafix close_items: 1 of the 2 expected rows")
    assert "Traceback" not in ran.err
    nothing_happened(project)
    # Put right, the same revision runs.
    database.execute("UPDATE item SET symbol = 'QCOM' WHERE id = 1")
    assert project.alembic("upgrade", "head").code == 0
    assert (items(database), project.versions) == (FIXED, {"c"})


@pytest.mark.parametrize("env", ["ours", "stock"])
def test_b3_a_swallowed_refusal_of_a_revert_keeps_the_version(
    env: str, tmp_path: Path, database: Database
) -> None:
    project = project_with_fix(tmp_path, database, ENVIRONMENTS[env])
    project.revision(
        "b", "a", "op.apply_datafix(fix)", SWALLOWED["plainly"].replace("apply_datafix", "revert_datafix")
    )
    assert project.alembic("upgrade", "b").code == 0
    database.execute("UPDATE item SET status = 'gone' WHERE id = 2")
    ran = project.alembic("downgrade", "a")
    assert ran.code != 0
    assert "2 changed since" in ran.last_line
    assert project.versions == {"b"}
    assert items(database) == [FIXED[0], (2, "gone", 120), FIXED[2]]


# --- commits where none belong


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
@pytest.mark.parametrize("env", ["ours", "stock", "the caller commits"])
@pytest.mark.parametrize(
    "what",
    ["op.get_bind().commit()", "with op.get_context().autocommit_block():\n    op.execute('SELECT 1')"],
)
def test_b24_b25_a_commit_after_the_fix_is_refused(
    env: str, what: str, driver: str, tmp_path: Path, database: Database
) -> None:
    if env == "the caller commits" and "autocommit" in what:
        pytest.skip("Alembic refuses this by itself")
    project = project_with_fix(tmp_path, database, ENVIRONMENTS[env], up=f"op.apply_datafix(fix)\n{what}")
    project = project.on(database, driver)
    project.write_ini()
    ran = project.alembic("upgrade", "b")
    assert ran.code != 0
    words = "was to be committed before public.alembic_version moved to or from revision b"
    assert words in ran.out + ran.err
    if env == "ours":
        assert ran.code == 255
        assert words in ran.last_line
        assert "Traceback" not in ran.err
    nothing_happened(project)


@pytest.mark.parametrize("how", ["ours", "one transaction", "psql"])
@pytest.mark.parametrize("all_of_them", ["SET CONSTRAINTS ALL IMMEDIATE", "SET CONSTRAINTS ALL DEFERRED"])
def test_c24_what_a_migration_says_of_all_constraints_does_not_reach_the_guards(
    all_of_them: str, how: str, tmp_path: Path, database: Database
) -> None:
    said = f"op.execute('{all_of_them}')"
    up = f"{said}\nop.apply_datafix(fix)\n{said}\nop.revert_datafix(fix)\nop.apply_datafix(fix)\n{said}"
    env = ONE_TRANSACTION if how == "one transaction" else ENV
    project = project_with_fix(tmp_path, database, env, up=up)
    other = FIX.strip().replace("close_items", "other").replace('{1: "QCOM", 2: "NOW"}', '{3: "SPY"}')
    project.revision("c", "b", f"op.apply_datafix(fix)\n{said}", top=f"fix = {other}")
    if how == "psql":
        database.psql(project.script("a:c"), "-v", "ON_ERROR_STOP=1")
    else:
        ran = project.alembic("upgrade", "c")
        assert ran.code == 0, ran.out + ran.err
    assert (items(database), project.versions) == ([*FIXED[:2], (3, "closed", 130)], {"c"})


@pytest.mark.parametrize("mode", ["ON_ERROR_STOP=1", "ON_ERROR_ROLLBACK=on", "AUTOCOMMIT=off"])
def test_b3_a_version_that_cannot_be_moved_takes_the_fix_along(
    mode: str, tmp_path: Path, database: Database
) -> None:
    """The fix has finished, and only then the statement that moves the version fails: nothing is committed."""
    project = project_with_fix(tmp_path, database)
    script = project.script("a:b")
    moves = "UPDATE alembic_version SET version_num='b'"
    assert moves in script
    script = script.replace(moves, f"SELECT 1 / 0;\n\n{moves.replace('alembic_version', 'no_such_table')}")
    database.psql(script, "-v", mode, check=False)
    nothing_happened(project)


def test_b24_a_commit_before_the_fix_is_refused(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database, up="op.get_bind().commit()\nop.apply_datafix(fix)")
    ran = project.alembic("upgrade", "b")
    assert ran.code == 255
    assert "Remove the commit() or rollback()" in ran.last_line
    nothing_happened(project)


def test_b25_a_fix_in_an_autocommit_block_is_refused(tmp_path: Path, database: Database) -> None:
    up = "with op.get_context().autocommit_block():\n    op.apply_datafix(fix)"
    project = project_with_fix(tmp_path, database, up=up)
    ran = project.alembic("upgrade", "b")
    assert ran.code == 255
    assert "Move the fix out of autocommit_block()" in ran.last_line
    nothing_happened(project)
    # psql has no such protection but the script's own.
    database.psql(project.script("a:b"), check=False)
    assert items(database) == START
    assert database.value("SELECT count(*) FROM item_audit") == 0


def test_b23_a_statement_before_configure_is_told(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    project.env(STATEMENT_FIRST)
    ran = project.alembic("upgrade", "b")
    assert "Alembic did not begin this transaction, and will not commit it" in ran.err
    assert "does env.py run a statement before context.configure()?" in ran.err
    nothing_happened(project)


def test_b23_our_env_commits_whatever_the_role_has_set(tmp_path: Path, database: Database) -> None:
    database.execute("ALTER ROLE postgres SET default_transaction_isolation = 'serializable'")
    try:
        project = project_with_fix(tmp_path, database)
        ran = project.alembic("upgrade", "b")
    finally:
        database.execute("ALTER ROLE postgres RESET default_transaction_isolation")
    assert ran.code == 0, ran.err
    assert (items(database), project.versions) == (FIXED, {"b"})


# --- chains


@pytest.mark.parametrize(
    ("env", "reached", "rows"), [(ENV, {"b"}, FIXED), (ONE_TRANSACTION, {"a"}, START)], ids=["each", "one"]
)
def test_b26_a_failure_in_a_chain_keeps_what_was_committed_and_nothing_else(
    env: str, reached: set[str], rows: list[tuple[object, ...]], tmp_path: Path, database: Database
) -> None:
    project = project_with_fix(tmp_path, database, env)
    second = (
        FIX.strip().replace("close_items", "close_the_third").replace('{1: "QCOM", 2: "NOW"}', '{3: "QQQ"}')
    )
    project.revision("c", "b", "op.apply_datafix(fix)", top=f"fix = {second}")
    project.revision("d", "c", "raise AssertionError", top="fix = None")
    ran = project.alembic("upgrade", "head")
    assert ran.code == 255
    assert "datafix close_the_third: 1 of the 1 expected rows" in ran.last_line
    assert (project.versions, items(database)) == (reached, rows)


def test_a_whole_chain_with_its_audit_table_in_one_transaction(tmp_path: Path, database: Database) -> None:
    database.psql(TABLE)
    project = new_project(tmp_path, database, ONE_TRANSACTION)
    second = (
        FIX.strip().replace("close_items", "close_again").replace("'open'", "'closed'").replace("100", "1000")
    )
    project.revision(
        "a", None, 'op.create_audit_table("item", name="item_audit")', 'op.drop_audit_table("item_audit")'
    )
    project.revision("b", "a", "op.apply_datafix(fix)", "op.revert_datafix(fix)")
    project.revision("c", "b", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=f"fix = {second}")
    ran = project.alembic("upgrade", "head")
    assert ran.code == 0, ran.err
    twice = [(1, "closed", 1110), (2, "closed", 1120), (3, "open", 30)]
    assert (items(database), project.versions) == (twice, {"c"})
    ran = project.alembic("downgrade", "a")
    assert ran.code == 0, ran.err
    assert (items(database), project.versions) == (START, {"a"})
    # The last step refuses, because the copies would go: then none of them happens.
    assert project.alembic("upgrade", "head").code == 0
    ran = project.alembic("downgrade", "base")
    assert ran.code == 255
    assert (items(database), project.versions) == (twice, {"c"})
    # The same as a script.
    database.psql(project.script("c:a"), "-v", "ON_ERROR_STOP=1")
    database.psql(project.script("a:c"), "-v", "ON_ERROR_STOP=1")
    assert (items(database), project.versions) == (twice, {"c"})


SEVERAL = """
op.apply_datafix(fix)
op.revert_datafix(fix)
op.apply_datafix(fix)
op.apply_datafix(other)
"""


@pytest.mark.parametrize("how", ["psycopg2", "psycopg", "psql"])
def test_several_fixes_and_apply_revert_apply_in_one_migration(
    how: str, tmp_path: Path, database: Database
) -> None:
    other = FIX.strip().replace("close_items", "other").replace('{1: "QCOM", 2: "NOW"}', '{3: "SPY"}')
    top = f"fix = {FIX.strip()}\nother = {other}"
    project = project_with_fix(tmp_path, database, up=SEVERAL, top=top)
    project.revision("b", "a", SEVERAL, "op.revert_datafix(other)\nop.revert_datafix(fix)", top=top)
    for _ in range(2):
        for command, step in (("upgrade", "a:b"), ("downgrade", "b:a")):
            if how == "psql":
                database.psql(project.script(step), "-v", "ON_ERROR_STOP=1")
            else:
                ran = project.on(database, how).alembic(command, step[-1])
                assert ran.code == 0, (command, ran.err)
            assert items(database) == (START if command == "downgrade" else [*FIXED[:2], (3, "closed", 130)])
    assert project.outcomes == ["applied", "reverted", "applied", "applied", "reverted", "reverted"] * 2


def test_apply_revert_apply_in_one_session_of_psql(tmp_path: Path, database: Database) -> None:
    long_name = f"fix = {FIX.strip()}".replace("close_items", "close_items_" + "x" * 51)
    project = project_with_fix(tmp_path, database, top=long_name)
    up, down = project.script("a:b"), project.script("b:a")
    database.psql(up + down + up + down + up, "-v", "ON_ERROR_STOP=1")
    assert (items(database), project.versions) == (FIXED, {"b"})
    assert project.outcomes == ["applied", "reverted"] * 2 + ["applied"]


def test_b35_settings_are_as_they_were_for_what_follows(tmp_path: Path, database: Database) -> None:
    names = ["lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout", "row_security", "search_path",
             "datestyle", "timezone"]  # fmt: skip
    shown = f"SELECT {{}}, name, current_setting(name) FROM unnest(ARRAY{names}) AS name"
    up = f"""
        op.execute("SET LOCAL lock_timeout = '77s'; SET LOCAL row_security = on; SET LOCAL search_path = public, pg_catalog")
        op.execute("INSERT INTO seen {shown.format(1)}")
        op.apply_datafix(fix)
        op.execute("INSERT INTO seen {shown.format(2)}")
    """
    project = project_with_fix(tmp_path, database, ONE_TRANSACTION, up=up)
    project.revision("c", "b", f'op.execute("INSERT INTO seen {shown.format(3)}")')
    database.execute("CREATE TABLE seen (place int, name text, value text)")
    ran = project.alembic("upgrade", "c")
    assert ran.code == 0, ran.err
    seen = [
        database.rows(f"SELECT name, value FROM seen WHERE place = {place} ORDER BY name")
        for place in (1, 2, 3)
    ]
    assert seen[0] == seen[1] == seen[2]
    assert ("lock_timeout", "77s") in seen[0]


def test_b35_a_search_path_that_hides_the_version_table_is_refused(
    tmp_path: Path, database: Database
) -> None:
    up = 'op.execute("SET LOCAL search_path = pg_catalog")\nop.apply_datafix(fix)'
    project = project_with_fix(tmp_path, database, up=up)
    ran = project.alembic("upgrade", "b")
    assert ran.code == 255
    assert "this database has no table alembic_version" in ran.last_line
    nothing_happened(project)


# --- how a migration ends


def test_b27_exit_in_a_migration_leaves_nothing(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database, up="op.apply_datafix(fix)\nraise SystemExit(0)")
    assert project.process("upgrade", "b").code == 0
    nothing_happened(project)


def test_b27_the_guards_are_no_asserts(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    database.execute("UPDATE item SET symbol = 'ZZ' WHERE id = 1")
    ran = project.process("upgrade", "b", python=("-OO",))
    assert ran.code == 255
    assert "1 symbol is ZZ, not QCOM" in ran.last_line
    nothing_happened(project)


def test_b18_an_error_is_one_line_without_the_script(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    damages = {
        "psycopg2": "UPDATE item SET symbol = 'ZZ' WHERE id = 1",
        "psycopg": "ALTER TABLE item DROP COLUMN amount",
    }
    for driver, damage in damages.items():
        database.execute(damage)
        ran = project.on(database, driver).process("upgrade", "b")
        assert ran.code == 255
        assert len(ran.out.splitlines()) == 1, ran.out
        assert ran.out.startswith("FAILED: datafix close_items: ")
        assert len(ran.out) < 400
        for word in ("Traceback", "DO $", "plpgsql", "SELECT", "sqlalche.me"):
            assert word not in ran.out + ran.err
    assert project.versions == {"a"}


def test_b17_an_online_run_says_what_it_did(tmp_path: Path, database: Database) -> None:
    for driver in ("psycopg2", "psycopg"):
        directory = tmp_path / driver
        directory.mkdir()
        project = project_with_fix(directory, database).on(database, driver)
        ran = project.alembic("upgrade", "b")
        assert "datafix close_items: applied: 2 found, 2 changed, 0 already as wanted" in ran.err
        assert "1 QCOM: status open → closed, amount 10.00 → 110.00" in ran.err
        ran = project.alembic("downgrade", "a")
        assert "datafix close_items: reverted: 2 found, 2 changed" in ran.err
        database.execute(f"DROP TABLE item, item_audit, alembic_version, {', '.join(RECORDS)} CASCADE")


@pytest.mark.parametrize(
    "setting", ["statement_timeout", "transaction_timeout", "idle_in_transaction_session_timeout"]
)
@pytest.mark.parametrize("online", [True, False], ids=["online", "offline"])
def test_b38_timeouts_of_the_role_do_not_cut_a_fix_off(
    setting: str, online: bool, tmp_path: Path, database: Database
) -> None:
    if setting == "transaction_timeout" and database.server_version < 17:
        pytest.skip("came with PostgreSQL 17")
    slow = f"fix = {FIX.strip()}".replace(
        '"status": "closed"', '"status": sql("(SELECT \'closed\' FROM pg_sleep(0.8))")'
    )
    project = project_with_fix(tmp_path, database, top=slow)
    script = project.script("a:b")
    database.execute(f"ALTER DATABASE {database.name} SET {setting} = '600ms'")
    if online:
        ran = project.alembic("upgrade", "b")
        assert ran.code == 0, ran.err
    else:
        database.psql(script, "-v", "ON_ERROR_STOP=1")
    assert (items(database), project.versions) == (FIXED, {"b"})


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_b38_a_fix_that_takes_too_long_is_stopped_in_one_line(
    driver: str, tmp_path: Path, database: Database
) -> None:
    slow = f"fix = {FIX.strip()}".replace(
        '"status": "closed"', '"status": sql("(SELECT \'closed\' FROM pg_sleep(5))")'
    )
    project = project_with_fix(tmp_path, database, top=slow).on(database, driver)
    ran = project.alembic("-x", "statement_timeout=300ms", "upgrade", "b")
    assert ran.code == 255
    assert (
        "datafix close_items: canceling statement due to statement timeout [SQLSTATE 57014]" in ran.last_line
    )
    nothing_happened(project)
    done = database.psql(project.script("a:b", "-x", "statement_timeout=300ms"), check=False)
    assert "canceling statement due to statement timeout" in done.stderr
    nothing_happened(project)


def test_b25_constraints_that_were_looked_at_early_are_looked_at_again_at_the_commit(
    tmp_path: Path, database: Database
) -> None:
    """SET CONSTRAINTS ALL IMMEDIATE spends what is deferred: the guard puts itself up again."""
    up = (
        "op.apply_datafix(fix)\nop.execute('SET CONSTRAINTS ALL IMMEDIATE')\n"
        "with op.get_context().autocommit_block():\n    op.execute('CREATE UNIQUE INDEX CONCURRENTLY item_u ON item ((1))')"
    )
    project = project_with_fix(tmp_path, database, up=up)
    was = database.rows("TABLE item ORDER BY id")
    refused = project.alembic("upgrade", "head")
    assert refused.code == 255
    assert "was to be committed before" in refused.last_line
    assert (database.rows("TABLE item ORDER BY id"), project.versions, "applied" in project.outcomes) == (
        was,
        {"a"},
        False,
    )
