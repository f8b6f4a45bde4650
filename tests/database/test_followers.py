"""Who follows a table hears of a fix and of its revert, and of nothing else: sequences, views, consumers (C43)."""

from collections.abc import Iterator

import pytest

from datafixes import DataFix, Delete, Insert, Rows
from datafixes.errors import ChangeNotAsWanted
from tests import fixes
from tests.servers import Database
from tests.small_book import AUDIT, SYMBOLS, close, lay

KEYS = "SELECT id FROM positions ORDER BY id"


@pytest.fixture
def numbered(database: Database) -> Database:
    """The book, whose keys the database gives out: 1 to 4 are in use."""
    lay(database)
    database.execute(
        "CREATE SEQUENCE numbers START 5 OWNED BY positions.id",
        "ALTER TABLE positions ALTER id SET DEFAULT nextval('numbers')",
    )
    return database


def somebody_inserts(database: Database) -> int:
    """The key of a new row of the application."""
    return int(database.value("INSERT INTO positions (symbol) VALUES ('MINE') RETURNING id"))


def test_c43_keys_of_inserted_rows_that_were_taken_back_are_not_given_out_again(numbered: Database) -> None:
    fix = DataFix(
        name="missing",
        reason="The broker has them and the book has not.",
        change=Insert("positions", rows=[{"symbol": "AAPL"}, {"symbol": "MSFT"}]),
        rows=Rows(key="id", expect=2),
        audit=AUDIT,
    )
    fixes.apply(numbered, fix)
    fixes.revert(numbered, fix)
    # A second row 5 would be another row under a key that the audit table knows.
    assert somebody_inserts(numbered) == 7
    fixes.apply(numbered, fix)
    assert numbered.rows(KEYS) == [(1,), (2,), (3,), (4,), (7,), (8,), (9,)]
    fixes.revert(numbered, fix)
    assert numbered.rows(KEYS) == [(1,), (2,), (3,), (4,), (7,)]
    assert numbered.rows(f"SELECT DISTINCT audit_run_id, id FROM {AUDIT} ORDER BY 1, 2") == [
        (1, 5), (1, 6), (2, 5), (2, 6), (3, 8), (3, 9), (4, 8), (4, 9),
    ]  # fmt: skip


def test_c43_rows_that_come_back_take_no_new_keys_and_none_of_the_next(numbered: Database) -> None:
    fix = DataFix(
        name="remove",
        reason="Never traded.",
        change=Delete("positions", where="status = 'open'"),
        rows=Rows(key="id", identity={"symbol": "symbol"}, expect=SYMBOLS),
        audit=AUDIT,
    )
    fixes.apply(numbered, fix)
    assert somebody_inserts(numbered) == 5
    fixes.revert(numbered, fix)
    assert somebody_inserts(numbered) == 6
    assert numbered.rows(KEYS) == [(1,), (2,), (3,), (4,), (5,), (6,)]


def test_c43_a_materialized_view_is_as_it_was_once_the_fix_is_reverted(database: Database) -> None:
    # It is the application's to refresh; a fix and its revert leave it nothing to refresh.
    lay(
        database,
        "CREATE MATERIALIZED VIEW book AS SELECT status, count(*), sum(price) FROM positions GROUP BY 1",
    )
    before = database.rows("TABLE book")
    fixes.apply(database, close())
    assert database.rows("TABLE book") == before
    database.execute("REFRESH MATERIALIZED VIEW book")
    assert database.rows("TABLE book") != before
    fixes.revert(database, close())
    database.execute("REFRESH MATERIALIZED VIEW book")
    assert database.rows("TABLE book") == before


@pytest.fixture
def slot(database: Database) -> Iterator[str]:
    """A consumer of the changes of the book, and of no other table."""
    lay(database, "CREATE PUBLICATION consumers FOR TABLE positions")
    name = f"slot_{database.name}"
    database.execute(f"SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')")
    yield name
    database.execute(f"SELECT pg_drop_replication_slot('{name}')")


def heard(database: Database, slot: str) -> list[str]:
    """The kinds of the messages since the last time, by their first letter, one string for each transaction.

    B and C frame a transaction, R describes the table; I, U and D are inserted, updated and deleted rows.
    """
    letters = database.rows(
        "SELECT chr(get_byte(data, 0)) FROM pg_logical_slot_get_binary_changes"
        f"('{slot}', NULL, NULL, 'proto_version', '1', 'publication_names', 'consumers')"
    )
    told = "".join(letter for (letter,) in letters).replace("R", "")
    return [changes for changes in told.replace("B", "").split("C") if changes]


def test_c43_a_consumer_hears_of_each_changed_row_once_and_in_one_transaction(
    database: Database, slot: str
) -> None:
    fixes.apply(database, close())
    assert heard(database, slot) == ["UUU"]
    fixes.revert(database, close())
    assert heard(database, slot) == ["UUU"]
    # Of a fix that is refused, nobody hears.
    with pytest.raises(ChangeNotAsWanted, match="do not meet the post-condition"):
        fixes.apply(database, close("another", ensure="price > 100"))
    # What the next one writes comes first, where it did not.
    database.execute("SET synchronous_commit = on", "INSERT INTO positions (id, symbol) VALUES (5, 'AAPL')")
    assert heard(database, slot) == ["I"]


def test_c43_a_consumer_hears_of_rows_that_go_and_come_back(database: Database, slot: str) -> None:
    fix = DataFix(
        name="remove",
        reason="Never traded.",
        change=Delete("positions", where="status = 'open'"),
        rows=Rows(key="id", expect=list(SYMBOLS)),
        audit=AUDIT,
    )
    fixes.apply(database, fix)
    fixes.revert(database, fix)
    assert heard(database, slot) == ["DDD", "III"]
