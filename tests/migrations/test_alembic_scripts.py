"""Hazards of `alembic --sql`: what is printed, where, and that psql and the server receive what was declared."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.projects import ENV, FIX, STOCK_ENV, TABLE, Project, new_project, our_project, project_with_fix
from tests.servers import LEDGER, Database

STOP = ("-v", "ON_ERROR_STOP=1")
# The stock env.py without the line that keeps percent signs single.
STOCK_ENV_WITHOUT_PARAMSTYLE = STOCK_ENV.replace('dialect_opts={"paramstyle": "named"},', "")
TEXT = 'tab\there 100% %s \'{"a":true,"n":1}\' :id'
WITH_TEXT = f"""fix = {FIX.strip()[:-1]})""".replace(
    '"status": "closed"', f'"status": "closed", "note": {TEXT!r}'
)


def close_both(project: Project) -> None:
    assert project.database.rows("SELECT status, amount FROM item WHERE id < 3") == [
        ("closed", 110),
        ("closed", 120),
    ]


# --- what is printed


def test_b1_a_script_from_base_on_a_database_that_has_run_applies_nothing_twice(database: Database) -> None:
    project = our_project(database)
    script = project.script("base:head")
    assert project.alembic("upgrade", "head").code == 0
    before, definitions = database.dump(), database.schema()
    done = database.psql(script, check=False)
    assert done.stderr.count("ERROR") > 3
    assert (database.dump(), database.schema()) == (before, definitions)


def test_b7_a_script_that_cannot_be_made_whole_is_not_printed(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    project.revision("c", "b", 'op.revert_datafix(fix, on_conflict="maybe")')
    project.revision("d", "c", "raise KeyError('d')", top="fix = None")
    for end, words in (("c", "must be refuse, skip or overwrite"), ("d", "must be refuse")):
        ran = project.alembic("upgrade", f"a:{end}", "--sql")
        assert ran.code != 0
        assert ran.out == ""
        assert words in ran.last_line
    other = project.alembic("upgrade", "c:d", "--sql")
    assert (other.code, other.out) == (1, "")


def test_b8_stdout_is_sql_only(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(
        tmp_path, database, up="print('hello from the migration')\nop.apply_datafix(fix)"
    )
    ran = project.process("upgrade", "a:b", "--sql")
    assert ran.code == 0, ran.err
    assert "hello" not in ran.out
    assert "hello from the migration" in ran.err
    assert ran.out.startswith("BEGIN ISOLATION LEVEL READ COMMITTED;")
    database.psql(ran.out, *STOP)
    close_both(project)
    # A failure is not SQL either.
    project.revision("c", "b", 'op.revert_datafix(fix, on_conflict="maybe")')
    failed = project.process("upgrade", "b:c", "--sql")
    assert (failed.code, failed.out) == (1, "")
    assert failed.err.strip().splitlines()[-1].startswith("FAILED: on_conflict='maybe'")
    assert "Traceback" not in failed.err


def test_b8_the_log_of_an_online_run_is_on_stderr(tmp_path: Path, database: Database) -> None:
    ran = project_with_fix(tmp_path, database).process("upgrade", "b")
    assert (ran.code, ran.out) == (0, ""), ran.err


def test_b37_a_script_without_a_step_is_said_to_be_empty(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    ran = project.alembic("upgrade", "b:a", "--sql")
    assert ran.out.strip() == ""
    assert "The script is empty: no migration leads from b to a." in ran.err
    refused = project.alembic("downgrade", "a", "--sql")
    assert refused.code == 255
    assert "<fromrev>:<torev>" in refused.out + refused.err


@pytest.mark.parametrize(
    "environment",
    [{"PYTHONIOENCODING": "latin-1"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
)
def test_b39_a_script_is_ascii_under_every_encoding(
    environment: dict[str, str], tmp_path: Path, database: Database
) -> None:
    top = f"fix = {FIX.strip()}".replace("Closed by hand.", "Geschlossen: caf\u00e9 \U0001f600.").replace(
        "QCOM", "caf\u00e9\u4e16"
    )
    project = project_with_fix(tmp_path, database, top=top)
    database.execute("UPDATE item SET symbol = 'caf\u00e9\u4e16' WHERE id = 1")
    ran = project.process("upgrade", "a:b", "--sql", environment=environment)
    assert ran.code == 0, ran.err
    assert ran.out.isascii()
    database.psql(ran.out, *STOP, environment={"PGCLIENTENCODING": "LATIN1"})
    close_both(project)
    assert database.value("SELECT reason FROM datafix_run") == "Geschlossen: caf\u00e9 \U0001f600."


# --- what arrives


@pytest.mark.parametrize(
    "env", [ENV, STOCK_ENV, STOCK_ENV_WITHOUT_PARAMSTYLE], ids=["ours", "stock", "stock without paramstyle"]
)
@pytest.mark.parametrize("online", [True, False], ids=["online", "offline"])
def test_b9_b10_b11_b15_tabs_percent_signs_and_colons_arrive(
    env: str, online: bool, tmp_path: Path, database: Database
) -> None:
    project = project_with_fix(tmp_path, database, env, top=WITH_TEXT)
    if online:
        ran = project.alembic("upgrade", "b")
        assert ran.code == 0, ran.err
    else:
        database.psql(project.script("a:b"), *STOP)
    assert database.rows("SELECT note FROM item WHERE id < 3") == [(TEXT,), (TEXT,)]


def test_b12_a_script_needs_no_database(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    expected = project.script("a:b")
    nowhere = new_project(tmp_path / "nowhere", database)
    nowhere.revision("a", None, "pass")
    nowhere.revision(
        "b", "a", "assert op.get_bind().execute(sa.text('SELECT 1')) is None\nop.apply_datafix(fix)"
    )
    ran = nowhere.process("-x", "url=postgresql://nobody@127.0.0.1:1/nowhere", "upgrade", "a:b", "--sql")
    assert ran.code == 0, ran.err
    assert ran.out.replace("SELECT 1;\n\n", "") == expected


def test_b13_psql_variables_are_not_put_in(tmp_path: Path, database: Database) -> None:
    top = WITH_TEXT.replace(
        '"status": "closed"',
        "\"status\": sql(\"(ARRAY['a', 'closed'])[2:2])[1]\")".replace("(ARRAY", "((ARRAY"),
    )
    project = project_with_fix(tmp_path, database, top=top.replace('reason="', 'reason=":id :name '))
    variables = [
        part
        for name in ("id", "n", "a", "true", "text", "name", "jsonb", "2")
        for part in ("-v", f"{name}=boom")
    ]
    database.psql(project.script("a:b"), *STOP, *variables)
    close_both(project)
    assert database.value("SELECT note FROM item WHERE id = 1") == TEXT
    assert database.value("SELECT reason FROM datafix_run") == ":id :name Closed by hand."


@pytest.mark.parametrize("online", [True, False], ids=["online", "offline"])
def test_b14_values_without_a_literal_in_sqlalchemy(online: bool, tmp_path: Path, database: Database) -> None:
    database.psql(
        TABLE
        + "ALTER TABLE item ADD f float8, ADD g float8, ADD n numeric, ADD b bytea, ADD j jsonb, ADD k jsonb;",
        *STOP,
    )
    project = new_project(tmp_path, database)
    top = f"fix = {FIX.strip()}".replace(
        '"status": "closed"',
        '"status": "closed", "f": float("nan"), "g": float("-inf"), "n": decimal.Decimal("NaN"), "b": b"\\x00%s", '
        '"j": None, "k": sql("\'null\'::jsonb")',
    )
    project.revision("a", None, 'op.create_audit_table("item", name="item_audit")')
    project.revision("b", "a", "op.apply_datafix(fix)", top=top)
    assert project.alembic("upgrade", "a").code == 0
    if online:
        assert project.alembic("upgrade", "b").code == 0
    else:
        database.psql(project.script("a:b"), *STOP)
    found = database.rows(
        "SELECT f::text, g::text, n::text, encode(b, 'hex'), j IS NULL, k::text FROM item WHERE id = 1"
    )
    assert found == [("NaN", "-Infinity", "NaN", "002573", True, "null")]


@pytest.mark.parametrize(
    ("given", "words"),
    [('{"a": 1}', "is a dict"), ("['a']", "is a list"), ("'a\\x00b'", "NUL"), ("object()", "is a object")],
)
def test_b14_a_value_without_one_form_in_sql_is_refused_without_a_traceback(
    given: str, words: str, tmp_path: Path, database: Database
) -> None:
    project = project_with_fix(tmp_path, database)
    project.revision("b", "a", "op.apply_datafix(fix)", top=f"fix = {FIX.strip()}".replace('"closed"', given))
    for command in (("upgrade", "b"), ("upgrade", "a:b", "--sql")):
        ran = project.process(*command)
        assert ran.code != 0
        assert words in (ran.err if "--sql" in command else ran.out)
        assert "Traceback" not in ran.err
    assert project.versions == {"a"}


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
@pytest.mark.parametrize("env", [ENV, STOCK_ENV], ids=["ours", "stock"])
def test_b15_b16_both_drivers_send_the_text_as_it_is(
    driver: str, env: str, tmp_path: Path, database: Database
) -> None:
    top = WITH_TEXT.replace(
        "where=\"status = 'open'\"",
        "where=\"status LIKE 'op%' AND 7 % 4 = 3 AND '{\\\"a\\\":1}'::jsonb ? 'a'\"",
    )
    assert "LIKE" in top
    project = project_with_fix(tmp_path, database, env, top=top).on(database, driver)
    project.write_ini()
    for command, status in (("upgrade", "closed"), ("downgrade", "open")):
        ran = project.alembic(command, "b" if command == "upgrade" else "a")
        assert ran.code == 0, ran.err
        assert database.value("SELECT status FROM item WHERE id = 1") == status
    database.execute("UPDATE item SET symbol = '100%' WHERE id = 1")
    refused = project.alembic("upgrade", "b")
    assert "1 symbol is 100%, not QCOM" in refused.last_line
    assert project.outcomes == ["applied", "reverted", "failed"]


def test_a_pipe_from_alembic_to_psql_works_as_the_readme_says(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    alembic = " ".join(f"'{part}'" for part in project.command_line("upgrade", "a:b", "--sql"))
    psql = f"'{database.binaries}/psql' -X -q -v ON_ERROR_STOP=1 \"{database.address.conninfo()} dbname={database.name}\""
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {alembic} | {psql}"],
        capture_output=True,
        env=os.environ,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == b""
    close_both(project)


def test_a_script_to_base_leaves_the_version_table_as_online_does(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    # Refused, because the ledger holds runs; an Alembic before 1.18 would drop the version table all the same.
    assert project.alembic("upgrade", "b").code == 0
    script = project.script("b:base")
    assert "DROP TABLE alembic_version" not in script
    before = database.dump("public.item", "public.item_audit", *LEDGER)
    database.psql(script, check=False)
    assert project.versions == {"a"}
    assert before == {"public.alembic_version": ["(b)"]}
