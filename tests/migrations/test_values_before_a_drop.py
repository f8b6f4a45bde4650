"""What `datafixes check` advises for values that go with a column, a table or a type: they stay in the audit table."""

from pathlib import Path

import pytest

from datafixes.check.checking import check
from tests.projects import Project, project_with_fix
from tests.servers import Database

FIX = """
from datafixes import RecordedFix, Table

fix = RecordedFix(name="keep", reason="Copied before the drop.", tables=[Table("item", "item_audit", {rows})])
"""
RECORD = 'with op.record_datafix(fix) as body:\n    body.execute("{body}")\n'
BACK = "op.revert_datafix(fix)"


def codes(project: Project, up: str, down: str, top: str) -> list[str]:
    """Write the revision and check it."""
    project.revision("b", "a", up, down, top=top)
    return [one.code for one in check([project.directory / "migrations/versions/b.py"]).findings]


@pytest.mark.parametrize(
    ("rows", "body", "drop", "code"),
    [
        ("updated=1", "UPDATE item SET note = NULL WHERE note IS NOT NULL", 'op.drop_column("item", "note")', "FIX601"),
        ("deleted=3", "DELETE FROM item", 'op.drop_table("item")', "FIX602"),
    ],
    ids=["column", "table"],
)  # fmt: skip
def test_a_recorded_fix_keeps_what_is_dropped(
    tmp_path: Path, database: Database, rows: str, body: str, drop: str, code: str
) -> None:
    project = project_with_fix(tmp_path, database)
    values = database.rows("SELECT id, status, note FROM item ORDER BY id")
    values = values if "3" in rows else [one for one in values if one[2]]
    top = FIX.format(rows=rows)
    assert codes(project, drop, "raise NotImplementedError", top) == [code]
    assert codes(project, RECORD.format(body=body) + drop, BACK, top) == []
    ran = project.alembic("upgrade", "head")
    assert ran.code == 0, ran.out + ran.err
    kept = "SELECT id, status, note FROM item_audit WHERE audit_image = 'before' ORDER BY id"
    assert database.rows(kept) == values
    # The way back asks for the very column or table that was dropped, and changes nothing without it.
    ran = project.alembic("downgrade", "a")
    assert (ran.code, project.versions) == (255, {"b"})
    assert database.rows(kept) == values


def test_values_that_a_fix_maps_come_back_with_their_type(tmp_path: Path, database: Database) -> None:
    project = project_with_fix(tmp_path, database)
    mapping = "CASE status WHEN 'open' THEN '1' ELSE '2' END"
    up = 'op.alter_column("item", "status", type_=sa.Integer(), postgresql_using="{}")'
    down = 'op.alter_column("item", "status", type_=sa.Text(), postgresql_using="status::text")'
    top = FIX.format(rows="updated=3")
    assert codes(project, up.format(mapping), down, top) == ["FIX603"]
    record = RECORD.format(body=f"UPDATE item SET status = {mapping}")
    assert codes(project, record + up.format("status::integer"), f"{down}\n{BACK}", top) == []
    before = database.rows("SELECT id, status FROM item ORDER BY id")
    for _ in range(2):
        for way in ("upgrade", "head"), ("downgrade", "a"):
            ran = project.alembic(*way)
            assert ran.code == 0, ran.out + ran.err
        assert database.rows("SELECT id, status FROM item ORDER BY id") == before
