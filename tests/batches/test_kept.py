"""The engine of batches stays in the session from statement to statement, or its memory would grow with every one."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from datafixes import Batches, DataFix, Rows, Update
from datafixes.script import batched
from tests import fixes
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


def test_a_session_that_kept_the_batch_of_another_fix_makes_its_own(database: Database) -> None:
    fixed = []
    with closing(database.connect()) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("SELECT set_config('datafixes.keeps_engine', 'on', false)")
        for name in ("one", "other"):
            database.execute(
                f"CREATE TABLE {name} (id integer PRIMARY KEY, v integer)",
                f"INSERT INTO {name} SELECT n, 0 FROM generate_series(1, 200) AS n",
            )
            fixes.create_audit_table(database, name, f"{name}_audit")
            fix = DataFix(
                name=f"fix_{name}", reason="Test.", change=Update(name, set={"v": 1}, where="v = 0"),
                rows=Rows(key="id", expect=200), audit=f"{name}_audit", batches=Batches(rows=50),
            )  # fmt: skip
            opening = batched.opening_script(fix, fixes.Context(), fixes.LIMITS)
            cursor.execute(f"BEGIN;\n{opening.text}COMMIT")
            cursor.execute(batched.work_statement(fix, fixes.Context(), fixes.LIMITS))
            fixed.append(database.value(f"SELECT count(*) FROM {name} WHERE v = 1"))
        cursor.execute(LEFT)
        assert cursor.fetchone()[0] > 50  # it was kept
    assert fixed == [200, 200]


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
