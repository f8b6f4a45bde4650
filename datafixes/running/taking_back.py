"""Takes back a run in batches: one that has ended, or what of it is applied."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from sqlalchemy.exc import DBAPIError

from datafixes.audit.history import ask
from datafixes.audit.wording import counted
from datafixes.declaration.fix import DataFix
from datafixes.errors import BatchesRefused, DatafixError
from datafixes.running.batches import Batched, make_batches
from datafixes.running.execution import failure
from datafixes.running.operation import DatafixFailed, Operation
from datafixes.running.reverting import Revert, known_fix
from datafixes.running.sending import is_external
from datafixes.script.batched_revert import opening_of_revert, work_of_revert
from datafixes.script.literal import qualified, text
from datafixes.script.tables import LEDGER, NEWEST_FIRST

if TYPE_CHECKING:
    from datafixes.declaration.recorded import Fix
    from datafixes.script.context import Context

# A ledger that has not been upgraded yet has no such column.
_HAS_BATCHES = """
SELECT 1 FROM {ledger} AS r WHERE r.fix = {fix} AND pg_catalog.to_jsonb(r) ->> 'part_of' IS NOT NULL LIMIT 1
"""
_TAKEN_BACK = """
SELECT run_id, rows_changed, (SELECT count(*) FROM {ledger} AS p WHERE p.part_of = r.run_id AND p.rows_changed > 0)
  FROM {ledger} AS r WHERE fix = {fix} AND direction = 'revert' AND outcome = 'reverted' AND part_of IS NULL
 ORDER BY {newest} LIMIT 1
"""


def revert_in_batches(operation: Operation, fix: Fix, context: Context) -> None:
    """Take back the batches of a run, each in a transaction of its own; a run without batches is left alone.

    Where the transaction is not Alembic's own, as in a plan, the ordinary script takes back all of them at once.

    Raises:
        DatafixFailed: a batch was refused, or somebody wants it to stop. What was taken back stays so.
    """
    if operation.alembic.as_sql or operation.collector or is_external(operation.alembic):
        return
    if _had_batches(operation, fix):
        make_batches(operation, _batched(operation, fix, context))


def _had_batches(operation: Operation, fix: Fix) -> bool:
    if fix.schema_of_audit:
        try:
            with operation.connection.begin_nested():
                return bool(ask(operation.connection, _on(_HAS_BATCHES, fix)))
        except DBAPIError as error:
            if error.connection_invalidated:
                raise DatafixFailed(failure(error, operation.label)) from error
        except DatafixError:
            pass
    return False  # the engine reports what is missing


def take_back(operation: Operation) -> NoReturn:
    """Take back what of a fix is applied. Alembic's command ends here, because the version must not move.

    Raises:
        DatafixFailed: always; it is done, or nothing is half applied, or a batch was refused.
    """
    alembic, fix = operation.alembic, operation.fix
    if alembic.as_sql or operation.collector or fix is None:
        told = f"{operation.label}: -x undo takes back what is half applied, and neither prints nor plans."
        raise DatafixFailed(BatchesRefused(told))
    try:
        known = known_fix(fix, Revert(), alembic.script, operation.connection)
    except DBAPIError as error:
        raise DatafixFailed(failure(error, operation.label)) from error
    context = replace(operation.context, overruled=operation.settings.on_conflict, takes_back=True)
    make_batches(operation, _batched(operation, known, context))
    [(run, rows, batches)] = ask(operation.connection, _on(_TAKEN_BACK, known))
    done = f"{counted(rows, 'row')} in {batches} batch{'' if batches == 1 else 'es'} (run {run})"
    raise DatafixFailed(BatchesRefused(f"{operation.label}: taken back: {done}; nothing else was upgraded."))


def _batched(operation: Operation, fix: Fix, context: Context) -> Batched:
    batches = fix.batches if isinstance(fix, DataFix) else None
    return Batched(
        opening_of_revert(fix, context, operation.limits),
        work_of_revert(fix, context, operation.limits),
        batches.workers if batches else 1,
        is_ended_by_a_batch=context.takes_back,
    )


def _on(query: str, fix: Fix) -> str:
    return query.format(
        ledger=qualified(fix.schema_of_audit, LEDGER), fix=text(fix.name), newest=NEWEST_FIRST
    )
