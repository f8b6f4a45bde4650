"""Revert where the table, or the audit table, is not as it was: changed shapes (C30), missing keys (C32), tampering (promise 6)."""

from collections.abc import Sequence

import pytest

from datafixes import DataFix, Delete, Rows, sql
from datafixes.errors import ImagesChanged, NoKey, NotRestorable, ShapeMismatch, WrongTarget
from tests.fixes import apply, create_audit_table, revert
from tests.servers import Database
from tests.small_book import AUDIT, close, lay
from tests.tampering import tamper

BOOK = "SELECT * FROM positions ORDER BY id"


@pytest.fixture
def applied(database: Database) -> Database:
    """A book whose positions 1 to 3 were closed, at half the price."""
    lay(database)
    apply(database, close())
    return database


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        pytest.param(["DROP COLUMN price"], "price is gone", id="dropped"),
        pytest.param(["DROP COLUMN note"], "note is gone", id="dropped_and_not_written"),
        pytest.param(["RENAME COLUMN price TO cost"], "cost", id="renamed"),
        pytest.param(
            ["ALTER COLUMN price TYPE numeric(20,1)"],
            r"price was numeric\(12,4\) and is numeric\(20,1\)",
            id="scale",
        ),
        pytest.param(
            ["ALTER COLUMN price TYPE integer"], r"price was numeric\(12,4\) and is integer", id="retyped"
        ),
        pytest.param(
            ["ALTER COLUMN status TYPE varchar(10)"],
            r"status was character varying\(20\) and is character varying\(10\)",
            id="length",
        ),
        pytest.param(
            ["DROP COLUMN price, ADD COLUMN price numeric(12,4)"], "price is another column", id="made_anew"
        ),
        pytest.param(
            ["RENAME COLUMN status TO x", "RENAME COLUMN symbol TO status", "RENAME COLUMN x TO symbol"],
            "symbol is another column than it was; status is another column than it was",
            id="swapped",
        ),
    ],
)
def test_c30_a_changed_column_is_named_and_nothing_happens(
    applied: Database, changes: Sequence[str], named: str
) -> None:
    applied.execute(*(f"ALTER TABLE positions {change}" for change in changes))
    before = applied.dump()
    for policy in ("refuse", "skip", "overwrite"):
        with pytest.raises((NotRestorable, ShapeMismatch), match=named):
            revert(applied, close(), policy)
    assert applied.dump() == before


def test_c30_a_renamed_column_is_called_by_both_names(applied: Database) -> None:
    applied.execute(
        "ALTER TABLE positions RENAME note TO remark", f"ALTER TABLE {AUDIT} ADD COLUMN remark text"
    )
    with pytest.raises(NotRestorable, match="note is called remark now"):
        revert(applied, close())


def test_c30_a_table_that_was_made_anew_is_another_one(applied: Database) -> None:
    applied.execute(
        "ALTER TABLE positions RENAME TO old",
        "CREATE TABLE positions (LIKE old INCLUDING ALL)",
        "INSERT INTO positions TABLE old",
    )
    with pytest.raises(NotRestorable, match="the table was dropped and made again"):
        revert(applied, close())
    applied.execute("DROP TABLE positions")
    with pytest.raises(WrongTarget, match=r"table public.positions does not exist"):
        revert(applied, close())


def test_c30_a_column_that_came_later_is_left_as_it_is(applied: Database) -> None:
    applied.execute("ALTER TABLE positions ADD COLUMN later integer DEFAULT 7")
    with pytest.raises(ShapeMismatch, match="later integer is missing there"):
        revert(applied, close())
    applied.execute(f"ALTER TABLE {AUDIT} ADD COLUMN later integer", "UPDATE positions SET later = id")
    revert(applied, close())
    assert applied.rows("SELECT id, status, later FROM positions ORDER BY id") == [
        (n, "open", n) for n in (1, 2, 3, 4)
    ]


def test_c30_a_deleted_row_that_lacks_a_value_now_is_refused(database: Database) -> None:
    lay(database)
    fix = DataFix(
        name="gone",
        reason="A test.",
        change=Delete("positions"),
        rows=Rows(key="id", expect=[1, 2, 3, 4]),
        audit=AUDIT,
    )
    apply(database, fix)
    database.execute(
        "ALTER TABLE positions ADD COLUMN later integer NOT NULL",
        f"ALTER TABLE {AUDIT} ADD COLUMN later integer",
    )
    with pytest.raises(NotRestorable, match="later would be NULL, but is NOT NULL now: 1, 2, 3, 4"):
        revert(database, fix)
    assert database.rows(BOOK) == []
    database.execute("ALTER TABLE positions ALTER COLUMN later SET DEFAULT 7")
    revert(database, fix)
    assert database.value("SELECT count(*) FROM positions WHERE later = 7") == 4


def test_c30_a_database_that_was_restored_from_a_dump_is_the_same_one(database: Database) -> None:
    """Object ids, and the numbers of columns after a dropped one, are others there."""
    lay(
        database,
        "ALTER TABLE positions DROP COLUMN note",
        "ALTER TABLE positions ADD COLUMN note text, ADD COLUMN code text, ADD COLUMN part text DEFAULT 'p', ADD UNIQUE (code, part)",
    )
    fix = close(set={"status": "closed", "code": sql("'c' || id")})
    apply(database, fix)
    tamper(
        database,
        "CREATE TABLE copied AS TABLE positions",
        "ALTER TABLE copied ADD PRIMARY KEY (id), ADD UNIQUE (code, part)",
        "DROP TABLE positions",
        "ALTER TABLE copied RENAME TO positions",
        # What a restore does to the ledger: it is another object too.
        "UPDATE datafix_run_table SET shape = jsonb_set(shape, '{ledger}', '1')",
    )
    revert(database, fix)
    assert database.value("SELECT count(*) FROM positions WHERE status = 'open' AND code IS NULL") == 4


def test_c32_without_a_key_nothing_is_told_apart(applied: Database) -> None:
    applied.execute("ALTER TABLE positions DROP CONSTRAINT positions_pkey")
    before = applied.dump()
    with pytest.raises(NoKey, match="no unique index over"):
        revert(applied, close())
    assert applied.dump() == before


TAMPERING = (
    f"UPDATE {AUDIT} SET price = 1 WHERE id = 2 AND audit_image = 'before'",
    f"UPDATE {AUDIT} SET price = price * 1.0 + 0.0001 WHERE id = 2 AND audit_image = 'after'",
    f"UPDATE {AUDIT} SET price = 1",
    f"UPDATE {AUDIT} SET audit_image = CASE audit_image WHEN 'before' THEN 'after' ELSE 'before' END",
    f"UPDATE {AUDIT} SET note = ''",
    f"UPDATE {AUDIT} AS a SET price = b.price FROM {AUDIT} AS b"
    " WHERE a.audit_image = 'before' AND b.audit_image = 'before' AND a.id + b.id = 3",
    f"DELETE FROM {AUDIT} WHERE id = 2 AND audit_image = 'before'",
    f"DELETE FROM {AUDIT} WHERE id = 2",
    f"TRUNCATE {AUDIT}",
    f"INSERT INTO {AUDIT} (id, symbol, status, audit_run_id, audit_image) VALUES (4, 'ORCL', 'open', 1, 'before')",
    f"UPDATE {AUDIT} SET audit_run_id = 7 WHERE id = 2",
)


def test_promise_6_tampering_with_images_shows_and_stops_the_revert(applied: Database) -> None:
    applied.execute(f"CREATE TABLE kept AS TABLE {AUDIT}")
    for tampering in TAMPERING:
        tamper(applied, tampering)
        before = applied.dump()
        for policy in ("refuse", "skip", "overwrite"):
            with pytest.raises(ImagesChanged, match="are not the ones it wrote"):
                revert(applied, close(), policy)
        assert applied.dump() == before
        tamper(applied, f"TRUNCATE {AUDIT}", f"INSERT INTO {AUDIT} OVERRIDING SYSTEM VALUE TABLE kept")
    revert(applied, close())


def test_promise_6_audit_rows_are_only_added(applied: Database) -> None:
    """Every row version of the audit table is the one that an INSERT made: no run writes to older ones."""
    images = f"SELECT ctid::text, xmin::text, xmax::text, i::text FROM {AUDIT} AS i ORDER BY audit_id"
    for step in (revert, apply, revert):
        before = applied.rows(images)
        step(applied, close())
        assert applied.rows(images)[: len(before)] == before
        assert len(applied.rows(images)) == len(before) + 6
    counts = applied.rows(
        f"SELECT n_tup_upd, n_tup_del FROM pg_stat_all_tables WHERE relid = '{AUDIT}'::regclass"
    )
    assert counts == [(0, 0)]


def test_what_a_reference_points_at_may_be_renamed_without_looking_like_tampering(database: Database) -> None:
    database.execute(
        "CREATE TABLE other (id integer)",
        "CREATE TABLE item (id integer PRIMARY KEY, v text, what regclass, many regclass[])",
        "INSERT INTO item VALUES (1, 'a', 'other', '{other}')",
    )
    create_audit_table(database, "item", "item_audit")
    fix = DataFix(
        name="gone",
        reason="A test.",
        change=Delete("item"),
        rows=Rows(key="id", expect=[1]),
        audit="item_audit",
    )
    apply(database, fix)
    database.execute("ALTER TABLE other RENAME TO another")
    revert(database, fix)
    assert database.rows("SELECT id, v, what::text, many::text FROM item") == [
        (1, "a", "another", "{another}")
    ]
