"""A fix in batches: each batch is a transaction with copies and proof, and the version moves after the last."""

from pathlib import Path

import pytest

from tests.batches.many import CONTENT, FIX, ROWS, is_whole, many_project
from tests.projects import Project
from tests.servers import Database

RUN = """
SELECT outcome, rows_found, rows_changed, batches FROM datafix_history
 WHERE fix = 'double_many' AND outcome <> 'failed'
"""


def test_batches_change_every_row_once_and_move_the_version_last(tmp_path: Path, database: Database) -> None:
    project = many_project(tmp_path, database)

    ran = project.alembic("upgrade", "head")

    assert (ran.code, project.versions) == (0, {"n"}), ran.err
    assert is_whole(database)
    [(outcome, found, changed, batches)] = database.rows(RUN)
    assert (outcome, found, changed) == ("applied", ROWS, ROWS)
    assert batches >= 10


def test_each_batch_is_a_run_with_its_own_images_and_digest(tmp_path: Path, database: Database) -> None:
    project = many_project(tmp_path, database)
    assert project.alembic("upgrade", "head").code == 0

    parts = database.rows(
        "SELECT r.outcome, r.rows_changed, t.images, t.images_digest, t.images = (SELECT count(*) FROM many_audit "
        "WHERE audit_run_id = r.run_id) FROM datafix_run AS r JOIN datafix_run_table AS t USING (run_id) "
        "WHERE r.part_of IS NOT NULL"
    )

    assert all((outcome, same) == ("applied", True) for outcome, _, _, _, same in parts)
    assert max(changed for _, changed, _, _, _ in parts) <= 100
    [(images, digest)] = database.rows(
        "SELECT images, images_digest FROM datafix_run_table JOIN datafix_run USING (run_id) "
        "WHERE fix = 'double_many' AND part_of IS NULL"
    )
    assert (images, digest) == (2 * ROWS, sum(part[3] for part in parts))


def test_rows_that_fit_into_one_batch_are_one_transaction(tmp_path: Path, database: Database) -> None:
    project = many_project(tmp_path, database, f"rows={ROWS}")

    assert project.alembic("upgrade", "head").code == 0

    assert is_whole(database)
    assert database.rows(RUN) == [("applied", ROWS, ROWS, None)]
    assert database.rows("SELECT count(*) FROM datafix_range") == [(0,)]


def test_a_database_without_the_rows_is_not_applicable(tmp_path: Path, database: Database) -> None:
    project = many_project(tmp_path, database)
    database.execute("DELETE FROM many")

    assert project.alembic("upgrade", "head").code == 0

    assert database.rows(RUN) == [("not_applicable", 0, 0, None)]


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_share_the_rows(tmp_path: Path, database: Database, workers: int) -> None:
    project = many_project(tmp_path, database, f"rows=50, workers={workers}")

    ran = project.alembic("upgrade", "head")

    assert ran.code == 0, ran.err
    assert is_whole(database)
    [(seen,)] = database.rows("SELECT count(DISTINCT worker) FROM datafix_range")
    assert seen == workers


def test_a_refusal_in_the_middle_keeps_what_is_done_and_goes_on_later(
    tmp_path: Path, database: Database
) -> None:
    project = many_project(tmp_path, database)
    database.execute("ALTER TABLE many ADD CONSTRAINT small CHECK (v < 1500)")

    ran = project.alembic("upgrade", "head")

    assert (ran.code, project.versions) == (255, {"m"})
    assert 'violates check constraint "small"' in ran.last_line
    [(outcome, found, changed, _)] = database.rows(RUN)
    assert (outcome, found) == ("running", ROWS)
    assert 0 < changed < ROWS
    assert database.rows("SELECT count(*) FROM many WHERE done") == [(changed,)]

    database.execute("ALTER TABLE many DROP CONSTRAINT small")
    ran = project.alembic("upgrade", "head")

    assert (ran.code, project.versions) == (0, {"n"}), ran.err
    assert is_whole(database)


WISH = """
CREATE FUNCTION wish() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
UPDATE datafix_run SET wish = 'stop' WHERE outcome = 'running' AND wish IS NULL; RETURN NULL; END $$;
CREATE TRIGGER wish AFTER INSERT ON many_audit EXECUTE FUNCTION wish();
"""


def stopped(project: Project) -> None:
    """Begin the fix, and stop it after its first batch."""
    database = project.database
    database.psql(WISH, "-v", "ON_ERROR_STOP=1")
    ran = project.alembic("upgrade", "head")
    assert (ran.code, project.versions) == (255, {"m"})
    assert "stopped" in ran.last_line
    database.execute("DROP TRIGGER wish ON many_audit")


def test_a_wish_to_stop_ends_it_after_a_batch(tmp_path: Path, database: Database) -> None:
    project = many_project(tmp_path, database)

    stopped(project)

    assert [row[0] for row in database.rows(RUN)] == ["running"]
    assert database.rows("SELECT count(*) FROM datafix_run WHERE part_of IS NOT NULL") == [(1,)]
    assert project.alembic("upgrade", "head").code == 0
    assert is_whole(database)


LATE = (
    "INSERT INTO many (id, v) VALUES (-3, -1), (4, 8)",
    "UPDATE many SET done = false, note = 'set back' WHERE id = 3",
)


def test_the_last_transaction_changes_what_began_to_match(tmp_path: Path, database: Database) -> None:
    project = many_project(tmp_path, database)
    stopped(project)
    database.execute(*LATE)

    ran = project.alembic("upgrade", "head")

    assert ran.code == 0, ran.err
    assert database.rows("SELECT id, v, done FROM many WHERE id IN (-3, 3, 4) ORDER BY id") == [
        (-3, -2, True), (3, 2, False), (4, 16, True)
    ]  # fmt: skip
    assert database.rows("SELECT count(*) FROM many WHERE NOT done") == [(1,)]
    assert database.rows(RUN)[0][:3] == ("applied", ROWS, ROWS + 2)


@pytest.mark.parametrize("policy", ["report", "refuse"])
def test_what_began_to_match_is_told_or_refused(tmp_path: Path, database: Database, policy: str) -> None:
    project = many_project(tmp_path, database, f"rows=100, stragglers={policy!r}")
    stopped(project)
    database.execute(*LATE)

    ran = project.alembic("upgrade", "head")

    assert database.rows("SELECT count(*) FROM many WHERE NOT done") == [(3,)]
    if policy == "refuse":
        assert (ran.code, project.versions) == (255, {"m"})
        assert "2 rows of public.many began to meet its condition" in ran.last_line
    else:
        assert (ran.code, project.versions) == (0, {"n"})


def test_a_declaration_that_has_changed_does_not_go_on(tmp_path: Path, database: Database) -> None:
    project = many_project(tmp_path, database)
    stopped(project)
    top = FIX.format(batches="rows=100").replace("v * 2", "v * 3")
    project.revision("n", "m", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=top)
    before = database.rows(CONTENT)

    ran = project.alembic("upgrade", "head")

    assert ran.code == 255
    assert "its declaration has changed since" in ran.last_line
    assert "undo=double_many" in ran.last_line
    assert database.rows(CONTENT) == before


def test_a_condition_that_stays_true_is_refused(tmp_path: Path, database: Database) -> None:
    top = """
    from datafixes import AtMost, Batches

    fix = DataFix(
        name="double_many", reason="Twice.", change=Update("many", set={"v": sql("v * 2")}, where="v > 0"),
        rows=Rows(key="id", expect=AtMost(100_000)), audit="many_audit", batches=Batches(rows=100),
    )
    """
    project = many_project(tmp_path, database, top=top)
    before = database.rows(CONTENT)

    ran = project.alembic("upgrade", "head")

    assert ran.code == 255
    assert "still meet its condition" in ran.last_line
    assert database.rows(CONTENT) == before


def test_the_operator_cuts_a_fix_into_batches(tmp_path: Path, database: Database) -> None:
    project = many_project(tmp_path, database, top=FIX.format(batches="").replace("batches=Batches(),", ""))

    ran = project.alembic("-x", "batches=double_many:250", "upgrade", "head")

    assert ran.code == 0, ran.err
    assert is_whole(database)
    [(most,)] = database.rows("SELECT max(rows_changed) FROM datafix_run WHERE part_of IS NOT NULL")
    assert most <= 250


def test_deleted_rows_go_in_batches(tmp_path: Path, database: Database) -> None:
    top = """
    from datafixes import AtMost, Batches

    fix = DataFix(
        name="double_many", reason="Not wanted.", change=Delete("many", where="id % 2 = 0"),
        rows=Rows(key="id", expect=AtMost(100_000)), audit="many_audit", batches=Batches(rows=100),
    )
    """
    project = many_project(tmp_path, database, top=top)

    ran = project.alembic("upgrade", "head")

    assert ran.code == 0, ran.err
    assert database.rows("SELECT count(*) FROM many") == [(ROWS / 2,)]
    assert database.rows("SELECT audit_image, count(*) FROM many_audit GROUP BY 1") == [("before", ROWS / 2)]
    assert database.rows(RUN)[0][:3] == ("applied", ROWS / 2, ROWS / 2)


def test_another_number_of_rows_is_refused_before_the_first_batch(tmp_path: Path, database: Database) -> None:
    top = FIX.format(batches="rows=100").replace("AtMost(100_000)", f"AtMost({ROWS - 1})")
    project = many_project(tmp_path, database, top=top)
    before = database.rows(CONTENT)

    ran = project.alembic("upgrade", "head")

    assert (ran.code, project.versions) == (255, {"m"})
    assert f"found {ROWS} rows of public.many, expected 1 to {ROWS - 1}" in ran.last_line
    assert database.rows(CONTENT) == before
    assert database.rows(RUN) == []
