"""``datafixes verify``."""

import os
import re
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial

import click

from datafixes.book.compare.reconciling import open_broker, reconcile
from datafixes.book.report.verify import checklist_as_json, document_of_checklist
from datafixes.book.rows.book import read_book
from datafixes.book.settings import COMPARED, BookSettings
from datafixes.book.thread import Unfinished, within
from datafixes.book.verify import checklist
from datafixes.book.verify.aws import Deployment, redeploy
from datafixes.book.verify.ledger import Expected
from datafixes.book.verify.log_lines import ERRORS_NAME, usual_wait
from datafixes.book.verify.verifying import Question, identity_line, look
from datafixes.cli.asking import given, schema_option
from datafixes.cli.main import DIFFERENT, FAILED, OK
from datafixes.cli.output import format_options, show
from datafixes.cli.project_options import Where, pass_where
from datafixes.database.aws_client import Aws
from datafixes.errors import DatafixError
from datafixes.settings.pipeline import pipeline_of
from datafixes.settings.values import Duration

INTERRUPTED = 130

_NEEDED = {
    "ledger": (),
    "broker": COMPARED,
    "logs": ("log_group",),
    "service": ("ecs_cluster", "ecs_service", "task_revision"),
}
"""The parts of the check, and the settings that each needs."""

_USUAL = "as long as it takes"


def _time(_ctx: click.Context, _option: click.Parameter, text: str | None) -> Duration | str | None:
    """A length of time; ``10m`` is ten minutes too. The default follows from the settings."""
    if text == _USUAL:
        return text
    try:
        return None if text is None else Duration.parse(re.sub(r"(?<=\d)\s*m$", "min", text.strip()))
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a length of time: write 90s, 10m or 1h.") from None


def _account(_ctx: click.Context, _option: click.Parameter, text: str | None) -> str | None:
    """The number of an AWS account."""
    if text is not None and not re.fullmatch("[0-9]{12}", text):
        raise click.BadParameter(f"{text!r} is not an AWS account number: write its 12 digits.")
    return text


@click.command(epilog="Example: datafixes verify --expect-rows 7 --wait")
@click.option("--fix", callback=given, metavar="NAME", help="Fix to check (default: newest in force).")
@click.option(
    "--expect-rows", type=click.IntRange(min=0), metavar="N", help="Number of rows that it must have changed."
)
@click.option(
    "--wait",
    callback=_time,
    is_flag=False,
    flag_value=_USUAL,
    metavar="[TIME]",
    help="Repeat until all is green (default: log_window + 2min).",
)
@click.option(
    "--skip",
    type=click.Choice(tuple(_NEEDED)),
    multiple=True,
    metavar="PART",
    help="Skip a part: ledger, broker, logs, service.",
)
@click.option(
    "--redeploy", "new_deployment", is_flag=True, help="Force a new deployment of the service first."
)
@click.option("--yes", is_flag=True, help="Do not ask before --redeploy.")
@click.option(
    "--aws-account", callback=_account, metavar="ID", help="Red if the credentials are of another account."
)
@schema_option
@format_options
@pass_where
def command(  # noqa: PLR0913 - one for each option
    where: Where,
    fix: str | None,
    expect_rows: int | None,
    wait: Duration | str | None,
    skip: tuple[str, ...],
    new_deployment: bool,
    yes: bool,
    aws_account: str | None,
    schema: str | None,
    form: str,
    output: str | None,
) -> int:
    """Check after a deploy: the fix, book against broker, the log, the service.

    Exit code 0: all is green. 3: something is red. 1: something is unknown.
    """
    if set(skip) == set(_NEEDED):
        raise click.UsageError("Nothing is left to check: skip fewer parts.")
    if (fix is not None or expect_rows is not None) and "ledger" in skip:
        raise click.UsageError("--fix and --expect-rows need the ledger, which --skip ledger skips.")
    if new_deployment:
        _check_may_redeploy(skip, yes)
    question = _question(where, skip, aws_account, Expected(fix, expect_rows, schema))
    try:
        if new_deployment:
            question = replace(question, deployment=_redeploy(question, yes))
        time = usual_wait(question.settings) if isinstance(wait, str) else wait
        patience = checklist.Patience(time.seconds if time else 0)
        found = checklist.look_until_green(partial(look, question), patience, partial(click.echo, err=True))
        _warn_if_short(question, wait, found)
    except KeyboardInterrupt:
        if question.deployment is None:
            raise
        click.echo("Interrupted: the new deployment goes on. Next: datafixes verify --wait", err=True)
        return INTERRUPTED
    show(lambda: document_of_checklist(found), lambda: checklist_as_json(found), form, output)
    return OK if found.is_green else DIFFERENT if found.is_red else FAILED


def _warn_if_short(question: Question, wait: Duration | str | None, found: checklist.Checklist) -> None:
    """Warn of a wait shorter than log_window, in which an old error stays visible."""
    settings = question.settings
    is_short = isinstance(wait, Duration) and 0 < wait.milliseconds <= settings.log_window.milliseconds
    if is_short and any(line.name == ERRORS_NAME and line.state == "bad" for line in found.lines):
        click.echo(
            f"--wait {wait} is not longer than log_window ({settings.log_window}): an error from before the wait may "
            f"stay in the log window until its end. Wait longer: --wait {usual_wait(settings)}",
            err=True,
        )


def _check_may_redeploy(skip: tuple[str, ...], yes: bool) -> None:
    """Refuse a deployment without consent."""
    if "service" in skip:
        raise click.UsageError("--redeploy cannot be combined with --skip service.")
    in_pipeline = bool(pipeline_of(os.environ)[0] or os.environ.get("CI"))
    if not yes and (in_pipeline or sys.stdin is None or not sys.stdin.isatty()):
        raise click.UsageError("--redeploy asks for consent, and stdin is not a terminal: add --yes.")


def _question(where: Where, skip: tuple[str, ...], account: str | None, expected: Expected) -> Question:
    project = where.project()
    settings = BookSettings.of(project.settings)
    settings.need(*(name for part, names in _NEEDED.items() if part not in skip for name in names))
    for setting in ("broker_ignore", "log_streams"):
        settings.check_accounts(setting)
    return Question(
        project,
        read_book,
        lambda project: reconcile(project, open_broker(settings)),
        expected,
        frozenset(skip),
        account=account,
        aws=Aws(settings.engine.aws_region),
    )


def _redeploy(question: Question, yes: bool) -> Deployment:
    """Begin a new deployment, after showing the AWS identity."""
    try:
        identity = within(checklist.LONGEST_LOOK, lambda: identity_line(question), checklist.FAREWELL)
    except Unfinished:
        raise DatafixError(
            f"No new deployment was begun: AWS does not answer within {checklist.LONGEST_LOOK:.3g} s"
        ) from None
    if identity is not None and identity.state != "good":
        raise DatafixError(f"No new deployment was begun: {identity.text}", hint=identity.remedy)
    settings = question.settings
    if identity is not None:
        click.echo(identity.text, err=True)
    # Older versions of click write the last character of a prompt to stdout even with err=True.
    with redirect_stdout(sys.stderr):
        asked = f"Force a new deployment of {settings.ecs_service} in {settings.ecs_cluster}?"
        agreed = yes or click.confirm(asked, err=True)
    if not agreed:
        raise DatafixError("No new deployment was begun: the answer was no.")
    try:
        deployment = redeploy(question.aws, settings)
    except KeyboardInterrupt:
        click.echo("Interrupted: it is unknown whether the new deployment was begun.", err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None
    click.echo(f"Began {deployment.id or 'a new deployment'} of {settings.ecs_service}.", err=True)
    return deployment
