"""The engine of batches stays in the session from statement to statement, or its memory would grow with every one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from datafixes.script import batched
from tests.batches.many import is_whole, many_project
from tests.pooler import pooler
from tests.servers import Database

MEMORY = "SELECT sum(total_bytes) FROM pg_catalog.pg_backend_memory_contexts"
LEFT = (
    "SELECT count(*) FROM pg_catalog.pg_proc WHERE pronamespace = pg_catalog.pg_my_temp_schema()"
    " AND proname LIKE 'datafix%'"
)


@contextmanager
def watching(query: str, after: str = "-- Batches for") -> Iterator[list[int]]:
    """What a query finds in the same session after each statement that makes batches, or begins like that."""
    found: list[int] = []

    def look(_: Any, cursor: Any, statement: str, *__: Any) -> None:
        if statement.lstrip().startswith(after):
            cursor.execute(query)
            found.append(int(cursor.fetchone()[0]))

    event.listen(Engine, "after_cursor_execute", look)
    try:
        yield found
    finally:
        event.remove(Engine, "after_cursor_execute", look)


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg", "asyncpg"])
def test_the_memory_of_a_session_does_not_grow_with_the_statements(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch, driver: str
) -> None:
    monkeypatch.setattr(batched, "_SECONDS", 0.05)
    project = many_project(tmp_path, database, "rows=10").on(database, driver)
    with watching(MEMORY) as memory, watching(LEFT, "DO $left$") as left:
        ran = project.alembic("upgrade", "head")
    assert ran.code == 0, ran.out + ran.err
    assert is_whole(database)
    assert len(memory) >= 10
    assert memory[-1] - memory[1] < 20 * 2**20  # 11 MiB for each statement, where it makes the engine anew
    assert left == [0]


def test_the_next_fix_in_a_session_does_not_get_the_batch_of_the_last(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where what a statement left in the session could not be removed."""
    monkeypatch.setattr("datafixes.running.batches._LEFT_BEHIND", "SELECT 1")
    project = many_project(tmp_path, database)
    assert project.alembic("upgrade", "head").code == 0
    ran = project.alembic("downgrade", "m")
    assert (ran.code, project.versions) == (0, {"m"}), ran.out + ran.err
    assert database.value("SELECT count(*) FROM many WHERE done") == 0


def test_behind_a_pooler_no_statement_leaves_its_engine(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batched, "_SECONDS", 0.05)
    with pooler(database, 1) as pooled:
        project = many_project(tmp_path, pooled, "rows=200")
        with watching(LEFT) as left:
            ran = project.alembic("upgrade", "head")
    assert ran.code == 0, ran.out + ran.err
    assert len(left) >= 4
    assert set(left) == {0}
