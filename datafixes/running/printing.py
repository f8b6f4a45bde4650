"""Writes the scripts of operations into the output of ``alembic upgrade --sql``."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from datafixes.errors import DatafixError
from datafixes.running.operation import DatafixFailed, Operation
from datafixes.script.frame import Script

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext

_sent: WeakKeyDictionary[MigrationContext, set[str]] = WeakKeyDictionary()


def print_script(operation: Operation, script: Script) -> None:
    """Write the script of an operation into Alembic's own.

    Raises:
        DatafixFailed: a plan was given, which a script cannot be compared with.
    """
    settings = operation.settings
    if settings.plan:
        message = f"A script cannot be compared with a plan ({settings.origins['plan']})."
        raise DatafixFailed(DatafixError(message, hint="Apply it online, or omit the plan."))
    sent = _sent_in_transaction(operation.alembic)
    for statement in script.statements(sent):
        # Not through execute(), which would turn tabs into spaces and double every percent sign.
        operation.alembic.impl.static_output(f"{statement};")
    sent |= set(script.engine.functions)


def _sent_in_transaction(alembic: MigrationContext) -> set[str]:
    """The engine's functions that the printed transaction has so far. PostgreSQL drops them at commit."""
    if (known := _sent.get(alembic)) is not None:
        return known
    sent = _sent[alembic] = set()
    emit_commit = alembic.impl.emit_commit

    def forget_and_commit() -> None:
        sent.clear()
        emit_commit()

    alembic.impl.emit_commit = forget_and_commit  # type: ignore[method-assign]
    return sent
