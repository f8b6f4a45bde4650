"""``datafixes redact``."""

import click

from datafixes.audit.chain.forms import columns_of
from datafixes.audit.finding import find
from datafixes.audit.history import ask, the_schema
from datafixes.audit.wording import counted
from datafixes.cli.asking import schema_option
from datafixes.cli.main import OK
from datafixes.cli.project_options import Where, pass_where, place_options
from datafixes.cli.prune import check_audit_table
from datafixes.cli.writing import only_for, put
from datafixes.declaration.project_fixes import nearest
from datafixes.errors import DatafixError
from datafixes.revisions.placing import Wanted, place_for
from datafixes.revisions.redact import Erasure, redact_revision
from datafixes.script.literal import qualified, text
from datafixes.script.tables import AUDIT_COLUMNS, LEDGER_TABLES, MARKS

_OWN = (*AUDIT_COLUMNS, MARKS)


@click.command(
    epilog='Example: datafixes redact customers_audit --where "id = 17" --column email --reason "Request 3."'
)
@click.argument("table", metavar="AUDIT_TABLE")
@click.option(
    "--where", "condition", required=True, metavar="SQL", help="A condition, over the columns of the copies."
)
@click.option("--column", "columns", required=True, multiple=True, metavar="NAME", help="A column to redact.")
@click.option("--reason", required=True, help="Why, without personal data.")
@place_options
@schema_option
@pass_where
def command(  # noqa: PLR0913 - one for each option
    where: Where, table: str, condition: str, columns: tuple[str, ...], reason: str,
    rev_id: str | None, head: str | None, version_path: str | None, schema: str | None,
) -> int:  # fmt: skip
    """Write a revision that erases values in copies: they become NULL, and are marked.

    The condition stays in the revision: name a person by a key. Nothing is erased before the revision runs.
    """
    project = where.project()
    project.heads()  # fails first if there is no readable project
    with project.reading() as connection:
        ledger = the_schema(connection, schema)
        check_audit_table(connection, ledger, table)
        known = [name for name in columns_of(connection, qualified(ledger, table)).types if name not in _OWN]
        if unknown := [name for name in columns if name not in known]:
            told = f"{table} copies no column {', '.join(unknown)}."
            raise DatafixError(f"{told}{nearest(unknown[0], known)}")
        targets = ask(
            connection,
            f"SELECT DISTINCT target_table FROM {qualified(ledger, LEDGER_TABLES)}"
            f" WHERE (parse_ident(audit_table))[2] = {text(table)}",
        )
        found = [
            one
            for (target,) in targets
            for one in find(connection, ledger, target, condition)
            if one.audit_table == qualified(ledger, table)
        ]
    having = {name: sum(one.values.get(name, 0) for one in found) for name in columns}
    if not any(having.values()):
        click.echo(f"No image in {table} has such values: nothing was written.", err=True)
        return OK
    place = place_for(project.scripts, f"redact {table}", Wanted(rev_id, head, version_path))
    erasure = Erasure(table, ledger, condition, columns, " ".join(reason.split()))
    put(project, place, redact_revision(place, erasure, only_for(project, ledger)))
    click.echo(str(place.path))
    values = ", ".join(f"{name} in {counted(number, 'image')}" for name, number in having.items())
    click.echo(f"It redacts {values}. Next: datafixes plan", err=True)
    return OK
