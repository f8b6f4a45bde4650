"""Audit tables and finished lines of the ledger do not change, whoever tries, short of their owner's undoing it."""

from pathlib import Path

import pytest

from datafixes.errors import ImagesChanged, Refused, WrongTarget
from tests import fixes
from tests.one_row import fix_of
from tests.projects import Project, new_project, project_with_fix
from tests.servers import Database
from tests.tampering import UNPROTECTED

VERSION_0_1 = Path(__file__).parents[1] / "fixtures/version_0_1/database.sql"

OF_IMAGES = (
    "UPDATE item_audit SET note = 'forged'",
    "UPDATE item_audit SET note = 'forged' WHERE false",
    "DELETE FROM item_audit",
    "TRUNCATE item_audit",
    "MERGE INTO item_audit USING item ON item.id = item_audit.id WHEN MATCHED THEN UPDATE SET note = 'forged'",
)
OF_LEDGER = (
    "UPDATE datafix_run SET reason = 'forged'",
    "UPDATE datafix_run SET finished_at = NULL",
    "UPDATE datafix_run_table SET images_digest = 1",
    "DELETE FROM datafix_run_table",
    "DELETE FROM datafix_run",
    "TRUNCATE datafix_run_table",
    "TRUNCATE datafix_run CASCADE",
)
TRIGGERS = """
SELECT tgrelid::regclass::text, tgname::text, tgenabled::text FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2
"""
ALL = [
    ("datafix_chain", "datafix_append_only", "A"),
    ("datafix_run", "datafix_append_only", "A"),
    ("datafix_run", "datafix_finished", "A"),
    ("datafix_run_table", "datafix_append_only", "A"),
    ("datafix_run_table", "datafix_finished", "A"),
    ("item_audit", "datafix_append_only", "A"),
    ("item_audit", "datafix_pruned", "A"),
    ("item_audit", "datafix_redacted", "A"),
]


@pytest.fixture
def project(tmp_path: Path, database: Database) -> Project:
    """One fix ran: rows 1 and 2 were closed."""
    project = project_with_fix(tmp_path, database)
    assert project.alembic("upgrade", "b").code == 0
    return project


@pytest.mark.parametrize("as_replica", [False, True], ids=["origin", "replica"])
def test_nothing_that_was_written_changes(project: Project, as_replica: bool) -> None:
    database = project.database
    before = database.dump()
    for statement in OF_IMAGES + OF_LEDGER:
        if statement.startswith("MERGE") and database.server_version < 15:
            continue
        setting = "SET session_replication_role = replica;" if as_replica else ""
        ran = database.psql(
            f"{setting}{statement};", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose", check=False
        )
        assert ran.returncode != 0, statement
        assert "ERROR:  DF030: " in ran.stderr, statement
        assert "only grows" in ran.stderr or "a finished line does not change" in ran.stderr
        assert "op.revert_datafix" in ran.stderr
        assert database.dump() == before
    # Runs go on: the next one writes to the same tables.
    assert project.alembic("downgrade", "a").code == 0
    assert project.outcomes == ["applied", "reverted"]


def test_a_line_changes_over_many_transactions_until_it_is_finished(project: Project) -> None:
    database = project.database
    database.execute(
        "INSERT INTO datafix_run (fix, direction, outcome, engine) VALUES ('long', 'apply', 'started', 'x')",
        "INSERT INTO datafix_run_table (run_id, position, target_table, audit_table, key_columns, shape)"
        " VALUES (2, 1, 'public.item', 'public.item_audit', '{id}', '{}')",
        "UPDATE datafix_run SET rows_changed = 1 WHERE run_id = 2",
        "UPDATE datafix_run SET rows_changed = 2 WHERE run_id = 2",
        "UPDATE datafix_run_table SET images = 2 WHERE run_id = 2",
        "UPDATE datafix_run SET outcome = 'applied', finished_at = now() WHERE run_id = 2",
    )
    for table, change in (("datafix_run", "reason = 'x'"), ("datafix_run_table", "images = 3")):
        with pytest.raises(
            Exception, match=rf"ledger public\.{table}: run 2 is finished, and a finished line"
        ):
            database.execute(f"UPDATE {table} SET {change} WHERE run_id = 2")


def test_a_body_of_a_fix_cannot_change_copies(project: Project) -> None:
    project.revision("c", "b", 'op.execute("DELETE FROM item_audit")', top="# SQL.")
    refused = project.alembic("upgrade", "c")
    assert refused.code != 0
    assert "audit table public.item_audit only grows: DELETE is refused" in refused.out + refused.err
    assert project.versions == {"b"}


def test_a_new_ledger_is_protected_and_nothing_is_left_of_it(tmp_path: Path, database: Database) -> None:
    project = new_project(tmp_path, database)
    project.revision(
        "a",
        None,
        'op.create_audit_table("item", name="item_audit")',
        'op.drop_audit_table("item_audit")',
        top="#",
    )
    database.execute(
        "CREATE TABLE item (id integer PRIMARY KEY)", "CREATE TABLE alembic_version (version_num varchar(32))"
    )
    before = database.schema()
    assert project.alembic("upgrade", "a").code == 0
    assert database.rows(TRIGGERS) == ALL
    assert project.alembic("downgrade", "base").code == 0
    assert database.rows("SELECT proname FROM pg_proc WHERE proname LIKE 'datafix%'") == []
    database.execute("ALTER TABLE alembic_version DROP CONSTRAINT IF EXISTS alembic_version_pkc")
    assert database.schema() == before


# --- tables of an older version


@pytest.fixture
def old(tmp_path: Path, database: Database) -> Project:
    """What 0.1 left at a2, and a next revision that protects it."""
    database.psql(VERSION_0_1.read_text(), "-v", "ON_ERROR_STOP=1")
    project = new_project(tmp_path, database)
    project.revision("a1", None, "pass")
    project.revision("a2", "a1", "pass")
    names = ("orders_audit", "lines_audit")
    project.revision(
        "a3", "a2", "\n".join(f'op.protect_audit_table("{name}")' for name in names),
        "\n".join(f'op.unprotect_audit_table("{name}")' for name in names), top="# Protect.",
    )  # fmt: skip
    return project


@pytest.mark.parametrize("offline", [False, True], ids=["online", "offline"])
def test_an_old_audit_table_is_protected_and_a_downgrade_takes_it_back(old: Project, offline: bool) -> None:
    database, before, contents = (
        old.database,
        old.database.schema(),
        old.database.dump("public.alembic_version"),
    )
    assert database.rows(TRIGGERS) == []
    for step, way in (("a2:a3", "upgrade"), ("a3:a2", "downgrade")):
        if offline:
            database.psql(old.script(step), "-v", "ON_ERROR_STOP=1")
        else:
            ran = old.alembic(way, step.partition(":")[2])
            assert ran.code == 0, ran.err
        protected = [("lines_audit", "A")] * 3 + [("orders_audit", "A")] * 3 if way == "upgrade" else []
        assert [(one[0], one[2]) for one in database.rows(TRIGGERS) if one[0].endswith("_audit")] == protected
        if protected:
            for table in ("orders_audit", "lines_audit", "datafix_run", "datafix_run_table"):
                with pytest.raises(Exception, match="only grows"):
                    database.execute(f"DELETE FROM {table}")
    assert database.schema() == before
    assert database.dump("public.alembic_version") == contents


def test_to_protect_twice_changes_nothing_and_repairs_what_a_restore_left(project: Project) -> None:
    database = project.database
    project.revision("c", "b", 'op.protect_audit_table("item_audit")', top="# Protect.")
    database.execute(
        "ALTER TABLE item_audit ENABLE TRIGGER datafix_append_only",
        "DROP TRIGGER datafix_finished ON datafix_run",
    )
    assert database.rows(TRIGGERS) != ALL
    ran = project.alembic("upgrade", "c")
    assert ran.code == 0, ran.err
    assert database.rows(TRIGGERS) == ALL


@pytest.mark.parametrize(
    ("name", "words"),
    [("nothing", "it does not exist"), ("item", "it is no audit table beside a ledger")],
)
def test_what_is_no_audit_table_is_refused(database: Database, name: str, words: str) -> None:
    database.execute("CREATE TABLE item (id integer PRIMARY KEY)")
    fixes.create_audit_table(database, "item", "item_audit")
    for script in (fixes.protect_script, fixes.unprotect_script):
        with pytest.raises(WrongTarget, match=f"audit table public.{name}: {words}"):
            fixes.run(database, script(name, "public", fixes.LIMITS), f"audit table {name}")


# --- roles


def test_a_writer_cannot_undo_it_and_the_owner_can(project: Project) -> None:
    """The owner of the function is the owner of the tables, whoever ran the migration."""
    database = project.database
    database.execute(
        "CREATE ROLE app_writer LOGIN", "GRANT USAGE, CREATE ON SCHEMA public TO app_writer",
        "GRANT ALL ON item_audit, datafix_run, datafix_run_table, datafix_range TO app_writer",
    )  # fmt: skip
    try:
        for statement in (*OF_IMAGES[:4], *OF_LEDGER):
            with pytest.raises(Exception, match=r"only grows|a finished line does not change"):
                database.execute(statement, role="app_writer")
        for statement in (
            "ALTER TABLE item_audit DISABLE TRIGGER datafix_append_only",
            "DROP TRIGGER datafix_append_only ON item_audit",
            "CREATE OR REPLACE FUNCTION datafix_append_only() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
            "ALTER TABLE item_audit ALTER note TYPE text USING 'forged'",
            "CREATE RULE swallow AS ON INSERT TO item_audit DO INSTEAD NOTHING",
            "SET session_replication_role = replica",
            "DROP TABLE item_audit",
        ):
            with pytest.raises(Exception, match=r"must be owner|permission denied"):
                database.execute(statement, role="app_writer")
    finally:
        database.execute("DROP OWNED BY app_writer", "DROP ROLE app_writer")
    database.execute(UNPROTECTED, "DELETE FROM item_audit")
    assert database.value("SELECT count(*) FROM item_audit") == 0


def test_the_function_belongs_to_the_owner_of_the_tables(database: Database) -> None:
    database.execute("CREATE TABLE item (id integer PRIMARY KEY)", "CREATE ROLE owner_of_copies")
    database.execute("GRANT USAGE, CREATE ON SCHEMA public TO owner_of_copies")
    fixes.create_audit_table(database, "item", "item_audit")
    fixes.run(database, fixes.unprotect_script("item_audit", "public", fixes.LIMITS))
    assert database.rows(TRIGGERS) == []
    database.execute(
        *(
            f"ALTER TABLE {name} OWNER TO owner_of_copies"
            for name in ("item_audit", "datafix_run", "datafix_run_table")
        )
    )
    fixes.run(database, fixes.protect_script("item_audit", "public", fixes.LIMITS))
    assert database.rows(TRIGGERS) == ALL
    assert (
        database.value("SELECT proowner::regrole::text FROM pg_proc WHERE proname = 'datafix_append_only'")
        == "owner_of_copies"
    )
    database.execute("DROP OWNED BY owner_of_copies CASCADE", "DROP ROLE owner_of_copies")


def test_only_the_owner_protects(database: Database) -> None:
    database.execute("CREATE TABLE item (id integer PRIMARY KEY)", "CREATE ROLE somebody LOGIN")
    database.execute("GRANT USAGE, CREATE ON SCHEMA public TO somebody")
    fixes.create_audit_table(database, "item", "item_audit")
    database.execute("GRANT ALL ON item_audit, datafix_run, datafix_run_table TO somebody")
    script = fixes.protect_script("item_audit", "public", fixes.LIMITS)
    with pytest.raises(
        Refused, match=r"only postgres, the owner of public\.\w+, may protect it, and this is somebody"
    ):
        fixes.run(database, script, "audit table item_audit", role="somebody")
    database.execute("DROP OWNED BY somebody CASCADE", "DROP ROLE somebody")


def test_who_does_not_own_an_old_ledger_still_makes_protected_audit_tables(database: Database) -> None:
    database.execute("CREATE TABLE item (id integer)", "CREATE ROLE newcomer LOGIN")
    database.execute("GRANT USAGE, CREATE ON SCHEMA public TO newcomer")
    fixes.create_audit_table(database, "item", "item_audit")  # without a key, it has no views
    fixes.run(database, fixes.unprotect_script("item_audit", "public", fixes.LIMITS))
    database.execute("GRANT SELECT, INSERT, UPDATE ON datafix_run, datafix_run_table TO newcomer")
    database.execute("CREATE TABLE thing (id integer)", role="newcomer")
    fixes.create_audit_table(database, "thing", "thing_audit", role="newcomer")
    assert {one[0] for one in database.rows(TRIGGERS)} == {"thing_audit"}
    with pytest.raises(Exception, match="only grows"):
        database.execute("DELETE FROM thing_audit", role="newcomer")
    database.execute("DROP OWNED BY newcomer CASCADE", "DROP ROLE newcomer")


# --- what passes the triggers, and where it is found


@pytest.mark.parametrize(
    "forgery",
    [
        "ALTER TABLE things_audit ALTER v TYPE integer USING v + 1",
        "INSERT INTO things_audit (id, v, audit_run_id, audit_image) VALUES (2, 5, 1, 'before')",
    ],
    ids=["ALTER COLUMN USING", "a false image in an old run"],
)
def test_what_passes_the_triggers_is_found_before_a_revert_uses_it(database: Database, forgery: str) -> None:
    database.execute(
        "CREATE TABLE things (id integer PRIMARY KEY, v integer)", "INSERT INTO things VALUES (1, 5)"
    )
    fixes.create_audit_table(database, "things", "things_audit")
    fixes.apply(database, fix_of(9))
    database.execute("DROP VIEW datafix_row, datafix_show, things_audit_changes", forgery)
    with pytest.raises(ImagesChanged, match="are not the ones it wrote"):
        fixes.revert(database, fix_of(9))


def test_a_rule_that_swallows_copies_stops_the_fix(database: Database) -> None:
    """No copy, no change."""
    database.execute(
        "CREATE TABLE things (id integer PRIMARY KEY, v integer)", "INSERT INTO things VALUES (1, 5)"
    )
    fixes.create_audit_table(database, "things", "things_audit")
    database.execute("CREATE RULE swallow AS ON INSERT TO things_audit DO INSTEAD NOTHING")
    with pytest.raises(Refused):
        fixes.apply(database, fix_of(9))
    assert database.rows("TABLE things") == [(1, 5)]


def test_a_new_audit_table_protects_an_old_ledger(old: Project) -> None:
    database = old.database
    old.revision("a3", "a2", 'op.create_audit_table("orders", name="orders_audit_2")', top="# Another.")
    ran = old.alembic("upgrade", "a3")
    assert ran.code == 0, ran.err
    protected = {one[0] for one in database.rows(TRIGGERS)}
    assert protected == {"datafix_chain", "datafix_run", "datafix_run_table", "orders_audit_2"}


def test_a_chain_beside_the_ledger_is_protected_with_it(project: Project) -> None:
    """Whatever made it: entries are only added to it."""
    database = project.database
    call = '("item_audit")'
    project.revision(
        "c", "b", f"op.protect_audit_table{call}", f"op.unprotect_audit_table{call}", top="# Protect."
    )
    ran = project.alembic("upgrade", "c")
    assert ran.code == 0, ran.err
    for statement in (
        "UPDATE datafix_chain SET position = 2",
        "DELETE FROM datafix_chain",
        "TRUNCATE datafix_chain",
    ):
        with pytest.raises(Exception, match=r"ledger public\.datafix_chain only grows"):
            database.execute(statement)
    assert project.alembic("downgrade", "b").code == 0
    assert database.rows(TRIGGERS) == []
    assert database.value("SELECT to_regproc('datafix_append_only')") is None
