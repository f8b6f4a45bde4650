"""Bad input gets one clear line and an exit code that is not 0, and nothing is changed."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import datafixes
from tests.projects import STOCK_ENV, Project, Ran, project_with_fix
from tests.servers import Database
from tests.small_book import session, somebody_waits

LEDGER = "public.datafix_run"
SEALS = ("public.datafix_chain", "public.datafix_key", "public.datafix_salt")


def fix(
    *,
    set: str = "{'status': 'closed', 'amount': sql('amount + 100')}",
    where: str = "status = 'open'",
    table: str = "item",
    rows: str = "key='id', identity={'symbol': 'symbol'}, expect={1: 'QCOM', 2: 'NOW'}",
    name: str = "close_items",
    audit: str = "item_audit",
    schema: str = "public",
) -> str:
    """The declaration of a fix, as a revision has it."""
    return (
        f"fix = DataFix(name={name!r}, reason='Closed by hand.', audit={audit!r}, "
        f" rows=Rows({rows}), change=Update({table!r}, set={set}, where={where!r}, schema={schema!r}),"
        " audit_schema='public')"
    )


def assert_one_clear_line(ran: Ran, *words: str) -> None:
    """The run failed, and its last line tells why."""
    assert ran.code not in (0, None)
    assert "Traceback" not in ran.out + ran.err
    [line] = ran.out.strip().splitlines()  # Alembic's own FAILED: line; all the rest is its log
    assert line.startswith("FAILED: ")
    assert [word for word in words if word not in line] == [], line
    assert line.removeprefix("FAILED: ") not in ran.err  # once is enough


@contextmanager
def nothing_changes(database: Database) -> Iterator[None]:
    """Whatever runs in the context leaves all tables as they are; one line in the ledger may tell of it, and its seal."""
    before, ledger = database.dump(*SEALS), database.dump().get(LEDGER, [])
    yield
    after = database.dump(*SEALS)
    new = after.pop(LEDGER, [])
    before.pop(LEDGER, None)
    assert after == before
    added = [line for line in new if line not in ledger]
    assert ledger == [line for line in new if line in ledger]
    assert len(added) <= 1
    assert all(",failed," in line for line in added)


def refused(project: Project, *words: str, step: tuple[str, ...] = ("upgrade", "head")) -> Ran:
    """Run a step that must be refused in one clear line, with nothing changed."""
    with nothing_changes(project.database):
        ran = project.alembic(*step)
    assert_one_clear_line(ran, *words)
    return ran


@pytest.fixture
def applied(tmp_path: Path, database: Database) -> Project:
    """A project whose fix is applied."""
    project = project_with_fix(tmp_path, database)
    assert project.alembic("upgrade", "head").code == 0
    return project


# --- the rows are not the ones that the fix was written for


@pytest.mark.parametrize(
    ("statement", "declared", "words"),
    [
        (
            "UPDATE item SET symbol = 'AAPL' WHERE id = 2",
            fix(),
            ("1 of the 2 expected rows of public.item is not as expected", "2 symbol is AAPL, not NOW"),
        ),
        ("DELETE FROM item WHERE id = 2", fix(), ("2 is missing",)),
        ("UPDATE item SET status = 'closed' WHERE id = 1", fix(), ("1 does not meet the condition of the fix",)),
        (
            "UPDATE item SET status = 'closed' WHERE id = 1",
            fix(rows="key='id', expect=[1, 2], already=\"status = 'closed'\""),
            ("1 of the 2 expected rows of public.item are already as wanted (1), and at most 0 may be", "already_at_most"),
        ),
        ("SELECT", fix(rows="key='id', expect=2"), ("found 3 rows of public.item, expected 2", "Found: 1, 2, 3")),
        ("SELECT", fix(rows="key='id', expect=5, tolerance=1"), ("found 3 rows of public.item, expected 5 (give or take 1)",)),
        ("SELECT", fix(where="status = 'none'", rows="key='id', expect=2, required=True"), ("found 0 rows",)),
        ("DELETE FROM item", fix(rows="key='id', expect=[1, 2], required=True"), ("1 is missing; 2 is missing",)),
        ("SELECT", fix(where="status = 'open' AND note IS NOT NULL"), ("1 does not meet the condition",)),
    ],
    ids=[
        "another symbol", "missing", "closed", "closed and told", "more than expected", "beyond the tolerance",
        "none, and required", "all missing, and required", "where of fewer",
    ],
)  # fmt: skip
def test_rows_that_are_not_as_expected(
    tmp_path: Path, database: Database, statement: str, declared: str, words: tuple[str, ...]
) -> None:
    project = project_with_fix(tmp_path, database, top=declared)
    database.execute(statement)
    refused(project, "datafix close_items", *words)
    assert project.outcomes == ["failed"]


# --- names and types that are wrong


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        (
            fix(set="{'statsu': 'closed'}"),
            ("public.item has no column statsu", "Its columns: id, symbol, status"),
        ),
        (fix(where="statsu = 'open'"), ('column "statsu" does not exist',)),
        (
            fix(rows="key='id', identity={'s': 'symbl'}, expect={1: 'QCOM'}"),
            ('column "symbl" does not exist',),
        ),
        (fix(rows="key='ident', expect=[1]"), ("public.item has no column ident",)),
        (fix(rows="key='symbol', expect=['QCOM']"), ("public.item has no unique index over (symbol)",)),
        (fix(where="status ="), ("syntax error",)),
        (fix(where="true) OR (true"), ("2 of the expected rows", "3 rows were copied")),
        (fix(set="{'amount': 'much'}"), ("invalid input syntax for type numeric",)),
        (fix(set="{'amount': True}"), ("amount", "boolean")),
        (fix(set="{'amount': sql('now()')}"), ("amount", "timestamp")),
        (fix(set="{'amount': 123456789012}"), ("numeric field overflow",)),
        (fix(set="{'amount': 1.234}"), ("amount is numeric(12,2) and would store '1.234' as 1.23",)),
        (fix(set="{'id': 7}"), ("set changes id, which identifies the row",)),
        (fix(set="{'amount': [1]}"), ("amount is a list",)),
        (fix(set="{}"), ("set is empty",)),
        (fix(rows="key='id', expect=['one']"), ("invalid input syntax for type integer",)),
        (fix(table="itme"), ("table public.itme does not exist",)),
        (fix(table="Item"), ('table public."Item" does not exist',)),
        (
            fix(audit="itme_audit"),
            ("audit table public.itme_audit does not exist", "op.create_audit_table"),
        ),
        (fix(name="close items"), ("the name 'close items' is not valid",)),
    ],
)
def test_a_declaration_that_does_not_fit_the_table(
    tmp_path: Path, database: Database, declared: str, words: tuple[str, ...]
) -> None:
    project = project_with_fix(tmp_path, database, top="fix = None")
    revision = project.directory / "migrations/versions/b.py"
    # A declaration that is wrong in itself is found when the revisions are read, so it must not be there before.
    revision.write_text(
        revision.read_text(encoding="utf-8").replace("fix = None", declared), encoding="utf-8"
    )
    refused(project, *words)


@pytest.mark.parametrize(
    ("statements", "called"),
    [
        (("CREATE VIEW odd AS SELECT * FROM item",), "is a view"),
        (("CREATE MATERIALIZED VIEW odd AS SELECT * FROM item",), "is a materialized view"),
        (
            (
                "CREATE FOREIGN DATA WRAPPER nothing",
                "CREATE SERVER elsewhere FOREIGN DATA WRAPPER nothing",
                "CREATE FOREIGN TABLE odd (id integer, symbol text, status text, amount numeric) SERVER elsewhere",
            ),
            "is a foreign table",
        ),
        (("CREATE TABLE odd AS SELECT * FROM item",), "has no unique index over (id)"),
        (
            ("CREATE TABLE odd AS SELECT * FROM item", "ALTER TABLE odd ADD UNIQUE (id)"),
            "the key column id of public.odd can be null",
        ),
        (
            ("CREATE TABLE odd (LIKE item INCLUDING ALL)", "CREATE TABLE odd_child () INHERITS (odd)"),
            "inherit",
        ),
        (
            (
                "CREATE TABLE odd (LIKE item INCLUDING ALL)",
                "CREATE RULE r AS ON UPDATE TO odd DO INSTEAD NOTHING",
            ),
            "rule (r)",
        ),
    ],
    ids=["view", "materialized view", "foreign table", "no key", "nullable key", "inherited", "rule"],
)
def test_a_target_that_cannot_be_fixed(
    tmp_path: Path, database: Database, statements: tuple[str, ...], called: str
) -> None:
    project = project_with_fix(tmp_path, database, top=fix(table="odd"))
    database.execute(*statements)
    refused(project, "public.odd", called)


@pytest.mark.parametrize(
    ("schema", "words"), [("public", "table public.odd does not exist"), ("pg_temp", "pg_temp.odd")]
)
def test_a_temporary_table(tmp_path: Path, database: Database, schema: str, words: str) -> None:
    up = 'op.execute("CREATE TEMP TABLE odd (LIKE item INCLUDING ALL)")\nop.apply_datafix(fix)'
    project = project_with_fix(tmp_path, database, up=up, top=fix(table="odd", schema=schema))
    refused(project, words)


# --- what was there before


def test_a_name_that_was_used_before_with_other_content(applied: Project) -> None:
    applied.revision("c", "b", "op.apply_datafix(fix)", top=fix(set="{'note': 'other'}", where=""))
    ran = refused(
        applied,
        "the name was used before, by run 1 (revision b) with other content",
        "Give the new fix a name of its own",
    )
    assert "fingerprint" in ran.last_line
    assert applied.versions == {"b"}


def test_a_name_that_was_used_before_with_the_same_content(applied: Project) -> None:
    applied.revision("c", "b", "op.apply_datafix(fix)")
    refused(applied, "applied already, by run 1", "(2 rows)")


def test_a_revision_edited_after_it_ran(applied: Project) -> None:
    applied.revision(
        "b",
        "a",
        "op.apply_datafix(fix)",
        "op.revert_datafix(fix)",
        top=fix(set="{'note': 'other'}", where=""),
    )
    ran = applied.alembic("downgrade", "-1")
    assert (ran.code, applied.versions) == (0, {"a"})
    assert "its declaration has changed since it ran" in ran.err


@pytest.mark.parametrize("before", ["stamp", "revert"])
def test_a_revert_without_an_apply(tmp_path: Path, database: Database, before: str) -> None:
    project = project_with_fix(tmp_path, database)
    if before == "revert":
        project.alembic("upgrade", "head")
        project.alembic("downgrade", "-1")
    project.alembic("stamp", "b")
    reason = "the ledger has no run of it" if before == "stamp" else "run 2 reverted run 1 already"
    refused(project, "there is nothing to revert", reason, step=("downgrade", "-1"))
    assert project.versions == {"b"}


@pytest.mark.parametrize("table", ["item_audit", "datafix_run"])
def test_an_audit_table_that_is_missing(tmp_path: Path, database: Database, table: str) -> None:
    project = project_with_fix(tmp_path, database)
    database.execute(f"DROP TABLE {table} CASCADE")
    refused(project, f"audit table public.{table} does not exist")


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("ALTER TABLE item_audit DROP COLUMN note", ("note text is missing there",)),
        (
            "ALTER TABLE item_audit ALTER amount TYPE numeric(12,1)",
            ("amount is numeric(12,2), and numeric(12,1) there",),
        ),
        (
            "ALTER TABLE item ADD weight integer",
            ("weight integer is missing there", "op.update_audit_table('item', name='item_audit')"),
        ),
        (
            "ALTER TABLE item ALTER amount TYPE numeric(12,4)",
            ("amount is numeric(12,4), and numeric(12,2) there",),
        ),
        ("ALTER TABLE item_audit DROP COLUMN audit_image", ("audit_image text is missing there",)),
        ("ALTER TABLE item_audit SET UNLOGGED", ("would not keep copies",)),
    ],
)
def test_an_audit_table_of_another_shape(
    tmp_path: Path, database: Database, statement: str, words: tuple[str, ...]
) -> None:
    project = project_with_fix(tmp_path, database)
    database.execute("DROP VIEW item_audit_changes CASCADE", statement)
    refused(project, "public.item_audit", *words)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("ALTER TABLE item ALTER amount TYPE numeric(20,1)", ("amount", "numeric(20,1)")),
        ("ALTER TABLE item ALTER amount TYPE integer", ("amount", "integer")),
        (
            "ALTER TABLE item RENAME amount TO sum",
            ("amount is called sum now", "Downgrade the migration that changed"),
        ),
        ("ALTER TABLE item DROP COLUMN amount", ("amount",)),
    ],
)
def test_c30_a_target_whose_columns_changed_since(
    applied: Project, statement: str, words: tuple[str, ...]
) -> None:
    applied.database.execute(statement)
    refused(applied, "public.item", *words, step=("downgrade", "-1"))
    assert applied.versions == {"b"}


def test_c30_a_target_that_was_dropped_and_made_again(applied: Project) -> None:
    applied.database.execute(
        "CREATE TABLE copy (LIKE item INCLUDING ALL)",
        "INSERT INTO copy SELECT * FROM item",
        "DROP TABLE item",
        "ALTER TABLE copy RENAME TO item",
    )
    refused(applied, "the table was dropped and made again", step=("downgrade", "-1"))


# --- no right to write


@pytest.fixture
def clerk(database: Database) -> Iterator[str]:
    """A role that may do all that a fix needs, and owns nothing."""
    role = f"clerk_{database.name}"
    database.execute(f"DROP ROLE IF EXISTS {role}", f"CREATE ROLE {role} LOGIN")
    yield role
    database.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def as_clerk(project: Project, clerk: str, *then: str) -> Any:
    project.database.execute(
        f"GRANT USAGE ON SCHEMA public TO {clerk}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {clerk}",
        *then,
    )
    return ("-x", f"url={project.database.url_for(clerk)}")


@pytest.mark.parametrize(
    ("taken", "table"),
    [
        ("REVOKE UPDATE ON item FROM {clerk}", "item"),
        ("REVOKE SELECT ON item FROM {clerk}", "item"),
        ("REVOKE INSERT ON item_audit FROM {clerk}", "item_audit"),
        ("REVOKE INSERT ON datafix_run FROM {clerk}", "datafix_run"),
        ("REVOKE ALL ON datafix_run FROM {clerk}", "datafix_run"),
    ],
)
def test_no_right_to_write(tmp_path: Path, database: Database, clerk: str, taken: str, table: str) -> None:
    project = project_with_fix(tmp_path, database)
    url = as_clerk(project, clerk, taken.format(clerk=clerk))
    refused(project, f"permission denied for table {table}", step=(*url, "upgrade", "head"))


def test_no_right_to_make_temporary_objects(tmp_path: Path, database: Database, clerk: str) -> None:
    project = project_with_fix(tmp_path, database)
    url = as_clerk(project, clerk, f"REVOKE TEMP ON DATABASE {database.name} FROM PUBLIC")
    refused(project, "permission denied to create temporary", step=(*url, "upgrade", "head"))


def test_the_rights_that_suffice(tmp_path: Path, database: Database, clerk: str) -> None:
    project = project_with_fix(tmp_path, database)
    url = as_clerk(project, clerk)
    assert project.alembic(*url, "upgrade", "head").code == 0
    assert project.alembic(*url, "downgrade", "-1").code == 0
    assert database.rows("SELECT DISTINCT applied_by FROM datafix_run") == [(clerk,)]


@pytest.mark.parametrize("step", ["upgrade", "downgrade"])
def test_a_database_that_is_read_only(tmp_path: Path, database: Database, step: str) -> None:
    project = project_with_fix(tmp_path, database)
    if step == "downgrade":
        assert project.alembic("upgrade", "head").code == 0
    database.execute(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
    refused(project, "read-only transaction", step=(step, "head" if step == "upgrade" else "-1"))


# --- cut in the middle


def test_a_connection_that_is_cut_in_the_middle(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    ran: list[Ran] = []
    with nothing_changes(database), session(database, "SELECT FROM item WHERE id = 2 FOR UPDATE") as other:
        deploy = threading.Thread(target=lambda: ran.append(project.alembic("upgrade", "head")))
        deploy.start()
        [waiting] = somebody_waits(database)
        database.execute(f"SELECT pg_terminate_backend({waiting})")
        deploy.join(30)
        other.rollback()
    assert_one_clear_line(
        ran[0], "datafix close_items: the connection to the database was lost", "run the migration again"
    )
    assert project.versions == {"a"}
    assert project.alembic("upgrade", "head").code == 0
    assert project.outcomes[-1] == "applied"
    assert database.value("SELECT amount::int FROM item WHERE id = 1") == 110


@pytest.mark.parametrize("step", ["upgrade", "downgrade"])
def test_a_client_that_is_killed_leaves_nothing_half_done(
    tmp_path: Path, database: Database, step: str
) -> None:
    project = project_with_fix(tmp_path, database)
    if step == "downgrade":
        assert project.alembic("upgrade", "head").code == 0
    order = (step, "head" if step == "upgrade" else "-1")
    with nothing_changes(database), session(database, "SELECT FROM item WHERE id = 2 FOR UPDATE") as other:
        killed = subprocess.Popen(
            project.command_line(*order), cwd=project.directory, stderr=subprocess.DEVNULL
        )
        [waiting] = somebody_waits(database)
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait(10)
        other.rollback()
        # The server may finish the statement; it cannot commit without its client.
        wait_until_gone(database, waiting)
    assert project.alembic(*order).code == 0
    assert database.rows("SELECT amount::int FROM item ORDER BY id") == (
        [(110,), (120,), (30,)] if step == "upgrade" else [(10,), (20,), (30,)]
    )


def wait_until_gone(database: Database, pid: int) -> None:
    for _ in range(200):
        if not database.rows(f"SELECT FROM pg_stat_activity WHERE pid = {pid}"):
            return
        threading.Event().wait(0.05)
    raise AssertionError("the orphan stays")


def test_a_quiet_alembic_says_it_in_its_log(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database, top=fix(rows="key='id', expect=9"))
    ran = project.alembic("--quiet", "upgrade", "head")
    assert (ran.code, ran.out) == (255, "")
    assert ran.err.strip().splitlines()[-1].startswith("datafix close_items: ")


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        (fix(name="close it"), "DataFix: the name 'close it' is not valid"),
        (fix(rows="key='id', expect={}"), "Rows: expect is empty"),
        (fix(rows="key='id', expect=2, foo=1"), "Rows() got an unexpected keyword argument 'foo'."),
    ],
)
def test_a_wrong_declaration_names_its_file_its_revision_and_its_fix(
    tmp_path: Path, database: Database, declared: str, words: str
) -> None:
    project = project_with_fix(tmp_path, database)
    project.revision("b", "a", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=declared)
    path = project.directory / "migrations/versions/b.py"
    line = path.read_text().splitlines().index(declared) + 1
    name = "close it" if "close it" in declared else "close_items"
    told = f"{path}:{line}, revision b, fix {name}: {words}"
    assert_one_clear_line(project.alembic("upgrade", "head"), told)
    ran = datafixes(project, "plan")
    assert (ran.code, ran.err.startswith(f"FAILED: {told}")) == (1, True)
    assert told in project.alembic("upgrade", "a:b", "--sql").err


def test_alembics_own_env_shows_a_wrong_declaration_in_one_line(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database, STOCK_ENV)
    project.revision("b", "a", "op.apply_datafix(fix)", top=fix(rows="key='id', expect={}"))
    for order in (("upgrade", "head"), ("history",)):
        ran = project.alembic(*order)
        assert_one_clear_line(ran, "revision b, fix close_items: Rows: expect is empty")
