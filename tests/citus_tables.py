"""Tables of each kind that Citus has, with the same rows, and fixes of them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest

from datafixes import DataFix, Delete, Insert, Rows, Update, sql
from datafixes.errors import OthersWouldChange
from tests import fixes
from tests.faults.deploys import until
from tests.servers import Database

KINDS = {
    "distributed by the key": (
        "CREATE TABLE item (id integer PRIMARY KEY, shop integer NOT NULL, v text, amount numeric, at timestamptz)",
        "SELECT create_distributed_table('item', 'id', shard_count => 8)",
    ),
    "distributed by a part of the key": (
        "CREATE TABLE item (id integer, shop integer, v text, amount numeric, at timestamptz, PRIMARY KEY (id, shop))",
        "SELECT create_distributed_table('item', 'shop', shard_count => 8)",
    ),
    "reference": (
        "CREATE TABLE item (id integer PRIMARY KEY, shop integer NOT NULL, v text, amount numeric, at timestamptz)",
        "SELECT create_reference_table('item')",
    ),
    "Citus-local": (
        "CREATE TABLE item (id integer PRIMARY KEY, shop integer NOT NULL, v text, amount numeric, at timestamptz)",
        "SELECT citus_add_local_table_to_metadata('item')",
    ),
    "single-shard": (
        "CREATE TABLE item (id integer PRIMARY KEY, shop integer NOT NULL, v text, amount numeric, at timestamptz)",
        "SELECT create_distributed_table('item', NULL)",
    ),
}
ROWS = """
INSERT INTO item SELECT n, n % 5, 'v' || n, n + 0.50, '2026-02-03 16:00+00'::timestamptz + n * interval '1 hour'
  FROM generate_series(1, 40) AS n
"""


def lay(database: Database, kind: str) -> None:
    """The table with its rows, and its audit table."""
    database.execute(*KINDS[kind], ROWS)
    fixes.create_audit_table(database, "item", "item_audit")


def key_of(kind: str) -> tuple[str, ...]:
    return ("id", "shop") if "part" in kind else ("id",)


def contents(database: Database) -> list[str]:
    """Every row as text."""
    return [row for (row,) in database.rows("SELECT t::text FROM item t ORDER BY 1")]


def named(kind: str, *ids: int) -> list[tuple[int, ...]]:
    return [(number, number % 5) if "part" in kind else (number,) for number in ids]


def some_update(kind: str) -> DataFix:
    """Seven rows, named one by one."""
    ids = (1, 2, 3, 5, 8, 13, 21)
    keys = named(kind, *ids)
    expect = {key if len(key) > 1 else key[0]: key[0] % 5 for key in keys}
    return DataFix(
        name="some", reason="Test.",
        change=Update("item", set={"v": "x", "amount": sql("amount * 2")}, where="amount < 100"),
        rows=Rows(key=key_of(kind), identity={"place": "shop"}, expect=expect), audit="item_audit",
    )  # fmt: skip


def many_update(kind: str) -> DataFix:
    """A number of rows, found by a condition."""
    return DataFix(
        name="many", reason="Test.", change=Update("item", set={"v": sql("v || '!'"), "amount": sql("-amount")}, where="id > 20"),
        rows=Rows(key=key_of(kind), expect=20), audit="item_audit",
    )  # fmt: skip


def some_delete(kind: str) -> DataFix:
    return DataFix(
        name="gone", reason="Test.", change=Delete("item", where="shop = 3"),
        rows=Rows(key=key_of(kind), expect=8), audit="item_audit",
    )  # fmt: skip


def some_insert(kind: str) -> DataFix:
    return DataFix(
        name="new", reason="Test.",
        change=Insert("item", rows=[{"id": 100 + n, "shop": n, "v": "new"} for n in range(3)]),
        rows=Rows(key=key_of(kind), expect=3), audit="item_audit",
    )  # fmt: skip


MANY = """
INSERT INTO item SELECT n, n % 5, 'v' || n, n + 0.50, '2026-02-03 16:00+00'::timestamptz + n * interval '1 hour'
  FROM generate_series(41, 3000) AS n
"""


def very_many_update(kind: str) -> DataFix:
    """So many rows that their copies tell which they are, where these lie beside them."""
    return DataFix(
        name="very", reason="Test.", change=Update("item", set={"v": sql("v || '!'"), "amount": sql("-amount")}, where="id > 500"),
        rows=Rows(key=key_of(kind), expect=2500, ensure="amount < 0"), audit="item_audit",
    )  # fmt: skip


def very_many_delete(kind: str) -> DataFix:
    return DataFix(
        name="all_gone", reason="Test.", change=Delete("item", where="id > 500"),
        rows=Rows(key=key_of(kind), expect=2500), audit="item_audit",
    )  # fmt: skip


FIXES = {"named": some_update, "a number": many_update, "deleted": some_delete, "inserted": some_insert}


@contextmanager
def in_doubt(worker: Database) -> Iterator[None]:
    """A transaction that is prepared on a worker. Of its coordinator nobody knows, so the maintenance daemon leaves it alone."""
    with closing(worker.connect()) as theirs, theirs.cursor() as cursor:
        theirs.autocommit = True
        cursor.execute("BEGIN")
        cursor.execute("SELECT pg_current_xact_id()")
        cursor.execute("PREPARE TRANSACTION 'citus_77_1_2_3'")
        try:
            yield
        finally:
            cursor.execute("ROLLBACK PREPARED 'citus_77_1_2_3'")


def refuses_what_begins_to_refer(database: Database, fix: DataFix) -> None:
    """A row of the table "child" refers to one that the fix deletes, from a moment on when the fix has begun."""
    before = contents(database)
    with closing(database.connect()) as theirs, theirs.cursor() as cursor, ThreadPoolExecutor(1) as pool:
        cursor.execute("INSERT INTO child VALUES (1, 3, 3)")
        fixing = pool.submit(fixes.apply, database, fix)
        until(lambda: database.value("SELECT count(*) FROM pg_locks WHERE NOT granted") > 0, "nothing waits")
        theirs.commit()
        with pytest.raises(OthersWouldChange, match=r"1 rows of public\.child refer to these rows"):
            fixing.result(30)
    assert contents(database) == before
    assert database.value("SELECT count(*) FROM child") == 1
