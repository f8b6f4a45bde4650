"""``datafixes row``."""

import click

from datafixes.audit.history import row_history, the_schema
from datafixes.audit.keys import key_as_kept, near_keys
from datafixes.cli.asking import schema_option, the_table
from datafixes.cli.output import format_options, show, view_of
from datafixes.cli.project_options import Where, pass_where
from datafixes.errors import DatafixError
from datafixes.report.runs import document_of_row, run_as_json


@click.command(
    context_settings={"ignore_unknown_options": True},  # a key may begin with a hyphen
    epilog="Example: datafixes row active_positions 16    In SQL: SELECT * FROM datafix_row "
    "WHERE target_table = 'public.active_positions' AND key = '16';",
)
@click.argument("table")
@click.argument("key")
@click.option("--mask", metavar="PATTERN", multiple=True, help="Hide values of columns.")
@schema_option
@format_options
@pass_where
def command(  # noqa: PLR0913 - one for each option
    where: Where,
    table: str,
    key: str,
    mask: tuple[str, ...],
    schema: str | None,
    form: str,
    output: str | None,
) -> None:
    """Show every change to the row of TABLE with this KEY (a/b for a key of several columns)."""
    project = where.project()
    view = view_of(project.settings, None, mask, form)
    with project.reading() as connection:
        ledger = the_schema(connection, schema)
        target = the_table(connection, ledger, table)
        changes = row_history(connection, ledger, target, key, view)
        if not changes and (kept := key_as_kept(connection, ledger, target, key)) != key:
            changes = row_history(connection, ledger, target, kept, view)
            key = kept if changes else key
        if not changes:
            near = near_keys(connection, ledger, target, key)
            raise DatafixError(f"No run has changed row {key} of {target}.", hint=near)
    show(
        lambda: document_of_row(target, key, changes),
        lambda: {
            "version": 1, "kind": "row", "table": target, "key": key,
            "changes": [run_as_json(change) for change in changes],
        },
        form,
        output,
    )  # fmt: skip
