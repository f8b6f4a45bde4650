"""Copies that were given up are not missed, if the chain proves the run that gave them up; and those that come back are named."""

from pathlib import Path

from tests.cli.commands import datafixes
from tests.servers import Database
from tests.trust.audits import forge, states, three_runs, verified

PRUNED = """
ALTER TABLE datafix_run DROP CONSTRAINT datafix_run_outcome_check;
INSERT INTO datafix_run (fix, direction, outcome, started_at, finished_at, engine, declaration)
VALUES ('prune item_audit', 'apply', 'pruned', clock_timestamp(), clock_timestamp(), '1',
        '{"gives_up": {"audit_table": "item_audit", "runs": [{"run": 1}, {"run": 2}]}}')
"""
"""The line of a run that gives copies up."""

GO = "DELETE FROM item_audit WHERE audit_run_id IN (1, 2)"
AFTER = {1: "pruned", 2: "pruned", 3: "proven", 4: "proven"}


def test_what_was_given_up_is_not_missed(tmp_path: Path, database: Database) -> None:
    project = three_runs(tmp_path, database)
    copies = database.rows("SELECT * FROM item_audit WHERE audit_run_id = 1 ORDER BY audit_id")
    forge(database, PRUNED, GO)
    # Not on the word of a line alone.
    assert states(project, code=3) == {1: "removed", 2: "removed", 3: "proven", 4: "new"}
    assert datafixes(project, "seal").code == 0
    assert states(project) == AFTER
    assert database.rows("SELECT run_id, kind FROM datafix_chain ORDER BY position")[2:] == [
        (3, "run"),
        (4, "pruned"),
    ]
    [first, *_] = verified(project)["ledgers"][0]["runs"]
    assert first["why"] == ["4 images in public.item_audit: given up by run 4."]
    # Nor if somebody adds another run to that line.
    forge(
        database,
        "DELETE FROM item_audit WHERE audit_run_id = 3",
        """UPDATE datafix_run SET declaration = jsonb_set(declaration, '{gives_up,runs,2}', '{"run": 3}') WHERE run_id = 4""",
    )
    assert states(project, code=3) == {1: "removed", 2: "removed", 3: "removed", 4: "differs"}
    assert len(copies) == 4


def test_what_comes_back_is_named(tmp_path: Path, database: Database) -> None:
    project = three_runs(tmp_path, database)
    database.execute("CREATE TABLE kept AS SELECT * FROM item_audit WHERE audit_run_id = 1")
    forge(database, PRUNED, GO)
    assert datafixes(project, "seal").code == 0
    forge(database, "INSERT INTO item_audit OVERRIDING SYSTEM VALUE SELECT * FROM kept")
    told = verified(project, code=3)["ledgers"][0]["runs"]
    assert {one["run_id"]: one["state"] for one in told} == {**AFTER, 1: "added"}
    assert told[0]["why"] == ["4 images in public.item_audit came back, which run 4 gave up."]
    forge(database, "UPDATE item_audit SET status = 'x' WHERE audit_run_id = 1")
    assert len(verified(project, code=3)["ledgers"][0]["runs"][0]["why"]) == 2
