"""``datafixes anchor``."""

import json

import click

from datafixes.audit.chain.anchors import as_json
from datafixes.audit.chain.entries import UTC, has_chain, last_entry
from datafixes.audit.chain.sealing import unsealed_runs
from datafixes.audit.chain.signing import read_private_key, sign
from datafixes.audit.history import ask, ledger_schemas, the_schema
from datafixes.audit.wording import named
from datafixes.cli.asking import schema_option
from datafixes.cli.output import write
from datafixes.cli.project_options import Where, pass_where
from datafixes.errors import DatafixError


@click.command(
    epilog="Example: datafixes anchor | tee -a anchors.json    Later: datafixes verify-audit --anchor FILE"
)
@schema_option
@click.option(
    "--sign-with", "key", metavar="FILE", help="Sign each line with this private key: ed25519, PEM."
)
@click.option("--output", "-o", metavar="FILE", help="Write to FILE instead of stdout.")
@pass_where
def command(where: Where, schema: str | None, key: str | None, output: str | None) -> None:
    """Print the head of the chain as one line of JSON for each ledger, to be kept outside of the database.

    Only what an anchor covers is proven against somebody who can write to the whole database.
    """
    signer = read_private_key(key) if key else None
    lines, waiting = [], []
    with where.project().reading() as connection:
        schemas = ledger_schemas(connection) if schema is None else []
        [(at,)] = ask(connection, f"SELECT {UTC.format('pg_catalog.clock_timestamp()')}")
        for one in schemas or [the_schema(connection, schema)]:
            entry = last_entry(connection, one) if has_chain(connection, one) else None
            if entry is None:
                waiting.append(f"Ledger {one}: nothing is sealed, so there is nothing to anchor.")
                continue
            line = as_json(one, entry, at)
            lines.append(json.dumps(sign(line, signer) if signer else line) + "\n")
            if runs := unsealed_runs(connection, one):
                waiting.append(
                    f"Ledger {one}: the anchor does not cover {named('run', runs)}, not sealed yet."
                )
    for told in waiting:
        click.echo(f"{told} First: datafixes seal", err=True)
    if not lines:
        raise DatafixError("No anchor: no ledger has a sealed run.", hint="First: datafixes seal")
    write(lines, output)
