"""Time limits of the session, locks in the way of the opening, and another collation: what fits is done, the rest is told."""

import logging
from contextlib import closing
from pathlib import Path

import pytest

from datafixes.script.engine import engine_of
from tests.batches.many import CONTENT, TABLE, is_whole, many_project
from tests.batches.test_operator import half_applied
from tests.projects import Project
from tests.servers import Database, Server

# Only the first of the eight ranges has rows to change; each takes 25 ms, and 100 of them longer than a statement may.
SLOW_FIRST_RANGE = f"""{TABLE}
UPDATE many SET done = true WHERE id > 375;
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.025); RETURN NEW; END';
CREATE TRIGGER slow BEFORE UPDATE ON many FOR EACH ROW EXECUTE FUNCTION slow();
"""
PARTS = "SELECT rows_changed FROM datafix_run WHERE part_of IS NOT NULL AND rows_changed > 0 ORDER BY run_id"


def limit(database: Database, *settings: str) -> None:
    for setting in settings:
        database.execute(f"ALTER DATABASE {database.name} SET {setting}")


def sizes_of_batches(project: Project) -> list[int]:
    ran = project.alembic("upgrade", "head")
    assert (ran.code, project.versions) == (0, {"n"}), ran.out + ran.err
    images = "SELECT count(*), sum(v) FROM many_audit WHERE audit_image = 'after'"
    assert project.database.rows(images) == [(125, 125 * 126)]
    return [size for (size,) in project.database.rows(PARTS)]


def test_batches_fit_into_what_a_statement_may_take(tmp_path: Path, database: Database) -> None:
    project = many_project(tmp_path, database, "rows=100", table=SLOW_FIRST_RANGE)
    limit(database, "statement_timeout = '2s'")

    first, *others = sizes_of_batches(project)

    # half of what was cancelled; then as many as take a quarter of the limit, in each further statement too
    assert first == 50
    assert all(size <= 25 for size in others), others


def test_what_a_batch_costs_without_rows_makes_the_next_not_ever_smaller(database: Database) -> None:
    """Each takes two seconds, whatever its size."""
    batch = (
        """'{"rows": 10000, "changed": 0, "left": true, "batches": {"rows": 10000, "target": 1}}'::jsonb"""
    )
    with closing(database.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE datafixes_engine ()")
        for function in engine_of("batches.sql").functions.values():
            cursor.execute(function)
        cursor.execute(
            f"WITH RECURSIVE batch AS (SELECT 1 AS n, {batch} AS facts UNION ALL"
            " SELECT n + 1, pg_temp.datafix_after_batch(facts, '2s', NULL) FROM batch WHERE n < 12)"
            " SELECT (facts -> 'rows')::bigint FROM batch ORDER BY n"
        )
        sizes = [size for (size,) in cursor]

    assert sizes == [10_000, 5_000, 2_500, 1_250, 625, 313, 157, 100, 100, 100, 100, 100]


def test_a_batch_may_take_longer_than_a_transaction(
    tmp_path: Path, server: Server, database: Database
) -> None:
    project = many_project(tmp_path, database, "rows=100", table=SLOW_FIRST_RANGE)
    has_it = server.version >= 17
    limit(database, "idle_in_transaction_session_timeout = '500ms'", *["transaction_timeout = '1s'"] * has_it)

    assert sizes_of_batches(project)[0] == 100


@pytest.mark.parametrize("command", [("upgrade", "head"), ("-x", "undo=double_many", "upgrade", "head")])
@pytest.mark.parametrize("limited", ["statement_timeout", "transaction_timeout"])
def test_what_is_too_short_is_one_line(
    limited: str, command: tuple[str, ...], tmp_path: Path, server: Server, database: Database
) -> None:
    if limited == "transaction_timeout" and server.version < 17:
        pytest.skip("there is no transaction_timeout")
    project = half_applied(tmp_path, database)
    before = database.rows(CONTENT)
    limit(database, f"{limited} = '500ms'")

    ran = project.alembic(*command)

    needed = {"statement_timeout": "2s", "transaction_timeout": "1s"}[limited]
    assert (ran.code, project.versions) == (255, {"m"})
    assert f"datafix double_many: {limited} = 500ms of this session is too short for batches, which need {needed}. Nothing was changed." in ran.last_line  # fmt: skip
    assert database.rows(CONTENT) == before


def test_another_version_of_a_collation_does_not_go_on(tmp_path: Path, database: Database) -> None:
    """As after an upgrade of the system, which a superuser writes into the ledger here."""
    project = half_applied(tmp_path, database)
    database.execute(
        "UPDATE datafix_run SET declaration = jsonb_set(declaration, '{batches,key_order,0,collation_version}', '\"2.28\"')"
        " WHERE outcome = 'running'"
    )
    before = database.rows(CONTENT)

    ran = project.alembic("upgrade", "head")

    assert (ran.code, project.versions) == (255, {"m"})
    assert ran.last_line == (
        "datafix double_many: the order of its key has changed since run 1 began: (id bigint, version 2.28) then, "
        "(id bigint) now. Nothing was changed. What was done so far can be taken back: alembic -x undo=double_many "
        "upgrade head."
    )
    assert database.rows(CONTENT) == before
    assert "taken back" in project.alembic("-x", "undo=double_many", "upgrade", "head").last_line
    assert database.value("SELECT count(*) FROM many WHERE done") == 0


def test_the_opening_tries_again_for_its_locks(tmp_path: Path, database: Database) -> None:
    project = many_project(tmp_path, database)
    limited = [
        word for one in ("timeout=300ms", "pause=100ms", "attempts=3") for word in ("-x", f"lock_{one}")
    ]
    with closing(database.connect()) as blocker:

        class Release(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                if "(attempt 1 of 3); blocked by: pid " in record.getMessage():
                    blocker.rollback()

        blocker.cursor().execute("LOCK TABLE many IN ACCESS EXCLUSIVE MODE")
        refused = project.alembic(*limited, "upgrade", "head")
        logger, release = logging.getLogger("alembic.datafixes"), Release()
        logger.addHandler(release)
        try:
            ran = project.alembic(*limited, "upgrade", "head")
        finally:
            logger.removeHandler(release)

    assert refused.code == 255
    assert refused.err.count("(attempt ") == 2
    assert "; blocked by: pid " in refused.last_line
    assert ran.code == 0, ran.out + ran.err
    assert ran.err.count("(attempt ") == 1
    assert is_whole(database)


def test_numbers_that_fell_back_are_found_before_the_next_batch(tmp_path: Path, database: Database) -> None:
    """As after a switchover by logical replication, in the middle of a run."""
    project = half_applied(tmp_path, database)
    database.execute("SELECT setval('many_audit_audit_id_seq', 1)")
    done = database.rows(CONTENT)
    ran = project.alembic("upgrade", "head")
    assert (ran.code, project.versions) == (255, {"m"})
    assert "many_audit_audit_id_seq would hand out 2 next" in ran.last_line
    assert database.rows(CONTENT) == done
