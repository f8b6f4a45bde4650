"""``datafixes find-in-audit``."""

import click

from datafixes.audit.finding import find
from datafixes.audit.history import the_schema
from datafixes.cli.asking import schema_option, the_table
from datafixes.cli.output import format_options, show
from datafixes.cli.project_options import Where, pass_where
from datafixes.report.finding import as_json, document


@click.command(
    epilog="Example: datafixes find-in-audit --table customers --where \"email = 'ann@example.org'\""
)
@click.option("--table", required=True, metavar="TABLE", help="The table whose rows were copied.")
@click.option(
    "--where", "condition", required=True, metavar="SQL", help="A condition, over the columns of the copies."
)
@schema_option
@format_options
@pass_where
def command(  # noqa: PLR0913 - one for each option
    where: Where, table: str, condition: str, schema: str | None, form: str, output: str | None
) -> None:
    """Count the images of a person: by run, fix and column. No value is shown.

    Other images of the same rows in the same runs count too: those that op.redact_audit would redact.
    """
    if not condition.strip():
        raise click.UsageError("--where is empty.")
    with where.project().reading() as connection:
        ledger = the_schema(connection, schema)
        target = the_table(connection, ledger, table)
        found = find(connection, ledger, target, condition)
    show(lambda: document(target, found), lambda: as_json(target, found), form, output)
