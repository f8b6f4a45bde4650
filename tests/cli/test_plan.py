"""``datafixes plan``: what it shows is what happens, it keeps nothing, and nothing can make it keep something."""

import json
from pathlib import Path

import jsonschema
import pytest

from tests.cli.commands import answer, datafixes, schema
from tests.projects import STOCK_ENV, Project, new_project, our_project, project_with_fix
from tests.servers import LEDGER, Database
from tests.small_book import lay

TOP = "# The statements stand below."


def everything(database: Database) -> object:
    """Contents, shapes and the ledger's next number."""
    tables = database.rows(
        "SELECT relname, relkind FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
    )
    numbers = [
        database.rows(f'SELECT last_value, is_called FROM "{name}"')
        for name, kind in tables
        if kind == "S" and "run_id" in name
    ]
    return database.dump(), tables, numbers


def test_what_it_shows_is_what_the_upgrade_does(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    before = everything(database)
    plan = answer(project, "plan")
    assert everything(database) == before
    assert (plan["start"], plan["target"], plan["fine"], plan["refusal"]) == (["a"], "head", True, None)
    [step] = plan["steps"]
    [run] = step["runs"]
    [table] = run["changes"]
    assert (step["revision"], run["fix"], run["outcome"], run["run_id"]) == ("b", "close_items", "applied", 1)
    assert (table["table"], table["updated"], table["expected"]) == (
        "public.item",
        2,
        "2 updated, named one by one",
    )
    assert "public.item: ROW EXCLUSIVE" in run["locks"]
    assert run["reversal"]["proven"]
    assert "restored 2 rows, bit for bit" in run["reversal"]["words"]
    assert project.alembic("upgrade", "head").code == 0
    shown = {
        (row["key"], column["name"], column["before"]["text"], column["after"]["text"])
        for row in table["rows"]
        for column in row["columns"]
    }
    assert shown == set(
        database.rows("SELECT key, column_name, before, after FROM datafix_show WHERE run_id = 1")
    )


def test_one_plan_is_written_for_people_and_for_programs(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    people, programs = tmp_path / "plan.md", tmp_path / "plan.json"
    ran = datafixes(project, "plan", "--format", "markdown", "-o", str(people), "--json", str(programs))
    assert (ran.code, ran.out) == (0, "")
    assert ran.err.count("Reverting close_items") == 1
    plan = json.loads(programs.read_text("utf-8"))
    jsonschema.validate(plan, schema())
    assert len(plan["steps"][0]["runs"][0]["changes"][0]["rows"]) == 2
    shown = people.read_text("utf-8")
    assert f"-x plan={plan['digest']} " in shown
    assert shown.count("| `1 QCOM` |") == 1


def test_the_whole_chain_is_planned_on_an_empty_database(database: Database) -> None:
    plan = answer(our_project(database), "plan")
    assert [step["revision"] for step in plan["steps"]] == ["012", "013", "014", "015"]
    assert plan["steps"][3]["runs"][0]["outcome"] == "not_applicable"
    assert database.dump() == {}


def test_the_way_down_shows_conflicts_and_says_3(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    project.alembic("upgrade", "head")
    assert answer(project, "plan", "--downgrade", "a")["steps"][0]["runs"][0]["outcome"] == "reverted"
    database.execute("UPDATE item SET status = 'lost' WHERE id = 2")
    before = everything(database)
    plan = answer(project, "plan", "--downgrade", "a", code=3)
    assert plan["refusal"]["sqlstate"] == "DF009"
    assert plan["refusal"]["detail"].splitlines()[1].split() == [
        "2",
        "changed",
        "since",
        "status",
        "open",
        "closed",
        "lost",
    ]
    assert everything(database) == before
    skipped = datafixes(project, "-x", "on_conflict=close_items:skip", "plan", "--downgrade", "a")
    assert skipped.code == 0, skipped.err


def test_rows_that_are_not_as_expected_are_a_refusal_with_its_line(
    tmp_path: Path, database: Database
) -> None:
    project = project_with_fix(tmp_path, database)
    database.execute("UPDATE item SET symbol = 'TSLA' WHERE id = 2")
    plan = answer(project, "plan", code=3)
    assert plan["refusal"]["sqlstate"] == "DF007"
    assert "TSLA" in plan["refusal"]["message"] + plan["refusal"]["detail"]
    assert project.versions == {"a"}


@pytest.mark.parametrize(
    ("downgrade", "words"),
    [
        ("pass", "does not revert close_items"),
        ("raise NotImplementedError", "its downgrade(): NotImplementedError"),
        ('op.execute("SELECT 1/0")', "division by zero"),
    ],
)
def test_a_fix_that_cannot_be_taken_back_is_found(
    tmp_path: Path, database: Database, downgrade: str, words: str
) -> None:
    project = project_with_fix(tmp_path, database)
    project.revision("b", "a", "op.apply_datafix(fix)", downgrade)
    plan = answer(project, "plan", code=3)
    [run] = plan["steps"][0]["runs"]
    assert run["outcome"] == "applied"
    assert not run["reversal"]["proven"]
    assert words in run["reversal"]["words"]


def test_a_downgrade_that_gives_back_something_else_is_found(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    project.revision("b", "a", "op.apply_datafix(fix)", "op.revert_datafix(fix, rows=[1])")
    [run] = answer(project, "plan", code=3)["steps"][0]["runs"]
    assert "does not restore 1 row of public.item" in run["reversal"]["words"]


COMMITS = {
    "COMMIT": 'op.execute("COMMIT")',
    "several": 'op.get_bind().exec_driver_sql("SELECT 1; COMMIT; SELECT 2")',
    "driver": "op.get_bind().connection.dbapi_connection.commit()",
    "cursor": 'op.get_bind().connection.cursor().execute("COMMIT")',
    "sqlalchemy": "op.get_bind().commit()",
    "block": "with op.get_context().autocommit_block():\n    op.execute(\"INSERT INTO item VALUES (9, 'X', 'open')\")",
    "close all": 'op.execute("CLOSE ALL")\nop.execute("COMMIT")',
    "prepare": "op.get_bind().connection.cursor().execute(\"PREPARE TRANSACTION 'mine'\")",
    "procedure": 'op.execute("DO $$ BEGIN COMMIT; END $$")',
}


@pytest.mark.parametrize("how", COMMITS)
def test_nothing_can_commit_a_plan(tmp_path: Path, database: Database, how: str) -> None:
    project = project_with_fix(tmp_path, database)
    project.revision("c", "b", f"op.execute(\"UPDATE item SET note = 'kept'\")\n{COMMITS[how]}", top=TOP)
    before = everything(database)
    ran = datafixes(project, "plan", "--format", "json")
    assert ran.code != 0
    assert everything(database) == before
    assert database.rows("SELECT * FROM pg_prepared_xacts WHERE database = current_database()") == []


@pytest.mark.parametrize(
    "change",
    [
        ("engine.begin", "with connectable.connect() as connection:", "with connectable.begin() as connection:"),
        (
            "swallows",
            "            context.run_migrations()\n\n\nif",
            "            try:\n                context.run_migrations()\n            except Exception:\n                pass\n"
            "        connection.commit()\n\n\nif",
        ),
        (
            "goes on",
            "            context.run_migrations()\n\n\nif",
            "            context.run_migrations()\n        connection.exec_driver_sql(\"UPDATE item SET note = 'kept'\")\n"
            "        connection.commit()\n\n\nif",
        ),
    ],
    ids=lambda change: change[0],
)  # fmt: skip
def test_an_env_py_of_ones_own_keeps_nothing_either(
    tmp_path: Path, database: Database, change: tuple[str, str, str]
) -> None:
    _, was, becomes = change
    env = STOCK_ENV.replace(was, becomes)
    assert env != STOCK_ENV
    project = project_with_fix(tmp_path, database)
    project.env(env)
    before = everything(database)
    plan = answer(project, "plan")
    assert plan["steps"][0]["runs"][0]["outcome"] == "applied"
    assert everything(database) == before


def test_a_plan_and_its_upgrade_have_one_digest(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    digest = answer(project, "plan")["digest"]
    assert len(digest) == 16
    database.execute(
        "UPDATE item SET note = 'written by somebody' WHERE id = 1"
    )  # a column that the fix leaves alone
    ran = project.alembic("-x", f"plan={digest}", "upgrade", "head")
    assert ran.code == 0, ran.err


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE item SET amount = 11 WHERE id = 1",
        "UPDATE item SET status = 'open ' WHERE id = 1",
        "UPDATE item SET amount = NULL WHERE id = 2",
    ],
)
def test_rows_that_are_no_longer_the_ones_planned_are_refused(
    tmp_path: Path, database: Database, statement: str
) -> None:
    project = project_with_fix(tmp_path, database)
    project.revision(
        "b", "a", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=f"fix = {OPEN_ONES.strip()}"
    )
    digest = answer(project, "plan")["digest"]
    database.execute(statement)
    before = database.dump(*LEDGER)
    refused = project.alembic("-x", f"plan={digest}", "upgrade", "head")
    assert refused.code == 255
    assert "the rows are not those that were planned" in refused.last_line
    assert digest in refused.last_line
    assert database.dump(*LEDGER) == before
    assert project.outcomes == ["failed"]
    digest = answer(project, "plan")["digest"]
    assert project.alembic("-x", f"plan={digest}", "upgrade", "head").code == 0


OPEN_ONES = """
DataFix(
    name="close_items",
    reason="Closed by hand.",
    change=Update("item", set={"status": "closed", "amount": sql("amount + 100")}, where="status LIKE 'open%'"),
    rows=Rows(key="id", expect=[1, 2]),
    audit="item_audit",
)
"""


def test_a_plan_of_several_fixes_has_a_digest_for_each(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    more = (
        'fix = DataFix(name="one_more", reason="r", change=Insert("item", rows=[{"id": 9, "symbol": "X", "status": "open"}]),'
        ' rows=Rows(key="id", expect=1), audit="item_audit")'
    )
    project.revision("c", "b", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=more)
    digest = answer(project, "plan")["digest"]
    assert len(digest.split("-")) == 2
    refused = project.alembic("-x", f"plan={digest.split('-')[0]}", "upgrade", "head")
    assert refused.code == 255
    assert "datafix one_more: the rows are not those that were planned" in refused.last_line
    assert project.alembic("-x", f"plan={digest}", "upgrade", "head").code == 0


def test_a_digest_that_is_none_and_a_script_are_refused(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    assert "datafixes plan showed" in project.alembic("-x", "plan=abc", "upgrade", "head").last_line
    assert (
        "cannot be compared with a plan"
        in project.alembic("-x", f"plan={'a' * 16}", "upgrade", "a:b", "--sql").err
    )


def test_masked_values_are_shown_nowhere(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    for form in ("json", "terminal", "markdown", "html"):
        shown = datafixes(project, "plan", "--format", form, "--mask", "item.AMOUNT").out
        assert "closed" in shown
        assert "110.00" not in shown
    project.alembic("upgrade", "head")
    for command in (("show", "1"), ("row", "item", "1"), ("report", "1")):
        assert "110.00" in datafixes(project, *command).out
        assert "110.00" not in datafixes(project, *command, "--mask", "amount").out


def test_a_masked_key_and_a_masked_identity_are_not_shown_either(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    assert "QCOM" in datafixes(project, "plan").out
    assert "QCOM" not in datafixes(project, "plan", "--mask", "symbol").out
    [row, _] = answer(project, "plan", "--mask", "id")["steps"][0]["runs"][0]["changes"][0]["rows"]
    assert row["key"] == "(masked)"


def test_masked_values_are_not_in_the_conflicts_either(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    project.alembic("upgrade", "head")
    database.execute(
        "UPDATE item SET status = 'secret' WHERE id = 2", "UPDATE item SET amount = 5 WHERE id = 1"
    )
    shown = datafixes(project, "plan", "--downgrade", "a", "--mask", "status", "--format", "json").out
    assert "secret" not in shown
    assert "110.00" in shown


def test_values_of_megabytes_are_cut_and_said_to_be(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    project.revision("b", "a", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top="""
        fix = DataFix(name="long", reason="r", change=Update("item", set={"note": sql("repeat('x', 3000000)")}),
                      rows=Rows(key="id", expect=[1]), audit="item_audit")""")  # fmt: skip
    plan = answer(project, "plan")
    value = plan["steps"][0]["runs"][0]["changes"][0]["rows"][0]["columns"][0]["after"]
    assert (value["text"], value["characters"]) == ("x" * 10_000, 3_000_000)
    assert len(datafixes(project, "plan").out) < 10_000


def test_triggers_and_foreign_keys_that_act_are_named(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    database.psql(
        "CREATE TABLE part (item_id integer REFERENCES item ON UPDATE CASCADE);"
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
        "CREATE TRIGGER touch BEFORE UPDATE ON item FOR EACH ROW EXECUTE FUNCTION f();"
        "CREATE TRIGGER not_now AFTER DELETE ON item FOR EACH ROW EXECUTE FUNCTION f();"
    )
    [run] = answer(project, "plan")["steps"][0]["runs"]
    acting = run["changes"][0]["acting"]
    assert acting[0] == "trigger touch: before update of each row"
    assert "rows of public.part refer to it, ON UPDATE CASCADE" in acting[1]
    assert not any("not_now" in line for line in acting)


def test_a_database_that_the_project_does_not_know_is_one_line(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    database.execute("UPDATE alembic_version SET version_num = 'elsewhere'")
    ran = datafixes(project, "plan")
    assert ran.code == 1
    assert ran.err.splitlines() == ["FAILED: Can't locate revision identified by 'elsewhere'"]


def test_where_there_is_nothing_to_do_it_says_so(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    project.alembic("upgrade", "head")
    ran = datafixes(project, "plan")
    assert (ran.code, "Nothing to do: no revision leads from b to head." in ran.out) == (0, True)


def test_a_recorded_fix_without_a_key_is_planned_and_proven(tmp_path: Path, database: Database) -> None:
    project = new_project(tmp_path, database)
    database.psql("CREATE TABLE log (line text); INSERT INTO log VALUES ('a'), ('a'), ('b');")
    project.revision(
        "a",
        None,
        'op.create_audit_table("log", name="log_audit")',
        'op.drop_audit_table("log_audit")',
        top=TOP,
    )
    top = 'from datafixes import RecordedFix, Table\nfix = RecordedFix(name="n", reason="r", tables=[Table("log", "log_audit", deleted=1)])'
    body = "with op.record_datafix(fix) as body:\n    body.execute(\"DELETE FROM log WHERE ctid = (SELECT min(ctid) FROM log WHERE line = 'a')\")"
    project.revision("b", "a", body, "op.revert_datafix(fix)", top=top)
    plan = answer(project, "plan")
    [run] = plan["steps"][1]["runs"]
    assert run["reversal"]["proven"], run["reversal"]
    assert run["changes"][0]["rows"][0]["columns"][0]["before"] == {"text": "a"}
    assert "has no key" in datafixes(project, "plan").out


def test_who_waits_for_a_lock_waits_no_longer_than_the_settings_say(
    tmp_path: Path, database: Database
) -> None:
    project = project_with_fix(tmp_path, database)
    blocker = database.connect()
    try:
        blocker.cursor().execute("SELECT * FROM item WHERE id = 1 FOR UPDATE")
        ran = datafixes(project, "-x", "lock_timeout=200ms", "-x", "lock_attempts=1", "plan")
    finally:
        blocker.close()
    assert ran.code == 3
    assert "lock timeout" in ran.out


def test_the_small_book_is_planned_under_hostile_settings(tmp_path: Path, database: Database) -> None:
    lay(database)
    project: Project = project_with_fix(tmp_path, database)
    database.execute(
        f"ALTER DATABASE \"{database.name}\" SET datestyle = 'German'",
        f"ALTER DATABASE \"{database.name}\" SET search_path = 'nowhere', public",
        f"ALTER DATABASE \"{database.name}\" SET bytea_output = 'escape'",
    )
    assert answer(project, "plan")["fine"]


@pytest.mark.parametrize("name", ["datafix_run", "item_audit"])
def test_b32_a_revision_that_autogenerate_wrote_is_not_told_to_cascade(
    name: str, database: Database, tmp_path: Path
) -> None:
    project = project_with_fix(tmp_path, database)
    project.revision("c", "b", f"op.drop_table({name!r})", top="fix = None")
    ran = datafixes(project, "plan")
    assert ran.code == 3
    assert f"remove the operations on {name} from the revision" in " ".join(ran.out.split())
    assert "CASCADE" not in ran.out
