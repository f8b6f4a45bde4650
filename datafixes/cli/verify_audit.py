"""``datafixes verify-audit``."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click

from datafixes.audit.chain import forms
from datafixes.audit.chain.anchors import Anchor, Held, hold, read_anchors
from datafixes.audit.chain.entries import Entry
from datafixes.audit.chain.exporting import Export
from datafixes.audit.chain.signing import PublicKey, read_public_keys
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
@click.option(
    "--signed-by",
    "keys",
    metavar="FILE",
    multiple=True,
    help="Public keys: each anchor must be signed with one of them.",
)
@click.option(
    "--export", "exported", metavar="DIR", help="Prove what datafixes export wrote: without a database."
)
@schema_option
@format_options
@pass_where
def command(  # noqa: PLR0913 - one for each option
    where: Where,
    anchors: tuple[str, ...],
    keys: tuple[str, ...],
    exported: str | None,
    schema: str | None,
    form: str,
    output: str | None,
) -> int:
    """Prove, run by run, that the ledger and all images are as they were sealed.

    The images are read and hashed here, so nothing that the server computes is believed. Nothing is locked.
    Exit code 3: something is not as it was sealed, or a chain is not the anchored one.
    """
    if keys and not anchors:
        raise click.UsageError("--signed-by is about anchors: name them with --anchor.")
    kept = _Kept(read_anchors(anchors), read_public_keys(keys))
    found = _in_files(Path(exported), kept) if exported is not None else _in_database(where, schema, kept)
    show(lambda: document(found), lambda: as_json(found), form, output)
    return OK if found.is_fine else DIFFERENT


class _Kept(NamedTuple):
    anchors: list[Anchor]
    keys: list[PublicKey]

    def held_against(self, *chains: Sequence[Entry]) -> tuple[Held, ...]:
        return tuple(hold(one, chains, self.keys) for one in self.anchors)


def _in_files(directory: Path, kept: _Kept) -> Verified:
    export = Export(directory)
    ledgers = ((export.schema, export.entries, tuple(export.verdicts())),)
    return Verified(str(directory), ledgers, kept.held_against(export.entries))


def _in_database(where: Where, schema: str | None, kept: _Kept) -> Verified:
    with where.project().reading() as connection:
        # What is sealed meanwhile is not half seen.
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        for statement in forms.SETTINGS:
            connection.exec_driver_sql(statement)
        schemas = ledger_schemas(connection) if schema is None else []
        ledgers = [Ledger(connection, one) for one in schemas or [the_schema(connection, schema)]]
        return Verified(
            place(connection.engine.url),
            tuple((ledger.schema, ledger.entries, tuple(ledger.verdicts())) for ledger in ledgers),
            kept.held_against(*(ledger.entries for ledger in ledgers)),
        )
