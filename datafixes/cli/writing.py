"""Shared by the commands that write a revision for something that the ledger knows."""

from pathlib import Path

from datafixes.plan.making import runs_for_schemas
from datafixes.project import CHOSEN, Project
from datafixes.revisions.placing import Place, write_revision
from datafixes.revisions.template import in_template, takes_a_name


def only_for(project: Project, ledger: str) -> str:
    """The schema whose run does it: the one of the ledger, if env.py runs each revision for several."""
    of_one = ledger != "public" and not takes_a_name(project.scripts)
    return ledger if of_one and runs_for_schemas(Path(project.scripts.dir, "env.py")) else ""


def put(project: Project, place: Place, text: str) -> None:
    """Write a revision as the project's template has it."""
    chosen = project.config.attributes.get(CHOSEN, "")
    write_revision(project.scripts, place, in_template(text, place, project.config, project.scripts, chosen))
