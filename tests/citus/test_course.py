"""The whole course on a cluster, with the project's own commands: plan, upgrade, questions, downgrade, script, doctor."""

import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from datafixes.running.in_doubt import tell_in_doubt
from tests.citus_tables import in_doubt
from tests.cli.commands import answer, datafixes
from tests.projects import FIX, TABLE, Project, new_project
from tests.servers import Database

BY = {
    "distributed": "SELECT create_distributed_table('item', 'id', shard_count => 8)",
    "reference": "SELECT create_reference_table('item')",
    "Citus-local": "SELECT citus_add_local_table_to_metadata('item')",
    "single-shard": "SELECT create_distributed_table('item', NULL)",
}
BEFORE = [
    (1, "QCOM", "open", None, "10.00"),
    (2, "NOW", "open", "x", "20.00"),
    (3, "SPY", "open", None, "30.00"),
]
AFTER = [(1, "QCOM", "closed", None, "110.00"), (2, "NOW", "closed", "x", "120.00"), BEFORE[2]]


def project_of(directory: Path, database: Database, kind: str) -> Project:
    project = new_project(directory, database)
    make, drop = 'op.create_audit_table("item", name="item_audit")', 'op.drop_audit_table("item_audit")'
    project.revision("a", None, make, drop, top="# Copies.")
    project.revision("b", "a", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=f"fix = {FIX.strip()}")
    database.execute(TABLE, BY[kind])
    ran = project.alembic("upgrade", "a")
    assert ran.code == 0, ran.err
    return project


def items(database: Database) -> list[tuple[object, ...]]:
    return database.rows("SELECT id, symbol, status, note, amount::text FROM item ORDER BY id")


@pytest.mark.parametrize("kind", BY)
def test_from_the_plan_to_the_downgrade(tmp_path: Path, cluster: Database, kind: str) -> None:
    project = project_of(tmp_path, cluster, kind)
    plan = answer(project, "plan")
    [run] = plan["steps"][0]["runs"]
    assert (plan["fine"], run["outcome"], run["reversal"]["proven"]) == (True, "applied", True)
    assert items(cluster) == BEFORE
    assert project.alembic("upgrade", "head").code == 0
    assert items(cluster) == AFTER
    assert [one["fix"] for one in answer(project, "history")["runs"]] == ["close_items"]
    assert "10.00 → 110.00" in datafixes(project, "show", "1").out
    assert "close_items" in datafixes(project, "row", "item", "1").out
    assert "close_items" in datafixes(project, "open").out
    assert datafixes(project, "verify-audit").code == 0
    ran = project.alembic("downgrade", "a")
    assert ran.code == 0, ran.err
    assert items(cluster) == BEFORE
    assert project.outcomes == ["applied", "reverted"]


def test_a_printed_script_does_the_same(tmp_path: Path, cluster: Database) -> None:
    project = project_of(tmp_path, cluster, "distributed")
    cluster.psql(project.script("a:b"), "-v", "ON_ERROR_STOP=1")
    assert items(cluster) == AFTER
    cluster.psql(project.script("b:a"), "-v", "ON_ERROR_STOP=1")
    assert items(cluster) == BEFORE


def test_a_table_that_changes_in_the_revision_of_the_fix(tmp_path: Path, cluster: Database) -> None:
    project = project_of(tmp_path, cluster, "distributed")
    up = 'op.execute("ALTER TABLE item ADD COLUMN seen boolean")\nop.update_audit_table("item", name="item_audit")\n'
    project.revision(
        "b", "a", f"{up}op.apply_datafix(fix)", "op.revert_datafix(fix)", top=f"fix = {FIX.strip()}"
    )
    ran = project.alembic("upgrade", "b")
    assert ran.code == 0, ran.err
    assert "WARNING" not in ran.err
    assert items(cluster) == AFTER


def test_doctor_names_what_it_finds(tmp_path: Path, cluster: Database, worker: Database) -> None:
    project = project_of(tmp_path, cluster, "distributed")
    told = {one["check"]: one for one in answer(project, "doctor", code=None)["findings"]}
    assert told["Citus"]["evidence"].startswith("It is version ")
    assert told["Citus tables"]["evidence"] == "2 distributed by the hash of a column."
    assert told["Citus daemon"]["state"] == "good"
    assert told["Citus in doubt"]["evidence"] == "No server has a transaction in doubt."
    with in_doubt(worker):
        ran = project.alembic("upgrade", "b")
        assert ran.code != 0
        assert "are in doubt" in ran.last_line
    assert items(cluster) == BEFORE


def test_after_a_commit_that_a_worker_has_yet_to_follow_it_is_told(
    tmp_path: Path, cluster: Database, worker: Database
) -> None:
    """A transaction is prepared on a worker, as one of this commit would be, while the worker was down."""
    project = project_of(tmp_path, cluster, "distributed")
    stays = f"""
        op.apply_datafix(fix)
        theirs = sa.create_engine({worker.url!r}, isolation_level="AUTOCOMMIT").connect()
        for statement in ("BEGIN", "SELECT pg_current_xact_id()", "PREPARE TRANSACTION 'citus_77_1_2_3'"):
            theirs.exec_driver_sql(statement)
        theirs.close()
    """
    project.revision("b", "a", stays, "op.revert_datafix(fix)", top=f"fix = {FIX.strip()}")
    try:
        ran = project.alembic("upgrade", "b")
        assert ran.code == 0, ran.err
        assert "Committed, but not on every server of the Citus cluster yet" in ran.err
        refused = project.alembic("downgrade", "a")
        assert "are in doubt" in refused.last_line
    finally:
        worker.execute("ROLLBACK PREPARED 'citus_77_1_2_3'")
    assert items(cluster) == AFTER
    assert project.alembic("downgrade", "a").code == 0
    assert items(cluster) == BEFORE


def test_it_is_told_within_a_transaction_that_was_begun_since(
    cluster: Database, worker: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with create_engine(cluster.url, poolclass=NullPool).connect() as connection, in_doubt(worker):
        connection.exec_driver_sql("SELECT 1")
        tell_in_doubt(connection)
    assert "Committed, but not on every server of the Citus cluster yet" in caplog.text


@pytest.mark.parametrize("holds", ["SELECT FROM {shard} FOR UPDATE", "LOCK TABLE item IN ROW EXCLUSIVE MODE"])
@pytest.mark.parametrize("rows", ["a few", "many"])
def test_a_lock_on_a_worker_is_tried_again(
    tmp_path: Path, cluster: Database, worker: Database, holds: str, rows: str
) -> None:
    project = project_of(tmp_path, cluster, "distributed")
    if rows == "many":
        fix = FIX.replace("status = 'open'", "id < 3").replace(
            'identity={"symbol": "symbol"}, expect={1: "QCOM", 2: "NOW"}', "expect=2"
        )
        project.revision(
            "b", "a", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=f"fix = {fix.strip()}"
        )
    shards = cluster.rows(
        f"SELECT shard_name::text FROM citus_shards WHERE table_name = 'item'::regclass AND nodeport = {worker.address.port}"
    )
    with closing(worker.connect()) as theirs, theirs.cursor() as cursor:
        for (shard,) in shards:
            cursor.execute(holds.format(shard=shard))
        timer = threading.Timer(2, theirs.rollback)
        timer.start()
        ran = project.alembic("-x", "lock_timeout=300ms", "-x", "lock_pause=1s", "upgrade", "head")
        timer.join()
    assert ran.code == 0, ran.out + ran.err
    assert items(cluster) == AFTER


def told_by_doctor(project: Project) -> set[tuple[str, str]]:
    return {(one["state"], one["evidence"]) for one in answer(project, "doctor", code=None)["findings"]}


def test_doctor_names_what_no_fix_can_use(tmp_path: Path, cluster: Database) -> None:
    project = project_of(tmp_path, cluster, "Citus-local")
    cluster.execute(
        "CREATE TABLE ranged (id integer PRIMARY KEY)", "SELECT create_distributed_table('ranged', 'id', 'range')",
        "SELECT citus_add_local_table_to_metadata('item_audit')",
    )  # fmt: skip
    told = told_by_doctor(project)
    kinds = "2 Citus-local tables; 1 tables of other kinds, which no fix can change."
    assert ("good", kinds) in told
    assert ("bad", "item_audit was made a table of Citus by hand: no fix writes copies there.") in told


def test_doctor_says_on_a_worker_that_it_is_one(tmp_path: Path, cluster: Database, worker: Database) -> None:
    project = project_of(tmp_path, cluster, "distributed").on(worker)
    project.write_ini()
    words = "This server is a worker: a fix of a table of Citus is refused here."
    assert ("bad", words) in told_by_doctor(project)


def test_doctor_names_a_server_with_transactions_in_doubt(
    tmp_path: Path, cluster: Database, worker: Database
) -> None:
    project = project_of(tmp_path, cluster, "distributed")
    with in_doubt(worker):
        time.sleep(11)  # a commit of a moment ago looks the same
        told = told_by_doctor(project)
    place = f"{worker.address.host}:{worker.address.port}"
    assert (
        "bad",
        f"{place} has 1 prepared transactions: a part of what they changed is not to be seen.",
    ) in told
