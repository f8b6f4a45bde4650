"""What batches read: their own rows and images, whatever else is in the tables, and whatever PostgreSQL knows of them."""

from pathlib import Path

from tests.batches.many import is_whole, many_project
from tests.servers import Database

OTHERS = 50_000
READ = "SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE relname = '{}'"


def test_neither_a_batch_nor_its_seal_reads_a_whole_table(tmp_path: Path, database: Database) -> None:
    project = many_project(tmp_path, database, "rows=25")
    database.execute(
        # without statistics: a new audit table has none until autovacuum comes by
        "ALTER TABLE many SET (autovacuum_enabled = false)",
        "ALTER TABLE many_audit SET (autovacuum_enabled = false)",
        f"INSERT INTO many SELECT n, 2 * n / 3, true FROM generate_series(1000000, {1_000_000 + OTHERS - 1}) AS n",
        "INSERT INTO many_audit (id, v, done, audit_run_id, audit_image)"
        f" SELECT n, 0, false, 0, 'before' FROM generate_series(1, {OTHERS}) AS n",
    )

    assert project.alembic("upgrade", "n").code == 0

    [(batches,)] = database.rows("SELECT count(*) FROM datafix_run WHERE part_of IS NOT NULL")
    assert batches >= 40
    for table in ("many", "many_audit"):
        [(read,)] = database.rows(READ.format(table))
        # A dozen times in all: to plan the ranges, to index what was there before, and to prove the whole at the end.
        assert read < batches / 2 * OTHERS, table
    database.execute(
        "ALTER TABLE many_audit DISABLE TRIGGER ALL",
        "DELETE FROM many_audit WHERE audit_run_id = 0",
        "DELETE FROM many WHERE id >= 1000000",
    )
    assert is_whole(database)
