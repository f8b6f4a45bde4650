"""A printed script in the hands of a runner that goes on after an error: the version does not move without the fix."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import TRANSACTION_STATUS_IDLE

from tests.projects import ENV, FIX, Project, project_with_fix, statements
from tests.servers import Database

SPLITTERS = {"at every semicolon": lambda script: script.split(";"), "into statements": statements}


def go_on(project: Project, parts: list[str], *, savepoints: bool) -> int:
    """Run part by part, undo what fails and nothing else, and commit at the end. Returns how many parts failed."""
    failures = 0
    with closing(project.database.connect()) as connection, connection.cursor() as cursor:
        for part in filter(str.strip, parts):
            if savepoints:
                if connection.info.transaction_status == TRANSACTION_STATUS_IDLE:
                    connection.rollback()  # an END out of the middle of a function has committed
                cursor.execute("SAVEPOINT part")
            try:
                cursor.execute(part)
            except psycopg2.Error:
                failures += 1
                if savepoints and not part.strip().startswith("COMMIT"):
                    cursor.execute("ROLLBACK TO part")
                else:
                    connection.rollback()
        connection.commit()
    return failures


@pytest.mark.parametrize("savepoints", [False, True], ids=["rollback", "savepoints"])
@pytest.mark.parametrize("split", SPLITTERS.values(), ids=SPLITTERS)
@pytest.mark.parametrize("refused", [False, True], ids=["as expected", "refused"])
@pytest.mark.parametrize("step", ["a:b", "b:a"], ids=["upgrade", "downgrade"])
def test_a_runner_that_goes_on_after_errors_does_not_move_the_version_without_the_fix(
    step: str,
    refused: bool,
    split: Callable[[str], list[str]],
    savepoints: bool,
    tmp_path: Path,
    database: Database,
) -> None:
    project = project_with_fix(tmp_path, database)
    start, _, end = step.partition(":")
    if start == "b":
        assert project.alembic("upgrade", "b").code == 0
    if refused:
        database.execute("UPDATE item SET symbol = 'ORCL', status = 'else' WHERE id = 1")
    before, parts = database.dump(), split(project.script(step))
    failures = go_on(project, parts, savepoints=savepoints)
    if split is statements and not refused:
        assert failures == 0
        assert project.versions == {end}
        assert database.rows("SELECT status FROM item WHERE id = 1") == [
            ("closed" if end == "b" else "open",)
        ]
    else:
        assert failures > 0
        assert database.dump() == before


def test_it_says_which_fix_did_not_finish(tmp_path: Path, database: Database) -> None:
    """Also where the script has one BEGIN and one COMMIT for several revisions."""
    env = ENV.replace("(context)", "(context, transaction_per_migration=False)")
    project = project_with_fix(tmp_path, database, env)
    second = FIX.replace("close_items", "again").replace("\"status = 'open'\"", "\"status = 'closed'\"")
    project.revision("c", "b", "op.apply_datafix(fix)", top=f"fix = {second.strip()}")
    parts = statements(project.script("a:c"))
    assert sum(part.strip() == "COMMIT;" for part in parts) == 1
    call = max(n for n, part in enumerate(parts) if "CALL" in part)
    with closing(database.connect()) as connection, connection.cursor() as cursor:
        for part in parts[call + 2 : -1]:  # what is left after a rollback
            cursor.execute(part)
        with pytest.raises(
            psycopg2.Error,
            match="datafix apply close_items did not finish: nothing of this transaction is committed",
        ):
            cursor.execute(parts[-1])
    assert project.versions == {"a"}
    assert not database.rows("SELECT FROM datafix_run")


def test_nothing_of_the_guard_stays_in_the_session(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    with closing(database.connect()) as connection, connection.cursor() as cursor:
        for part in statements(project.script("a:b")):
            cursor.execute(part)
        cursor.execute("SELECT name FROM pg_cursors")
        assert cursor.fetchall() == []
    assert project.versions == {"b"}
