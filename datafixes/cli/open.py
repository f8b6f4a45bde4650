"""``datafixes open``."""

import click
from sqlalchemy.engine import Connection

from datafixes.audit.changes import View
from datafixes.audit.history import OpenFix, open_fixes, the_schema
from datafixes.audit.obstacles import obstacles
from datafixes.audit.retention import given_up
from datafixes.audit.running import readable
from datafixes.cli.asking import schema_option
from datafixes.cli.main import DIFFERENT, OK
from datafixes.cli.output import format_options, show
from datafixes.cli.project_options import Where, pass_where
from datafixes.declaration.recalled import RecalledFix
from datafixes.errors import DatafixError
from datafixes.project import Project
from datafixes.report.open import InForce, document_of_open, open_as_json
from datafixes.running.reverting import Revert


@click.command(epilog="Example: datafixes open    In SQL, without comparing: SELECT * FROM datafix_open;")
@click.option(
    "--try/--no-try",
    "attempt",
    default=None,
    help="Run each revert and roll it back, which locks its rows; or only list the fixes.",
)
@schema_option
@format_options
@pass_where
def command(where: Where, attempt: bool | None, schema: str | None, form: str, output: str | None) -> int:
    """List the fixes in force, and whether each can still be reverted.

    Its rows are compared with their images; nothing is locked. Exit code 3: a fix cannot be reverted at present, and
    not because its copies were given up.
    """
    project = where.project()
    with project.reading() as connection:
        ledger = the_schema(connection, schema)
        found, running = open_fixes(connection, ledger), readable(connection, ledger)
        gone = [given_up(connection, ledger, fix.run_id) for fix in found]
        compared = (
            [] if attempt is not None else [_compare(connection, project, fix, ledger) for fix in found]
        )
    if attempt is not None:
        compared = [_try(project, fix, ledger) if attempt else (None, "") for fix in found]
    fixes = [InForce(fix, *how, one) for fix, how, one in zip(found, compared, gone, strict=True)]
    show(
        lambda: document_of_open(fixes, compared=attempt is None, running=running),
        lambda: open_as_json(fixes, tried=attempt is True, running=running),
        form,
        output,
    )
    return DIFFERENT if any(one.is_stuck for one in fixes) else OK


def _compare(
    connection: Connection, project: Project, found: OpenFix, ledger: str
) -> tuple[bool | None, str]:
    """Whether the rows of a fix can be restored, and why not; None if they cannot be read."""
    try:
        with connection.begin_nested():
            why = obstacles(connection, ledger, found.run_id, View(masks=project.settings.mask))
    except DatafixError as denied:
        return None, denied.one_line()
    return not why, why


def _try(project: Project, found: OpenFix, ledger: str) -> tuple[bool, str]:
    """Whether a fix can be reverted, and why not, according to the ledger alone."""
    from datafixes.plan.trial import try_revert

    fix = RecalledFix(found.fix, found.run_id, ledger)
    with project.connection() as connection:
        refused = try_revert(connection, fix, Revert(run=found.run_id), project.settings)
    return (True, "") if refused is None else (False, refused.one_line())
