"""Where in the chain of revisions an operation runs, and what collects the runs of a plan."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol

from datafixes.audit.changes import View
from datafixes.declaration.recorded import Fix
from datafixes.script.context import Context
from datafixes.settings import Settings

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy.engine import Connection

COLLECTOR = "datafixes.collector"
"""Where Alembic's configuration keeps a :class:`RunCollector`."""


class RunCollector(Protocol):
    """Collects the runs of a plan, in its transaction, which is never committed.

    Attributes:
        view: how much of the rows is to be seen.
    """

    view: View

    def ran(self, connection: Connection, fix: Fix, started: float) -> None:
        """A run has ended well; it began at ``started``, by the monotonic clock."""


def collector_of(alembic: MigrationContext) -> RunCollector | None:
    """What collects the runs of this command of Alembic, if it is a plan."""
    environment = alembic.environment_context
    return environment.config.attributes.get(COLLECTOR) if environment is not None else None


def context_of(alembic: MigrationContext, settings: Settings) -> Context:
    """Where and by whom a script of this migration runs."""
    revision, parents, upgrading = revision_running()
    # An upgrade may revert an earlier fix as well as apply one.
    before = parents if upgrading else (revision or "",)
    return Context(
        revision=revision,
        upgrading=upgrading,
        after=tuple(name for name in before if not upgrading or not _is_branch_point(alembic, name)),
        version_table=alembic.version_table,
        version_table_schema=alembic.version_table_schema or "",
        application=settings.application,
        masks=settings.mask,
    )


def revision_running() -> tuple[str | None, tuple[str, ...], bool]:
    """The revision file that is running, the ones before it, and whether it is upgrading.

    Alembic does not tell an operation; the file does.
    """
    frame, module, function = sys._getframe(), None, ""
    while frame := frame.f_back:  # type: ignore[assignment]
        names = frame.f_globals
        if module is None and isinstance(names.get("revision"), str) and "down_revision" in names:
            module = names
        if names is module:
            function = frame.f_code.co_name
    if module is None:
        return None, (), True
    down = module["down_revision"]
    parents = (down,) if isinstance(down, str) else tuple(down or ())
    return module["revision"], parents, function != "downgrade"


def _is_branch_point(alembic: MigrationContext, revision: str) -> bool:
    """Behind a branch point the version table names the branches, and not the point itself."""
    script = alembic.script.get_revision(revision) if alembic.script is not None else None
    # With those that depend on it: they too take its place in the version table.
    return script is not None and len(script._all_nextrev) > 1
