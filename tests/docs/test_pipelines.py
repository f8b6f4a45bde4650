"""The files for GitHub Actions, GitLab CI and a plain shell: linted, and run on a real server, with a forge on this machine."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.forge import BOT, Forge, forge
from tests.docs.jobs import ACTION, COMMIT, FOLDER, GITHUB_JOB, GITLAB, GITLAB_JOB, WORKFLOW, Pipeline, event
from tests.docs.pages import ROOT, blocks
from tests.projects import project_with_fix
from tests.servers import Database

SCHEMAS = {
    ROOT / "action.yml": "vendor.github-actions",
    FOLDER / "github.yml": "vendor.github-workflows",
    FOLDER / "gitlab.yml": "vendor.gitlab-ci",
}
MARK = "<!-- datafixes plan: plan -->\n"
STRANGER = {"id": 1, "login": "stranger"}
OPEN = "SELECT id FROM item WHERE status = 'open' ORDER BY id"


def _scripts() -> Iterator[str]:
    """Everything in these files that a shell runs."""
    for steps in (ACTION["runs"]["steps"], *(job["steps"] for job in WORKFLOW["jobs"].values())):
        yield from (step["run"] for step in steps if "run" in step)
    yield from ("\n".join(job["script"]) for job in GITLAB.values() if "script" in job)


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_a_file_has_the_shape_that_its_service_reads(path: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", SCHEMAS[path], str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


def test_shellcheck_finds_nothing(tmp_path: Path) -> None:
    files = [FOLDER / "plan.sh"]
    for number, text in enumerate(_scripts()):
        files.append(tmp_path / f"{number}.sh")
        files[-1].write_text(f"#!/bin/bash\n{text}\n")
    assert len(files) > 8
    command = [Path(sys.executable).with_name("shellcheck"), *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


def test_nothing_from_outside_becomes_a_part_of_a_script() -> None:
    assert [text for text in _scripts() if "${{" in text] == []


def _within(part: Any, whole: Any) -> bool:
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(_within(value, whole.get(key)) for key, value in part.items())
    if isinstance(part, list):
        return isinstance(whole, list) and all(any(_within(one, other) for other in whole) for one in part)
    return bool(part == whole)


def test_what_the_page_shows_is_in_the_file() -> None:
    [shown] = [yaml.safe_load(block.text) for block in blocks(FOLDER.with_suffix(".md"), "yaml")]
    assert _within(shown, WORKFLOW)


@pytest.fixture
def running() -> Iterator[Forge]:
    with forge() as one:
        yield one


Comment = Callable[..., int | str | None]


@pytest.fixture(params=["github", "gitlab"])
def comment(
    request: pytest.FixtureRequest, running: Forge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Comment:
    """comment.py, in a job of each service: how it ends."""
    api = {"GITHUB_API_URL": running.url, "GITHUB_EVENT_PATH": event(tmp_path / "event", "pull_request")}
    job = GITHUB_JOB | api if request.param == "github" else GITLAB_JOB | {"CI_API_V4_URL": running.url}
    for name, value in job.items():
        monkeypatch.setenv(name, value)
    spec = importlib.util.spec_from_file_location("comment", FOLDER / "comment.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # dataclasses look for the module of their class
    monkeypatch.setitem(sys.modules, "comment", module)
    spec.loader.exec_module(module)

    def keep(*arguments: str) -> int | str | None:
        monkeypatch.setattr(sys, "argv", ["comment.py", *arguments])
        try:
            module.main()
        except SystemExit as ended:
            return ended.code
        return 0

    return keep


def test_there_is_one_comment_and_it_is_ours(comment: Comment, running: Forge, tmp_path: Path) -> None:
    plan = tmp_path / "plan.md"
    plan.write_text("## One")
    strangers = [
        running.say(f"{MARK}All is fine.", STRANGER),
        *(running.say("x", STRANGER) for _ in range(120)),
    ]
    running.say("Another tool of the same account.")
    assert comment(str(plan)) == 0
    assert comment(str(plan), "billing") == 0
    plan.write_text("## Two")
    assert comment(str(plan)) == 0
    one, two = running.comments[122:]
    assert one["body"].startswith(
        f"{MARK}## Two\nCommit {COMMIT[:12]}, [log](https://forge.example/shop/web/"
    )
    assert two["body"].startswith("<!-- datafixes plan: billing -->\n## One\n")
    assert {other["body"] for other in strangers} == {f"{MARK}All is fine.", "x"}


def test_a_plan_that_is_not_there_replaces_the_one_before(
    comment: Comment, running: Forge, tmp_path: Path
) -> None:
    running.say(f"{MARK}## Plan of an earlier commit")
    assert comment(str(tmp_path / "plan.md")) == 0
    [only] = running.comments
    assert only["body"].startswith(f"{MARK}## No plan\n\n**It failed: see the log.**\n\nCommit {COMMIT[:12]}")


def test_what_the_forge_refuses_is_a_line(comment: Comment, running: Forge, tmp_path: Path) -> None:
    running.refuses = True
    said = comment(str(tmp_path / "plan.md"))
    assert isinstance(said, str)
    assert said.startswith("comment.py: the forge answered 403 ")
    assert "`permissions: pull-requests: write`" in said
    assert "\n" not in said
    assert "T0KEN" not in said


@pytest.fixture
def pipeline(tmp_path: Path, database: Database, running: Forge) -> Pipeline:
    """A project with a fix of two rows, which has not run."""
    (tmp_path / "checkout").mkdir()
    project = project_with_fix(tmp_path / "checkout", database)
    return Pipeline(project, running, database.url.replace("+psycopg2", ""))


def test_a_pull_request_is_checked_and_planned(pipeline: Pipeline) -> None:
    assert pipeline.action("pull_request") == 0, pipeline.log
    [comment] = pipeline.forge.comments
    assert comment["user"] == BOT
    assert comment["body"].startswith(f"{MARK}## Plan: upgrade to head")
    assert pipeline.outputs["digest"] in comment["body"]
    assert pipeline.summary.startswith("## Plan: upgrade to head")
    # One that would be refused is shown, and hands nothing on.
    pipeline.project.database.execute("UPDATE item SET symbol = 'OTHER' WHERE id = 2")
    pipeline.project.revision("c", "b", 'op.execute("DELETE FROM item")', top="# No fix.")
    assert pipeline.action("pull_request") == 3
    assert "::error " in pipeline.log  # by check; the plan is there all the same
    assert [comment] == pipeline.forge.comments
    assert "b would be refused" in comment["body"]
    assert "b would be refused" in pipeline.summary
    assert pipeline.outputs == {}
    # Of a server that does not answer there is no plan.
    pipeline.url = "postgresql://postgres:hunter2@127.0.0.1:1/nowhere"
    assert pipeline.action("pull_request") != 0
    assert "## No plan" in comment["body"]
    assert pipeline.outputs == {}
    assert pipeline.summary.startswith("## datafixes check")  # and nothing of a plan
    assert "## Plan" not in pipeline.summary
    assert "hunter2" not in pipeline.log
    assert pipeline.deploy() != 0
    assert "REVISION: there is no plan" in pipeline.log
    # A fork's pull request has no secrets.
    pipeline.url, pipeline.forge.asked, pipeline.log = "", [], ""
    assert pipeline.action("pull_request") == 3
    assert "::error " in pipeline.log
    assert pipeline.forge.asked == []


def test_a_deploy_of_github_is_bound_to_its_plan(pipeline: Pipeline) -> None:
    assert pipeline.action("push") == 0, pipeline.log
    assert pipeline.forge.asked == []
    drift(pipeline)
    assert pipeline.deploy() == 0, pipeline.log
    assert pipeline.project.database.rows(OPEN) == [(3,)]


def drift(pipeline: Pipeline) -> None:
    """A row is another one meanwhile, and then as before."""
    pipeline.project.database.execute("UPDATE item SET amount = 11 WHERE id = 1")
    deploy = pipeline.deploy if "digest" in pipeline.outputs else lambda: pipeline.job("deploy")
    assert deploy() != 0
    assert "the rows are not those that were planned" in pipeline.log
    assert pipeline.project.database.rows(OPEN) == [(1,), (2,), (3,)]
    pipeline.project.database.execute("UPDATE item SET amount = 10 WHERE id = 1")


def test_gitlab_does_the_same(pipeline: Pipeline) -> None:
    assert pipeline.job("check") == 0, pipeline.log
    assert pipeline.job("review") == 0, pipeline.log
    [comment] = pipeline.forge.comments
    assert comment["body"].startswith(f"{MARK}## Plan: upgrade to head")
    assert pipeline.job("deploy") != 0
    assert "there is no plan" in pipeline.log
    assert pipeline.job("plan") == 0, pipeline.log
    drift(pipeline)
    assert pipeline.job("deploy") == 0, pipeline.log
    assert pipeline.project.database.rows(OPEN) == [(3,)]


def test_where_no_run_was_planned_none_is_allowed(pipeline: Pipeline) -> None:
    assert pipeline.project.alembic("upgrade", "head").code == 0
    assert pipeline.job("plan") == 0
    assert pipeline.project.alembic("downgrade", "a").code == 0
    assert pipeline.job("deploy") != 0
    assert "Nothing was changed" in pipeline.log
    assert pipeline.project.database.rows(OPEN) == [(1,), (2,), (3,)]


def test_a_plan_that_ends_early_is_deployed_as_far_as_it_goes(pipeline: Pipeline) -> None:
    alone = 'with op.get_context().autocommit_block():\n    op.execute("CREATE INDEX CONCURRENTLY i ON item (status)")'
    pipeline.project.revision("c", "b", alone, top="# No fix.")
    for revision, digest in (("b", 16), ("c", 0)):
        assert pipeline.job("plan") == 0, pipeline.log
        assert "plan.sh: not all of it could be planned" in pipeline.log
        assert pipeline.outputs["PLAN_REVISION"] == revision
        assert len(pipeline.outputs["PLAN_DIGEST"]) == digest
        assert pipeline.project.alembic("upgrade", revision).code == 0
