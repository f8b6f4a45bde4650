"""Tries a revert and rolls it back, to find conflicts."""

from sqlalchemy.engine import Connection

from datafixes.declaration.recorded import Fix
from datafixes.errors import DatafixError
from datafixes.plan.rollback_only import rollback_only
from datafixes.running.execution import Attempts, execute, limits_of
from datafixes.running.reverting import Revert, chosen_rows
from datafixes.script.context import Context
from datafixes.script.revert import revert_script
from datafixes.settings import Settings


def try_revert(connection: Connection, fix: Fix, how: Revert, settings: Settings) -> DatafixError | None:
    """Revert a fix in a transaction that is rolled back.

    Args:
        connection: a connection with no transaction begun; it has none afterwards.
        fix: its declaration, or what the ledger keeps of it.
        how: which run, which rows, and what to do with conflicts.
        settings: the time-outs.

    Returns:
        the error that prevents the revert, or None.
    """
    context = Context(
        on_conflict=how.on_conflict,
        undoes=how.undoes,
        chosen=chosen_rows(fix, how.rows),
        masks=settings.mask,
    )
    script = revert_script(fix, context, limits_of(settings))
    with rollback_only(connection, limits_of(settings)):
        try:
            execute(connection, script, f"datafix {fix.name}", Attempts(1, 0))
        except DatafixError as refused:
            return refused
    return None
