"""Four writers hammer the table while a fix is applied and reverted: no write is lost, and the images are true."""

from pathlib import Path

import pytest

from tests.faults.deploys import again, deploying, ended, one_clear_line
from tests.faults.writers import ADDED, ALL, DOOMED, FIX, FIXED, TABLE, Writers, writing
from tests.images import whole_images
from tests.projects import Project, Ran, new_project
from tests.servers import Database

OURS, NEIGHBOURS = range(1, FIXED + 1), range(FIXED + 1, ALL + 1)

Rows = dict[int, tuple[str, int, int]]
"""Row → status, amount, hits."""


@pytest.fixture
def project(tmp_path: Path, database: Database) -> Project:
    database.psql(TABLE.format(database.name), "-v", "ON_ERROR_STOP=1")
    project = new_project(tmp_path, database)
    project.revision("a", None, 'op.create_audit_table("item", name="item_audit")')
    project.revision("b", "a", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=f"fix = {FIX.strip()}")
    assert project.alembic("upgrade", "a").code == 0
    return project


# A writer takes two rows in any order, so that a deadlock with the fix is likely; who loses tries again.
PATIENT = ("-x", "lock_attempts=20", "-x", "lock_pause=50ms")


def run(project: Project, *arguments: str) -> Ran:
    with deploying(project, *PATIENT, *arguments) as process:
        return ended(process)


def rows(database: Database) -> Rows:
    found = database.rows("SELECT id, status, amount, hits FROM item")
    return {row: (status, amount, hits) for row, status, amount, hits in found}


def images(database: Database, outcome: str) -> tuple[Rows, Rows]:
    """The before- and the after-images of the one run that came to this."""
    pair: tuple[Rows, Rows] = ({}, {})
    whole = whole_images("public", "item_audit", ("id", "status", "amount", "hits"), ["id"])
    for row, status, amount, hits, image in database.rows(
        f"SELECT i.id, i.status, i.amount, i.hits, i.audit_image FROM {whole} AS i"
        f" JOIN datafix_run AS r ON r.run_id = i.audit_run_id WHERE r.outcome = '{outcome}'"
    ):
        images = pair[image == "after"]
        assert row not in images
        images[row] = (status, amount, hits)
    return pair


def nothing_else_is_lost(writers: Writers, database: Database) -> Rows:
    """What the fix does not write is as the writers left it: each value follows the one before. The rows of the fix."""
    now, written = rows(database), writers.written
    assert now.keys() == {*OURS, *NEIGHBOURS, *DOOMED} - written.deleted | written.inserted
    for row in now:
        assert written.hits[row] == list(range(1, now[row][2] + 1)), row
    for row in now.keys() - set(OURS):
        assert now[row][0] == "open"
        assert written.amounts[row] == list(range(1, now[row][1] + 1)), row
    return {row: now[row] for row in OURS}


def test_c14_c15_a_fix_is_applied_under_fire(project: Project, database: Database) -> None:
    with writing(database, range(1, ALL + 1)) as writers:
        ran = run(project, "upgrade", "head")
    assert ran.code == 0, ran.out + ran.err
    now = nothing_else_is_lost(writers, database)
    before, after = images(database, "applied")
    assert before.keys() == after.keys() == now.keys()
    for row, (status, amount, hits) in before.items():
        assert status == "open"
        assert after[row] == ("closed", amount + ADDED, hits), row
        assert now[row][0] == "closed"
        # What the writer was told before the fix ends with the before-image, and goes on from the after-image.
        assert writers.written.amounts[row] == [
            *range(1, amount + 1), *range(amount + ADDED + 1, now[row][1] + 1)
        ]  # fmt: skip
        assert hits <= now[row][2]
    assert project.outcomes == ["applied"]


def test_c39_a_fix_is_given_back_under_fire_and_keeps_what_others_wrote_elsewhere(
    project: Project, database: Database
) -> None:
    again(project)
    with writing(database, NEIGHBOURS) as writers:
        ran = run(project, "downgrade", "a")
    assert ran.code == 0, ran.out + ran.err
    now = nothing_else_is_lost(writers, database)
    assert {row: values[:2] for row, values in now.items()} == dict.fromkeys(OURS, ("open", 0))
    before, after = images(database, "reverted")
    for row, (status, amount, hits) in before.items():
        assert (status, amount) == ("closed", ADDED)
        assert after[row] == ("open", 0, hits)
    # Most rows had changed in the meantime, so that a comparison of whole rows would have refused.
    assert sum(hits > 0 for *_, hits in before.values()) > FIXED / 4
    assert project.outcomes == ["applied", "reverted"]


def test_c39_a_revert_under_fire_refuses_or_skips_what_changed_and_loses_nothing(
    project: Project, database: Database
) -> None:
    again(project)
    # Seldom enough that it also meets rows that nobody had changed before the revert looked at them.
    with writing(database, [*OURS, *NEIGHBOURS] + [*NEIGHBOURS] * 9) as writers:
        while not any(writers.written.amounts[row] for row in OURS):
            writers.go_on()
        ran = run(project, "downgrade", "a")
        skipped = run(project, "-x", "on_conflict=close_items:skip", "downgrade", "a")
    one_clear_line(ran, f"of {FIXED} rows of public.item cannot be restored", "changed since")
    assert skipped.code == 0, skipped.out + skipped.err
    now = nothing_else_is_lost(writers, database)
    back, after = images(database, "reverted")
    assert 0 < len(back) < FIXED
    assert back.keys() == after.keys()
    for row, (status, amount, _) in now.items():
        # A row that is given back starts again from 0; one that was skipped goes on from what the fix left.
        start = 0 if row in back else ADDED
        assert status == ("open" if row in back else "closed")
        assert writers.written.amounts[row] == list(range(start + 1, amount + 1)), row
    assert project.outcomes == ["applied", "failed", "reverted"]
