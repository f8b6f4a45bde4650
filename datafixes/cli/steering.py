"""``datafixes pause``, ``resume`` and ``stop``."""

import click

from datafixes.audit.history import the_schema
from datafixes.cli.asking import schema_option
from datafixes.cli.project_options import Where, pass_where
from datafixes.running.steering import steer


def _command(name: str, what: str | None, meaning: str, follows: str) -> click.Command:
    @click.command(name, help=meaning, epilog=f"Example: datafixes {name} reprice_untaxed_orders")
    @click.argument("fix")
    @schema_option
    @pass_where
    def command(where: Where, fix: str, schema: str | None) -> None:
        with where.project().writing() as connection:
            found = steer(connection, the_schema(connection, schema), fix, what)
        then = follows if found.is_alive else "The next upgrade goes on with it, whatever is wished now."
        click.echo(
            f"{found.fix}, run {found.run_id}: {found.done}, {found.life}. {then.format(fix=found.fix)}"
        )

    return command


_FLAG = "It sets a flag of the run in the ledger, and nothing else."

COMMANDS = {
    one.name: one
    for one in (
        _command(
            "pause",
            "pause",
            f"Let a FIX that runs in batches wait after its current batches. {_FLAG}",
            "Its workers wait after their batch, until: datafixes resume {fix}",
        ),
        _command(
            "resume",
            None,
            "Let a FIX go on that was paused, or is to stop. It clears its flag in the ledger, and nothing else.",
            "Its workers go on.",
        ),
        _command(
            "stop",
            "stop",
            f"End a FIX that runs in batches after its current batches. {_FLAG} What is done stays: the next upgrade "
            "goes on with it, or takes it back with -x undo=FIX.",
            "Its workers end after their batch, and the upgrade fails; the next one goes on.",
        ),
    )
}
"""By name."""
