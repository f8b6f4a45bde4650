"""A table of many rows, and a project whose fix changes them in batches."""

from pathlib import Path

from tests.projects import Project, project_with_fix
from tests.servers import Database

ROWS = 1_000

TABLE = f"""
CREATE TABLE many (id bigint PRIMARY KEY, v bigint NOT NULL, done boolean NOT NULL DEFAULT false, note text);
INSERT INTO many SELECT n * 3, n, false, repeat('x', n % 7) FROM generate_series(1, {ROWS}) AS n;
CREATE INDEX ON many (v);
"""

FIX = """
from datafixes import AtMost, Batches

fix = DataFix(
    name="double_many",
    reason="Twice as many.",
    change=Update("many", set={{"v": sql("v * 2"), "done": True}}, where="NOT done"),
    rows=Rows(key="id", expect=AtMost(100_000), ensure="done"),
    audit="many_audit",
    batches=Batches({batches}),
)
"""

CONTENT = "SELECT id, v, done, note FROM many ORDER BY id"


def many_project(
    directory: Path, database: Database, batches: str = "rows=100", *, table: str = TABLE, top: str = ""
) -> Project:
    """Revisions `a` (an item table's copies), `m` (the audit table of `many`) and `n` (the fix); a database at `m`."""
    project = project_with_fix(directory, database)
    database.psql(table, "-v", "ON_ERROR_STOP=1")
    (directory / "migrations/versions/b.py").unlink()
    project.revision(
        "m",
        "a",
        'op.create_audit_table("many", name="many_audit")',
        'op.drop_audit_table("many_audit")',
        top="# Copies.",
    )
    project.revision(
        "n", "m", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=top or FIX.format(batches=batches)
    )
    ran = project.alembic("upgrade", "m")
    assert ran.code == 0, ran.err
    return project


def is_whole(database: Database, rows: int = ROWS) -> bool:
    """Each row was changed once and has both images; nothing else was changed."""
    [(changed, once)] = database.rows(
        "SELECT count(*), count(*) FILTER (WHERE v = 2 * id / 3) FROM many WHERE done"
    )
    images = dict(database.rows("SELECT audit_image, count(DISTINCT id) FROM many_audit GROUP BY 1"))
    [(written,)] = database.rows("SELECT count(*) FROM many_audit")
    return (changed, once, images, written) == (rows, rows, {"before": rows, "after": rows}, 2 * rows)
