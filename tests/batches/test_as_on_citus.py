"""The way of batches on a table of Citus, forced on an ordinary table by a setting; on a cluster: tests/citus."""

from pathlib import Path

import pytest

from tests.batches.many import CONTENT, TABLE, is_whole, many_project
from tests.projects import Project
from tests.servers import Database

MORE = f"{TABLE}INSERT INTO many SELECT n * 3, n, false, 'more' FROM generate_series(1001, 3000) AS n;"
copies = pytest.mark.parametrize("copies", ["on", "beside"])
"""Whether the copies are on the coordinator, or beside the rows."""
sizes = pytest.mark.parametrize("size", [500, 1500])
"""Fewer rows than those that the workers copy themselves, and more."""


def project_of(directory: Path, database: Database, copies: str, size: int) -> Project:
    database.execute(f"ALTER DATABASE {database.name} SET datafixes.as_on_citus = {copies}")
    return many_project(directory, database, f"rows={size}", table=MORE)


@copies
@sizes
def test_every_row_is_changed_once_and_comes_back(
    tmp_path: Path, database: Database, copies: str, size: int
) -> None:
    project = project_of(tmp_path, database, copies, size)
    before = database.rows(CONTENT)
    ran = project.alembic("upgrade", "head")
    assert (ran.code, project.versions) == (0, {"n"}), ran.out + ran.err
    assert is_whole(database, 3000)
    ran = project.alembic("downgrade", "m")
    assert (ran.code, project.versions) == (0, {"m"}), ran.out + ran.err
    assert database.rows(CONTENT) == before


@copies
@sizes
def test_what_came_behind_the_batches(tmp_path: Path, database: Database, copies: str, size: int) -> None:
    """It is changed at the end; a row that the run has changed, and somebody set back, stays as it is."""
    project = project_of(tmp_path, database, copies, size)
    database.execute("ALTER TABLE many ADD CONSTRAINT small CHECK (v <> 5000)")
    assert project.alembic("upgrade", "head").code != 0
    assert 0 < database.value("SELECT count(*) FROM many WHERE done") < 3000
    database.execute(
        "ALTER TABLE many DROP CONSTRAINT small", "INSERT INTO many VALUES (1, 7, false, 'late')",
        "UPDATE many SET done = false WHERE id = 6",
    )  # fmt: skip
    ran = project.alembic("upgrade", "head")
    assert (ran.code, project.versions) == (0, {"n"}), ran.out + ran.err
    assert database.rows("SELECT id, v, done FROM many WHERE id IN (1, 6) ORDER BY id") == [
        (1, 14, True), (6, 4, False),
    ]  # fmt: skip
    assert "1 rows that it had changed meet it again: left alone" in ran.err
