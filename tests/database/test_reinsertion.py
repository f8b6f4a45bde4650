"""A deleted row comes back under its key: somebody else's row under that key is neither hidden nor overwritten (C33)."""

import pytest

from datafixes import DataFix, Delete, Rows
from datafixes.errors import Conflicts, Refused
from tests import fixes
from tests.servers import Database
from tests.small_book import AUDIT, SYMBOLS, lay, meanwhile, session, somebody_waits

FIX = DataFix(
    name="remove",
    reason="Never traded.",
    change=Delete("positions", where="status = 'open'"),
    rows=Rows(key="id", identity={"symbol": "symbol"}, expect=SYMBOLS),
    audit=AUDIT,
)
THEIRS = "INSERT INTO positions (id, symbol, price, note) VALUES (2, 'SPY', 999, 'theirs')"
EVERYTHING = "SELECT id, symbol, status, price::text, note FROM positions ORDER BY id"


@pytest.fixture
def removed(database: Database) -> Database:
    lay(database)
    fixes.apply(database, FIX)
    return database


def test_c33_somebodys_row_under_the_key_refuses_the_revert_and_stays(removed: Database) -> None:
    removed.execute(THEIRS)
    before = removed.dump()
    for policy in ("refuse", "overwrite"):
        with pytest.raises(Conflicts, match="2 taken"):
            fixes.revert(removed, FIX, policy)
        assert removed.dump() == before


def test_c33_skipped_by_name_the_ledger_counts_it(removed: Database) -> None:
    removed.execute(THEIRS)
    fixes.revert(removed, FIX, "skip")
    assert removed.rows(EVERYTHING) == [
        (1, "QCOM", "open", "148.0000", None),
        (2, "SPY", "open", "999.0000", "theirs"),
        (3, "NOW", "open", "101.5000", None),
        (4, "ORCL", "open", "157.0000", None),
    ]
    assert removed.rows(
        "SELECT rows_found, rows_changed, rows_skipped FROM datafix_run WHERE outcome = 'reverted'"
    ) == [(3, 2, 1)]


@pytest.mark.parametrize("policy", ["refuse", "skip", "overwrite"])
def test_c33_a_row_that_comes_in_between_the_look_and_the_insert_is_not_passed_over(
    policy: str, removed: Database
) -> None:
    # The revert cannot see it, and waits for it at the unique index.
    def revert() -> None:
        with pytest.raises(Refused, match="duplicate key value violates unique constraint") as refused:
            fixes.revert(removed, FIX, policy)
        assert "(id)=(2)" in refused.value.message

    with session(removed, THEIRS) as other, meanwhile(revert):
        somebody_waits(removed)
        other.commit()
    assert removed.rows(EVERYTHING) == [
        (2, "SPY", "open", "999.0000", "theirs"),
        (4, "ORCL", "open", "157.0000", None),
    ]
    assert removed.value(f"SELECT count(*) FROM {AUDIT}") == 3


def test_c33_a_row_that_was_taken_back_meanwhile_is_no_obstacle(removed: Database) -> None:
    with session(removed, THEIRS) as other, meanwhile(lambda: fixes.revert(removed, FIX)):
        somebody_waits(removed)
        other.rollback()
    assert [row[0] for row in removed.rows(EVERYTHING)] == [1, 2, 3, 4]
    assert removed.value("SELECT count(*) FROM positions WHERE note = 'theirs'") == 0
