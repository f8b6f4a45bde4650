"""``datafixes seal``."""

import click

from datafixes.audit.history import ledger_schemas, the_schema
from datafixes.audit.wording import counted
from datafixes.cli.asking import schema_option
from datafixes.cli.project_options import Where, pass_where


@click.command(epilog="Example: datafixes seal && datafixes anchor > anchor.json")
@schema_option
@pass_where
def command(where: Where, schema: str | None) -> None:
    """Seal every finished run that is not sealed yet: add its entry to the chain beside the ledger.

    alembic upgrade does so by itself where env.py calls run_migrations; elsewhere the next run does.
    """
    from datafixes.running.sealing import seal  # Alembic is slow to import

    project = where.project()
    with project.connection() as connection:
        with connection.begin():
            schemas = ledger_schemas(connection) if schema is None else []
            schemas = schemas or [the_schema(connection, schema)]
        for one in schemas:
            sealed = 0
            for entry in seal(connection, one, project.settings):
                sealed += 1
                click.echo(f"Run {entry.run_id}: position {entry.position}, head {entry.head}")
            click.echo(f"Ledger {one}: {counted(sealed, 'run')} sealed.", err=True)
