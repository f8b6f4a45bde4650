"""The plan of a fix in batches: it makes one of them, keeps nothing, and binds the upgrade."""

from pathlib import Path

import pytest

from tests.batches.many import FIX, ROWS, is_whole, many_project
from tests.cli.commands import answer, datafixes
from tests.servers import Database


def test_it_makes_one_batch_and_keeps_nothing(tmp_path: Path, database: Database) -> None:
    project = many_project(tmp_path, database)
    before = database.dump()

    plan = answer(project, "plan")

    assert (plan["fine"], plan["refusal"], plan["unplannable"]) == (True, None, None)
    [run] = plan["steps"][0]["runs"]
    batches = run["in_batches"]
    assert (batches["rows"], batches["size"], batches["count"], batches["done"]) == (ROWS, 100, 10, 0)
    assert batches["bounds"] == ["3", str(3 * ROWS)]
    assert 0 < batches["tried"] <= 100
    assert batches["ranges"] == 8
    assert batches["wal"] > batches["copies"] > ROWS * 2 * 28
    [changes] = run["changes"]
    assert changes["updated"] == ROWS
    cells = {
        cell["name"]: (cell["before"]["text"], cell["after"]["text"])
        for cell in changes["rows"][0]["columns"]
    }
    assert cells["v"] == ("1", "2")
    assert run["reversal"]["proven"]
    assert f"restored {batches['tried']} rows, bit for bit" in run["reversal"]["words"]
    assert database.dump() == before


def test_people_read_how_many_batches_and_how_long(tmp_path: Path, database: Database) -> None:
    ran = datafixes(many_project(tmp_path, database), "plan")

    words = " ".join(ran.out.split())
    assert ran.code == 0
    assert "about 10 of at most 100 rows, in 8 ranges; keys 3 to 3000" in words
    assert " of WAL, " in words
    assert "1000 updated" in words
    assert "Can be reverted ✓ yes: the revert of one batch was run" in words


def test_it_locks_the_rows_of_one_batch_only_and_not_for_longer(tmp_path: Path, database: Database) -> None:
    project = many_project(tmp_path, database)
    with database.connect() as other, other.cursor() as cursor:
        cursor.execute("SELECT FROM many WHERE id > 900 FOR UPDATE")

        plan = answer(project, "-x", "lock_timeout=100ms", "plan")

        assert plan["fine"]
        cursor.execute("SELECT FROM many WHERE id = 3 FOR UPDATE")
        blocked = answer(project, "-x", "lock_timeout=100ms", "plan", code=3)
        assert blocked["refusal"]["sqlstate"] in ("55P03", "")
    other.close()


def test_the_digest_binds_the_upgrade_before_its_first_batch(tmp_path: Path, database: Database) -> None:
    project = many_project(tmp_path, database)
    digest = answer(project, "plan")["digest"]
    assert digest == answer(project, "plan")["digest"]
    for change, back in (
        ("INSERT INTO many VALUES (3001, 1)", "DELETE FROM many WHERE id = 3001"),
        ("UPDATE many SET id = 1 WHERE id = 3", "UPDATE many SET id = 3 WHERE id = 1"),
    ):
        database.execute(change)
        before = database.dump()
        ran = project.alembic("-x", f"plan={digest}", "upgrade", "head")
        assert ran.code != 0
        assert "the rows are not those that were planned" in ran.last_line
        assert database.dump("public.datafix_run") == {
            name: rows for name, rows in before.items() if name != "public.datafix_run"
        }
        assert database.value("SELECT count(*) FROM datafix_run WHERE outcome <> 'failed'") == 0
        database.execute(back)

    ran = project.alembic("-x", f"plan={digest}", "upgrade", "head")

    assert (ran.code, project.versions) == (0, {"n"}), ran.err
    assert is_whole(database)


def test_an_upgrade_that_was_stopped_goes_on_with_the_same_plan(tmp_path: Path, database: Database) -> None:
    project = many_project(tmp_path, database)
    digest = answer(project, "plan")["digest"]
    database.execute("ALTER TABLE many ADD CONSTRAINT small CHECK (v < 1500)")
    assert project.alembic("-x", f"plan={digest}", "upgrade", "head").code != 0
    database.execute("ALTER TABLE many DROP CONSTRAINT small")
    done = int(database.value("SELECT count(*) FROM many WHERE done"))

    plan = answer(project, "plan")
    batches = plan["steps"][0]["runs"][0]["in_batches"]
    assert (batches["done"], plan["digest"]) == (done, digest)

    ran = project.alembic("-x", f"plan={digest}", "upgrade", "head")
    assert (ran.code, project.versions) == (0, {"n"}), ran.err
    assert is_whole(database)


def test_rows_that_fit_into_one_batch_are_planned_as_one_transaction(
    tmp_path: Path, database: Database
) -> None:
    project = many_project(tmp_path, database, f"rows={ROWS}")

    plan = answer(project, "plan")

    [run] = plan["steps"][0]["runs"]
    assert (run["outcome"], run["in_batches"], run["rows_changed"]) == ("applied", None, ROWS)
    ran = project.alembic("-x", f"plan={plan['digest']}", "upgrade", "head")
    assert ran.code == 0, ran.err


def test_what_comes_behind_it_cannot_be_planned_before_the_batches_are_committed(
    tmp_path: Path, database: Database
) -> None:
    project = many_project(tmp_path, database)
    project.revision("o", "n", 'op.execute("ALTER TABLE many ADD CHECK (done)")')

    plan = answer(project, "plan", code=4)

    assert [step["revision"] for step in plan["steps"]] == ["n"]
    assert plan["unplannable"]["revision"] == "o"
    assert "in batches" in plan["unplannable"]["message"]
    assert "alembic upgrade n" in plan["unplannable"]["hint"]


@pytest.mark.parametrize("wrong", ["ensure", "number"])
def test_a_batch_that_would_be_refused_is_a_refusal(wrong: str, tmp_path: Path, database: Database) -> None:
    text = FIX.format(batches="rows=100")
    top = (
        text.replace('ensure="done"', 'ensure="v > 2"')
        if wrong == "ensure"
        else text.replace("100_000", "999")
    )

    plan = answer(many_project(tmp_path, database, top=top), "plan", code=3)

    assert plan["refusal"]["revision"] == "n"
    assert ("v > 2" if wrong == "ensure" else "found 1000 rows") in plan["refusal"]["message"]


def test_a_condition_that_leaves_out_most_rows_is_a_warning(tmp_path: Path, database: Database) -> None:
    project = many_project(tmp_path, database)
    assert answer(project, "plan")["steps"][0]["runs"][0]["in_batches"]["warnings"] == []
    database.execute(
        "UPDATE many SET done = n % 30 <> 0 FROM (SELECT id / 3 AS n, id AS i FROM many) AS x WHERE i = id",
        "VACUUM ANALYZE many",
    )
    project.revision(
        "n", "m", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=FIX.format(batches="rows=10")
    )

    batches = answer(project, "plan")["steps"][0]["runs"][0]["in_batches"]

    assert "the condition leaves out the others" in batches["warnings"][0]
    assert "of many" in batches["reading"]
