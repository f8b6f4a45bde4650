"""`without` leaves columns that a fix does not write out of its copies; the revert needs no more."""

from pathlib import Path
from typing import Any

import pytest

from datafixes import DataFix, Delete, Rows, Update
from datafixes.errors import DeclarationError
from tests.cli.commands import datafixes
from tests.projects import project_with_fix
from tests.servers import Database
from tests.trust.audits import states

TOP = """
fix = DataFix(
    name="close", reason="Closed.", change=Update("item", set={"status": "closed"}, where="id < 3"),
    rows=Rows(key="id", expect=2), audit="item_audit", without=["note", "symbol"],
)
"""


def declared(**more: Any) -> DataFix:
    given: dict[str, Any] = {
        "name": "close", "reason": "r", "audit": "item_audit", "without": ["note"],
        "change": Update("item", set={"status": "closed"}), "rows": Rows(key="id", identity={"s": "lower(symbol)"}, expect={1: "x"}),
    }  # fmt: skip
    return DataFix(**(given | more))


@pytest.mark.parametrize(
    ("without", "words"),
    [
        (["note", "status"], "without names status, which is written: a revert needs the copy."),
        (["id"], "without names id, which is a part of the key: a revert needs the copy."),
        (["symbol"], "without names symbol, which tells rows apart (identity): a revert needs the copy."),
        ("note", "without='note' must be a list of columns."),
    ],
)
def test_what_a_revert_needs_is_refused_at_declaration(without: Any, words: str) -> None:
    with pytest.raises(DeclarationError) as refused:
        declared(without=without)
    assert refused.value.message == f"datafix close: {words}"


def test_copies_of_deleted_rows_are_whole_and_the_fingerprint_knows() -> None:
    with pytest.raises(DeclarationError, match="without is for an Update"):
        declared(change=Delete("item"))
    prints = {declared(without=without).fingerprint for without in ((), ["note"], ["note", "other"])}
    assert len(prints) == 3
    assert declared(without=["a", "b"]).fingerprint == declared(without=("b", "a")).fingerprint


def test_columns_are_not_copied_and_the_rest_is_reverted(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database, top=TOP)
    before = database.rows("SELECT i::text FROM item AS i ORDER BY id")
    told = " ".join(datafixes(project, "plan").out.split())
    assert "Not copied note, symbol of public.item" in told
    assert "All of it can be reverted: that was tried." in told
    assert project.alembic("upgrade", "b").code == 0
    # Others write these columns meanwhile: no conflict, and their values stay.
    database.execute("UPDATE item SET note = 'later' WHERE id = 2")
    project.revision("d", "b", "op.revert_datafix(run=1)", "op.revert_datafix('close')", top="# Back.")
    for order in (("upgrade", "d"), ("downgrade", "b")):
        ran = project.alembic(*order)
        assert ran.code == 0, ran.out + ran.err
    assert database.rows("SELECT DISTINCT note, symbol FROM item_audit") == [(None, None)]
    assert database.rows("SELECT DISTINCT column_name FROM datafix_row") == [("status",)]
    assert database.rows("SELECT id, status, note FROM item WHERE id = 2") == [(2, "closed", "later")]
    assert set(states(project).values()) == {"proven"}
    assert project.alembic("downgrade", "a").code == 0
    database.execute("UPDATE item SET note = 'x' WHERE id = 2")
    assert database.rows("SELECT i::text FROM item AS i ORDER BY id") == before


def test_what_only_the_database_knows_is_refused_there(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database, top=TOP)
    database.execute(
        "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note := 'by trigger'; RETURN NEW; END $$",
        "CREATE TRIGGER stamp BEFORE UPDATE ON item FOR EACH ROW EXECUTE FUNCTION stamp()",
        "ALTER TABLE item ADD UNIQUE (symbol)",
    )
    refused = project.alembic("upgrade", "b")
    assert "a trigger of public.item wrote note, which the fix leaves out of its copies" in refused.last_line
    for replaced, words in [
        ('without=["nothing"]', "public.item has no column nothing"),
        (
            'without=["id"]',
            "without names id, a part of the key of public.item: the views of the audit go by it",
        ),
    ]:
        top = TOP.replace('without=["note", "symbol"]', replaced).replace('key="id"', 'key="symbol"')
        project.revision("b", "a", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=top)
        assert words in project.alembic("upgrade", "b").last_line
