"""Declared fixes of tables of every kind that Citus has: applied, proven, and taken back."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import psycopg2
import pytest

from datafixes import DataFix
from datafixes.errors import Conflicts, DatafixError, LockNotAvailable
from datafixes.script.frame import Limits
from tests import fixes
from tests.citus_tables import (
    FIXES,
    KINDS,
    MANY,
    contents,
    key_of,
    lay,
    many_update,
    some_insert,
    some_update,
    very_many_delete,
    very_many_update,
)  # fmt: skip
from tests.servers import Database

kinds = pytest.mark.parametrize("kind", KINDS)
BY_KEY = "distributed by the key"
spread = pytest.mark.parametrize("kind", [BY_KEY, "distributed by a part of the key", "single-shard"])


@kinds
@pytest.mark.parametrize("which", FIXES)
def test_a_fix_is_applied_and_taken_back(cluster: Database, kind: str, which: str) -> None:
    lay(cluster, kind)
    before, fix = contents(cluster), FIXES[which](kind)
    fixes.apply(cluster, fix)
    after = contents(cluster)
    changed = {"named": 7, "a number": 20, "deleted": 8, "inserted": 3}[which]
    images = {"named": 14, "a number": 40, "deleted": 8, "inserted": 3}[which]
    assert len(set(before) ^ set(after)) == images
    assert cluster.rows("SELECT outcome, rows_changed FROM datafix_run") == [("applied", changed)]
    assert cluster.value("SELECT count(*) FROM item_audit") == images
    assert cluster.value("SELECT count(DISTINCT key) FROM datafix_show") == changed
    with pytest.raises(DatafixError, match="applied already"):
        fixes.apply(cluster, fix)
    fixes.revert(cluster, fix)
    assert contents(cluster) == before
    fixes.apply(cluster, replace(fix, name="again"))
    assert contents(cluster) == after


@spread
@pytest.mark.parametrize("which", [very_many_update, very_many_delete])
def test_many_rows_are_fixed_where_they_are(
    cluster: Database, kind: str, which: Callable[[str], DataFix]
) -> None:
    """Their copies lie beside them, and so no row goes through the coordinator."""
    lay(cluster, kind)
    cluster.execute(MANY)
    places = "SELECT count(*), count(DISTINCT colocationid) FROM pg_dist_partition WHERE logicalrelid IN ('item'::regclass, 'item_audit'::regclass)"
    assert cluster.rows(places) == [(2, 1)]
    before, fix = contents(cluster), which(kind)
    fixes.apply(cluster, fix)
    after = contents(cluster)
    images = 2500 if which is very_many_delete else 5000
    assert len(set(before) ^ set(after)) == images
    assert cluster.value("SELECT count(DISTINCT audit_id) FROM item_audit") == images
    assert cluster.value("SELECT count(DISTINCT key) FROM datafix_show") == 2500
    fixes.revert(cluster, fix)
    assert contents(cluster) == before
    # numbered by the places of the rows in their shards, and not in a table of the session
    same = " AND ".join(f"a.{column} = t.{column}" for column in key_of(kind))
    places = "(a.audit_id >> 1) & 2047 = (t.ctid::text::point)[1]::integer"
    assert cluster.value(
        f"SELECT count(*) FROM item AS t JOIN item_audit AS a ON {same} WHERE a.audit_run_id ="
        f" (SELECT max(run_id) FROM datafix_run) AND a.audit_image = 'after' AND {places}"
    ) == 2500  # fmt: skip
    fixes.apply(cluster, replace(fix, name="again"))
    assert contents(cluster) == after


@spread
def test_conflicts_among_many_rows(cluster: Database, kind: str) -> None:
    lay(cluster, kind)
    cluster.execute(MANY)
    fix = very_many_update(kind)
    fixes.apply(cluster, fix)
    cluster.execute("UPDATE item SET v = 'theirs' WHERE id = 600", "DELETE FROM item WHERE id = 700")
    after = contents(cluster)
    with pytest.raises(Conflicts, match=r"600(/0)? changed since, 700(/0)? gone"):
        fixes.revert(cluster, fix)
    assert contents(cluster) == after
    fixes.revert(cluster, fix, "skip")
    assert cluster.rows("SELECT id, v FROM item WHERE id IN (600, 700, 800) ORDER BY id") == [
        (600, "theirs"), (800, "v800"),
    ]  # fmt: skip


@kinds
def test_what_is_not_as_expected_changes_nothing(cluster: Database, kind: str) -> None:
    lay(cluster, kind)
    cluster.execute("UPDATE item SET amount = 500 WHERE id = 5")
    before = contents(cluster)
    with pytest.raises(DatafixError, match=r"1 of the 7 expected rows of public\.item is not as expected: 5"):
        fixes.apply(cluster, some_update(kind))
    cluster.execute("DELETE FROM item WHERE id = 40")
    with pytest.raises(DatafixError, match=r"found 19 rows of public\.item, expected 20"):
        fixes.apply(cluster, many_update(kind))
    assert set(before) - set(contents(cluster)) == {row for row in before if row.startswith("(40,")}
    assert cluster.value("SELECT count(*) FROM item_audit") == 0


@kinds
def test_where_none_of_the_rows_exists_it_is_not_applicable(cluster: Database, kind: str) -> None:
    lay(cluster, kind)
    cluster.execute("DELETE FROM item WHERE id <= 21")
    fixes.apply(cluster, some_update(kind))
    assert cluster.value("SELECT outcome FROM datafix_run") == "not_applicable"


@kinds
def test_conflicts_are_named_and_can_be_skipped(cluster: Database, kind: str) -> None:
    lay(cluster, kind)
    fix = some_update(kind)
    fixes.apply(cluster, fix)
    cluster.execute(
        "UPDATE item SET v = 'theirs' WHERE id = 3", "UPDATE item SET at = NULL WHERE id = 5", "DELETE FROM item WHERE id = 8",
    )  # fmt: skip
    after = contents(cluster)
    with pytest.raises(Conflicts, match=r"3.* changed since") as refused:
        fixes.revert(cluster, fix)
    assert "8" in refused.value.message
    assert contents(cluster) == after
    fixes.revert(cluster, fix, "skip")
    now = dict(cluster.rows("SELECT id, v FROM item"))
    assert [now.get(number) for number in (1, 3, 5, 8)] == ["v1", "theirs", "v5", None]
    assert cluster.value("SELECT at FROM item WHERE id = 5") is None


def test_a_row_that_others_inserted_under_its_key_is_not_replaced(cluster: Database) -> None:
    lay(cluster, BY_KEY)
    fix = some_insert(BY_KEY)
    fixes.apply(cluster, fix)
    cluster.execute("UPDATE item SET v = 'theirs' WHERE id = 101")
    with pytest.raises(Conflicts, match="101 changed since"):
        fixes.revert(cluster, fix)


def test_a_few_rows_are_locked_one_by_one(cluster: Database) -> None:
    lay(cluster, BY_KEY)
    with closing(cluster.connect()) as theirs, theirs.cursor() as cursor:
        cursor.execute("UPDATE item SET v = v WHERE id = 7")  # another row: nobody waits
        fixes.apply(cluster, some_update(BY_KEY), limits=Limits("1s", "1min"))
        cursor.execute("UPDATE item SET v = v WHERE id = 8")  # one of the rows
        with pytest.raises(LockNotAvailable, match="lock timeout"):
            fixes.revert(cluster, some_update(BY_KEY), limits=Limits("1s", "1min"))
    fixes.revert(cluster, some_update(BY_KEY))


def test_workers_take_the_time_limits(cluster: Database) -> None:
    lay(cluster, BY_KEY)
    with closing(cluster.connect()) as theirs, theirs.cursor() as cursor:
        cursor.execute("LOCK TABLE item IN ROW EXCLUSIVE MODE")
        with pytest.raises(LockNotAvailable, match="lock timeout"):
            fixes.apply(cluster, many_update(BY_KEY), limits=Limits("1s", "1min"))
    fixes.apply(cluster, many_update(BY_KEY), limits=Limits("1s", "1min"))


@pytest.mark.parametrize("style", ["ISO, MDY", "German, DMY", "SQL, DMY"])
def test_times_keep_every_bit_whatever_the_session_says(cluster: Database, style: str) -> None:
    lay(cluster, BY_KEY)
    before, fix = contents(cluster), some_update(BY_KEY)
    cluster.execute(
        f"ALTER ROLE postgres SET datestyle = '{style}'", "ALTER ROLE postgres SET timezone = 'Asia/Tokyo'"
    )
    try:
        fixes.apply(cluster, fix)
        fixes.revert(cluster, fix)
    finally:
        cluster.execute("ALTER ROLE postgres RESET datestyle", "ALTER ROLE postgres RESET timezone")
    assert contents(cluster) == before


def test_a_worker_whose_session_ends_undoes_all(cluster: Database, worker: Database) -> None:
    """The fix waits for a lock; meanwhile its sessions on a worker end."""
    lay(cluster, BY_KEY)
    before = contents(cluster)
    cluster.execute(
        "CREATE FUNCTION along() RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM run_command_on_workers("
        "'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND application_name "
        "LIKE ''citus_internal%'' AND state = ''idle in transaction'''); RETURN 'x'; END $$",
    )  # fmt: skip
    fix: DataFix = some_update(BY_KEY)
    fix = replace(fix, rows=replace(fix.rows, ensure="v = 'x' AND (SELECT along()) = 'x'"))
    with pytest.raises((DatafixError, psycopg2.Error)):
        fixes.apply(cluster, fix)
    assert contents(cluster) == before
    assert cluster.value("SELECT count(*) FROM datafix_run") == 0
