"""Each finished run is sealed after its commit, whoever runs it, and no run waits for that or fails because of it."""

import json
import threading
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, event
from sqlalchemy.engine import Engine
from sqlalchemy.pool import NullPool

from datafixes.audit.chain.sealing import seal_runs
from datafixes.script.frame import Limits
from tests.cli.commands import answer, datafixes
from tests.fixes import create_audit_table
from tests.projects import FIX, STOCK_ENV, TABLE, Project, new_project, project_with_fix
from tests.servers import Database
from tests.trust.audits import CHAIN, forge, states, three_runs


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_an_upgrade_seals_its_run_and_logs_the_head(tmp_path: Path, database: Database, driver: str) -> None:
    project = project_with_fix(tmp_path, database).on(database, driver)
    ran = project.alembic("upgrade", "head")
    [(position, run, head)] = database.rows(CHAIN)
    assert (position, run) == (1, 1)
    assert f"Sealed run 1 of ledger public: position 1, head {head}" in ran.err
    anchor = json.loads(datafixes(project, "anchor").out)
    assert (anchor["position"], anchor["head"], anchor["database"]) == (1, head, database.name)
    assert anchor["cluster"] == database.value("SELECT system_identifier::text FROM pg_control_system()")
    assert states(project) == {1: "proven"}


def test_failed_and_declined_runs_and_those_without_rows_are_sealed(
    tmp_path: Path, database: Database
) -> None:
    project = project_with_fix(tmp_path, database)
    database.execute("UPDATE item SET symbol = 'X' WHERE id = 1")
    for _ in range(2):
        failed = project.alembic("upgrade", "head")
        assert failed.code == 255
        assert "Sealed run" in failed.err
    assert project.alembic("-x", "decline=close_items:not here", "upgrade", "head").code == 0
    assert project.alembic("downgrade", "a").code == 0
    database.execute("DELETE FROM item")
    assert project.alembic("upgrade", "head").code == 0
    assert project.outcomes == ["failed", "failed", "declined", "not_applicable", "not_applicable"]
    assert set(states(project).values()) == {"proven"}
    assert len(states(project)) == 5


def test_an_env_py_of_its_own_has_the_earlier_runs_sealed(tmp_path: Path, database: Database) -> None:
    project = three_runs(tmp_path, database, STOCK_ENV)
    # The one that has just ended waits for the next.
    assert states(project) == {1: "proven", 2: "proven", 3: "new"}
    assert datafixes(project, "seal").code == 0
    assert states(project) == {1: "proven", 2: "proven", 3: "proven"}


def test_two_who_seal_at_once_make_one_chain(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    assert project.alembic("upgrade", "head").code == 0
    line = "'x', 'apply', 'failed', now(), now(), '1'"
    database.execute(
        *[
            f"INSERT INTO datafix_run (fix, direction, outcome, started_at, finished_at, engine) VALUES ({line})"
        ]
        * 40
    )
    sealed: list[int] = []
    errors: list[Exception] = []

    def seal() -> None:
        try:
            with create_engine(database.url, poolclass=NullPool).connect() as connection:
                sealed.extend(entry.run_id for entry in seal_runs(connection, "public", Limits()))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=seal) for _ in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert errors == []
    assert sorted(sealed) == list(range(2, 42))  # each by one of them
    assert set(states(project).values()) == {"proven"}


def test_two_upgrades_at_once_are_sealed(tmp_path: Path, database: Database) -> None:
    database.execute(TABLE, "CREATE TABLE other AS TABLE item", "ALTER TABLE other ADD PRIMARY KEY (id)")
    projects = []
    for name in ("item", "other"):
        directory = tmp_path / name
        directory.mkdir()
        project = new_project(directory, database)
        project.env(
            "from alembic import context\nfrom datafixes.environment import run_migrations\n"
            f"run_migrations(context, version_table='version_{name}')\n"
        )
        create_audit_table(database, name, f"{name}_audit")
        top = f"fix = {FIX.replace('item', name).strip()}"
        project.revision("b", None, "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=top)
        projects.append(project)
    ran = {}
    threads = [
        threading.Thread(target=lambda one=one: ran.update({one: one.process("upgrade", "head")}))
        for one in projects
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert [one.code for one in ran.values()] == [0, 0]
    assert states(projects[0]) == {1: "proven", 2: "proven"}


def test_a_database_that_prefers_repeatable_read(tmp_path: Path, database: Database) -> None:
    database.execute(f"ALTER DATABASE {database.name} SET default_transaction_isolation = 'repeatable read'")
    project = three_runs(tmp_path, database)
    assert states(project) == {1: "proven", 2: "proven", 3: "proven"}


def test_a_role_that_may_not_seal_runs_fixes_all_the_same(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    database.execute(
        "CREATE ROLE sealless LOGIN", f"GRANT CREATE, TEMP ON DATABASE {database.name} TO sealless",
        "GRANT ALL ON SCHEMA public TO sealless", "GRANT ALL ON ALL TABLES IN SCHEMA public TO sealless",
        "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO sealless",
        "ALTER TABLE item OWNER TO sealless", "REVOKE ALL ON datafix_chain FROM sealless",
    )  # fmt: skip
    ran = project.alembic("-x", f"url={database.url_for('sealless')}", "upgrade", "head")
    assert ran.code == 0, ran.err
    [told] = [line for line in ran.err.splitlines() if "not sealed" in line]
    assert "permission denied for table datafix_chain" in told
    assert told.endswith("The next run does it, or: datafixes seal")
    assert project.outcomes == ["applied"]
    assert states(project) == {1: "new"}
    assert seals_of(project) == [("good", "no run waits to be sealed for longer than one upgrade.")]
    # Not for longer than one upgrade: from the next run on, that is a finding.
    assert project.alembic("-x", f"url={database.url_for('sealless')}", "downgrade", "a").code == 0
    assert states(project, code=3) == {1: "unsealed", 2: "new"}
    assert seals_of(project) == [("bad", "another run began since, and still run 1 is not sealed.")]
    # Whoever may seals all of them at the end of the next command that runs a fix.
    ran = project.alembic("upgrade", "head")
    sealed = [line.split(":")[0] for line in ran.err.splitlines() if line.startswith("Sealed run")]
    assert sealed == [f"Sealed run {run} of ledger public" for run in (1, 2, 3)]
    assert states(project) == {1: "proven", 2: "proven", 3: "proven"}
    assert seals_of(project) == [("good", "no run waits to be sealed for longer than one upgrade.")]


def seals_of(project: Project) -> list[tuple[str, str]]:
    """What doctor says of seals, whatever it says of the rest."""
    told = answer(project, "doctor", code=None)["findings"]
    return [(one["state"], one["evidence"].partition(": ")[2]) for one in told if one["check"] == "seals"]


def test_an_upgrade_does_not_fail_because_somebody_seals_for_long(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    with closing(database.connect()) as other, other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('datafixes seal', 0))")
        ran = project.alembic("-x", "lock_timeout=100ms", "upgrade", "head")
    assert ran.code == 0
    assert "Runs are not sealed yet" in ran.err
    assert states(project) == {1: "new"}


def test_a_chain_that_a_newer_run_finds_missing_is_created(tmp_path: Path, database: Database) -> None:
    # A ledger of before there were chains.
    project = project_with_fix(tmp_path, database)
    database.execute("DROP TABLE datafix_chain", "DROP TABLE datafix_key")
    assert project.alembic("upgrade", "head").code == 0
    assert states(project) == {1: "proven"}
    assert database.rows("SELECT grantee FROM information_schema.role_table_grants WHERE table_name IN ('datafix_chain',"
                         " 'datafix_key') AND grantee <> 'postgres'") == []  # fmt: skip


def test_what_has_no_run_to_seal_is_asked_nothing(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    assert project.alembic("upgrade", "head").code == 0
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        for order in (("upgrade", "head"), ("current",)):
            assert project.alembic(*order).code == 0
        assert not [one for one in sent if "datafix_" in one]
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert sent


def test_a_plan_seals_nothing(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    assert datafixes(project, "plan").code == 0
    assert database.rows(CHAIN) == []


def test_the_last_audit_table_takes_the_chain_along(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    assert project.alembic("upgrade", "head").code == 0
    assert project.alembic("-x", "discard=item_audit", "downgrade", "base").code == 0
    assert database.rows("SELECT relname FROM pg_class WHERE relname LIKE 'datafix%'") == []


def test_images_are_hashed_by_blocks_on_both_sides(tmp_path: Path, database: Database) -> None:
    # Two images before the border of two blocks, two behind it.
    project = project_with_fix(tmp_path, database)
    database.execute("ALTER TABLE item_audit ALTER audit_id RESTART WITH 65534")
    assert project.alembic("upgrade", "head").code == 0
    assert database.rows("SELECT min(audit_id), max(audit_id) FROM item_audit") == [(65534, 65537)]
    assert states(project) == {1: "proven"}
    forge(database, "UPDATE item_audit SET status = 'x' WHERE audit_id = 65537")
    assert states(project, code=3) == {1: "differs"}


def test_several_ledgers_have_a_chain_each(tmp_path: Path, database: Database) -> None:
    project = three_runs(tmp_path, database)
    database.execute("CREATE SCHEMA west", "CREATE TABLE west.thing (id integer PRIMARY KEY)")
    create_audit_table(database, "thing", "thing_audit", schema="west")
    database.execute("INSERT INTO west.datafix_run (fix, direction, outcome, finished_at, engine)"
                     " VALUES ('x', 'apply', 'failed', now(), '1')")  # fmt: skip
    assert datafixes(project, "seal").code == 0
    told = [json.loads(line) for line in datafixes(project, "anchor").out.splitlines()]
    assert [(one["schema"], one["position"]) for one in told] == [("public", 3), ("west", 1)]
    assert told[0]["ledger"] != told[1]["ledger"]
    assert states(project, schema=1) == {1: "proven"}
