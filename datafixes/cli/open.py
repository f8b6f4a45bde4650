"""``datafixes open``."""

import click

from datafixes.audit.history import OpenFix, open_fixes, the_schema
from datafixes.cli.asking import schema_option
from datafixes.cli.main import DIFFERENT, OK
from datafixes.cli.output import format_options, show
from datafixes.cli.project_options import Where, pass_where
from datafixes.declaration.recalled import RecalledFix
from datafixes.project import Project
from datafixes.report.runs import document_of_open, run_as_json
from datafixes.running.reverting import Revert


@click.command(epilog="Example: datafixes open    In SQL, without trying: SELECT * FROM datafix_open;")
@click.option("--no-try", is_flag=True, help="Only list the fixes; lock no rows.")
@schema_option
@format_options
@pass_where
def command(where: Where, no_try: bool, schema: str | None, form: str, output: str | None) -> int:
    """List the fixes in force, and whether each can still be reverted.

    Each is tried: its rows are locked and reverted in a transaction that is rolled back. Exit code 3: a fix cannot
    be reverted at present.
    """
    project = where.project()
    with project.reading() as connection:
        ledger = the_schema(connection, schema)
        found = open_fixes(connection, ledger)
    tried = [(fix, *((None, "") if no_try else _try(project, fix, ledger))) for fix in found]
    show(
        lambda: document_of_open(tried),
        lambda: {
            "version": 1,
            "kind": "open",
            "fixes": [{**run_as_json(fix), "can_be_reverted": can, "why": why} for fix, can, why in tried],
        },
        form,
        output,
    )
    return DIFFERENT if any(can is False for _, can, _ in tried) else OK


def _try(project: Project, found: OpenFix, ledger: str) -> tuple[bool, str]:
    """Whether a fix can be reverted, and why not, according to the ledger alone."""
    from datafixes.plan.trial import try_revert

    fix = RecalledFix(found.fix, found.run_id, ledger)
    with project.connection() as connection:
        refused = try_revert(connection, fix, Revert(run=found.run_id), project.settings)
    return (True, "") if refused is None else (False, refused.one_line())
