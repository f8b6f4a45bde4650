"""What is refused beside tables of Citus, in one clear line each; and changes there that PostgreSQL does not count."""

from dataclasses import replace

import pytest

from datafixes import DataFix, RecordedFix, Rows, Table, Update
from datafixes.errors import DeclarationError, OthersWouldChange, UnsafeTransaction, WrongTarget
from tests import fixes
from tests.citus_tables import (
    KINDS,
    contents,
    in_doubt,
    key_of,
    lay,
    many_update,
    refuses_what_begins_to_refer,
    some_delete,
    some_update,
)  # fmt: skip
from tests.servers import Database

kinds = pytest.mark.parametrize("kind", KINDS)
BY_KEY = "distributed by the key"
ORDINARY = "CREATE TABLE plain (id integer PRIMARY KEY, v text); INSERT INTO plain VALUES (1, 'a'), (2, 'b')"


def lay_beside(cluster: Database, kind: str) -> None:
    lay(cluster, kind)
    cluster.execute(ORDINARY)
    fixes.create_audit_table(cluster, "plain", "plain_audit")


WRITES = {
    "update": "UPDATE item SET v = 'x' WHERE id = 1",
    "insert": "INSERT INTO item VALUES (99, 1)",
    "delete": "DELETE FROM item WHERE id = 2",
    "truncate": "TRUNCATE item",
}


@kinds
@pytest.mark.parametrize("writes", WRITES.values(), ids=WRITES)
def test_a_recorded_fix_that_also_writes_there(cluster: Database, kind: str, writes: str) -> None:
    lay_beside(cluster, kind)
    before = contents(cluster)
    fix = RecordedFix(name="plain", reason="Test.", tables=[Table("plain", "plain_audit", updated=1)])
    with pytest.raises(OthersWouldChange, match=r"public\.item|item"):
        fixes.record(cluster, fix, "UPDATE plain SET v = 'x' WHERE id = 1", writes)
    assert contents(cluster) == before
    assert cluster.rows("TABLE plain") == [(1, "a"), (2, "b")]
    excused = replace(fix, may_differ=("item",))
    fixes.record(
        cluster, excused, "UPDATE plain SET v = 'x' WHERE id = 1", "UPDATE item SET v = 'x' WHERE id = 1"
    )
    assert cluster.value("SELECT v FROM item WHERE id = 1") == "x"


@kinds
def test_a_trigger_of_a_local_table_that_writes_there(cluster: Database, kind: str) -> None:
    lay_beside(cluster, kind)
    cluster.execute(
        "CREATE FUNCTION along() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE item SET v = 'x' WHERE id = 3;"
        " RETURN NULL; END $$",
        "CREATE TRIGGER along AFTER UPDATE ON plain FOR EACH ROW EXECUTE FUNCTION along()",
    )
    fix = DataFix(
        name="plain", reason="Test.", change=Update("plain", set={"v": "x"}), rows=Rows(key="id", expect=[1]),
        audit="plain_audit",
    )  # fmt: skip
    before = contents(cluster)
    with pytest.raises(OthersWouldChange, match="item is a table of Citus"):
        fixes.apply(cluster, fix)
    assert contents(cluster) == before


def lay_child(cluster: Database, kind: str) -> None:
    """A table whose rows go along with those of the other."""
    lay(cluster, kind)
    key, citus = ", ".join(key_of(kind)), {
        BY_KEY: "SELECT create_distributed_table('child', 'id', colocate_with => 'item')",
        "distributed by a part of the key": "SELECT create_distributed_table('child', 'shop', colocate_with => 'item')",
        "reference": "SELECT create_distributed_table('child', 'n')",
        "Citus-local": "SELECT citus_add_local_table_to_metadata('child')",
        "single-shard": "SELECT create_distributed_table('child', NULL, colocate_with => 'item')",
    }  # fmt: skip
    cluster.execute("CREATE TABLE child (n integer, id integer, shop integer)", citus[kind])
    cluster.execute(
        f"ALTER TABLE child ADD CONSTRAINT child_of_item FOREIGN KEY ({key}) REFERENCES item ({key}) ON DELETE CASCADE"
    )


@kinds
def test_rows_of_other_tables_that_would_go_along(cluster: Database, kind: str) -> None:
    lay_child(cluster, kind)
    cluster.execute("INSERT INTO child VALUES (1, 3, 3), (2, 30, 0)")
    before = contents(cluster)
    with pytest.raises(
        OthersWouldChange,
        match=r"1 rows of public\.child refer to these rows of public\.item \(child_of_item\)",
    ):
        fixes.apply(cluster, some_delete(kind))
    assert contents(cluster) == before
    assert cluster.value("SELECT count(*) FROM child") == 2


@kinds
def test_a_recorded_fix_of_such_a_table(cluster: Database, kind: str) -> None:
    lay(cluster, kind)
    fix = RecordedFix(name="recorded", reason="Test.", tables=[Table("item", "item_audit", updated=1)])
    with pytest.raises(
        WrongTarget, match=r"public\.item is a table of Citus, and a fix of it cannot be recorded"
    ) as refused:
        fixes.record(cluster, fix, "UPDATE item SET v = 'x' WHERE id = 1")
    assert "Declare the fix instead" in refused.value.hint


def test_the_column_by_which_it_is_distributed(cluster: Database) -> None:
    """It is a part of every key, and no fix sets its key."""
    lay(cluster, "distributed by a part of the key")
    fix = some_update("distributed by a part of the key")
    with pytest.raises(DeclarationError, match="set changes shop, which identifies the row"):
        replace(fix, change=Update("item", set={"shop": 3}))


def test_a_table_that_is_partitioned_too(cluster: Database) -> None:
    cluster.execute(
        "CREATE TABLE item (id integer PRIMARY KEY, shop integer, v text, amount numeric, at timestamptz) PARTITION BY RANGE (id)",
        "SELECT create_distributed_table('item', 'id')",
        "CREATE TABLE item_1 PARTITION OF item FOR VALUES FROM (0) TO (1000)",
    )
    fixes.create_audit_table(cluster, "item", "item_audit")
    with pytest.raises(
        WrongTarget, match=r"public\.item is a table of Citus that is partitioned, too"
    ) as refused:
        fixes.apply(cluster, many_update(BY_KEY))
    assert "Fix its partitions" in refused.value.hint


def test_a_table_that_is_distributed_by_ranges(cluster: Database) -> None:
    cluster.execute(
        "CREATE TABLE item (id integer PRIMARY KEY, shop integer, v text, amount numeric, at timestamptz)",
        "SELECT create_distributed_table('item', 'id', 'range')",
    )
    fixes.create_audit_table(cluster, "item", "item_audit")
    with pytest.raises(WrongTarget, match="distributed in a way that is not known here"):
        fixes.apply(cluster, many_update(BY_KEY))


def test_triggers(cluster: Database) -> None:
    lay(cluster, "Citus-local")
    cluster.execute(
        "CREATE FUNCTION along() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$",
        "CREATE TRIGGER along BEFORE UPDATE ON item FOR EACH ROW EXECUTE FUNCTION along()",
    )
    with pytest.raises(WrongTarget, match="is a table of Citus with triggers"):
        fixes.apply(cluster, some_update("Citus-local"))


def test_a_fix_through_a_worker(cluster: Database, worker: Database) -> None:
    lay(cluster, BY_KEY)
    before = contents(cluster)
    words = r"this server is a worker of Citus, and public\.item is fixed through the coordinator"
    with pytest.raises(UnsafeTransaction, match=words):
        fixes.apply(worker, some_update(BY_KEY))
    with pytest.raises(UnsafeTransaction, match=words):
        fixes.create_audit_table(worker, "item", "item_audit2")
    assert contents(cluster) == before


@kinds
def test_transactions_in_doubt(cluster: Database, worker: Database, kind: str) -> None:
    lay(cluster, kind)
    fixes.apply(cluster, some_update(kind))
    after = contents(cluster)
    with in_doubt(worker):
        with pytest.raises(UnsafeTransaction, match=r"are in doubt.*citus_77_1_2_3") as refused:
            fixes.apply(cluster, many_update(kind))
        assert "recover_prepared_transactions" in refused.value.hint
        with pytest.raises(UnsafeTransaction, match=r"are in doubt.*citus_77_1_2_3"):
            fixes.revert(cluster, some_update(kind))
    assert contents(cluster) == after
    fixes.revert(cluster, some_update(kind))


@kinds
def test_a_row_that_begins_to_refer_meanwhile(cluster: Database, kind: str) -> None:
    """Its transaction ends after the fix has begun: the fix waits for it, and looks then."""
    lay_child(cluster, kind)
    refuses_what_begins_to_refer(cluster, some_delete(kind))


def test_what_a_trigger_on_a_shard_writes_elsewhere(cluster: Database, worker: Database) -> None:
    """The coordinator knows of neither."""
    lay(cluster, BY_KEY)
    before = contents(cluster)
    [(shard,)] = cluster.rows(
        "SELECT min(shard_name::text) FROM citus_shards WHERE table_name = 'item'::regclass"
        f" AND nodeport = {worker.address.port}"
    )
    local = "SET citus.enable_ddl_propagation = off; "
    worker.execute(
        f"{local} CREATE TABLE noted (id integer)",
        f"{local} CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.noted VALUES (NEW.id);"
        " RETURN NEW; END $$",
        f"{local} CREATE TRIGGER note BEFORE UPDATE ON {shard} FOR EACH ROW EXECUTE FUNCTION note()",
    )
    try:
        with pytest.raises(
            OthersWouldChange, match=rf"on the workers of Citus.*: noted on .*:{worker.address.port}$"
        ):
            fixes.apply(cluster, many_update(BY_KEY))
        assert contents(cluster) == before
        assert worker.value("SELECT count(*) FROM noted") == 0
    finally:
        worker.execute(f"{local} DROP FUNCTION note() CASCADE", f"{local} DROP TABLE noted")
