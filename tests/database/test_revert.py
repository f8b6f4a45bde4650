"""Revert of an update: each column as the fix found it, as it left it and as it is now (promise 5)."""

import re
from pathlib import Path
from typing import Any

import pytest

from datafixes import sql
from datafixes.errors import Conflicts, NothingToRevert, NotRestorable
from tests.fixes import apply, revert
from tests.projects import project_with_fix
from tests.servers import Database
from tests.small_book import AUDIT, close, lay

BOOK = "SELECT * FROM positions ORDER BY id"
LAST = (
    "SELECT outcome, on_conflict, rows_expected, rows_found, rows_changed, rows_already, rows_skipped, rows_overwritten"
    " FROM datafix_run ORDER BY run_id DESC LIMIT 1"
)


@pytest.fixture
def applied(database: Database) -> Database:
    """A book whose positions 1 to 3 were closed, at half the price."""
    lay(database)
    apply(database, close())
    return database


def lines(error: pytest.ExceptionInfo[Conflicts]) -> list[list[str]]:
    """The table of conflicts, as words."""
    return [line.split() for line in error.value.detail.strip().splitlines()]


def test_unchanged_rows_get_every_value_back(applied: Database) -> None:
    revert(applied, close())
    assert [row[1:4] for row in applied.rows(BOOK)] == [
        ("QCOM", "open", 148),
        ("SPY", "open", applied.value("SELECT 690.2")),
        ("NOW", "open", applied.value("SELECT 101.5")),
        ("ORCL", "open", 157),
    ]
    assert applied.rows(LAST) == [("reverted", "refuse", 3, 3, 3, 0, 0, 0)]


def test_drifted_columns_keep_what_others_wrote(applied: Database) -> None:
    applied.execute("UPDATE positions SET note = 'theirs' WHERE id = 1")
    revert(applied, close())
    assert applied.rows(BOOK)[0] == (1, "QCOM", "open", 148, "theirs")


def test_a_column_that_the_fix_set_to_what_it_was_keeps_what_others_wrote(database: Database) -> None:
    lay(database)
    fix = close(set={"status": "open", "price": sql("price / 2")})
    apply(database, fix)
    database.execute("UPDATE positions SET status = 'theirs' WHERE id = 1")
    revert(database, fix)
    assert database.rows(BOOK)[0] == (1, "QCOM", "theirs", 148, None)


def test_a_row_that_is_back_already_is_left_alone(applied: Database) -> None:
    applied.execute("UPDATE positions SET status = 'open', price = 148 WHERE id = 1")
    xmin = applied.value("SELECT xmin::text FROM positions WHERE id = 1")
    revert(applied, close())
    assert applied.value("SELECT xmin::text FROM positions WHERE id = 1") == xmin
    assert applied.rows(LAST) == [("reverted", "refuse", 3, 3, 2, 1, 0, 0)]


def test_a_row_that_is_back_in_one_column_gets_the_other_one_back(applied: Database) -> None:
    applied.execute("UPDATE positions SET status = 'open' WHERE id = 1")
    revert(applied, close())
    assert applied.rows(BOOK)[0] == (1, "QCOM", "open", 148, None)


def test_a_change_since_refuses_the_whole_revert_and_is_shown(applied: Database) -> None:
    applied.execute(
        "UPDATE positions SET price = 1 WHERE id = 2", "UPDATE positions SET status = 'odd' WHERE id = 3"
    )
    before = applied.dump()
    with pytest.raises(Conflicts, match=r"2 of 3 rows .*: 2 changed since, 3 changed since") as refused:
        revert(applied, close())
    assert lines(refused)[1:] == [
        ["2", "changed", "since", "price", "690.2000", "345.1000", "1.0000"],
        ["3", "changed", "since", "status", "open", "closed", "odd"],
    ]
    assert "-x on_conflict=close:skip" in refused.value.hint
    assert "-x on_conflict=close:overwrite" in refused.value.hint
    assert applied.dump() == before


def test_skip_leaves_changed_rows_alone_and_the_ledger_says_so(applied: Database) -> None:
    applied.execute("UPDATE positions SET price = 1 WHERE id = 2", "DELETE FROM positions WHERE id = 3")
    revert(applied, close(), "skip")
    assert [row[2:4] for row in applied.rows(BOOK)] == [("open", 148), ("closed", 1), ("open", 157)]
    assert applied.rows(LAST) == [("reverted", "skip", 3, 3, 1, 0, 2, 0)]
    images = f"SELECT id, audit_image FROM {AUDIT} WHERE audit_run_id = 2 ORDER BY audit_id"
    assert applied.rows(images) == [(1, "before"), (1, "after")]


def test_overwrite_restores_changed_rows_and_keeps_a_copy_of_what_was_overwritten(applied: Database) -> None:
    applied.execute("UPDATE positions SET price = 1, note = 'theirs' WHERE id = 2")
    revert(applied, close(), "overwrite")
    assert applied.rows(BOOK)[1][2:] == ("open", applied.value("SELECT 690.2"), "theirs")
    assert applied.rows(LAST) == [("reverted", "overwrite", 3, 3, 3, 0, 0, 1)]
    lost = f"SELECT price FROM {AUDIT} WHERE audit_run_id = 2 AND audit_image = 'before' AND id = 2"
    assert applied.value(lost) == 1


def test_overwrite_does_not_bring_back_a_row_that_is_gone(applied: Database) -> None:
    applied.execute("DELETE FROM positions WHERE id = 3", "UPDATE positions SET price = 1 WHERE id = 2")
    with pytest.raises(Conflicts, match=r"1 of 3 rows .*: 3 gone") as refused:
        revert(applied, close(), "overwrite")
    assert "overwrite" not in refused.value.hint
    assert applied.value("SELECT price FROM positions WHERE id = 2") == 1


def test_b29_a_later_fix_of_the_same_rows_is_named(applied: Database) -> None:
    later = close("reopen", set={"status": "open again"}, where="status = 'closed'", expect={2: "SPY"})
    apply(applied, later)
    with pytest.raises(Conflicts) as refused:
        revert(applied, close())
    assert refused.value.detail.splitlines()[-1].endswith("open again  by reopen (run 2)")
    revert(applied, later)
    revert(applied, close())
    assert applied.value("SELECT count(*) FROM positions WHERE status = 'open'") == 4


def test_b29_a_later_fix_is_not_blamed_for_what_somebody_else_did(applied: Database) -> None:
    """Neither a fix of another column, nor one that was reverted since: the operator would overwrite a person's work."""
    other = close("annotate", set={"note": "seen"}, where="status = 'closed'", expect={2: "SPY"})
    undone = close("reopen", set={"status": "open again"}, where="status = 'closed'", expect={2: "SPY"})
    apply(applied, other)
    apply(applied, undone)
    revert(applied, undone)
    applied.execute("UPDATE positions SET status = 'disputed' WHERE id = 2")
    with pytest.raises(Conflicts) as refused:
        revert(applied, close())
    assert lines(refused)[1][-1] == "disputed"


def test_c31_a_row_made_anew_with_other_values_is_a_conflict(applied: Database) -> None:
    applied.execute(
        "DELETE FROM positions WHERE id = 1", "INSERT INTO positions VALUES (1, 'QCOM', 'open', 7)"
    )
    with pytest.raises(Conflicts, match="1 changed since") as refused:
        revert(applied, close())
    assert lines(refused)[1][3:] == ["price", "148.0000", "74.0000", "7.0000"]


def test_reverted_and_applied_again_and_again(database: Database) -> None:
    lay(database)
    was = database.rows(BOOK)
    for _ in range(2):
        apply(database, close())
        assert database.rows(BOOK) != was
        revert(database, close())
        assert database.rows(BOOK) == was
    ledger = "SELECT direction, outcome, rows_changed, reverts_run FROM datafix_run ORDER BY run_id"
    assert database.rows(ledger) == [
        ("apply", "applied", 3, None),
        ("revert", "reverted", 3, 1),
        ("apply", "applied", 3, None),
        ("revert", "reverted", 3, 3),
    ]


def test_a_revert_without_an_apply_is_refused(database: Database) -> None:
    lay(database)
    with pytest.raises(NothingToRevert, match="the ledger has no run of it"):
        revert(database, close())
    apply(database, close())
    revert(database, close())
    with pytest.raises(NothingToRevert, match="run 2 reverted run 1"):
        revert(database, close())


def test_a_fix_that_changed_nothing_gives_nothing_back(database: Database) -> None:
    lay(database)
    fix = close(expect={7: "GME"})
    apply(database, fix)
    revert(database, fix)
    assert database.rows("SELECT outcome FROM datafix_run ORDER BY run_id") == [("not_applicable",)] * 2
    apply(database, fix)


@pytest.mark.parametrize(
    "edited",
    [
        {"set": {"status": "closed"}},
        {"where": "status <> 'closed'"},
        {"expect": {1: "QCOM"}},
    ],
    ids=lambda edited: next(iter(edited)),
)
def test_b36_what_is_reverted_is_what_ran_and_not_what_the_file_says_now(
    database: Database, edited: dict[str, Any]
) -> None:
    lay(database)
    was = database.rows(BOOK)
    apply(database, close())
    revert(database, close(**edited))
    assert database.rows(BOOK) == was


def test_columns_that_a_trigger_wrote_come_back_too(database: Database) -> None:
    lay(
        database,
        "CREATE FUNCTION written() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN IF NEW.status = 'closed' THEN NEW.note := 'by trigger'; END IF; RETURN NEW; END$$",
        "CREATE TRIGGER written BEFORE UPDATE ON positions FOR EACH ROW EXECUTE FUNCTION written()",
    )
    was = database.rows(BOOK)
    apply(database, close())
    assert database.value("SELECT note FROM positions WHERE id = 1") == "by trigger"
    revert(database, close())
    assert database.rows(BOOK) == was


PARTED = (
    "DROP TABLE positions",
    "CREATE TABLE positions (id integer PRIMARY KEY, symbol text, status text, note text) PARTITION BY RANGE (id)",
    "CREATE TABLE part PARTITION OF positions FOR VALUES FROM (0) TO (10)",
    "INSERT INTO positions VALUES (1, 'QCOM', 'open')",
    "CREATE FUNCTION written() RETURNS trigger LANGUAGE plpgsql AS"
    " $$BEGIN IF NEW.status = TG_ARGV[0] THEN NEW.note := 'by trigger'; END IF; RETURN NEW; END$$",
)
TRIGGER = "CREATE TRIGGER written BEFORE UPDATE ON part FOR EACH ROW EXECUTE FUNCTION written('{}')"


def test_columns_that_a_trigger_of_a_partition_wrote_come_back_too(database: Database) -> None:
    lay(database, *PARTED, TRIGGER.format("closed"))
    fix = close(set={"status": "closed"}, expect={1: "QCOM"})
    apply(database, fix)
    assert database.rows(BOOK) == [(1, "QCOM", "closed", "by trigger")]
    revert(database, fix)
    assert database.rows(BOOK) == [(1, "QCOM", "open", None)]


def test_a_trigger_that_writes_another_column_during_the_revert_is_a_refusal(database: Database) -> None:
    lay(database, *PARTED)
    fix = close(set={"status": "closed"}, expect={1: "QCOM"})
    apply(database, fix)
    database.execute(TRIGGER.format("open"))
    with pytest.raises(NotRestorable, match="1: note is by trigger, not NULL"):
        revert(database, fix)
    assert database.rows(BOOK) == [(1, "QCOM", "closed", None)]


def test_a_fix_that_set_what_was_there_already_can_be_reverted(database: Database) -> None:
    lay(
        database,
        "CREATE FUNCTION quiet() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NEW; END$$",
        "CREATE TRIGGER quiet BEFORE UPDATE ON positions FOR EACH ROW EXECUTE FUNCTION quiet()",
    )
    was = database.rows(BOOK)
    fix = close(set={"status": "open"})
    apply(database, fix)
    revert(database, fix)
    assert database.rows(BOOK) == was
    assert database.rows(LAST) == [("reverted", "refuse", 3, 3, 0, 3, 0, 0)]


@pytest.mark.parametrize(
    ("told", "in_file", "code", "status"),
    [
        ((), "", 255, "odd"),
        (("-x", "on_conflict=close_items:skip"), "", 0, "odd"),
        (("-x", "on_conflict=close_items:overwrite"), "", 0, "open"),
        (("-x", "on_conflict=another_fix:overwrite"), "", 255, "odd"),
        ((), ", on_conflict='overwrite'", 0, "open"),
        (("-x", "on_conflict=close_items:skip"), ", on_conflict='overwrite'", 0, "odd"),
    ],
)
def test_author_and_operator_choose_by_name_and_the_operator_has_the_last_word(
    database: Database, tmp_path: Path, told: tuple[str, ...], in_file: str, code: int, status: str
) -> None:
    project = project_with_fix(tmp_path, database)
    project.revision("b", "a", "op.apply_datafix(fix)", f"op.revert_datafix(fix{in_file})")
    assert project.alembic("upgrade", "b").code == 0
    database.execute("UPDATE item SET status = 'odd' WHERE id = 1")
    ran = project.alembic(*told, "downgrade", "a")
    assert ran.code == code, ran.err
    assert database.value("SELECT status FROM item WHERE id = 1") == status
    assert project.versions == ({"a"} if code == 0 else {"b"})
    if code:
        assert re.search(r"^1 +changed since +status +open +closed +odd$", ran.err, re.MULTILINE)
