"""``datafixes show``."""

import click

from datafixes.audit.history import the_schema
from datafixes.cli.asking import read_run, schema_option
from datafixes.cli.output import format_options, show, view_of, view_options
from datafixes.cli.project_options import Where, pass_where


@click.command(epilog="Example: datafixes show 1    In SQL: SELECT * FROM datafix_show WHERE run_id = 1;")
@click.argument("run", type=click.IntRange(min=1))
@schema_option
@view_options
@format_options
@pass_where
def command(  # noqa: PLR0913 - one for each option
    where: Where,
    run: int,
    schema: str | None,
    rows: int | None,
    mask: tuple[str, ...],
    form: str,
    output: str | None,
) -> None:
    """Show one RUN, row by row: each changed column, before and after."""
    project = where.project()
    with project.reading() as connection:
        ledger = the_schema(connection, schema)
        document, value = read_run(connection, ledger, run, view_of(project.settings, rows, mask, form))
        show(document, value, form, output)
