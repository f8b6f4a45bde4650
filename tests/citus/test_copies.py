"""Where the copies of a table of Citus are, and that every command finds them there."""

from pathlib import Path

import pytest

from datafixes import DataFix, Rows, Update
from datafixes.errors import WrongTarget
from datafixes.script.tables import protect_script
from tests import fixes
from tests.citus.test_course import items, project_of
from tests.citus_tables import KINDS, contents, lay, some_update
from tests.cli.commands import answer, datafixes
from tests.servers import Database

BESIDE = {"distributed by the key", "distributed by a part of the key", "single-shard"}
_TOGETHER = """
SELECT count(DISTINCT colocationid) = 1 AND count(*) = 2 FROM pg_dist_partition
 WHERE logicalrelid IN ('item'::regclass, 'item_audit'::regclass)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_they_lie_beside_rows_that_are_on_shards(cluster: Database, kind: str) -> None:
    lay(cluster, kind)
    assert cluster.value(_TOGETHER) is (kind in BESIDE)
    triggers = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'item_audit'::regclass AND NOT tgisinternal"
    assert cluster.value(triggers) == (0 if kind in BESIDE else 3)


def test_they_are_on_the_coordinator_where_the_column_is_kept_as_text(cluster: Database) -> None:
    cluster.execute(
        "CREATE TYPE place AS ENUM ('here', 'there')",
        "CREATE TABLE item (id integer, place place, v text, PRIMARY KEY (id, place))",
        "SELECT create_distributed_table('item', 'place', shard_count => 8)",
        "INSERT INTO item VALUES (1, 'here', 'a'), (2, 'there', 'b')",
    )
    try:
        fixes.create_audit_table(cluster, "item", "item_audit")
        assert cluster.value("SELECT count(*) FROM pg_dist_partition") == 1
        fix = DataFix(
            name="some", reason="Test.", change=Update("item", set={"v": "x"}, where="v = 'a'"),
            rows=Rows(key=("id", "place"), expect=1), audit="item_audit",
        )  # fmt: skip
        before = contents(cluster)
        fixes.apply(cluster, fix)
        assert cluster.value("SELECT v FROM item WHERE id = 1") == "x"
        fixes.revert(cluster, fix)
        assert contents(cluster) == before
    finally:
        cluster.execute("DROP TABLE item CASCADE", "DROP TYPE place CASCADE")


def test_what_somebody_changes_there_is_found(tmp_path: Path, cluster: Database, worker: Database) -> None:
    """No trigger refuses it: the seal tells, and a revert is refused."""
    project = project_of(tmp_path, cluster, "distributed")
    assert project.alembic("upgrade", "head").code == 0
    alone = "SET citus.enable_ddl_propagation = off"
    worker.execute(alone, f"ALTER DATABASE {worker.name} SET timezone = 'Asia/Tokyo'")
    try:
        assert datafixes(project, "verify-audit").code == 0
    finally:
        worker.execute(alone, f"ALTER DATABASE {worker.name} RESET timezone")
    told = [one["evidence"] for one in answer(project, "doctor", code=None)["findings"]]
    assert any("no trigger guards copies: public.item_audit" in one for one in told)
    assert not any("Not protected" in one for one in told)
    cluster.execute("UPDATE item_audit SET amount = 7 WHERE id = 1 AND audit_image = 'before'")
    found = datafixes(project, "verify-audit")
    assert found.code != 0
    assert "differs" in found.out
    ran = project.alembic("downgrade", "a")
    assert "are not the ones it wrote" in ran.last_line
    cluster.execute("UPDATE item_audit SET amount = 10 WHERE id = 1 AND audit_image = 'before'")
    assert datafixes(project, "verify-audit").code == 0
    with pytest.raises(WrongTarget, match="is distributed over the servers of a Citus cluster"):
        fixes.run(cluster, protect_script("item_audit", "public", fixes.LIMITS))


def test_they_are_read_exported_and_given_up(tmp_path: Path, cluster: Database) -> None:
    project = project_of(tmp_path, cluster, "distributed")
    assert project.alembic("upgrade", "head").code == 0
    found = datafixes(project, "find-in-audit", "--table", "item", "--where", "symbol = 'QCOM'")
    assert (found.code, "close_items" in found.out) == (0, True), found.err
    assert datafixes(project, "export", "1", str(tmp_path / "run-1")).code == 0
    assert datafixes(project, "verify-audit", "--export", str(tmp_path / "run-1")).code == 0
    redact = 'op.redact_audit("item_audit", where="id = 1", columns=["note"], reason="Test.")'
    project.revision("c", "b", redact, top="# Erasure.")
    ran = project.alembic("upgrade", "c")
    assert "its values cannot be redacted" in ran.last_line
    prune = 'op.prune_audit("item_audit", older_than="2099-01-01", keep="none", reason="Test.")'
    project.revision("c", "b", prune, top="# Retention.")
    ran = project.alembic("upgrade", "c")
    assert ran.code == 0, ran.err
    assert cluster.value("SELECT count(*) FROM item_audit") == 0
    assert items(cluster)[0][2] == "closed"


@pytest.mark.parametrize("kind", sorted(BESIDE))
def test_their_checksum_depends_on_no_setting(cluster: Database, kind: str) -> None:
    """Workers hash the text of an array of times."""
    lay(cluster, kind)
    cluster.execute(
        "ALTER TABLE item ADD COLUMN times timestamptz[]", "UPDATE item SET times = ARRAY[at], v = v || '.'"
    )
    fixes.create_audit_table(cluster, "item", "item_audit_2")
    before = contents(cluster)
    fix = some_update(kind)
    fix = DataFix(name=fix.name, reason=fix.reason, change=fix.change, rows=fix.rows, audit="item_audit_2")
    cluster.execute("ALTER ROLE postgres SET timezone = 'Asia/Tokyo'")
    try:
        fixes.apply(cluster, fix)
    finally:
        cluster.execute("ALTER ROLE postgres RESET timezone")
    fixes.revert(cluster, fix)
    assert contents(cluster) == before
