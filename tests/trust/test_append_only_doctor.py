"""``datafixes doctor`` finds what weakens the protection of audit tables, and whom it cannot stop."""

from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import answer
from tests.projects import Project, project_with_fix
from tests.servers import Database


@pytest.fixture
def project(tmp_path: Path, database: Database) -> Project:
    return project_with_fix(tmp_path, database)


def told(project: Project, check: str, *more: str) -> list[dict[str, Any]]:
    return [one for one in answer(project, *more, "doctor", code=None)["findings"] if one["check"] == check]


def test_all_is_well_but_that_one_role_does_everything(project: Project) -> None:
    [found] = told(project, "append-only")
    assert (found["state"], found["evidence"]) == ("good", "4 tables refuse UPDATE, DELETE and TRUNCATE.")
    [owner] = told(project, "owner")
    assert owner["state"] == "attention"
    assert "postgres runs fixes and owns the copies" in owner["evidence"]


@pytest.mark.parametrize(
    ("done", "state", "words", "remedy"),
    [
        (
            "ALTER TABLE item_audit DISABLE TRIGGER datafix_append_only", "bad",
            "The trigger datafix_append_only of public.item_audit is not ENABLE ALWAYS",
            "ALTER TABLE public.item_audit ENABLE ALWAYS TRIGGER datafix_append_only",
        ),
        (
            "ALTER TABLE datafix_run_table ENABLE REPLICA TRIGGER datafix_finished", "bad",
            "The trigger datafix_finished of public.datafix_run_table is not ENABLE ALWAYS",
            "ALTER TABLE public.datafix_run_table ENABLE ALWAYS TRIGGER datafix_finished",
        ),
        (
            "CREATE RULE swallow AS ON INSERT TO item_audit DO INSTEAD NOTHING", "bad",
            "public.item_audit has the rule swallow", "DROP RULE swallow ON public.item_audit",
        ),
        (
            "DROP TRIGGER datafix_append_only ON item_audit", "attention",
            "Not protected against changes: public.item_audit.", "In a migration: op.protect_audit_table('item_audit')",
        ),
        (
            "CREATE OR REPLACE FUNCTION datafix_append_only() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
            "bad", "public.datafix_append_only() is not the one of this version",
            "In a migration: op.protect_audit_table('item_audit')",
        ),
    ],
)  # fmt: skip
def test_what_weakens_it_is_found_with_its_remedy(
    project: Project, done: str, state: str, words: str, remedy: str
) -> None:
    project.database.execute(done)
    [found] = told(project, "append-only")
    assert (found["state"], found["remedy"]) == (state, remedy)
    assert words in found["evidence"]
    if remedy.startswith("In a migration: "):
        project.revision("c", "a", remedy.partition(": ")[2], top="# Protect.")
        assert project.alembic("upgrade", "c").code == 0
    else:
        project.database.execute(remedy)
    [found] = told(project, "append-only")
    assert found["state"] == "good"


def test_who_may_replace_the_function(project: Project) -> None:
    project.database.execute("CREATE ROLE stranger", "ALTER FUNCTION datafix_append_only() OWNER TO stranger")
    [found] = told(project, "append-only")
    assert "stranger may replace the function public.datafix_append_only()" in found["evidence"]
    project.database.execute(found["remedy"], "DROP ROLE stranger")


def test_grants_that_the_triggers_do_not_cover(project: Project) -> None:
    project.database.execute(
        "CREATE ROLE helper", "GRANT TRIGGER ON item_audit TO helper", "GRANT INSERT ON item_audit TO PUBLIC"
    )
    found = told(project, "copies")
    assert {(one["state"], one["remedy"]) for one in found} == {
        ("bad", "REVOKE INSERT ON public.item_audit FROM PUBLIC"),
        ("bad", 'REVOKE TRIGGER ON public.item_audit FROM "helper"'),
    }
    project.database.execute(*(one["remedy"] for one in found), "DROP ROLE helper")
