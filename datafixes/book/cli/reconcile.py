"""``datafixes reconcile``."""

import click

from datafixes.book.compare.reconciling import open_broker, reconcile
from datafixes.book.report.reconcile import PROPOSED_WITH, document_of_reconciliation, reconciliation_as_json
from datafixes.book.settings import COMPARED, BookSettings
from datafixes.cli.main import DIFFERENT, FAILED, OK
from datafixes.cli.output import format_options, show
from datafixes.cli.project_options import Where, pass_where


@click.command(epilog="Example: datafixes -x broker=file:positions.json reconcile --account large")
@click.option("--account", metavar="NAME", help="Show only this account (all are read).")
@format_options
@pass_where
def command(where: Where, account: str | None, form: str, output: str | None) -> int:
    """Compare the open positions of the book with those that the broker holds.

    It only reads. Settings: book, book_table, broker, broker_accounts, broker_url, grace (see datafixes where);
    broker_ignore=ACCOUNT:INSTRUMENT excludes an instrument.

    Exit code 0: no differences. 3: differences. 1: an account is unknown, because the broker did not answer in full,
    or rows of the book cannot be compared.
    """
    project = where.project()
    settings = BookSettings.of(project.settings).need(*COMPARED)
    found = reconcile(project, open_broker(settings))
    if account is not None:
        found = found.only(account)
    show(lambda: document_of_reconciliation(found), lambda: reconciliation_as_json(found), form, output)
    kinds = {one.kind for one in found.comparison.differences}
    options = [option for kind, option in PROPOSED_WITH.items() if kind in kinds]
    if options and not found.comparison.unknown:
        click.echo(f"Next: datafixes propose {' '.join(options)}", err=True)
    if not found.is_certain:
        return FAILED
    return DIFFERENT if found.comparison.differences else OK
