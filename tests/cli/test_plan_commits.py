"""What a plan says where the upgrade commits and it cannot: what works is never said to be refused."""

from pathlib import Path

import pytest

from tests.cli.commands import answer, datafixes
from tests.projects import ENV, STOCK_ENV, Project, new_project, project_with_fix
from tests.servers import Database

TOP = "# The statements stand below."
SETUP = (
    "CREATE TYPE kind AS ENUM ('user'); CREATE TYPE mood AS ENUM ('fine');"
    "CREATE TABLE principal (id int PRIMARY KEY, kind kind, is_system bool, mood mood);"
    "INSERT INTO principal VALUES (1, 'user', true), (2, 'user', false);"
    "CREATE TABLE child (id int PRIMARY KEY, principal int REFERENCES principal DEFERRABLE INITIALLY DEFERRED);"
)
EACH = STOCK_ENV.replace(
    "target_metadata=target_metadata\n        )",
    "target_metadata=target_metadata, transaction_per_migration=True\n        )",
)
ENVS = {"ours": ENV, "each": EACH, "one transaction": STOCK_ENV}
FIX = """
fix = DataFix(
    name="mark_system",
    reason="r",
    change=Update("principal", set={"kind": "system"}, where="is_system"),
    rows=Rows(key="id", expect=1),
    audit="principal_audit",
)
"""
LABEL = "op.execute(\"ALTER TYPE kind ADD VALUE 'system'\")"
USE = "op.execute(\"UPDATE principal SET kind = 'system' WHERE is_system\")"


def principals(directory: Path, database: Database, env: str, *steps: str) -> Project:
    """A project whose steps are the revisions b, c, d, ..., at a."""
    project = new_project(directory, database, ENVS[env])
    database.psql(SETUP, "-v", "ON_ERROR_STOP=1")
    names = "abcdefg"
    make, drop = (
        'op.create_audit_table("principal", name="principal_audit")',
        'op.drop_audit_table("principal_audit")',
    )
    project.revision("a", None, make, drop, top=TOP)
    for number, step in enumerate(steps, 1):
        is_fix = step == "fix"
        up, down = ("op.apply_datafix(fix)", "op.revert_datafix(fix)") if is_fix else (step, "pass")
        project.revision(names[number], names[number - 1], up, down, top=FIX if is_fix else TOP)
    assert project.alembic("upgrade", "a").code == 0
    return project


def test_a_new_label_that_the_next_revision_uses_is_not_refused(tmp_path: Path, database: Database) -> None:
    project = principals(tmp_path, database, "ours", LABEL, "fix")
    before = database.dump()
    plan = answer(project, "plan", code=4)
    assert (plan["refusal"], plan["fine"], [step["revision"] for step in plan["steps"]]) == (
        None,
        False,
        ["b"],
    )
    ending = plan["unplannable"]
    assert (ending["revision"], ending["after"], ending["sqlstate"]) == ("c", "b", "55P04")
    assert ending["hint"] == "Upgrade to b, and plan the rest from there: alembic upgrade b && datafixes plan"
    assert database.dump() == before
    # What it says to do, and what follows.
    assert project.alembic("upgrade", "b").code == 0
    assert answer(project, "plan")["steps"][0]["runs"][0]["reversal"]["proven"]
    assert project.alembic("upgrade", "head").code == 0
    assert database.rows("SELECT id, kind::text FROM principal ORDER BY 1") == [(1, "system"), (2, "user")]


@pytest.mark.parametrize("form", ["terminal", "markdown", "html"])
def test_every_form_tells_it_apart_from_a_refusal(form: str, tmp_path: Path, database: Database) -> None:
    ran = datafixes(principals(tmp_path, database, "ours", LABEL, "fix"), "plan", "--format", form)
    assert ran.code == 4
    assert "Then c cannot be planned before b is committed." in " ".join(ran.out.split())
    assert "would be refused" not in ran.out
    assert "alembic upgrade b" in ran.out


# What fails in the third revision only because the second is not committed, and how the upgrade does it.
LEFT = {
    "label": (LABEL, USE),
    "label of a masked column": (LABEL, "fix"),
    "temporary table": ('op.execute("CREATE TEMP TABLE t (n int) ON COMMIT DROP")',) * 2,
    "another connection": (
        'op.execute("UPDATE principal SET is_system = true")',
        "with sa.create_engine(op.get_bind().engine.url).begin() as other:\n"
        "    other.exec_driver_sql(\"SET lock_timeout = '200ms'\")\n"
        '    other.exec_driver_sql("SELECT FROM principal FOR UPDATE")',
    ),
    "another connection that looks": (
        'op.execute("CREATE TABLE fresh (n int)")',
        "with sa.create_engine(op.get_bind().engine.url).begin() as other:\n"
        '    other.exec_driver_sql("SELECT FROM fresh")',
    ),
}


@pytest.mark.parametrize("env", ["ours", "each"])
@pytest.mark.parametrize("what", LEFT)
def test_what_fails_for_lack_of_a_commit_cannot_be_planned(
    what: str, env: str, tmp_path: Path, database: Database
) -> None:
    project = principals(tmp_path, database, env, *LEFT[what])
    masks = ("--mask", "kind") if "masked" in what else ()
    plan = answer(project, "plan", *masks, code=4)
    assert (plan["unplannable"]["revision"], plan["unplannable"]["after"]) == ("c", "b")
    assert project.process("upgrade", "head").code == 0


@pytest.mark.parametrize("what", LEFT)
def test_the_same_in_one_transaction_is_refused_by_the_upgrade_too(
    what: str, tmp_path: Path, database: Database
) -> None:
    project = principals(tmp_path, database, "one transaction", *LEFT[what])
    plan = answer(project, "plan", code=3)
    assert (plan["refusal"]["revision"], plan["unplannable"]) == ("c", None)
    assert "transaction_per_migration=True" in plan["refusal"]["hint"]
    assert project.alembic("upgrade", "head").code != 0
    assert project.versions == {"a"}
    # the hint's first way
    assert "alembic upgrade b." in plan["refusal"]["hint"]
    for target in ("b", "c"):
        assert project.process("upgrade", target).code == 0


OWN = {
    "label": (f"{LABEL}\n{USE}", 1),
    "label, after another label": ("op.execute(\"ALTER TYPE mood ADD VALUE 'gone'\")", f"{LABEL}\n{USE}", 2),
    "pending events": (
        'op.execute("INSERT INTO child VALUES (1, 1)")\nop.execute("ALTER TABLE child ADD COLUMN more int")', 1
    ),
    "vacuum": ("pass", 'op.execute("VACUUM principal")', 2),
    "set transaction": ("pass", 'op.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")', 2),
    "an assert": ("pass", "assert op.get_bind() is None", 2),
    "kept temporary table": ('op.execute("CREATE TEMP TABLE t (n int)")',) * 2 + (2,),
    "a broken deferred key": ('op.execute("INSERT INTO child VALUES (1, 77)")', "pass", 1),
}  # fmt: skip


@pytest.mark.parametrize("what", OWN)
def test_what_the_upgrade_refuses_too_is_still_refused(what: str, tmp_path: Path, database: Database) -> None:
    *steps, number = OWN[what]
    assert isinstance(number, int)
    project = principals(tmp_path, database, "ours", *map(str, steps))
    plan = answer(project, "plan", code=3)
    assert (plan["refusal"]["revision"], plan["unplannable"]) == ("abcd"[number], None)
    assert project.process("upgrade", "head").code != 0
    assert project.versions == {"abcd"[number - 1]}


# What an upgrade's commit ends, a plan ends too: it goes on.
ENDED = {
    "events of a deferred key": (
        'op.execute("INSERT INTO child VALUES (1, 1)")\nop.execute("UPDATE principal SET is_system = true")',
        'op.execute("ALTER TABLE child ADD COLUMN more int")',
    ),
    "events of a trigger": (
        'op.execute("CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS \'BEGIN RETURN NULL; END\'")\n'
        'op.execute("CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON principal DEFERRABLE INITIALLY DEFERRED'
        ' FOR EACH ROW EXECUTE FUNCTION f()")\nop.execute("UPDATE principal SET is_system = true")',
        'op.execute("ALTER TABLE principal ADD COLUMN more int")',
    ),
    "a cursor": ('op.execute("DECLARE one CURSOR FOR SELECT FROM principal")',) * 2,
    "a cursor that holds its table": (
        'op.execute("DECLARE one CURSOR FOR SELECT FROM child")', 'op.execute("ALTER TABLE child ADD COLUMN more int")'
    ),
    "a search_path": (
        'op.execute("CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.principal (id int)")\n'
        'op.execute("SET LOCAL search_path = elsewhere, public")',
        'op.execute("UPDATE principal SET is_system = false")',
    ),
    "a role": (
        'op.execute("GRANT ALL ON alembic_version TO pg_monitor")\nop.execute("SET LOCAL ROLE pg_monitor")',
        'op.execute("UPDATE principal SET is_system = false")',
    ),
    "a setting of one's own": (
        "op.execute(\"SELECT set_config('my.kind', 'nothing', true)\")",
        "op.execute(\"UPDATE principal SET mood = 'fine' WHERE coalesce(current_setting('my.kind', true), '') = ''\")\n"
        'assert op.get_bind().exec_driver_sql("SELECT count(mood) FROM principal").scalar() == 2, "not ended"',
    ),
    "deferred by hand": (
        'op.execute("SET CONSTRAINTS ALL IMMEDIATE")',
        'op.execute("INSERT INTO child VALUES (1, 5)")\nop.execute("INSERT INTO principal VALUES (5)")',
    ),
    "a constraint that is new": (
        'op.execute("SELECT 1")',
        'op.execute("CREATE TABLE pair (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")\n'
        'op.execute("INSERT INTO pair VALUES (1), (2)")\nop.execute("UPDATE pair SET n = 2 WHERE n = 1")\n'
        'op.execute("DELETE FROM pair WHERE ctid = (SELECT min(ctid) FROM pair)")',
    ),
}  # fmt: skip


@pytest.mark.parametrize("env", ["ours", "each"])
@pytest.mark.parametrize("what", ENDED)
def test_what_a_commit_ends_does_not_stop_a_plan(
    what: str, env: str, tmp_path: Path, database: Database
) -> None:
    project = principals(tmp_path, database, env, *ENDED[what])
    before = database.dump()
    plan = answer(project, "plan")
    assert [step["revision"] for step in plan["steps"]] == ["b", "c"]
    assert database.dump() == before
    ran = project.process("upgrade", "head")
    assert ran.code == 0, ran.out + ran.err


COMMITS = {
    "autocommit_block": "with op.get_context().autocommit_block():\n    op.execute('VACUUM principal')",
    "text": f'op.execute("COMMIT")\n{LABEL}',
    "several": 'op.execute("BEGIN; UPDATE principal SET is_system = true; COMMIT")',
    "cursor": 'op.get_bind().connection.cursor().execute("COMMIT")',
    "driver": "op.get_bind().connection.dbapi_connection.commit()",
    "freeze": (
        'import io\nop.execute("CREATE TABLE frozen (t text)")\n'
        'op.get_bind().connection.cursor().copy_expert("COPY frozen FROM STDIN (FREEZE)", io.StringIO("a"))'
    ),
}


@pytest.mark.parametrize("env", ENVS)
@pytest.mark.parametrize("what", COMMITS)
def test_a_revision_that_commits_by_itself_cannot_be_planned(
    what: str, env: str, tmp_path: Path, database: Database
) -> None:
    project = principals(tmp_path, database, env, "pass", COMMITS[what])
    before = database.dump()
    plan = answer(project, "plan", code=4)
    assert (plan["unplannable"]["revision"], plan["unplannable"]["after"]) == ("c", "c")
    assert "alembic upgrade c" in plan["unplannable"]["hint"]
    assert database.dump() == before
    assert project.process("upgrade", "head").code == 0
    assert project.versions == {"c"}


def test_a_commit_that_loses_the_version_is_a_finding(tmp_path: Path, database: Database) -> None:
    project = principals(tmp_path, database, "ours", "op.get_bind().commit()")
    plan = answer(project, "plan", code=3)
    assert "the new version, would be lost" in plan["refusal"]["message"]
    assert (project.process("upgrade", "head").code, project.versions) == (0, {"a"})


@pytest.mark.parametrize(
    ("env", "key", "code"),
    [("ours", "refusal", 3), ("each", "unplannable", 4), ("one transaction", "refusal", 3)],
)
def test_a_statement_that_must_be_the_first_of_its_transaction(
    env: str, key: str, code: int, tmp_path: Path, database: Database
) -> None:
    project = principals(
        tmp_path, database, env, "pass", 'op.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")'
    )
    assert answer(project, "plan", code=code)[key]["sqlstate"] == "25001"
    assert (project.process("upgrade", "head").code == 0) == (code == 4)


def test_what_is_planned_can_be_bound_and_run(tmp_path: Path, database: Database) -> None:
    project = principals(tmp_path, database, "ours", LABEL)
    assert project.alembic("upgrade", "b").code == 0
    project.revision("c", "b", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=FIX)
    project.revision("d", "c", COMMITS["autocommit_block"], top=TOP)
    ran = datafixes(project, "plan")
    assert ran.code == 4
    [bound] = [line for line in ran.out.splitlines() if "-x plan=" in line]
    assert bound.endswith("upgrade c")
    assert project.alembic(*bound.split("alembic ")[1].split()).code == 0
    assert project.versions == {"c"}


def test_the_way_down_cannot_be_planned_past_a_commit_either(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    project.revision(
        "c", "b", "pass", "with op.get_context().autocommit_block():\n    op.execute('VACUUM item')", top=TOP
    )
    project.revision("d", "c", "pass", top=TOP)
    project.alembic("upgrade", "head")
    ending = answer(project, "plan", "--downgrade", "a", code=4)["unplannable"]
    assert "alembic downgrade -2 && datafixes plan --downgrade a" in ending["hint"]
    assert project.process("downgrade", "-2").code == 0
    assert project.versions == {"b"}


def test_a_downgrade_that_commits_by_itself_is_not_said_to_fail(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    down = "op.revert_datafix(fix)\nwith op.get_context().autocommit_block():\n    op.execute('VACUUM item')"
    project.revision("b", "a", "op.apply_datafix(fix)", down)
    [run] = answer(project, "plan", code=4)["steps"][0]["runs"]
    assert (run["reversal"]["proven"], run["reversal"]["tried"]) == (False, False)
    assert "Can be reverted  ? not tried: its downgrade() commits by itself" in datafixes(project, "plan").out


def test_a_downgrade_may_use_what_its_upgrade_committed(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    database.psql("CREATE TABLE part (item int REFERENCES item DEFERRABLE INITIALLY DEFERRED)")
    up = 'op.execute("INSERT INTO part VALUES (3)")\nop.apply_datafix(fix)'
    project.revision(
        "b", "a", up, 'op.execute("ALTER TABLE part ADD COLUMN more int")\nop.revert_datafix(fix)'
    )
    [run] = answer(project, "plan")["steps"][0]["runs"]
    assert run["reversal"]["proven"]
