"""Promise 6: whoever changes what runs wrote is found out, even by somebody who owns every table."""

from itertools import combinations
from pathlib import Path

import pytest

from tests.cli.commands import datafixes
from tests.servers import Database
from tests.tampering import PROTECTED, UNPROTECTED
from tests.trust.audits import CHAIN, anchor, backup, compared, forge, states, three_runs, verified

FINE = {1: "proven", 2: "proven", 3: "proven"}

ATTACKS: dict[str, tuple[tuple[str, ...], dict[int, str]]] = {
    "an image is changed": (
        ("UPDATE item_audit SET amount = amount + 1 WHERE audit_run_id = 1 AND audit_image = 'before' AND id = 1",),
        {1: "differs"},
    ),
    "its time is changed": (
        ("UPDATE item_audit SET audit_recorded_at = audit_recorded_at - interval '1 day' WHERE audit_id = 1",),
        {1: "differs"},
    ),
    "an image is removed": (
        ("DELETE FROM item_audit WHERE audit_run_id = 2 AND audit_image = 'after' AND id = 2",),
        {2: "removed"},
    ),
    "an image is added to an old run": (
        (
            "INSERT INTO item_audit (id, symbol, status, amount, audit_run_id, audit_image)"
            " VALUES (3, 'SPY', 'open', 1, 1, 'before')",
        ),
        {1: "added"},
    ),
    "an image is added to no run": (
        ("INSERT INTO item_audit (id, audit_run_id, audit_image) VALUES (3, 9, 'before')",),
        {9: "added"},
    ),
    "two are swapped between runs": (
        (
            "UPDATE item_audit SET audit_run_id = 4 - audit_run_id"
            " WHERE audit_run_id IN (1, 3) AND audit_image = 'before' AND id = 1",
        ),
        {1: "differs", 3: "differs"},
    ),
    "one is moved to another run": (
        ("UPDATE item_audit SET audit_run_id = 3 WHERE audit_id = 1",),
        {1: "removed", 3: "added"},
    ),
    "a line of the ledger is rewritten": (
        ("UPDATE datafix_run SET applied_by = 'somebody' WHERE run_id = 1",),
        {1: "differs"},
    ),
    "a line of a table of a run is rewritten": (
        ("UPDATE datafix_run_table SET rows_updated = 1 WHERE run_id = 2",),
        {2: "differs"},
    ),
    "a run is removed": (
        (
            "DELETE FROM item_audit WHERE audit_run_id = 2",
            "DELETE FROM datafix_run_table WHERE run_id = 2",
            "DELETE FROM datafix_run WHERE run_id = 2",
        ),
        {2: "removed"},
    ),
    "a run is removed, and its entry": (
        (
            "DELETE FROM item_audit WHERE audit_run_id = 2",
            "DELETE FROM datafix_run_table WHERE run_id = 2",
            "DELETE FROM datafix_run WHERE run_id = 2",
            "DELETE FROM datafix_chain WHERE run_id = 2",
        ),
        {3: "broken"},
    ),
    "an entry is removed": (("DELETE FROM datafix_chain WHERE run_id = 1",), {1: "unsealed", 2: "broken"}),
    "an entry is rewritten": (("UPDATE datafix_chain SET sealed_at = '2020-01-01' WHERE run_id = 2",), {2: "broken"}),
    "the key of a run is exchanged": (
        ("UPDATE datafix_key SET key = decode(repeat('00', 32), 'hex') WHERE run_id = 1",),
        {1: "differs"},
    ),
    "ALTER COLUMN ... USING": (
        (
            "DROP VIEW item_audit_changes CASCADE",
            "ALTER TABLE item_audit ALTER COLUMN symbol TYPE text USING 'FORGED'",
        ),
        {1: "differs", 2: "differs", 3: "differs"},
    ),
    "a column of the audit table is dropped": (
        ("ALTER TABLE item_audit DROP COLUMN note CASCADE",),
        {1: "differs", 2: "differs", 3: "differs"},
    ),
    "the audit table is dropped": (
        ("DROP TABLE item_audit CASCADE",),
        {1: "removed", 2: "removed", 3: "removed"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_found_and_named(tmp_path: Path, database: Database, attack: str) -> None:
    project = three_runs(tmp_path, database)
    assert states(project) == FINE
    statements, expected = ATTACKS[attack]
    forge(database, *statements)
    gone = {2: "removed"} if attack == "a run is removed, and its entry" else {}
    found = states(project, code=3)
    assert {run: state for run, state in found.items() if state != "proven"} == expected
    assert set(found) == (FINE.keys() | expected.keys()) - gone.keys()
    # who reads the terminal is told as much
    ran = datafixes(project, "verify-audit")
    assert ran.code == 3
    assert all(f"Run {run}" in ran.out and state in ran.out for run, state in expected.items())


def test_a_change_under_which_the_old_checksum_stays_is_found(tmp_path: Path, database: Database) -> None:
    # The sum is the same, whichever of two images holds which amount: a revert would mix them up.
    project = three_runs(tmp_path, database)
    checksum = """
        SELECT sum(hash_record_extended(ROW(id, symbol, status, note,
                   CASE WHEN num_nulls(amount) = 0 THEN concat(amount) END, audit_image, audit_id), 0))
          FROM item_audit WHERE audit_run_id = {}"""
    noted = dict(database.rows("SELECT run_id, images_digest FROM datafix_run_table"))
    assert {run: database.value(checksum.format(run)) for run in noted} == noted
    for run, column in ((run, column) for run in noted for column in ("amount", "symbol", "status")):
        images = database.rows(f"SELECT audit_id, {column}::text FROM item_audit WHERE audit_run_id = {run}")
        for (one, its), (other, own) in combinations(images, 2):
            swap = f"UPDATE item_audit SET {column} = CASE audit_id WHEN %s THEN %s ELSE %s END WHERE audit_id IN (%s, %s)"
            if its == own:
                continue
            values = [f"(SELECT {column} FROM item_audit WHERE audit_id = {n})" for n in (other, one)]
            forge(database, swap % (one, *values, one, other))
            if database.value(checksum.format(run)) == noted[run]:
                assert states(project, code=3) == {**FINE, run: "differs"}
                return
            forge(database, swap % (one, *values, one, other))
    pytest.fail("no two images were found")


def test_the_newest_run_cut_off_is_found_by_an_anchor(tmp_path: Path, database: Database) -> None:
    project = three_runs(tmp_path, database)
    kept = anchor(project, tmp_path / "anchor.json")
    assert compared(project, kept) == ["matches"]
    forge(
        database,
        "DELETE FROM item_audit WHERE audit_run_id = 3",
        *(
            f"DELETE FROM {table} WHERE run_id = 3"
            for table in ("datafix_run_table", "datafix_run", "datafix_chain")
        ),
    )
    assert states(project) == {1: "proven", 2: "proven"}  # nothing in the database tells
    assert compared(project, kept, code=3) == ["beyond the end"]
    assert "cut off" in datafixes(project, "verify-audit", "--anchor", str(kept)).out


def test_a_chain_that_was_rewritten_as_a_whole_is_found_by_an_anchor(
    tmp_path: Path, database: Database
) -> None:
    project = three_runs(tmp_path, database)
    kept = anchor(project, tmp_path / "anchor.json")
    ledger = database.value("SELECT DISTINCT ledger FROM datafix_chain")
    forge(
        database,
        "UPDATE item_audit SET amount = 7 WHERE audit_id = 1",
        "DELETE FROM datafix_chain WHERE position > 1",
    )
    # As the tool itself would write it, over the changed images, under the old name of the ledger.
    forge(database, "DELETE FROM datafix_chain")
    assert datafixes(project, "seal").code == 0
    assert set(states(project).values()) == {"proven"}
    assert compared(project, kept, code=3) == ["another ledger"]
    rewrite(database, ledger)
    assert set(states(project).values()) == {"proven"}
    assert compared(project, kept, code=3) == ["another head"]


def rewrite(database: Database, ledger: str) -> None:
    """Give the chain the name of another one, and each entry the head that follows."""
    from dataclasses import replace

    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    from datafixes.audit.chain.entries import literals, read_entries

    with create_engine(database.url, poolclass=NullPool).connect() as connection:
        entries, previous = read_entries(connection, "public"), ""
        connection.exec_driver_sql(UNPROTECTED.replace("%", "%%"))
        connection.exec_driver_sql("DELETE FROM datafix_chain")
        for entry in entries:
            entry = replace(entry, ledger=ledger, previous=previous)
            previous = entry.computed_head
            values = ", ".join(literals(replace(entry, head=previous)))
            connection.exec_driver_sql(f"INSERT INTO datafix_chain VALUES ({values})".replace("%", "%%"))
        connection.exec_driver_sql(PROTECTED.replace("%", "%%"))
        connection.commit()


def test_an_older_dump_is_found_by_an_anchor_and_a_fork_by_two(tmp_path: Path, database: Database) -> None:
    project = three_runs(tmp_path, database)
    early = anchor(project, tmp_path / "early.json")
    dump = backup(database)
    assert project.alembic("downgrade", "a").code == 0
    late = anchor(project, tmp_path / "late.json")
    assert compared(project, early, late) == ["matches", "matches"]
    # The dump comes back in the place of the database.
    database.execute("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    database.psql(dump, "-q", "-v", "ON_ERROR_STOP=1")
    assert compared(project, early, late, code=3) == ["matches", "beyond the end"]
    # It goes on by itself: two heads at one position.
    assert project.alembic("downgrade", "a").code == 0
    fork = anchor(project, tmp_path / "fork.json")
    assert compared(project, early, late, fork, code=3) == ["matches", "another head", "matches"]
    assert set(states(project).values()) == {"proven"}


def test_a_file_that_is_no_anchor_proves_nothing(tmp_path: Path, database: Database) -> None:
    project = three_runs(tmp_path, database)
    for text in (
        "",
        "{}",
        '{"version": 1, "kind": "anchor"}',
        "not json",
        '{"version": 2, "kind": "anchor"}',
    ):
        (tmp_path / "kept").write_text(text, "utf-8")
        ran = datafixes(project, "verify-audit", "--anchor", str(tmp_path / "kept"))
        assert ran.code == 1, text
        assert len(ran.err.splitlines()) == 1
    assert datafixes(project, "verify-audit", "--anchor", str(tmp_path / "nowhere")).code == 1


def test_a_forged_head_beside_changed_columns_does_not_match(tmp_path: Path, database: Database) -> None:
    project = three_runs(tmp_path, database)
    kept = anchor(project, tmp_path / "anchor.json")
    forge(database, "UPDATE datafix_chain SET line = repeat('0', 64) WHERE position = 3")
    told = verified(project, kept, code=3)
    assert [one["is"] for one in told["anchors"]] == ["another head"]
    assert database.rows(CHAIN)[-1][2] == told["ledgers"][0]["head"]
