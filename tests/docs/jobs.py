"""Runs the jobs of the files for GitHub Actions and GitLab CI as the runners of these services do."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.docs.forge import Forge
from tests.docs.pages import ROOT, Reader
from tests.projects import Project

FOLDER = ROOT / "docs/how-to/pipeline"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


ACTION, WORKFLOW, GITLAB = map(_read, (ROOT / "action.yml", FOLDER / "github.yml", FOLDER / "gitlab.yml"))

GITHUB_JOB = {
    "GITHUB_ACTIONS": "true", "GITHUB_ACTION_PATH": str(ROOT), "GITHUB_SERVER_URL": "https://forge.example",
    "GITHUB_REPOSITORY": "shop/web", "GITHUB_RUN_ID": "31", "GITHUB_TOKEN": "T0KEN",
}  # fmt: skip
GITLAB_JOB = {
    "GITLAB_CI": "true", "CI_PROJECT_ID": "5", "CI_MERGE_REQUEST_IID": "7", "CI_COMMIT_SHA": COMMIT,
    "CI_JOB_URL": "https://forge.example/shop/web/-/jobs/31", "GITLAB_TOKEN": "T0KEN",
}  # fmt: skip
"""What every job of these services finds in its environment, but for the API and the event."""


def event(path: Path, name: str) -> str:
    """Write what GitHub says about the event."""
    pull = {"number": 7, "head": {"sha": COMMIT}}
    path.write_text(json.dumps({"pull_request": pull} if name == "pull_request" else {}))
    return str(path)


@dataclass
class Pipeline:
    """A job of one of the services: runs its scripts as its runner does.

    Attributes:
        project: the project that is checked out.
        forge: where comments are.
        url: the database of the jobs.
        outputs: what the steps of the job hand on.
        summary: what the job shows.
        log: what the scripts have printed.
    """

    project: Project
    forge: Forge
    url: str
    outputs: dict[str, str] = field(default_factory=dict)
    summary: str = ""
    log: str = ""

    def shell(self, script: str, environment: dict[str, str], flags: str = "-eo pipefail") -> int:
        """Run a script in the project."""
        reader = Reader(self.project.database, self.project.directory, {"DATABASE_URL": "", **environment})
        path = self.project.directory.parent / "script.sh"
        path.write_text(script)
        done = reader.run(f"exec bash --noprofile --norc {flags} {path}")
        self.log += done.stdout
        return done.returncode

    # GitHub

    def action(self, name: str) -> int:
        """Run the steps of action.yml, and return the exit code of the first that failed."""
        inputs = {name: one["default"] for name, one in ACTION["inputs"].items()}
        inputs |= {"database-url": self.url, "token": "T0KEN"}
        known = {f"inputs.{name}": value for name, value in inputs.items()}
        conditions = {
            None: True,
            "${{ !cancelled() && inputs.database-url != '' }}": bool(self.url),
            "${{ !cancelled() && inputs.database-url != '' && github.event_name == 'pull_request' }}": bool(
                self.url and name == "pull_request"
            ),
        }
        self.outputs, self.summary, failed = {}, "", 0
        for step in ACTION["runs"]["steps"]:
            if conditions[step.get("if")] and not (failed and "if" not in step):
                assert step["working-directory"] == "${{ inputs.working-directory }}"
                given = {name: known[value.strip("${} ")] for name, value in step.get("env", {}).items()}
                failed = self._step(step["run"], given, name) or failed
        forms = {name: one["value"].strip("${} ") for name, one in ACTION["outputs"].items()}
        found = {f"steps.plan.outputs.{name}": value for name, value in self.outputs.items()}
        self.outputs = {name: found[form] for name, form in forms.items() if form in found}
        return failed

    def _step(self, script: str, given: dict[str, str], name: str) -> int:
        directory = self.project.directory.parent
        output, summary = directory / "output", directory / "summary"
        for path in (output, summary):
            path.write_text("")
        code = self.shell(script, {
            **GITHUB_JOB, "GITHUB_API_URL": self.forge.url, "GITHUB_EVENT_PATH": event(directory / "event", name),
            "GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(summary), **given,
        })  # fmt: skip
        self.outputs |= dict(line.split("=", 1) for line in output.read_text().splitlines())
        self.summary += summary.read_text()
        return code

    def deploy(self) -> int:
        """The last step of the workflow's job `deploy`, with what `plan` handed on."""
        job = WORKFLOW["jobs"]["deploy"]
        [handed] = [WORKFLOW["jobs"][name]["outputs"] for name in [job["needs"]]]
        values = {
            f"needs.plan.outputs.{name}": self.outputs.get(form.strip("${} ").rsplit(".", 1)[1], "")
            for name, form in handed.items()
        } | {"secrets.PRODUCTION_URL": self.url}
        step = job["steps"][-1]
        return self.shell(
            step["run"], {name: values[form.strip("${} ")] for name, form in step["env"].items()}
        )

    # GitLab

    def job(self, name: str) -> int:
        """Run the script of a job of GitLab; what it hands on as a dotenv file reaches the next ones."""
        job, ci = GITLAB[name], self.project.directory / "ci"
        ci.mkdir(exist_ok=True)
        for program in ("plan.sh", "comment.py"):
            shutil.copy(FOLDER / program, ci)
        variables = job.get("variables", {})
        assert set(variables.values()) <= {"$COPY_OF_PRODUCTION_URL", "$PRODUCTION_URL"}
        environment = {**GITLAB_JOB, "CI_API_V4_URL": self.forge.url, **dict.fromkeys(variables, self.url)}
        code = self.shell("\n".join(job["script"]), {**environment, **self.outputs})
        handed = job.get("artifacts", {}).get("reports", {}).get("dotenv")
        if handed and (path := self.project.directory / handed).exists():
            self.outputs = dict(line.split("=", 1) for line in path.read_text().splitlines())
        return code
