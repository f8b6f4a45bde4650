"""``datafixes plan``."""

import shlex
from pathlib import Path

import click

from datafixes.cli.main import DIFFERENT, OK, UNPLANNABLE
from datafixes.cli.output import format_options, show, view_of, view_options, write
from datafixes.cli.project_options import Where, pass_where


@click.command(
    # -1 is a revision, as in Alembic
    context_settings={"ignore_unknown_options": True},
    epilog="Example: datafixes plan --format markdown    Down: datafixes plan --downgrade 014",
)
@click.argument("revision", default="head")
@click.option("--downgrade", is_flag=True, help="Plan a downgrade to REVISION, and show conflicts.")
@view_options
@format_options
@click.option("--json", "beside", metavar="FILE", help="Write the same plan to FILE as JSON, too.")
@pass_where
def command(  # noqa: PLR0913 - one for each option
    where: Where,
    revision: str,
    downgrade: bool,
    rows: int | None,
    mask: tuple[str, ...],
    form: str,
    output: str | None,
    beside: str | None,
) -> int:
    """Show what an upgrade to REVISION (default: head) will do to which rows.

    The scripts of the upgrade run in a transaction that is rolled back and cannot be committed; each fix is also
    reverted in it, as a proof. Exit code 3: a fix would be refused, or could not be reverted. Exit code 4: nothing
    would be refused, but a revision cannot be planned before an earlier one is committed.
    """
    from datafixes.doctor.plugin import warning_of
    from datafixes.plan.making import make_plans
    from datafixes.plan.wish import Wish
    from datafixes.report.json_format import to_json
    from datafixes.report.plans import document_of_plans, plans_as_json
    from datafixes.running.execution import limits_of

    project = where.project()
    view = view_of(project.settings, rows, mask, form)
    project.heads()  # fails first if there is no project
    if project.fixes() and (warning := warning_of(Path(project.scripts.dir))):
        click.echo(warning, err=True)
    said = (("decline", project.settings.decline), ("on_conflict", project.settings.on_conflict))
    flags = tuple(
        f"-x {shlex.quote(f'{name}={project.settings.shown(name)}')}" for name, value in said if value
    )
    wish = Wish(revision, downgrade, view, limits_of(project.settings), flags)
    plans = make_plans(project.config, wish, lambda line: click.echo(line, err=True))
    if beside:  # first, so that whoever finds the other file finds both
        write(to_json(plans_as_json(plans)), beside)
    show(lambda: document_of_plans(plans), lambda: plans_as_json(plans), form, output)
    if not all(plan.is_sound for plan in plans):
        return DIFFERENT
    return OK if all(plan.is_whole for plan in plans) else UNPLANNABLE
