"""Runs the operations on fixes: the script of a fix goes to the server, or into the offline script."""

from __future__ import annotations

import ast
import logging
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from datafixes.declaration.alone import REMEDY, beside_batches
from datafixes.declaration.batches import Batches
from datafixes.declaration.fix import DataFix, moved
from datafixes.declaration.project_fixes import fixes_of, nearest
from datafixes.declaration.recalled import RecalledFix
from datafixes.declaration.recorded import Declared, Fix, RecordedFix
from datafixes.errors import BatchesRefused, DatafixError, SettingError
from datafixes.running.batches import Batched, make_batches
from datafixes.running.execution import failure
from datafixes.running.migration import BatchTrial, RunCollector, source_of_revision
from datafixes.running.operation import DECLINED, DatafixFailed, Operation
from datafixes.running.printing import print_batches
from datafixes.running.reverting import Revert, chosen_rows, known_fix
from datafixes.running.sending import failed, hand_over, refuse_inside_another
from datafixes.running.taking_back import revert_in_batches, take_back
from datafixes.script.apply import apply_script
from datafixes.script.batched import opening_script, work_statement
from datafixes.script.batched_revert import opening_of_revert, work_of_revert
from datafixes.script.decline import decline_script
from datafixes.script.frame import Script
from datafixes.script.literal import qualified, text
from datafixes.script.parameters import verbatim
from datafixes.script.psql import repeated_in_psql
from datafixes.script.revert import revert_script
from datafixes.script.tables import LEDGER
from datafixes.script.trial import one_batch_script, reading_script

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext

_logger = logging.getLogger("alembic.datafixes")

_TOLD = """
SELECT r.declaration -> 'batches' ->> 'told' FROM {ledger} AS r
 WHERE r.fix = {fix} AND r.outcome = 'applied' AND r.part_of IS NULL ORDER BY r.run_id DESC LIMIT 1
"""


def apply(alembic: MigrationContext, fix: DataFix) -> None:
    """Apply a fix in Alembic's transaction."""
    if isinstance(fix, RecordedFix):
        raise CommandError(f"datafix {fix.name}: it is a RecordedFix. Use with op.record_datafix(fix): ...")
    operation = Operation.on_fix(alembic, fix)
    if operation.settings.undo == fix.name:
        take_back(operation)
    if is_declined(operation, fix):
        decline(operation, fix)
        return
    if fix.name in operation.settings.batches:
        fix = _in_batches_of(fix, operation.settings.batches[fix.name])
        operation = replace(operation, fix=fix)
    if fix.batches:
        refuse_inside_another(operation)
        _refuse_beside(operation)
        batched = _batched(operation, fix, fix.batches)
        if alembic.as_sql:
            print_batches(operation, batched.opening, repeated_in_psql(fix, batched.work))
        elif operation.collector is None:
            make_batches(operation, batched)
        elif _planned(operation, operation.collector, fix, batched.opening):
            return
    hand_over(operation, apply_script(fix, operation.context, operation.limits))
    if fix.batches and not alembic.as_sql and operation.collector is None:
        _tell_late(operation, fix)


def _refuse_beside(operation: Operation) -> None:
    """Refuse a revision that holds something besides its fix in batches."""
    source = source_of_revision()
    for _, words in beside_batches(ast.parse(source)) if source else ():
        raise DatafixFailed(
            BatchesRefused(f"{operation.label}: {words}.", hint=f"Nothing was changed. {REMEDY}")
        )


def _planned(operation: Operation, collector: RunCollector, fix: DataFix, opening: Script) -> bool:
    context, limits = operation.context, operation.limits

    def revert_of(run: int) -> Script:
        return revert_script(RecalledFix(fix.name, run, fix.schema_of_audit), context, limits)

    reading, batch = reading_script(fix, context, limits), one_batch_script(fix, context, limits)
    try:
        return collector.try_batch(operation.connection, fix, BatchTrial(opening, reading, batch, revert_of))
    except DatafixError as error:
        raise failed(operation, opening.direction, error) from error


def _in_batches_of(fix: DataFix, rows: int) -> DataFix:
    """The fix in batches of another size, by the operator's word."""
    try:
        return moved(fix, batches=replace(fix.batches or Batches(), rows=rows))
    except DatafixError as error:
        raise DatafixFailed(error) from error


def _batched(operation: Operation, fix: DataFix, batches: Batches) -> Batched:
    context, limits = operation.context, operation.limits
    opening, work = opening_script(fix, context, limits), work_statement(fix, context, limits)
    return Batched(opening, work, batches.workers)


def _tell_late(operation: Operation, fix: DataFix) -> None:
    """Tell of the rows that began to meet the condition behind the batches, or were set back by others."""
    query = _TOLD.format(ledger=qualified(fix.schema_of_audit, LEDGER), fix=text(fix.name))
    # Without the right to read there is nothing to tell.
    with suppress(DBAPIError), operation.connection.begin_nested():
        told = operation.connection.exec_driver_sql(verbatim(operation.connection, query)).scalar()
        if told:
            _logger.warning("%s: %s", operation.label, told.removeprefix(", "))


def is_declined(operation: Operation, fix: Declared) -> bool:
    """Whether the operator declined the fix for this database.

    Raises:
        DatafixFailed: no revision declares a declined fix, which would then run under its real name.
    """
    settings, scripts = operation.settings, operation.alembic.script
    if settings.decline and scripts is not None:
        known = {fix.name, *(one.fix.name for one in fixes_of(scripts))}
        for name in settings.decline:
            if name not in known:
                told = f"{settings.origins['decline']}: no revision declares a fix {name}."
                raise DatafixFailed(SettingError(told + nearest(name, list(known))))
    return fix.name in settings.decline


def decline(operation: Operation, fix: Declared) -> None:
    """Record that a fix was declined in this database; the version moves as if it had run."""
    if operation.alembic.environment_context is not None:
        attributes = operation.alembic.environment_context.config.attributes
        attributes.setdefault(DECLINED, set()).add(fix.name)
    because = operation.settings.decline[fix.name]
    hand_over(operation, decline_script(fix, because, operation.context, operation.limits))


def revert(alembic: MigrationContext, fix: Fix | str | None, how: Revert) -> None:
    """Revert a fix in Alembic's transaction; the operator's choice for conflicts takes precedence."""
    try:
        connection = None if alembic.as_sql else alembic.connection
        known = known_fix(fix, how, alembic.script, connection)
        operation = Operation.on_fix(alembic, known)
        context = replace(
            operation.context,
            on_conflict=how.on_conflict,
            overruled=operation.settings.on_conflict,
            undoes=how.undoes,
            reason=how.reason,
            chosen=chosen_rows(known, how.rows),
            by_name=isinstance(fix, str),
        )
        script = revert_script(known, context, operation.limits)
    except DatafixError as error:
        raise DatafixFailed(error) from error
    except DBAPIError as error:  # the connection was lost
        name = fix if isinstance(fix, str) else f"run {how.run}" if fix is None else fix.name
        raise DatafixFailed(failure(error, f"datafix {name}")) from error
    if alembic.as_sql and isinstance(known, DataFix) and known.batches:
        opening = opening_of_revert(known, context, operation.limits)
        work = work_of_revert(known, context, operation.limits)
        print_batches(operation, opening, repeated_in_psql(known, work, "revert"))
    revert_in_batches(operation, known, context)
    hand_over(operation, script)
