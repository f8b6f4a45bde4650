"""A revert needs the database and nothing else: no file, no environment, no clock (promise 5)."""

import shutil
from pathlib import Path

import pytest

from tests.projects import Project, new_project, project_with_fix
from tests.servers import Database
from tests.tampering import tamper

ITEMS = "SELECT id, status, amount FROM item ORDER BY id"
OTHER_EACH_TIME = """
fix = DataFix(name="stamp_items", reason="r", audit="item_audit",
    change=Update("item", set={"note": %s}), rows=Rows(key="id", expect=[1, 2, 3]))
"""
RECORDED = """
from datafixes import RecordedFix, Table
fix = RecordedFix(name="merge", reason="Twice.", tables=[
    Table("item", "item_audit", key="id", identity={"symbol": "symbol"}, updated={1: "QCOM"}, deleted=1, housekeeping=["note"]),
    Table("part", "part_audit", deleted=2)])
"""


def squashed(project: Project) -> Project:
    """The team squashed its history: all files are gone, and one base revision stands for them."""
    shutil.rmtree(project.directory / "migrations/versions")
    (project.directory / "migrations/versions").mkdir()
    project.database.execute("UPDATE alembic_version SET version_num = 'base2'")
    project.revision("base2", None, "pass", top="# Nothing is declared here.")
    return project


def applied(project: Project) -> list[tuple[object, ...]]:
    was = project.database.rows(ITEMS)
    ran = project.alembic("upgrade", "head")
    assert ran.code == 0, ran.err
    assert project.database.rows(ITEMS) != was
    return was


WAYS = {
    "run": "op.revert_datafix(run=1)",
    "name": 'op.revert_datafix("close_items")',
    "name and revision": 'op.revert_datafix("close_items", revision="b")',
    "run and schema": 'op.revert_datafix(run=1, audit_schema="public")',
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("offline", [False, True], ids=["online", "offline"])
def test_a_fix_whose_file_is_gone_comes_back(
    tmp_path: Path, database: Database, way: str, offline: bool
) -> None:
    project = project_with_fix(tmp_path, database)
    was = applied(project)
    squashed(project).revision("c", "base2", WAYS[way], 'op.revert_datafix("close_items")', top="# No fix.")
    if offline:
        database.psql(project.script("base2:c"), "-v", "ON_ERROR_STOP=1")
    else:
        ran = project.alembic("upgrade", "head")
        assert ran.code == 0, ran.err
        assert "datafix close_items: reverted: 2 found, 2 changed" in ran.err
        assert "1: status closed → open, amount 110.00 → 10.00" in ran.err
    assert database.rows(ITEMS) == was
    assert database.rows(
        "SELECT fix, reverts_run, reason, rows_changed FROM datafix_run WHERE run_id = 2"
    ) == [("close_items", 1, "Closed by hand.", 2)]
    # And a revert without a file comes back too.
    ran = project.alembic("downgrade", "base2")
    assert ran.code == 0, ran.err
    assert [row[1] for row in database.rows(ITEMS)] == ["closed", "closed", "open"]


def test_keys_identities_and_housekeeping_are_the_ledgers(tmp_path: Path, database: Database) -> None:
    project = new_project(tmp_path, database)
    database.execute(
        "CREATE TABLE item (id integer PRIMARY KEY, symbol text, note text)",
        "CREATE TABLE part (id integer PRIMARY KEY, item integer REFERENCES item ON DELETE CASCADE)",
        "INSERT INTO item VALUES (1, 'QCOM', 'a'), (2, 'QCOM', 'b')", "INSERT INTO part VALUES (5, 2), (6, 2)",
    )  # fmt: skip
    project.revision(
        "a",
        None,
        'op.create_audit_table("item", name="item_audit")\nop.create_audit_table("part", name="part_audit")',
    )
    project.revision(
        "b", "a", "with op.record_datafix(fix) as body:\n    body.execute(\"UPDATE item SET note = 'c' WHERE id = 1\")\n"
        "    body.execute('UPDATE item SET symbol = lower(symbol) WHERE id = 1')\n    body.execute('DELETE FROM item WHERE id = 2')",
        top=RECORDED,
    )  # fmt: skip
    was = database.rows("SELECT id, symbol FROM item ORDER BY id"), database.rows("TABLE part ORDER BY id")
    ran = project.alembic("upgrade", "head")
    assert ran.code == 0, ran.err
    squashed(project).revision("c", "base2", 'op.revert_datafix("merge")', top="# No fix.")
    database.execute("UPDATE item SET symbol = 'NOW' WHERE id = 1")  # somebody else's row under the same key
    refused = project.alembic("upgrade", "head")
    assert "cannot be restored: public.item 1 taken" in refused.last_line
    database.execute("UPDATE item SET symbol = 'qcom', note = 'theirs' WHERE id = 1")
    ran = project.alembic("upgrade", "head")
    assert ran.code == 0, ran.err
    assert (
        database.rows("SELECT id, symbol FROM item ORDER BY id"),
        database.rows("TABLE part ORDER BY id"),
    ) == was
    assert database.value("SELECT note FROM item WHERE id = 1") == "theirs"


def test_some_rows_without_a_file(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    applied(project)
    squashed(project).revision("c", "base2", "op.revert_datafix(run=1, rows=[2])", top="# No fix.")
    ran = project.alembic("upgrade", "head")
    assert ran.code == 0, ran.err
    assert [row[1] for row in database.rows(ITEMS)] == ["closed", "open", "open"]
    project.revision("d", "c", 'op.revert_datafix(run=1, rows={"itme": [1]})', top="# No fix.")
    assert "itme is not one of its tables" in project.alembic("upgrade", "head").last_line


def test_what_the_operator_says_of_conflicts_counts_without_a_file(
    tmp_path: Path, database: Database
) -> None:
    project = project_with_fix(tmp_path, database)
    applied(project)
    squashed(project).revision("c", "base2", "op.revert_datafix(run=1)", top="# No fix.")
    database.execute("UPDATE item SET status = 'theirs' WHERE id = 1")
    assert "1 changed since" in project.alembic("upgrade", "head").last_line
    script = project.script("base2:c", "-x", "on_conflict=close_items:skip")
    database.psql(script, "-v", "ON_ERROR_STOP=1")
    assert [row[1] for row in database.rows(ITEMS)] == ["theirs", "open", "open"]


@pytest.mark.parametrize(
    "value",
    ["str(dt.datetime.now(dt.timezone.utc))", "str(uuid.uuid4())", "os.environ.get('SOME_SETTING', str(os.getpid()))",
     "__import__('pathlib').Path(__file__).with_name('b.csv').read_text()"],
    ids=["now", "uuid4", "environment", "file"],
)  # fmt: skip
def test_a_declaration_that_is_another_one_at_each_load_is_reverted(
    tmp_path: Path, database: Database, value: str
) -> None:
    (tmp_path / "migrations/versions").mkdir(parents=True)
    (tmp_path / "migrations/versions/b.csv").write_text("one")
    project = project_with_fix(tmp_path, database, top=OTHER_EACH_TIME % value)
    was = database.rows("TABLE item ORDER BY id")
    assert project.process("upgrade", "head").code == 0
    (tmp_path / "migrations/versions/b.csv").write_text("two")
    done = project.process("downgrade", "-1", environment={"SOME_SETTING": "another"})
    assert done.code == 0, done.err
    assert database.rows("TABLE item ORDER BY id") == was


def test_the_ledgers_of_two_schemas_are_told_apart(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    was = applied(project)
    database.execute(
        "CREATE SCHEMA other",
        "CREATE TABLE other.datafix_run (LIKE datafix_run INCLUDING ALL)",
        "CREATE TABLE other.datafix_run_table (LIKE datafix_run_table INCLUDING ALL)",
        "INSERT INTO other.datafix_run OVERRIDING SYSTEM VALUE SELECT * FROM datafix_run",
    )
    squashed(project).revision("c", "base2", "op.revert_datafix(run=1)", top="# No fix.")
    refused = project.alembic("upgrade", "head")
    assert "the ledgers of several schemas have runs of it: other, public" in refused.last_line
    assert "audit_schema='other'" in refused.last_line
    project.revision("c", "base2", 'op.revert_datafix(run=1, audit_schema="public")', top="# No fix.")
    ran = project.alembic("upgrade", "head")
    assert ran.code == 0, ran.err
    assert database.rows(ITEMS) == was


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("op.revert_datafix(run=99)", "The ledger of public has no completed run 99"),
        ('op.revert_datafix("close_item")', "no ledger knows it. Did you mean close_items?"),
        ("op.revert_datafix()", "needs a fix (its declaration or name), or run=NUMBER"),
        (
            'op.revert_datafix("close_items", run=1, revision="b")',
            "needs a fix (its declaration or name), or run=NUMBER",
        ),
        ('op.revert_datafix(run="1")', "run='1' is not the number of a run"),
        ("op.revert_datafix(run=True)", "run=True is not the number of a run"),
    ],
)
def test_what_does_not_say_which_run(tmp_path: Path, database: Database, call: str, words: str) -> None:
    project = project_with_fix(tmp_path, database)
    applied(project)
    squashed(project).revision("c", "base2", call, top="# No fix.")
    refused = project.alembic("upgrade", "head")
    assert refused.code == 255
    assert words in refused.last_line
    assert project.versions == {"base2"}


def test_a_run_that_was_taken_back_is_not_taken_back_again(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    applied(project)
    squashed(project).revision("c", "base2", "op.revert_datafix(run=1)", top="# No fix.")
    project.revision("d", "c", "op.revert_datafix(run=1)", top="# No fix.")
    assert "run 2 reverted run 1 already" in project.alembic("upgrade", "head").last_line
    assert project.versions == {"c"}


def test_a_schema_that_is_said_wins_over_a_declaration(tmp_path: Path, database: Database) -> None:
    """Two teams' ledgers know a fix of one name, and the file declares the one of them."""
    project = project_with_fix(tmp_path, database)
    applied(project)
    database.execute(
        "CREATE SCHEMA other",
        "CREATE TABLE other.item AS TABLE item",
        "ALTER TABLE other.item ADD PRIMARY KEY (id)",
    )
    project.revision(
        "c", "b", 'op.create_audit_table("item", name="item_audit", schema="other")', top="# Copies."
    )
    project.revision(
        "d", "c", "op.apply_datafix(another)", top="another = DataFix(name='close_items', reason='r', audit='item_audit',"
        " change=Update('item', schema='other', set={'status': 'other'}), rows=Rows(key='id', expect=[3]))",
    )  # fmt: skip
    project.revision("e", "d", 'op.revert_datafix("close_items", audit_schema="other")', top="# None.")
    was = database.rows("TABLE item ORDER BY id")
    assert project.alembic("upgrade", "d").code == 0
    assert database.value("SELECT status FROM other.item WHERE id = 3") == "other"
    ran = project.alembic("upgrade", "e")
    assert ran.code == 0, ran.err
    assert database.value("SELECT status FROM other.item WHERE id = 3") == "open"
    assert database.rows("TABLE item ORDER BY id") == was


PLANTED = (
    "UPDATE datafix_run SET declaration = jsonb_set(declaration, '{tables,0,identity_sql,0}',"
    " to_jsonb('(SELECT symbol FROM planted())'::text))"
)
"""Whoever may write to the ledger puts SQL there."""


def test_identities_that_somebody_planted_are_not_run(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    was = applied(project)
    database.execute(
        "CREATE ROLE writer_of_ledger", "GRANT INSERT, UPDATE ON datafix_run TO writer_of_ledger"
    )
    tamper(database, PLANTED)
    try:
        refused = project.alembic("downgrade", "a")
        assert "the ledger and its file declare it differently" in refused.last_line
        # Without the file they are not run; the rows must be as the fix left them.
        squashed(project).revision("c", "base2", "op.revert_datafix(run=1)", top="# No fix.")
        database.execute("UPDATE item SET note = 'theirs' WHERE id = 1")
        assert "1 changed since" in project.alembic("upgrade", "head").last_line
        database.execute("UPDATE item SET note = NULL WHERE id = 1")
        ran = project.alembic("upgrade", "head")
        assert ran.code == 0, ran.err
        assert database.rows(ITEMS) == was
    finally:
        database.execute("DROP OWNED BY writer_of_ledger", "DROP ROLE writer_of_ledger")


def test_rows_of_one_of_two_tables_with_one_name(tmp_path: Path, database: Database) -> None:
    project = new_project(tmp_path, database)
    database.execute("CREATE SCHEMA other")
    for schema in ("public", "other"):
        database.execute(
            f"CREATE TABLE {schema}.item (id integer PRIMARY KEY, note text)",
            f"INSERT INTO {schema}.item VALUES (1, 'was')",
        )
    project.revision(
        "a", None, "for schema in ('public', 'other'):\n    op.create_audit_table('item', name=schema + '_audit', schema=schema, audit_schema='public')",
        top="# Copies.",
    )  # fmt: skip
    project.revision(
        "b", "a", "with op.record_datafix(fix) as body:\n    body.execute(\"UPDATE item SET note = 'x'; UPDATE other.item SET note = 'x'\")",
        top="from datafixes import RecordedFix, Table\nfix = RecordedFix(name='both', reason='r', audit_schema='public', tables=["
        "Table('item', 'public_audit', updated=1), Table('item', 'other_audit', schema='other', updated=1)])",
    )  # fmt: skip
    assert project.alembic("upgrade", "head").code == 0
    project.revision("c", "b", 'op.revert_datafix("both", rows={"item": [1]})', top="# None.")
    refused = project.alembic("upgrade", "head")
    assert "item is not one of its tables, which are public.item, other.item" in refused.last_line
    project.revision("c", "b", 'op.revert_datafix("both", rows={"other.item": [1]})', top="# None.")
    ran = project.alembic("upgrade", "head")
    assert ran.code == 0, ran.err
    assert database.rows("SELECT note FROM item UNION ALL SELECT note FROM other.item") == [("x",), ("was",)]
