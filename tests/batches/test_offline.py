"""A printed script of a fix in batches: psql makes them one by one, and may be killed and run again."""

import subprocess
import time
from pathlib import Path

import pytest

from tests.batches.many import CONTENT, FIX, ROWS, is_whole, many_project
from tests.projects import Project
from tests.servers import Database

STOP = ("-v", "ON_ERROR_STOP=1")
RUN = "SELECT outcome, rows_found, rows_changed FROM datafix_history WHERE fix = 'double_many'"
PARTS = "SELECT count(*) FROM datafix_run WHERE part_of IS NOT NULL"


@pytest.mark.parametrize("arguments", [STOP, ()], ids=["ON_ERROR_STOP", "going on"])
def test_psql_makes_the_batches_and_a_second_time_changes_nothing(
    arguments: tuple[str, ...], tmp_path: Path, database: Database
) -> None:
    project = _project(tmp_path, database)
    script = project.script("m:n")

    ran = database.psql(script, *arguments)

    assert "ERROR" not in ran.stderr
    assert project.versions == {"n"}
    assert is_whole(database)
    assert database.rows(RUN) == [("applied", ROWS, ROWS)]
    assert int(database.value(PARTS)) >= ROWS // 100
    assert "datafix double_many: 0 of 1000 rows in 0 batches" in ran.stderr

    before = database.dump()
    again = database.psql(script, *arguments, check=False)
    assert "ERROR" in again.stderr
    assert again.returncode == (3 if arguments else 0)
    assert database.dump() == before


@pytest.mark.parametrize("arguments", [STOP, ()], ids=["ON_ERROR_STOP", "going on"])
@pytest.mark.parametrize("killed", ["client", "backend"])
def test_a_killed_psql_is_run_again_and_goes_on(
    killed: str, arguments: tuple[str, ...], tmp_path: Path, database: Database
) -> None:
    project = _project(tmp_path, database, "rows=50, pause='100ms'")
    script = project.script("m:n")
    process = _begin(database, tmp_path / "script.sql", script, *arguments)
    done = _until_some(database)
    if killed == "client":
        process.kill()
    else:
        database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND datname = current_database() AND application_name <> ''"
        )
    process.wait(30)

    assert project.versions == {"m"}
    assert process.returncode != 0
    assert 0 < done < ROWS

    again = database.psql(script, *arguments)  # while the backend of a killed client may still work

    assert "ERROR" not in again.stderr
    assert project.versions == {"n"}
    assert is_whole(database)
    assert database.rows(RUN) == [("applied", ROWS, ROWS)]
    before = database.dump()
    database.psql(script, *arguments, check=False)
    assert database.dump() == before


@pytest.mark.parametrize("arguments", [STOP, ()], ids=["ON_ERROR_STOP", "going on"])
def test_an_error_in_the_middle_is_told_once_and_the_version_stays(
    arguments: tuple[str, ...], tmp_path: Path, database: Database
) -> None:
    project = _project(tmp_path, database)
    script = project.script("m:n")
    database.execute("ALTER TABLE many ADD CONSTRAINT small CHECK (v < 1500)")

    ran = database.psql(script, *arguments, check=False)

    assert ran.returncode == (3 if arguments else 0)
    assert ran.stderr.count('violates check constraint "small"') == 1
    assert arguments or "ranges of run 1 are not done yet" in ran.stderr
    assert project.versions == {"m"}
    [(outcome, found, changed)] = database.rows(RUN)
    assert (outcome, found) == ("running", ROWS)
    assert 0 < changed < ROWS

    database.execute("ALTER TABLE many DROP CONSTRAINT small")
    database.psql(script, *STOP)
    assert project.versions == {"n"}
    assert is_whole(database)


def test_two_psql_at_once_share_the_batches(tmp_path: Path, database: Database) -> None:
    project = _project(tmp_path, database, "rows=20, pause='100ms', workers=2")
    script = project.script("m:n")
    first = _begin(database, tmp_path / "script.sql", script)
    _until_some(database)

    database.psql(script, check=False)

    first.wait(30)
    assert project.versions == {"n"}
    assert is_whole(database)
    assert int(database.value("SELECT count(DISTINCT worker) FROM datafix_range")) == 2
    assert database.rows(RUN) == [("applied", ROWS, ROWS)]


def test_rows_that_fit_into_one_batch_are_one_transaction(tmp_path: Path, database: Database) -> None:
    project = _project(tmp_path, database, f"rows={ROWS}")

    database.psql(project.script("m:n"), *STOP)

    assert is_whole(database)
    assert database.value("SELECT count(*) FROM datafix_range") == 0
    assert database.rows(RUN) == [("applied", ROWS, ROWS)]


def test_a_downgrade_is_printed_in_batches_too(tmp_path: Path, database: Database) -> None:
    project = _project(tmp_path, database)
    before = database.rows(CONTENT)
    database.psql(project.script("m:n"), *STOP)
    script = project.script("n:m")
    database.execute("ALTER TABLE many ADD CONSTRAINT small CHECK (done OR v <> 500)")

    stopped = database.psql(script, *STOP, check=False)

    assert (stopped.returncode, project.versions) == (3, {"n"})
    assert 'violates check constraint "small"' in stopped.stderr
    assert 0 < int(database.value("SELECT count(*) FROM many WHERE done")) < ROWS
    database.execute("ALTER TABLE many DROP CONSTRAINT small")
    database.psql(script, *STOP)
    assert (project.versions, database.rows(CONTENT)) == ({"m"}, before)
    assert database.rows(f"{RUN} AND outcome <> 'failed'")[0] == ("reverted", ROWS, ROWS)


def test_what_comes_before_in_the_same_text_is_committed_with_its_version(
    tmp_path: Path, database: Database
) -> None:
    project = _project(tmp_path, database)
    project.revision("o", "n", 'op.execute("CREATE TABLE later (n integer)")')
    assert project.alembic("downgrade", "a").code == 0
    database.execute("ALTER TABLE many ADD CONSTRAINT small CHECK (v < 1500)")

    database.psql(project.script("a:o"), *STOP, check=False)

    assert project.versions == {"m"}
    assert database.value("SELECT to_regclass('later')") is None
    database.execute("ALTER TABLE many DROP CONSTRAINT small")
    database.psql(project.script("m:o"), *STOP)
    assert project.versions == {"o"}
    assert is_whole(database)


def test_the_fix_stands_before_the_engine_and_other_clients_stop_at_gexec(
    tmp_path: Path, database: Database
) -> None:
    project = _project(tmp_path, database)
    script = project.script("m:n")

    batches = script[script.index("\nCOMMIT;\n", script.index("datafix_begin_batches")) :]
    assert batches.index("PROCEDURE pg_temp.datafix_batch") < batches.index("FUNCTION pg_temp.datafix_")
    with pytest.raises(Exception, match='syntax error at or near "\\\\"'):
        database.execute(script)
    assert database.rows(CONTENT)[0] == (3, 1, False, "x")
    assert project.versions == {"m"}


def _project(directory: Path, database: Database, batches: str = "rows=100") -> Project:
    """It says how many rows it expects: so often the script repeats the statement that makes batches."""
    return many_project(
        directory, database, top=FIX.format(batches=batches).replace("AtMost(100_000)", str(ROWS))
    )


def _begin(database: Database, file: Path, script: str, *arguments: str) -> "subprocess.Popen[bytes]":
    """A psql that runs a script, which it does not wait for."""
    where = [
        "-h",
        database.address.host,
        "-p",
        str(database.address.port),
        "-U",
        "postgres",
        "-d",
        database.name,
    ]
    file.write_text(script, encoding="ascii")
    return subprocess.Popen(
        [str(database.binaries / "psql"), "-X", *where, *arguments, "-f", str(file)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _until_some(database: Database) -> int:
    """Wait for the first batches; how many rows they have changed."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        changed = int(database.value("SELECT coalesce(sum(rows_changed), 0) FROM datafix_range"))
        if changed:
            return changed
        time.sleep(0.05)
    raise AssertionError("no batch within 30 s")
