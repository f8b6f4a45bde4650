"""What reading finds in the way of a revert is what the engine finds when it compares the rows."""

from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from datafixes.audit.changes import View
from datafixes.audit.obstacles import obstacles
from datafixes.declaration.fix import DataFix, Delete, Insert, Update
from datafixes.declaration.recorded import Fix, RecordedFix
from datafixes.declaration.rows import Rows
from datafixes.declaration.table import Table
from datafixes.errors import Refused
from tests.fixes import apply, create_audit_table, record, revert
from tests.servers import Database

LAY = """
CREATE TYPE mood AS ENUM ('bad', 'good');
CREATE TABLE item (id integer, part text, v numeric, mood mood, n integer, seen timestamptz,
                   twice integer GENERATED ALWAYS AS (n * 2) STORED, PRIMARY KEY (id, part));
INSERT INTO item SELECT g, 'p' || g, g * 1.10, 'good', g, NULL FROM generate_series(1, 6) AS g;
CREATE TABLE loose (a integer, b text);
INSERT INTO loose VALUES (1, 'x'), (1, 'x'), (2, 'y');
"""
FIXES: dict[str, tuple[DataFix | RecordedFix, tuple[str, ...]]] = {
    "update": (
        DataFix(
            name="f",
            reason="r",
            change=Update("item", set={"v": 0, "mood": "bad"}, where="id <= 3"),
            rows=Rows(key=("id", "part"), expect=3),
            audit="item_audit",
        ),
        (),
    ),
    "delete": (
        DataFix(
            name="f",
            reason="r",
            change=Delete("item", where="id <= 3"),
            rows=Rows(key=("id", "part"), expect=3),
            audit="item_audit",
        ),
        (),
    ),
    "insert": (
        DataFix(
            name="f",
            reason="r",
            change=Insert("item", rows=[{"id": 9, "part": "p9", "n": 1}, {"id": 10, "part": "p10", "n": 2}]),
            rows=Rows(key=("id", "part"), expect=2),
            audit="item_audit",
        ),
        (),
    ),
    "recorded": (
        RecordedFix(
            name="f",
            reason="r",
            tables=[
                Table("item", "item_audit", updated=2, deleted=1, inserted=1, housekeeping=["seen"]),
                Table("loose", "loose_audit", deleted=1, inserted=1),
            ],
        ),
        (
            "UPDATE item SET v = v + 1 WHERE id IN (1, 2)",
            "DELETE FROM item WHERE id = 3",
            "INSERT INTO item (id, part, n) VALUES (9, 'p9', 1)",
            "UPDATE loose SET b = 'z' WHERE a = 2",
        ),
    ),
}
SINCE = (
    "UPDATE item SET n = n + 1 WHERE id = 1",  # a column that the fix did not write
    "UPDATE item SET seen = now()",
    "UPDATE item SET v = v + 0.000 WHERE id = 2",  # another scale is another value
    "UPDATE item SET v = 77, mood = 'good' WHERE id = 2",
    "UPDATE item SET v = 2.2, mood = 'good' WHERE id = 2",
    "UPDATE item SET mood = NULL WHERE id = 1",
    "DELETE FROM item WHERE id IN (2, 9)",
    "INSERT INTO item (id, part, n) VALUES (3, 'p3', 3) ON CONFLICT DO NOTHING",
    "INSERT INTO item SELECT g, 'p' || g, g * 1.10, 'good', g, NULL FROM generate_series(1, 3) AS g ON CONFLICT DO NOTHING",
    "UPDATE item SET n = 5 WHERE id = 9",
    "UPDATE loose SET b = 'other' WHERE a = 2",
    "INSERT INTO loose VALUES (2, 'z')",
    "ALTER TABLE item DROP COLUMN twice",
    "ALTER TABLE item ALTER COLUMN v TYPE numeric(10, 2)",
    "SELECT",
)


def compared(database: Database) -> str:
    with create_engine(database.url, poolclass=NullPool).connect() as connection:
        return obstacles(connection, "public", 1, View())


def tried(database: Database, fix: Fix) -> str:
    """What the engine says; nothing is committed, because the database is a copy."""
    try:
        revert(database, fix)
    except Refused as refused:
        return str(refused)
    return ""


@pytest.mark.parametrize("since", SINCE)
@pytest.mark.parametrize("kind", FIXES)
def test_reading_finds_what_the_engine_finds(database: Database, kind: str, since: str) -> None:
    fix, statements = FIXES[kind]
    database.psql(LAY)
    for table in ("item", "loose"):
        create_audit_table(database, table, f"{table}_audit")
    if isinstance(fix, RecordedFix):
        record(database, fix, *statements)
    else:
        apply(database, fix)
    database.execute(since)
    before: dict[str, Any] = database.dump()
    read = compared(database)
    assert database.dump() == before
    said = tried(database, fix)
    assert bool(read) == bool(said), (read, said)
    if "rows" in said and "cannot be restored" in said:
        states = ("gone", "changed since", "taken")
        assert {state for state in states if state in read} == {
            state for state in states if state in said.split("See")[0]
        }


def test_masked_keys_are_not_named(database: Database) -> None:
    fix, _ = FIXES["update"]
    database.psql(LAY)
    create_audit_table(database, "item", "item_audit")
    assert isinstance(fix, DataFix)
    apply(database, fix)
    database.execute("DELETE FROM item WHERE id = 2")
    with create_engine(database.url, poolclass=NullPool).connect() as connection:
        assert "2/p2 gone" in obstacles(connection, "public", 1, View())
        assert "(masked) gone" in obstacles(connection, "public", 1, View(masks=("item.part",)))
