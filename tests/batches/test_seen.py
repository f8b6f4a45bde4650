"""What the ledger's commands and views say of a fix in batches: while it runs, when it died, and when it has ended."""

from pathlib import Path

from tests.batches.many import ROWS, many_project
from tests.batches.test_operator import half_applied
from tests.cli.commands import answer, datafixes
from tests.projects import STOCK_ENV
from tests.servers import Database

BY = "by postgres."


def test_history_tells_how_far_it_is_and_that_nobody_works(tmp_path: Path, database: Database) -> None:
    project = half_applied(tmp_path, database)

    text = " ".join(datafixes(project, "history").out.split())
    assert "double_many (run 1): running 8 of ~16 batches, 500 of 1,000 rows, last progress " in text
    assert BY in text
    [running] = answer(project, "history")["running"]
    assert (running["rows_done"], running["rows_total"], running["alive"]) == (500, ROWS, True)
    runs = answer(project, "history")["runs"]
    assert [(run["outcome"], run["rows_changed"]) for run in runs] == [("failed", 0), ("running", 500)]

    database.execute("UPDATE datafix_range SET beat = beat - interval '41 min'")
    text = " ".join(datafixes(project, "history").out.split())
    assert (
        "double_many (run 1): half applied 8 of ~16 batches, 500 of 1,000 rows, no worker since 41 min, by"
        in text
    )
    assert "alembic upgrade n. To take it back: alembic -x undo=double_many upgrade head." in text
    assert "running" not in text.partition("In batches")[0]
    dead = "half applied, 8 of ~16 batches, 500 of 1,000 rows, no worker since 41 min"
    assert dead in " ".join(datafixes(project, "show", "1").out.split())
    assert dead.replace("applied,", "applied") in " ".join(datafixes(project, "open").out.split())
    assert answer(project, "history")["running"][0]["alive"] is False


def test_show_has_the_rows_of_all_batches_so_far_and_in_the_end(tmp_path: Path, database: Database) -> None:
    project = half_applied(tmp_path, database)

    shown = answer(project, "show", "1")
    assert (shown["run"]["outcome"], shown["run"]["batches"], shown["progress"]["rows_done"]) == (
        "running",
        8,
        500,
    )
    [changes] = shown["changes"]
    assert changes["updated"] == 500
    assert {row["key"]: row["columns"][0]["after"]["text"] for row in changes["rows"]} == {
        str(3 * n): str(2 * n) for n in range(1, 501)
    }
    assert "(480 of 500 rows not shown)" in datafixes(project, "show", "1").out

    assert project.alembic("upgrade", "head").code == 0
    shown = answer(project, "show", "1")
    assert (shown["run"]["outcome"], shown["progress"]) == ("applied", None)
    [changes] = shown["changes"]
    assert (changes["updated"], len(changes["rows"])) == (ROWS, ROWS)
    assert all(
        (one["name"], int(one["after"]["text"]) == 2 * int(one["before"]["text"])) == ("v", True)
        for one in (row["columns"][0] for row in changes["rows"])
    )
    text = " ".join(datafixes(project, "show", "1", "--rows", "2").out.split())
    assert f" Batches {shown['run']['batches']} " in text
    assert "audit_run_id IN (SELECT run_id FROM datafix_run WHERE 1 IN (run_id, part_of))" in " ".join(
        text.split()
    )


def test_a_batch_names_its_run(tmp_path: Path, database: Database) -> None:
    project = half_applied(tmp_path, database)
    [(part,)] = database.rows("SELECT min(run_id) FROM datafix_run WHERE part_of = 1")

    ran = datafixes(project, "show", str(part))
    assert (ran.code, ran.err) == (1, f"FAILED: Run {part} is a batch of run 1. datafixes show 1.\n")
    [change, *_] = answer(project, "row", "many", "3")["changes"]
    assert (change["run_id"], change["fix"]) == (1, "double_many")


def test_open_lists_the_fix_once_and_compares_all_of_its_rows(tmp_path: Path, database: Database) -> None:
    project = half_applied(tmp_path, database)
    opened = answer(project, "open")
    assert (opened["fixes"], opened["running"][0]["fix"]) == ([], "double_many")
    assert "double_many (run 1): running 8 of ~16 batches" in " ".join(datafixes(project, "open").out.split())

    assert project.alembic("upgrade", "head").code == 0
    [fix] = answer(project, "open")["fixes"]
    assert (fix["run_id"], fix["rows_changed"], fix["can_be_reverted"]) == (1, ROWS, True)

    database.execute("UPDATE many SET v = -1 WHERE id IN (3, 2997)")
    [fix] = answer(project, "open", code=3)["fixes"]
    assert fix["why"] == "2 rows of public.many cannot be restored: 3 changed since, 2997 changed since."


def test_a_report_is_of_the_whole_run(tmp_path: Path, database: Database) -> None:
    project = many_project(tmp_path, database)
    assert project.alembic("upgrade", "head").code == 0

    page = datafixes(project, "report", "1", "--format", "markdown", "--rows", "2000").out

    assert f"applied: {ROWS} updated." in page
    assert all(str(2 * n) in page for n in (1, 500, ROWS))
    assert page.count("updated") > ROWS


def test_doctor_tells_in_a_project_with_another_env_file(tmp_path: Path, database: Database) -> None:
    project = half_applied(tmp_path, database)
    project.env(STOCK_ENV)
    project.revision("beside", "a", "op.execute('CREATE TABLE beside ()')")

    [found] = [
        one for one in answer(project, "doctor", code=None)["findings"] if one["check"] == "in batches"
    ]
    assert (found["state"], found["evidence"].startswith("double_many (run 1): running 8 of ~16 batches")) == (
        "attention", True,
    )  # fmt: skip

    # Alembic asks nobody before it runs another step: its command would undo the revision below, and succeed.
    assert project.alembic("upgrade", "beside").code == 0
    assert "no other revision is to be upgraded or downgraded" in " ".join(
        datafixes(project, "history").out.split()
    )

    database.execute("UPDATE datafix_range SET beat = beat - interval '41 min'")
    ran = datafixes(project, "doctor", "--format", "json")
    assert ran.code == 3
    assert "half applied 8 of ~16 batches, 500 of 1,000 rows, no worker since 41 min." in ran.out
    assert "alembic -x undo=double_many upgrade head" in ran.out


def test_an_auditor_who_reads_the_views_alone_sees_that_it_runs(tmp_path: Path, database: Database) -> None:
    project = half_applied(tmp_path, database)
    database.execute("CREATE ROLE auditor LOGIN", "GRANT SELECT ON datafix_history TO auditor")

    ran = datafixes(project, "-x", f"url={database.url_for(role='auditor')}", "history")

    assert (ran.code, "running" in ran.out) == (0, True), ran.err
