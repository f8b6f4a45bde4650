"""Extensions that write along when rows change: what they write is named, and the rows come back beside them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.extensions.test_types import installed
from tests.projects import Project, new_project
from tests.servers import Database

FIX = """
fix = DataFix(name="note", reason="A test.", change=Update("item", set={{"note": "b"}}), rows=Rows(key="id", expect=[1]),
              audit="item_audit"{more})
"""


def periods(database: Database) -> None:
    """System versioning: each change writes the times of the row, and its old version."""
    installed(database, "periods")
    database.execute(
        "SELECT periods.add_system_time_period('item')", "SELECT periods.add_system_versioning('item')"
    )


def table_log(database: Database) -> None:
    """A log of each change, with the old row and the new one."""
    installed(database, "table_log")
    database.execute("SELECT table_log_init(4, 'item')")


NEIGHBOURS = [
    pytest.param(periods, "item_history", ', housekeeping=["system_time_start"]', id="periods"),
    pytest.param(table_log, "item_log", "", id="table_log"),
]


def project_beside(tmp_path: Path, database: Database, more: str) -> Project:
    """A project whose second revision changes the note of row 1."""
    project = new_project(tmp_path, database)
    project.revision(
        "a",
        None,
        'op.create_audit_table("item", name="item_audit")',
        'op.drop_audit_table("item_audit", discard=True)',
    )
    project.revision("b", "a", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=FIX.format(more=more))
    return project


@pytest.mark.parametrize(("neighbour", "other", "more"), NEIGHBOURS)
def test_a_neighbour_that_writes_along(
    neighbour: Callable[[Database], None], other: str, more: str, tmp_path: Path, database: Database
) -> None:
    database.execute(
        "CREATE TABLE item (id integer PRIMARY KEY, note text)", "INSERT INTO item VALUES (1, 'a'), (2, 'a')"
    )
    neighbour(database)
    refused = project_beside(tmp_path / "refused", database, more).alembic("upgrade", "head")
    assert refused.code != 0
    assert f"public.{other}" in refused.last_line
    assert database.value(f"SELECT count(*) FROM {other}") == 0
    assert database.rows("SELECT note FROM item ORDER BY id") == [("a",), ("a",)]
    allowed = project_beside(tmp_path / "allowed", database, f'{more}, may_differ=["{other}"]')
    for command, notes in ((("upgrade", "head"), ["b", "a"]), (("downgrade", "a"), ["a", "a"])):
        ran = allowed.alembic(*command)
        assert ran.code == 0, ran.last_line
        assert database.rows("SELECT note FROM item ORDER BY id") == [(note,) for note in notes]
    assert database.value(f"SELECT count(*) FROM {other}") >= 2
