"""The whole chain, `012` to `015`: on the production table as other tools made it, and on an empty database."""

from pathlib import Path

import pytest

from tests.projects import Project, our_project
from tests.servers import LEDGER, Database

FIXTURES = Path(__file__).parents[1] / "fixtures"
PHANTOMS = [13, 16, 19, 21, 24, 32, 33]
AUDIT = "public.position_reconciliation_audit"
DISCARD = ("-x", "discard=position_reconciliation_audit")


@pytest.fixture
def production(database: Database) -> Project:
    """The production database before 012: no account_name, no exit_price, foreign keys to and from the table."""
    database.psql((FIXTURES / "production.sql").read_text("ascii"), "-v", "ON_ERROR_STOP=1")
    return our_project(database)


def others(database: Database) -> list[tuple[object, ...]]:
    """The columns that production had, of every row that is no phantom."""
    columns = ", ".join(
        f'"{name}"' for (name,) in database.rows(f"SELECT column_name {COLUMNS} ORDER BY ordinal_position")
    )
    return database.rows(
        f"SELECT {columns} FROM active_positions WHERE id NOT IN ({', '.join(map(str, PHANTOMS))}) ORDER BY id"
    )


COLUMNS = (
    "FROM information_schema.columns WHERE table_schema = 'public' AND table_name = 'active_positions' AND column_name NOT IN"
    " ('account_name', 'exit_price', 'peak_price', 'trailing_stop_price', 'entry_underlying_price', 'original_quantity')"
)


def test_on_the_adopted_production_table_seven_rows_close_and_nothing_else_changes(
    production: Project,
) -> None:
    database = production.database
    rows_before, tables_before = others(database), database.dump()
    assert production.alembic("upgrade", "head").code == 0
    closed = database.rows(
        "SELECT id FROM active_positions WHERE status = 'closed' AND close_reason = 'manual_reconciliation'"
        " AND exit_price = entry_price AND current_pnl_dollars = 0 AND current_pnl_percent = 0 AND closed_at IS NOT NULL"
        " ORDER BY id"
    )
    assert [identifier for (identifier,) in closed] == PHANTOMS
    assert others(database) == rows_before
    tables_after = database.dump()
    added = {AUDIT, *LEDGER, "public.alembic_version"}
    assert tables_after.keys() - tables_before.keys() == added
    for name in tables_before.keys() - {"public.active_positions"}:
        assert tables_after[name] == tables_before[name], name


def test_the_adopted_production_table_is_given_back_as_it_was(production: Project) -> None:
    database = production.database
    tables, schema = database.dump(), database.schema()
    assert production.alembic("upgrade", "head").code == 0
    assert production.alembic("downgrade", "014").code == 0
    refused = production.alembic("downgrade", "013")
    assert refused.code != 0
    assert "it holds 28 images of 2 runs" in refused.last_line
    assert production.versions == {"014"}
    assert production.alembic(*DISCARD, "downgrade", "base").code == 0
    database.execute("DROP TABLE alembic_version")
    assert database.dump() == tables
    assert database.schema() == schema


def test_an_empty_database_goes_to_head_and_back_to_base(database: Database) -> None:
    project = our_project(database)
    assert project.alembic("upgrade", "head").code == 0
    assert project.outcomes == ["not_applicable"]
    assert database.value("SELECT count(*) FROM position_reconciliation_audit") == 0
    assert project.alembic("downgrade", "base").code == 0
    assert project.versions == set()
    assert database.dump() == {"public.alembic_version": []}


def test_going_below_014_refuses_while_the_fix_is_in_force_too(production: Project) -> None:
    assert production.alembic("upgrade", "head").code == 0
    database = production.database
    database.execute("UPDATE alembic_version SET version_num = '014'")  # what `alembic stamp 014` does
    refused = production.alembic("downgrade", "013")
    assert refused.code != 0
    assert "the only copies of what was there before" in refused.last_line
    assert database.value("SELECT count(*) FROM position_reconciliation_audit") == 14
