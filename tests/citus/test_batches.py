"""Fixes in batches on a cluster: each batch is one transaction of all servers."""

import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from psycopg2 import DatabaseError

from datafixes import Batches
from datafixes.script.batched import opening_script, work_statement
from tests import fixes
from tests.batches.many import CONTENT, FIX, ROWS, TABLE, is_whole, many_project
from tests.citus_tables import in_doubt, lay, many_update
from tests.cli.commands import answer, datafixes
from tests.projects import Project
from tests.servers import Database

BY_KEY = "distributed by the key"
FAILED = 255  # what the shell sees of Alembic's -1
BY = {
    "distributed": "SELECT create_distributed_table('many', 'id', shard_count => 8);",
    "reference": "SELECT create_reference_table('many');",
    "Citus-local": "SELECT citus_add_local_table_to_metadata('many');",
    "single-shard": "SELECT create_distributed_table('many', NULL);",
}
MORE = "INSERT INTO many SELECT n * 3, n, false, 'more' FROM generate_series(1001, 6000) AS n;"
PARTS = "SELECT count(*) FROM datafix_run WHERE part_of IS NOT NULL AND direction = '{}' AND outcome = '{}'"
KILL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'citus%' AND state <> 'idle'"
kinds = pytest.mark.parametrize("kind", BY)


def spread_project(
    directory: Path, cluster: Database, kind: str = "distributed", batches: str = "rows=100", more: str = ""
) -> Project:
    return many_project(directory, cluster, batches, table=TABLE + BY[kind] + more)


def upgraded(project: Project) -> None:
    ran = project.alembic("upgrade", "head")
    assert (ran.code, project.versions) == (0, {"n"}), ran.out + ran.err


def downgraded(project: Project, *options: str) -> None:
    ran = project.alembic(*options, "downgrade", "m")
    assert (ran.code, project.versions) == (0, {"m"}), ran.out + ran.err


@kinds
def test_every_row_is_changed_once_and_comes_back(tmp_path: Path, cluster: Database, kind: str) -> None:
    project = spread_project(tmp_path, cluster, kind)
    before = cluster.rows(CONTENT)
    upgraded(project)
    assert is_whole(cluster)
    downgraded(project)
    assert cluster.rows(CONTENT) == before


def test_batches_that_the_workers_copy_themselves(tmp_path: Path, cluster: Database) -> None:
    """Of more than a thousand rows each, by two sessions."""
    project = spread_project(tmp_path, cluster, batches="rows=2000, workers=2", more=MORE)
    before = cluster.rows(CONTENT)
    upgraded(project)
    assert is_whole(cluster, 6000)
    assert cluster.value(PARTS.format("apply", "applied")) >= 3
    assert datafixes(project, "verify-audit").code == 0
    downgraded(project)
    assert cluster.rows(CONTENT) == before


@kinds
def test_a_plan_makes_one_batch_and_keeps_nothing(tmp_path: Path, cluster: Database, kind: str) -> None:
    project = spread_project(tmp_path, cluster, kind)
    before = cluster.rows(CONTENT)
    plan = answer(project, "plan")
    [run] = plan["steps"][0]["runs"]
    batches = run["in_batches"]
    assert (plan["fine"], batches["rows"], batches["bounds"]) == (True, ROWS, ["3", str(3 * ROWS)])
    assert 0 < batches["tried"] <= 100
    assert run["reversal"]["proven"]
    assert cluster.rows(CONTENT) == before
    assert cluster.value("SELECT count(*) FROM many_audit") == 0


def test_what_is_half_applied_goes_on_or_is_taken_back(tmp_path: Path, cluster: Database) -> None:
    project = spread_project(tmp_path, cluster)
    before = cluster.rows(CONTENT)
    cluster.execute("ALTER TABLE many ADD CONSTRAINT small CHECK (v < 1100)")
    for _ in range(2):  # the second one goes on where the first one stopped
        ran = project.alembic("upgrade", "head")
        assert (ran.code, project.versions) == (FAILED, {"m"})
        assert 'violates check constraint "small' in ran.last_line
    done = cluster.value("SELECT count(*) FROM many WHERE done")
    assert 0 < done < ROWS
    assert cluster.value("SELECT count(*) FROM many_audit") == 2 * done
    ran = project.alembic("-x", "undo=double_many", "upgrade", "head")
    assert (ran.code, project.versions) == (FAILED, {"m"})
    assert "taken back: " in ran.last_line
    assert cluster.rows(CONTENT) == before
    cluster.execute("ALTER TABLE many DROP CONSTRAINT small")
    upgraded(project)
    assert cluster.value("SELECT count(*) FROM many WHERE done AND v = 2 * id / 3") == ROWS


def test_rows_that_come_behind_the_batches_are_changed_at_the_end(tmp_path: Path, cluster: Database) -> None:
    """A row that the run has changed, and somebody set back, stays as it is."""
    project = spread_project(tmp_path, cluster)
    cluster.execute("ALTER TABLE many ADD CONSTRAINT small CHECK (v <> 2000)")
    assert project.alembic("upgrade", "head").code == FAILED
    cluster.execute(
        "ALTER TABLE many DROP CONSTRAINT small", "INSERT INTO many VALUES (1, 7, false, 'late')",
        "UPDATE many SET done = false WHERE id = 6",
    )  # fmt: skip
    ran = project.alembic("upgrade", "head")
    assert (ran.code, project.versions) == (0, {"n"}), ran.out + ran.err
    assert cluster.rows("SELECT id, v, done FROM many WHERE id IN (1, 6) ORDER BY id") == [
        (1, 14, True), (6, 4, False),
    ]  # fmt: skip
    downgraded(project, "-x", "on_conflict=double_many:skip")
    assert cluster.rows("SELECT id, v, done FROM many WHERE id IN (1, 6) ORDER BY id") == [
        (1, 7, False), (6, 2, False),
    ]  # fmt: skip


@kinds
def test_a_conflict_refuses_before_anything_is_taken_back(
    tmp_path: Path, cluster: Database, kind: str
) -> None:
    project = spread_project(tmp_path, cluster, kind)
    upgraded(project)
    cluster.execute("UPDATE many SET v = -1 WHERE id IN (3, 2997)", "DELETE FROM many WHERE id = 1500")
    after = cluster.rows(CONTENT)
    ran = project.alembic("downgrade", "m")
    assert (ran.code, project.versions) == (FAILED, {"n"})
    assert f"3 of {ROWS} rows of public.many cannot be restored" in ran.last_line
    assert all(one in ran.last_line for one in ("3 changed since", "2997 changed since", "1500 gone"))
    assert (cluster.rows(CONTENT), cluster.value(PARTS.format("revert", "reverted"))) == (after, 0)
    downgraded(project, "-x", "on_conflict=double_many:skip")
    assert cluster.rows("SELECT id FROM many WHERE done OR v <> id / 3 ORDER BY id") == [(3,), (2997,)]


def test_connections_to_a_worker_that_are_killed(tmp_path: Path, cluster: Database, worker: Database) -> None:
    """A batch happens on all servers, or on none; the same command goes on."""
    project = spread_project(tmp_path, cluster, more=MORE)
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.2):
            worker.rows(KILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        codes = [project.alembic("upgrade", "head").code for _ in range(3)]
    finally:
        over.set()
        killer.join()
    done = cluster.value("SELECT count(*) FROM many WHERE done")
    assert cluster.value("SELECT count(*) FROM many_audit") == 2 * done
    if codes[-1]:
        upgraded(project)
    assert FAILED in codes
    assert is_whole(cluster, 6000)


def test_a_doubt_between_two_batches_stops_them(cluster: Database, worker: Database) -> None:
    """What is prepared on a worker holds its rows there, and no lock that a batch would wait for here."""
    lay(cluster, BY_KEY)
    fix = replace(many_update(BY_KEY), batches=Batches(rows=5, keys_move=False))
    with closing(cluster.connect()) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        opening = opening_script(fix, fixes.Context(), fixes.LIMITS)
        cursor.execute(f"BEGIN;\n{opening.text}COMMIT")
        with in_doubt(worker), pytest.raises(DatabaseError, match=r"are in doubt.*citus_77_1_2_3"):
            cursor.execute(work_statement(fix, fixes.Context(), fixes.LIMITS))
        assert cluster.value("SELECT count(*) FROM item_audit") == 0
        cursor.execute(work_statement(fix, fixes.Context(), fixes.LIMITS))
    assert cluster.value("SELECT count(*) FROM item_audit") == 40


def test_a_printed_script(tmp_path: Path, cluster: Database) -> None:
    top = FIX.format(batches="rows=100").replace("AtMost(100_000)", str(ROWS))
    project = many_project(tmp_path, cluster, table=TABLE + BY["distributed"], top=top)
    before = cluster.rows(CONTENT)
    cluster.psql(project.script("m:n"), "-v", "ON_ERROR_STOP=1")
    assert is_whole(cluster)
    cluster.psql(project.script("n:m"), "-v", "ON_ERROR_STOP=1")
    assert cluster.rows(CONTENT) == before
