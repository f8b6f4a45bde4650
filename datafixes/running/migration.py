"""The place of an operation in the chain of revisions, and the collector of a plan's runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from alembic.util import CommandError

from datafixes.audit.changes import View
from datafixes.declaration.fix import DataFix
from datafixes.declaration.recorded import Fix
from datafixes.script.context import Context
from datafixes.script.frame import Script
from datafixes.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alembic.runtime.migration import MigrationContext
    from sqlalchemy.engine import Connection

    from datafixes.audit.retention import GivenUp

COLLECTOR = "datafixes.collector"
"""Where Alembic's configuration keeps a :class:`RunCollector`."""


@dataclass(frozen=True)
class BatchTrial:
    """The scripts with which a plan tries one batch of a fix.

    Attributes:
        opening: opens the run and its ranges.
        reading: notes how the rows of a batch are read.
        batch: makes one batch.
        revert: reverts a run, by its number.
    """

    opening: Script
    reading: Script
    batch: Script
    revert: Callable[[int], Script]


class RunCollector(Protocol):
    """Collects the runs of a plan, in its transaction, which is never committed.

    Attributes:
        view: how much of the rows to show.
    """

    view: View

    def ran(self, connection: Connection, fix: Fix, started: float) -> None:
        """A run has succeeded; it began at ``started``, by the monotonic clock."""

    def gave_up(self, went: Sequence[GivenUp]) -> None:
        """Copies were given up."""

    def redacted(self, went: Sequence[GivenUp]) -> None:
        """Values in images were redacted."""

    def try_batch(self, connection: Connection, fix: DataFix, trial: BatchTrial) -> bool:
        """Make one batch and roll it back; False: all rows are changed in one transaction."""


def collector_of(alembic: MigrationContext) -> RunCollector | None:
    """The collector of this Alembic command, if it is a plan."""
    environment = alembic.environment_context
    return environment.config.attributes.get(COLLECTOR) if environment is not None else None


def context_of(alembic: MigrationContext, settings: Settings) -> Context:
    """The context of a script of this migration: where, and by whom."""
    revision, parents, upgrading = revision_running()
    # An upgrade may also revert an earlier fix.
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


def schema_of_run(alembic: MigrationContext) -> str:
    """See :func:`datafixes.operations.schema_of_run`."""
    connection, found = alembic.connection, alembic.version_table_schema
    if not alembic.as_sql and connection is not None:
        mapped = connection.get_execution_options().get("schema_translate_map") or {}
        found = mapped.get(None) or connection.exec_driver_sql("SELECT pg_catalog.current_schema()").scalar()
    if not found:
        raise CommandError(
            "No schema is set for this run: env.py sets a search_path, a schema_translate_map or, for a printed "
            "script, version_table_schema."
        )
    return str(found)


def revision_running() -> tuple[str | None, tuple[str, ...], bool]:
    """The running revision, the ones before it, and whether it is upgrading.

    Alembic does not pass this to an operation, so it is read from the revision file's frame.
    """
    module, function = _module_running()
    if module is None:
        return None, (), True
    down = module["down_revision"]
    parents = (down,) if isinstance(down, str) else tuple(down or ())
    return module["revision"], parents, function != "downgrade"


def source_of_revision() -> str:
    """The text of the running revision's file; empty without one."""
    module, _ = _module_running()
    path = Path(str((module or {}).get("__file__", "")))
    return path.read_text(encoding="utf-8") if path.suffix == ".py" and path.is_file() else ""


def _module_running() -> tuple[dict[str, Any] | None, str]:
    """The running revision's module, and the function of it that runs."""
    frame, module, function = sys._getframe(), None, ""
    while frame := frame.f_back:  # type: ignore[assignment]
        names = frame.f_globals
        if module is None and isinstance(names.get("revision"), str) and "down_revision" in names:
            module = names
        if names is module:
            function = frame.f_code.co_name
    return module, function


def _is_branch_point(alembic: MigrationContext, revision: str) -> bool:
    """After a branch point, the version table holds the branches and not the point itself."""
    script = alembic.script.get_revision(revision) if alembic.script is not None else None
    # Including those that depend on it: they replace it in the version table too.
    return script is not None and len(script._all_nextrev) > 1
