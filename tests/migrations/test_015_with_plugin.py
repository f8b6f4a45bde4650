"""Revision 015, tested as its author would: with the fixture, which adds the checks that every fix should pass."""

from pathlib import Path

import pytest

from datafixes.errors import Conflicts, RowsNotAsExpected
from datafixes.testing import Datafix

BOOK = Path(__file__).parents[1] / "fixtures/book.sql"
OPEN = "SELECT count(*) FROM active_positions WHERE status <> 'closed'"


def test_the_seven_phantoms_are_closed_at_their_entry(datafix: Datafix) -> None:
    fix = datafix("015")
    fix.seed(BOOK)
    run = fix.apply()
    assert (run.outcome, run.rows_changed, run.rows_already) == ("applied", 7, 0)
    assert fix.rows(OPEN) == [(3,)]
    assert fix.rows(
        "SELECT status, close_reason, exit_price = entry_price FROM active_positions WHERE id = 16"
    ) == [("closed", "manual_reconciliation", True)]


def test_a_phantom_that_was_closed_meanwhile_is_left_alone(datafix: Datafix) -> None:
    fix = datafix(name="close_phantom_positions")
    fix.seed(BOOK, "UPDATE active_positions SET status = 'closed', exit_price = 100 WHERE id = 16")
    assert fix.apply().rows_changed == 6
    assert fix.rows("SELECT status, exit_price, close_reason FROM active_positions WHERE id = 16") == [
        ("closed", 100, None)
    ]


def test_a_position_that_took_the_id_of_a_phantom_is_not_closed(datafix: Datafix) -> None:
    fix = datafix("015")
    fix.seed(BOOK, "UPDATE active_positions SET ticker = 'SPY' WHERE id = 13")
    with pytest.raises(RowsNotAsExpected, match="13"):
        fix.apply()
    assert fix.rows(OPEN) == [(10,)]


def test_a_price_that_was_found_later_stays(datafix: Datafix) -> None:
    fix = datafix("015")
    fix.seed(BOOK)
    fix.apply()
    fix.execute("UPDATE active_positions SET exit_price = 147.10 WHERE id = 16")
    with pytest.raises(Conflicts, match="16"):
        fix.revert()
    run = fix.revert(on_conflict="skip")
    assert run is not None
    assert run.rows_skipped == 1
    assert fix.rows("SELECT exit_price::text FROM active_positions WHERE id = 16") == [("147.1000",)]
