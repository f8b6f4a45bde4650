"""``datafixes history``."""

import click

from datafixes.audit.history import history, known_fixes, ledger_schemas, the_schema
from datafixes.audit.running import readable
from datafixes.cli.asking import schema_option
from datafixes.cli.output import format_options, show
from datafixes.cli.project_options import Where, pass_where
from datafixes.declaration.project_fixes import nearest
from datafixes.errors import DatafixError
from datafixes.report.progress import progress_as_json
from datafixes.report.runs import document_of_history, run_as_json


@click.command(
    epilog="Example: datafixes history --fix close_phantom_positions    In SQL: SELECT * FROM datafix_history;"
)
@click.option("--fix", metavar="NAME", help="Only the runs of this fix.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Maximum number of runs."
)
@schema_option
@format_options
@pass_where
def command(  # noqa: PLR0913 - one for each option
    where: Where, fix: str | None, limit: int, schema: str | None, form: str, output: str | None
) -> None:
    """List all runs of all fixes, newest first: what ran, who ran it, and the outcome."""
    from datafixes.doctor.stamped import find_stamped

    project = where.project()
    with project.reading() as connection:
        stamped = [] if fix is not None else find_stamped(project, connection)
        if stamped and not ledger_schemas(connection):
            runs, running = [], []
        else:
            ledger = the_schema(connection, schema)
            runs = history(connection, ledger, limit=limit, fix=fix)
            running = [one for one in readable(connection, ledger) if fix in (None, one.fix)]
        if fix is not None and not runs:
            raise DatafixError(
                f"The ledger has no run of a fix {fix}.{nearest(fix, known_fixes(connection, ledger))}"
            )
    show(
        lambda: document_of_history(runs, limit, stamped, running),
        lambda: {
            "version": 1,
            "kind": "history",
            "runs": [run_as_json(run) for run in runs],
            "running": [progress_as_json(one) for one in running],
            "stamped_past": [vars(one) for one in stamped],
        },
        form,
        output,
    )
