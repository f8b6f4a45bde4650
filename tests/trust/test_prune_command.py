"""``datafixes prune`` writes a revision for review, and what shows a run says which copies were given up."""

import datetime as dt
from pathlib import Path

import click
import pytest

from datafixes.cli.prune import day_before
from tests.cli.commands import answer, datafixes
from tests.projects import Project
from tests.servers import Database
from tests.trust.test_prune import LATER, images, project

__all__ = ["project"]


def written(project: Project, *arguments: str) -> str:
    ran = datafixes(project, "prune", "item_audit", *arguments, "--rev-id", "d")
    assert ran.code == 0, ran.err
    return Path(ran.out.strip()).read_text("utf-8")


def test_it_writes_a_revision_and_changes_nothing(project: Project) -> None:
    database = project.database
    before, schema = database.dump(), database.schema()
    text = written(project, "--older-than", LATER, "--reason", "Two years are over.")
    assert (database.dump(), database.schema()) == (before, schema)
    assert (
        'def upgrade() -> None:\n    op.prune_audit(\n        "item_audit",\n        older_than="2099-01-01",\n'
        '        keep="open",\n        reason="Two years are over.",\n    )\n'
    ) in text
    assert "def downgrade() -> None:\n    pass" in text
    assert datafixes(project, "check").code == 0
    told = datafixes(project, "plan")
    assert told.code == 0, told.out + told.err
    assert "Copies of 2 runs are given up." in told.out
    assert "d Give up copies in item_audit of runs before 2099-01-01. Copies given up" in told.out
    [plan] = [answer(project, "plan")]
    assert plan["steps"][0]["gives_up"] == [
        {"run_id": 1, "fix": "close_items", "images": 4},
        {"run_id": 2, "fix": "close_items", "images": 4},
    ]
    assert database.dump() == before
    ran = project.alembic("upgrade", "d")
    assert ran.code == 0, ran.err
    assert "audit table item_audit: copies of 2 runs given up, 8 images (run 4)" in ran.err
    assert images(database) == {3: 2}
    assert "copies of 2 runs" not in datafixes(project, "plan").out


def test_what_shows_a_run_says_that_its_copies_were_given_up(project: Project) -> None:
    written(project, "--older-than", LATER)
    assert project.alembic("upgrade", "d").code == 0
    today = dt.datetime.now(dt.UTC).date()
    told = f"copies in item_audit given up on {today} by run 4"
    assert answer(project, "show", "1")["copies_given_up"] == told
    assert told.replace("copies", "Copies") in " ".join(datafixes(project, "show", "1").out.split())
    assert answer(project, "show", "3")["copies_given_up"] == ""
    of_it = answer(project, "show", "4")
    assert (of_it["run"]["outcome"], of_it["copies_given_up"]) == ("pruned", "")
    assert [(one["run_id"], one["images"]) for one in of_it["gave_up"]] == [(1, 4), (2, 4)]
    assert "pruned: copies of 2 runs given up, 8 images." in datafixes(project, "show", "4").out
    assert "pruned" in datafixes(project, "history").out
    refused = datafixes(project, "revert", "4")
    assert "changed nothing (outcome pruned), so there is nothing to undo" in refused.err
    refused = datafixes(project, "revert", "close_items", "--of", "a")
    assert refused.code == 1


def test_a_revert_of_what_was_given_up_is_not_even_written(project: Project) -> None:
    written(project, "--older-than", LATER, "--keep", "none")
    assert project.alembic("upgrade", "d").code == 0
    refused = datafixes(project, "revert", "mark")
    assert refused.code == 1
    assert "run 3 cannot be reverted: copies in item_audit given up on" in refused.err
    assert "Nothing was written." in refused.err


def test_nothing_to_give_up_writes_nothing(project: Project) -> None:
    ran = datafixes(project, "prune", "item_audit", "--older-than", "1 day")
    assert (ran.code, ran.out) == (0, "")
    assert "can be given up: nothing was written" in ran.err
    assert len(list((project.directory / "migrations/versions").glob("*prune*"))) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("item_audits", "--older-than", LATER), 1, "The schema public has no audit table item_audits. Did you mean item_audit?"),
        (("item_audit", "--older-than", "long ago"), 2, "'long ago' is neither an age (2 years, 90 days) nor a date"),
        (("item_audit",), 2, "Missing option '--older-than'"),
    ],
)  # fmt: skip
def test_what_it_cannot_understand(
    project: Project, arguments: tuple[str, ...], code: int, words: str
) -> None:
    ran = datafixes(project, "prune", *arguments)
    assert ran.code == code
    assert words in ran.err


def test_ages_are_days_of_the_calendar() -> None:
    option = click.Option(["--older-than"])
    context = click.Context(click.Command("prune"))
    today = dt.datetime.now(dt.UTC).date()
    assert day_before(context, option, "90 days") == today - dt.timedelta(days=90)
    assert day_before(context, option, "2 weeks") == today - dt.timedelta(days=14)
    assert day_before(context, option, "2024-02-29") == dt.date(2024, 2, 29)
    year_ago = day_before(context, option, "12 months")
    assert year_ago == day_before(context, option, "1 year")
    assert (year_ago.year, year_ago.month) == (today.year - 1, today.month)
    for wrong in ("5000 years", "0000-01-01", "2 lightyears"):
        with pytest.raises(click.BadParameter):
            day_before(context, option, wrong)


def test_a_ledger_in_another_schema(tmp_path: Path, database: Database) -> None:
    from tests.projects import FIX, TABLE, new_project

    project = new_project(tmp_path, database)
    database.psql(TABLE, "-v", "ON_ERROR_STOP=1")
    database.execute("CREATE SCHEMA audit")
    project.revision(
        "a", None, 'op.create_audit_table("item", name="item_audit", audit_schema="audit")', top="# Copies."
    )
    top = "fix = " + FIX.replace('audit="item_audit"', 'audit="item_audit", audit_schema="audit"').strip()
    project.revision("b", "a", "op.apply_datafix(fix)", "op.revert_datafix(fix)", top=top)
    assert project.alembic("upgrade", "b").code == 0
    text = written(project, "--older-than", LATER, "--keep", "none")
    assert 'audit_schema="audit"' in text
    assert project.alembic("upgrade", "d").code == 0
    assert database.value("SELECT count(*) FROM audit.item_audit") == 0
