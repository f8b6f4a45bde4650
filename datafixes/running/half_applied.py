"""While a fix in batches is half applied, no other revision runs: the version table does not tell that a part is in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import TYPE_CHECKING, Any

from datafixes.audit.progress import Progress, half_applied
from datafixes.errors import BatchesRefused
from datafixes.script.literal import name, qualified

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext

Steps = Callable[[Any, "MigrationContext"], Iterable[Any]]
"""Alembic's: from the database's heads to the steps of a command."""


def refusing_beside(steps: Steps, undo: str) -> Steps:
    """The steps of a command, unless a fix is half applied and the first step is another revision.

    Nothing is asked where no step is to run. A stamp runs nothing, and is not refused.

    Args:
        steps: Alembic's.
        undo: the fix that the operator takes back with this command.
    """

    def checked(heads: Any, alembic: MigrationContext) -> Iterable[Any]:
        rest = iter(steps(heads, alembic))
        first = next(rest, None)
        if first is None:
            return ()
        if not alembic.as_sql and hasattr(first, "revision"):
            _refuse_beside(alembic, first, undo, heads)
        return chain((first,), rest)

    return checked


def _refuse_beside(alembic: MigrationContext, first: Any, undo: str, heads: Iterable[str]) -> None:
    connection, table, schema = alembic.connection, alembic.version_table, alembic.version_table_schema
    if connection is None:
        return
    for running in half_applied(connection, (table, qualified(schema, table) if schema else name(table))):
        if first.revision.revision == running.revision or (first.is_upgrade and running.fix == undo):
            continue
        way = "upgraded" if first.is_upgrade else "downgraded"
        raise BatchesRefused(
            f"datafix {running.fix} is half {'applied' if running.direction == 'apply' else 'reverted'}: "
            f"{running.done} (run {running.run_id}, {running.life}). Until it has ended, revision "
            f"{first.revision.revision} is not {way}",
            hint=f"Nothing was changed. To go on with it: {_going_on(running, alembic, heads)}. To take it back: "
            f"alembic -x undo={running.fix} upgrade head",
        )


def _going_on(running: Progress, alembic: MigrationContext, heads: Iterable[str]) -> str:
    if running.revision is not None and running.direction == "revert" and running.revision in heads:
        script = alembic.script.get_revision(running.revision) if alembic.script is not None else None
        below = script.down_revision if script is not None else None
        return f"alembic downgrade {below if isinstance(below, str) else '-1'}"
    return f"alembic upgrade {running.revision}"
