"""``datafixes report``."""

from typing import Any

import click

from datafixes.cli.asking import schema_option
from datafixes.cli.output import FORMATS, view_options
from datafixes.cli.show import command as show_run


@click.command(epilog="Example: datafixes report 1 --output run-1.html")
@click.argument("run", type=click.IntRange(min=1))
@schema_option
@view_options
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="html", show_default=True, help="Output format."
)
@click.option("--output", "-o", metavar="FILE", help="Write to FILE instead of stdout.")
@click.pass_context
def command(ctx: click.Context, /, **asked: Any) -> None:
    """Write one RUN as a page: a single file for readers without a database. It loads nothing from the network."""
    ctx.invoke(show_run, **asked)
