"""``datafixes verify-audit``."""

import click

from datafixes.audit.chain import forms
from datafixes.audit.chain.anchors import compare, read_anchors
from datafixes.audit.chain.verifying import Ledger
from datafixes.audit.history import ledger_schemas, the_schema
from datafixes.audit.wording import place
from datafixes.cli.asking import schema_option
from datafixes.cli.main import DIFFERENT, OK
from datafixes.cli.output import format_options, show
from datafixes.cli.project_options import Where, pass_where
from datafixes.report.audit import Verified, as_json, document


@click.command(epilog="Example: datafixes verify-audit --anchor anchors.json")
@click.option(
    "--anchor", "anchors", metavar="FILE", multiple=True, help="Lines of datafixes anchor, kept elsewhere."
)
@schema_option
@format_options
@pass_where
def command(where: Where, anchors: tuple[str, ...], schema: str | None, form: str, output: str | None) -> int:
    """Prove, run by run, that the ledger and all images are as they were sealed.

    The images are read and hashed here, so nothing that the server computes is believed. Nothing is locked.
    Exit code 3: something is not as it was sealed, or a chain is not the anchored one.
    """
    kept = read_anchors(anchors)
    with where.project().reading() as connection:
        # What is sealed meanwhile is not half seen.
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        for statement in forms.SETTINGS:
            connection.exec_driver_sql(statement)
        schemas = ledger_schemas(connection) if schema is None else []
        ledgers = [Ledger(connection, one) for one in schemas or [the_schema(connection, schema)]]
        chains = [ledger.entries for ledger in ledgers]
        found = Verified(
            place(connection.engine.url),
            tuple((ledger.schema, ledger.entries, tuple(ledger.verdicts())) for ledger in ledgers),
            tuple((anchor, compare(anchor, chains)) for anchor in kept),
        )
    show(lambda: document(found), lambda: as_json(found), form, output)
    return OK if found.is_fine else DIFFERENT
