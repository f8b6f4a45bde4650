"""While a fix in batches is half applied, no other revision runs: the version table does not tell that a part is in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import TYPE_CHECKING, Any

from datafixes.audit.running import half_applied
from datafixes.errors import BatchesRefused
from datafixes.script.literal import name, qualified

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext

Steps = Callable[[Any, "MigrationContext"], Iterable[Any]]
"""Alembic's: from the database's heads to the steps of a command."""


def refusing_beside(steps: Steps) -> Steps:
    """The steps of a command, unless a fix is half applied and the first step is another revision.

    Nothing is asked where no step is to run. A stamp runs nothing, and is not refused. The fix's own revision goes on
    with it, or takes it back.
    """

    def checked(heads: Any, alembic: MigrationContext) -> Iterable[Any]:
        rest = iter(steps(heads, alembic))
        first = next(rest, None)
        if first is None:
            return ()
        if not alembic.as_sql and hasattr(first, "revision"):
            _refuse_beside(alembic, first)
        return chain((first,), rest)

    return checked


def _refuse_beside(alembic: MigrationContext, first: Any) -> None:
    connection, table, schema = alembic.connection, alembic.version_table, alembic.version_table_schema
    if connection is None:
        return
    step, way = first.revision.revision, "upgraded" if first.is_upgrade else "downgraded"
    for running in half_applied(connection, (table, qualified(schema, table) if schema else name(table))):
        if step != running.revision:
            half = "half applied" if running.direction == "apply" else "half reverted"
            raise BatchesRefused(
                f"datafix {running.fix} is {half}: {running.done} (run {running.run_id}, {running.life}). Until it has "
                f"ended, revision {step} is not {way}",
                hint=f"Nothing was changed. {running.ways_on}",
            )
