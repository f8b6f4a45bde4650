"""``datafixes export``."""

from pathlib import Path

import click

from datafixes.audit.chain import forms
from datafixes.audit.chain.exporting import export
from datafixes.audit.chain.verifying import Ledger
from datafixes.audit.history import the_schema
from datafixes.audit.wording import counted
from datafixes.cli.asking import schema_option
from datafixes.cli.project_options import Where, pass_where


@click.command(epilog="Example: datafixes export 3 run-3    Later: datafixes verify-audit --export run-3")
@click.argument("runs", metavar="[RUN]...", nargs=-1, type=click.IntRange(min=1))
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--all", "all_runs", is_flag=True, help="All sealed runs.")
@click.option("--jsonl", is_flag=True, help="The images as JSON lines, too, which are not part of the proof.")
@schema_option
@pass_where
def command(  # noqa: PLR0913 - one for each option
    where: Where, runs: tuple[int, ...], directory: Path, all_runs: bool, jsonl: bool, schema: str | None
) -> None:
    """Write sealed runs to DIRECTORY: their images as CSV, and what proves them without a database.

    The manifest holds the whole chain, and the keys and lines of these runs. Masks do not apply.
    """
    if all_runs == bool(runs):
        raise click.UsageError("Name runs, or --all.")
    with where.project().reading() as connection:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        for statement in forms.SETTINGS:
            connection.exec_driver_sql(statement)
        ledger = Ledger(connection, the_schema(connection, schema))
        number = export(ledger, None if all_runs else runs, directory, jsonl=jsonl)
    click.echo(f"Wrote {counted(number, 'run')} to {directory}", err=True)
