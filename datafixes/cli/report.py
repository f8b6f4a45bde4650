"""``datafixes report``."""

import click

from datafixes.cli.asking import ledger_of, read_run, schema_option
from datafixes.cli.output import FORMATS, show, view_of, view_options
from datafixes.cli.project_options import Where, pass_where


@click.command(epilog="Example: datafixes report 1 --output run-1.html")
@click.argument("run", type=click.IntRange(min=1))
@schema_option
@view_options
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="html", show_default=True, help="How it looks."
)
@click.option("--output", "-o", metavar="FILE", help="Write there instead of stdout.")
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
    """Write one RUN as a page: a single file for people who have no database. It loads nothing from anywhere."""
    project = where.project()
    with project.reading() as connection:
        ledger = ledger_of(connection, schema)
        document, value = read_run(connection, ledger, run, view_of(project.settings, rows, mask, form))
    show(document, value, form, output)
