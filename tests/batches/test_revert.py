"""A run in batches is taken back in batches: as a whole, at any moment, and from where it stopped."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.batches.many import CONTENT, FIX, ROWS, is_whole, many_project
from tests.projects import Project
from tests.servers import Database

FAILED = 255  # what the shell sees of Alembic's -1
RUNS = (
    "SELECT direction, outcome, rows_changed, batches, reverted_by_run IS NOT NULL FROM datafix_history "
    "WHERE fix = 'double_many' AND outcome <> 'failed' ORDER BY run_id"
)
OPEN = "SELECT fix, rows_changed FROM datafix_open"
DELETE = """
from datafixes import AtMost, Batches

fix = DataFix(
    name="double_many", reason="Too many.", change=Delete("many", where="id <= 2100"),
    rows=Rows(key="id", expect=AtMost(100_000)), audit="many_audit", batches=Batches(rows=100),
)
"""
PARTS = "SELECT count(*) FROM datafix_run WHERE part_of IS NOT NULL AND direction = 'revert' AND outcome = 'reverted'"


def applied_project(
    directory: Path, database: Database, batches: str = "rows=100"
) -> tuple[Project, list[tuple[Any, ...]]]:
    """A project whose fix is applied, and the rows from before."""
    project = many_project(directory, database, batches)
    before = database.rows(CONTENT)
    ran = project.alembic("upgrade", "head")
    assert ran.code == 0, ran.err
    assert is_whole(database)
    return project, before


def test_a_downgrade_takes_back_batch_by_batch(tmp_path: Path, database: Database) -> None:
    project, before = applied_project(tmp_path, database)
    [(batches,)] = database.rows("SELECT count(*) FROM datafix_run WHERE part_of IS NOT NULL")

    ran = project.alembic("downgrade", "m")

    assert (ran.code, project.versions) == (0, {"m"}), ran.err
    assert database.rows(CONTENT) == before
    assert database.rows(RUNS) == [
        ("apply", "applied", ROWS, batches, True),
        ("revert", "reverted", ROWS, batches, False),
    ]
    assert database.rows(OPEN) == []
    # each in a transaction of its own
    [(transactions,)] = database.rows(
        "SELECT count(DISTINCT i.xmin::text) FROM many_audit AS i JOIN datafix_run AS r ON r.run_id = i.audit_run_id "
        "WHERE r.direction = 'revert'"
    )
    assert transactions == batches


def test_a_conflict_refuses_before_anything_is_taken_back(tmp_path: Path, database: Database) -> None:
    project, _ = applied_project(tmp_path, database)
    database.execute("UPDATE many SET v = -1 WHERE id IN (3, 2997)")
    after = database.rows(CONTENT)

    ran = project.alembic("downgrade", "m")

    assert (ran.code, project.versions) == (FAILED, {"n"})
    assert f"2 of {ROWS} rows of public.many cannot be restored" in ran.last_line
    assert "3 changed since" in ran.last_line
    assert "2997 changed since" in ran.last_line
    assert "Nothing was changed." in ran.last_line
    assert database.rows(CONTENT) == after
    assert database.rows(PARTS) == [(0,)]
    assert database.rows(OPEN) == [("double_many", ROWS)]

    ran = project.alembic("-x", "on_conflict=double_many:skip", "downgrade", "m")

    assert (ran.code, project.versions) == (0, {"m"}), ran.err
    assert database.rows("SELECT id FROM many WHERE done OR v <> id / 3 ORDER BY id") == [(3,), (2997,)]
    assert database.rows(
        "SELECT rows_changed, rows_skipped FROM datafix_history WHERE outcome = 'reverted'"
    ) == [(ROWS - 2, 2)]


@pytest.mark.parametrize(
    "gone", ["DELETE FROM many WHERE id = 1500", "UPDATE many SET id = 1501 WHERE id = 1500"]
)
def test_a_row_that_is_gone_refuses_before_anything_is_taken_back(
    tmp_path: Path, database: Database, gone: str
) -> None:
    project, _ = applied_project(tmp_path, database)
    database.execute(gone)

    ran = project.alembic("downgrade", "m")

    assert ran.code == FAILED
    assert "1500 gone" in ran.last_line
    assert database.rows(PARTS) == [(0,)]


def conflict_later(database: Database) -> None:
    """Somebody writes row 3, whose batch is taken back last, after the look."""
    database.execute(
        "CREATE FUNCTION later() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF (SELECT count(*) FROM public.datafix_range WHERE reverts_run IS NOT NULL AND done) = 5 THEN "
        "UPDATE public.many SET v = -1 WHERE id = 3 AND v <> -1; END IF; RETURN NULL; END $$;"
        "CREATE TRIGGER later AFTER UPDATE ON datafix_range EXECUTE FUNCTION later()"
    )


@pytest.mark.parametrize("policy", ["skip", "overwrite"])
def test_a_later_conflict_stops_there_and_the_operator_goes_on(
    tmp_path: Path, database: Database, policy: str
) -> None:
    project, before = applied_project(tmp_path, database)
    conflict_later(database)

    ran = project.alembic("downgrade", "m")

    assert (ran.code, project.versions) == (FAILED, {"n"})
    assert "3 changed since" in ran.last_line
    assert "took back stays" in ran.last_line
    [(direction, outcome, back, _, _)] = database.rows(RUNS)[1:]
    assert (direction, outcome) == ("revert", "running")
    assert 500 <= back < ROWS
    assert database.rows("SELECT count(*) FROM many WHERE NOT done") == [(back,)]

    ran = project.alembic("-x", f"on_conflict=double_many:{policy}", "downgrade", "m")

    assert (ran.code, project.versions) == (0, {"m"}), ran.err
    expected = before if policy == "overwrite" else [(3, -1, True, before[0][3]), *before[1:]]
    assert database.rows(CONTENT) == expected
    assert database.rows(
        "SELECT rows_changed, rows_skipped, rows_overwritten, on_conflict FROM datafix_history WHERE outcome = 'reverted'"
    ) == [(ROWS, 0, 1, policy) if policy == "overwrite" else (ROWS - 1, 1, 0, policy)]


# Each batch of the revert writes its line in datafix_range last.
STOP = (
    "CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "IF (SELECT count(*) FROM public.datafix_range WHERE reverts_run IS NOT NULL AND done) = 5 THEN {how}; END IF; "
    "RETURN NULL; END $$;"
    "CREATE TRIGGER stop AFTER UPDATE ON datafix_range EXECUTE FUNCTION stop()"
)


def test_a_backend_that_is_terminated_is_resumed(tmp_path: Path, database: Database) -> None:
    project, before = applied_project(tmp_path, database)
    database.execute(STOP.format(how="PERFORM pg_terminate_backend(pg_backend_pid())"))

    ran = project.alembic("downgrade", "m")

    assert (ran.code, project.versions) == (FAILED, {"n"})
    assert database.rows(RUNS)[1][:2] == ("revert", "running")
    assert database.rows(PARTS) == [(4,)]
    assert database.rows("SELECT count(*) FROM many WHERE NOT done") == [(database.rows(RUNS)[1][2],)]
    database.execute("DROP TRIGGER stop ON datafix_range")

    ran = project.alembic("downgrade", "m")

    assert (ran.code, project.versions) == (0, {"m"}), ran.err
    assert database.rows(CONTENT) == before
    assert len(database.rows(RUNS)) == 2


def test_a_client_that_is_killed_is_resumed(tmp_path: Path, database: Database) -> None:
    project, before = applied_project(tmp_path, database)
    database.execute(STOP.format(how="PERFORM pg_sleep(1)"))
    client = subprocess.Popen(project.command_line("downgrade", "m"), cwd=tmp_path, stderr=subprocess.DEVNULL)
    until(lambda: database.rows(PARTS)[0][0] >= 4)
    client.kill()
    client.wait()
    assert project.versions == {"n"}
    assert database.rows(OPEN) == [("double_many", ROWS)]
    database.execute("DROP TRIGGER stop ON datafix_range")

    ran = project.alembic("downgrade", "m")

    assert (ran.code, project.versions) == (0, {"m"}), ran.err
    assert database.rows(CONTENT) == before
    assert [run[:3] for run in database.rows(RUNS)] == [
        ("apply", "applied", ROWS),
        ("revert", "reverted", ROWS),
    ]


def until(condition: Callable[[], bool]) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def half_applied_project(
    directory: Path, database: Database, batches: str = "rows=100"
) -> tuple[Project, list[tuple[Any, ...]]]:
    """A project whose fix is applied to a part of the rows, and the rows from before."""
    project = many_project(directory, database, batches)
    before = database.rows(CONTENT)
    database.execute("ALTER TABLE many ADD CONSTRAINT small CHECK (v < 1500)")
    assert project.alembic("upgrade", "head").code == FAILED
    database.execute("ALTER TABLE many DROP CONSTRAINT small")
    [(changed,)] = database.rows("SELECT count(*) FROM many WHERE done")
    assert 0 < changed < ROWS
    return project, before


def test_what_is_half_applied_is_taken_back(tmp_path: Path, database: Database) -> None:
    project, before = half_applied_project(tmp_path, database)
    project.revision("o", "n", "op.execute('CREATE TABLE never ()')")
    [(_, _, changed, batches, _)] = database.rows(RUNS)

    ran = project.alembic("-x", "undo=double_many", "upgrade", "head")

    assert (ran.code, project.versions) == (FAILED, {"m"}), ran.err
    [(run,)] = database.rows(
        "SELECT run_id FROM datafix_history WHERE direction = 'revert' AND outcome = 'reverted'"
    )
    assert ran.last_line == (
        f"datafix double_many: taken back: {changed} rows in {batches} batches (run {run}); nothing else was upgraded."
    )
    assert database.rows(CONTENT) == before
    assert database.rows(RUNS) == [
        ("apply", "taken_back", changed, batches, True),
        ("revert", "reverted", changed, batches, False),
    ]
    assert database.rows(OPEN) == []
    assert database.rows("SELECT to_regclass('never')") == [(None,)]

    ran = project.alembic("upgrade", "n")

    assert (ran.code, project.versions) == (0, {"n"}), ran.err
    assert database.rows("SELECT count(*) FROM many WHERE done AND v = 2 * id / 3") == [(ROWS,)]
    assert database.rows(OPEN) == [("double_many", ROWS)]

    assert project.alembic("downgrade", "m").code == 0
    assert database.rows(CONTENT) == before


def test_taking_back_goes_on_where_it_was_killed(tmp_path: Path, database: Database) -> None:
    project, before = half_applied_project(tmp_path, database, "rows=30")
    database.execute(STOP.format(how="PERFORM pg_terminate_backend(pg_backend_pid())"))

    assert project.alembic("-x", "undo=double_many", "upgrade", "head").code == FAILED

    assert [run[:2] for run in database.rows(RUNS)] == [("apply", "running"), ("revert", "running")]
    database.execute("DROP TRIGGER stop ON datafix_range")
    refused = project.alembic("upgrade", "head")
    assert refused.code == FAILED
    assert "undo=double_many" in refused.last_line

    ran = project.alembic("-x", "undo=double_many", "upgrade", "head")

    assert "taken back" in ran.last_line
    assert database.rows(CONTENT) == before
    assert [run[:2] for run in database.rows(RUNS)] == [("apply", "taken_back"), ("revert", "reverted")]


def test_nothing_is_taken_back_where_nothing_is_half_applied(tmp_path: Path, database: Database) -> None:
    project = many_project(tmp_path, database)
    before = database.rows(CONTENT)

    ran = project.alembic("-x", "undo=double_many", "upgrade", "head")

    assert (ran.code, project.versions) == (FAILED, {"m"})
    assert "nothing to" in ran.last_line
    assert database.rows(CONTENT) == before


def test_a_run_that_was_killed_before_its_first_batch_is_taken_back(
    tmp_path: Path, database: Database
) -> None:
    project = many_project(tmp_path, database)
    before = database.rows(CONTENT)
    database.execute("ALTER TABLE many ADD CONSTRAINT never CHECK (NOT done)")
    assert project.alembic("upgrade", "head").code == FAILED
    assert [run[:2] for run in database.rows(RUNS)] == [("apply", "running")]

    ran = project.alembic("-x", "undo=double_many", "upgrade", "head")

    assert "taken back: 0 rows in 0 batches" in ran.last_line
    assert database.rows(CONTENT) == before
    assert [run[:2] for run in database.rows(RUNS)] == [("apply", "taken_back"), ("revert", "reverted")]


def test_a_revert_of_the_revert_applies_again(tmp_path: Path, database: Database) -> None:
    project, before = applied_project(tmp_path, database)
    after = database.rows(CONTENT)
    project.revision("o", "n", "op.revert_datafix('double_many')", "op.revert_datafix('double_many')")

    assert project.alembic("upgrade", "o").code == 0
    assert database.rows(CONTENT) == before
    assert database.rows(OPEN) == []
    ran = project.alembic("downgrade", "n")

    assert (ran.code, project.versions) == (0, {"n"}), ran.err
    assert database.rows(CONTENT) == after
    assert database.rows(OPEN) == [("double_many", ROWS)]
    assert [run[4] for run in database.rows(RUNS)] == [False, True, False]

    assert project.alembic("downgrade", "m").code == 0
    assert database.rows(CONTENT) == before
    assert database.rows(OPEN) == []


def test_rows_that_were_deleted_in_batches_come_back(tmp_path: Path, database: Database) -> None:
    project = many_project(tmp_path, database, top=DELETE)
    before = database.rows(CONTENT)
    assert project.alembic("upgrade", "head").code == 0
    assert database.rows("SELECT count(*) FROM many") == [(ROWS - 700,)]
    database.execute("INSERT INTO many VALUES (9, 0)")

    ran = project.alembic("downgrade", "m")

    assert ran.code == FAILED
    assert "1 of 700 rows of public.many cannot be restored: 9 taken" in ran.last_line
    database.execute("DELETE FROM many WHERE id = 9")
    assert project.alembic("downgrade", "m").code == 0
    assert database.rows(CONTENT) == before
    [(batches,)] = database.rows(
        "SELECT batches FROM datafix_history WHERE direction = 'revert' AND outcome = 'reverted'"
    )
    assert batches >= 7


COMPOSITE = """
CREATE TABLE many (a text COLLATE "C", b integer, v bigint NOT NULL, done boolean NOT NULL DEFAULT false,
                   PRIMARY KEY (a, b));
INSERT INTO many SELECT chr(97 + n % 5), n, n, false FROM generate_series(1, 1000) AS n;
"""


def test_keys_of_several_columns(tmp_path: Path, database: Database) -> None:
    top = FIX.format(batches="rows=100").replace('key="id"', 'key=("a", "b")')
    project = many_project(tmp_path, database, table=COMPOSITE, top=top)
    content = "SELECT * FROM many ORDER BY a, b"
    before = database.rows(content)
    assert project.alembic("upgrade", "head").code == 0
    database.execute("UPDATE many SET v = 0 WHERE (a, b) = ('c', 2)")

    ran = project.alembic("downgrade", "m")

    assert "1 of 1000 rows of public.many cannot be restored: c/2 changed since" in ran.last_line
    database.execute("UPDATE many SET v = 4 WHERE (a, b) = ('c', 2)")
    assert project.alembic("downgrade", "m").code == 0
    assert database.rows(content) == before


def test_a_printed_downgrade_takes_back_all_batches_in_one_transaction(
    tmp_path: Path, database: Database
) -> None:
    project, before = applied_project(tmp_path, database)

    database.psql(project.script("n:m"), "-v", "ON_ERROR_STOP=1")

    assert project.versions == {"m"}
    assert database.rows(CONTENT) == before
    assert [run[:3] for run in database.rows(RUNS)] == [
        ("apply", "applied", ROWS),
        ("revert", "reverted", ROWS),
    ]
    assert database.rows(OPEN) == []


def test_a_printed_downgrade_goes_on_with_what_was_begun(tmp_path: Path, database: Database) -> None:
    project, before = applied_project(tmp_path, database)
    database.execute(STOP.format(how="PERFORM pg_terminate_backend(pg_backend_pid())"))
    assert project.alembic("downgrade", "m").code == FAILED
    database.execute("DROP TRIGGER stop ON datafix_range")

    database.psql(project.script("n:m"), "-v", "ON_ERROR_STOP=1")

    assert database.rows(CONTENT) == before
    assert [run[:3] for run in database.rows(RUNS)] == [
        ("apply", "applied", ROWS),
        ("revert", "reverted", ROWS),
    ]


def test_some_rows_alone_are_refused(tmp_path: Path, database: Database) -> None:
    project, _ = applied_project(tmp_path, database)
    after = database.rows(CONTENT)
    project.revision("o", "n", "op.revert_datafix('double_many', rows=[3, 6])")

    ran = project.alembic("upgrade", "head")

    assert (ran.code, project.versions) == (FAILED, {"n"})
    assert "in batches, and some of them alone cannot be reverted" in ran.last_line
    assert database.rows(CONTENT) == after


def test_a_batch_that_was_reverted_by_its_number_is_left_alone(tmp_path: Path, database: Database) -> None:
    project, before = applied_project(tmp_path, database)
    [(part,)] = database.rows(
        "SELECT max(run_id) FROM datafix_run WHERE part_of IS NOT NULL AND rows_changed > 0"
    )
    project.revision("o", "n", f"op.revert_datafix(run={part})")
    assert project.alembic("upgrade", "o").code == 0
    [(back,)] = database.rows("SELECT count(*) FROM many WHERE NOT done")
    assert 0 < back <= 100
    project.revision("p", "o", "op.revert_datafix('double_many')")

    ran = project.alembic("upgrade", "p")

    assert ran.code == 0, ran.err
    assert database.rows(CONTENT) == before
    assert database.rows(RUNS)[-1][:3] == ("revert", "reverted", ROWS - back)


@pytest.mark.parametrize("workers", [3])
def test_workers_take_back_side_by_side(tmp_path: Path, database: Database, workers: int) -> None:
    project, before = applied_project(tmp_path, database, f"rows=20, workers={workers}")

    ran = project.alembic("downgrade", "m")

    assert (ran.code, project.versions) == (0, {"m"}), ran.err
    assert database.rows(CONTENT) == before
    [(seen,)] = database.rows(
        "SELECT count(DISTINCT worker) FROM datafix_range WHERE reverts_run IS NOT NULL"
    )
    assert seen == workers


def test_triggers_that_the_fix_silences_fire_again_afterwards(tmp_path: Path, database: Database) -> None:
    top = FIX.format(batches="rows=100").replace(
        'audit="many_audit",', 'audit="many_audit", fire_triggers=False,'
    )
    project = many_project(tmp_path, database, top=top)
    database.execute(
        "CREATE FUNCTION boo() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'boo'; END $$;"
        "CREATE TRIGGER boo BEFORE UPDATE ON many FOR EACH ROW EXECUTE FUNCTION boo()"
    )
    before = database.rows(CONTENT)
    enabled = "SELECT tgenabled FROM pg_trigger WHERE tgname = 'boo'"
    assert project.alembic("upgrade", "head").code == 0
    assert database.rows(enabled) == [("O",)]

    ran = project.alembic("downgrade", "m")

    assert ran.code == 0, ran.err
    assert database.rows(enabled) == [("O",)]
    assert database.rows(CONTENT) == before
