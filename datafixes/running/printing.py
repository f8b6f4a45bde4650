"""Writes the scripts of operations into the output of ``alembic upgrade --sql``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from datafixes.errors import DatafixError
from datafixes.running.operation import DatafixFailed, Operation
from datafixes.script.frame import Script, commit_guard

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext


@dataclass
class _Printed:
    """What the printed transaction has so far: functions of the engine, and the fuses of its scripts."""

    functions: set[str] = field(default_factory=set)
    fuses: dict[str, None] = field(default_factory=dict)


_printed: WeakKeyDictionary[MigrationContext, _Printed] = WeakKeyDictionary()


def print_script(operation: Operation, script: Script) -> None:
    """Write the script of an operation into Alembic's own.

    Raises:
        DatafixFailed: a plan was given, which a script cannot be compared with.
    """
    settings = operation.settings
    if settings.plan:
        message = f"A script cannot be compared with a plan ({settings.origins['plan']})."
        raise DatafixFailed(DatafixError(message, hint="Apply it online, or omit the plan."))
    printed = _printed_in_transaction(operation.alembic)
    _print(operation.alembic, script.statements(printed.functions))
    printed.functions |= set(script.engine.functions)
    printed.fuses[script.fuse] = None


def print_batches(operation: Operation, opening: Script, batches: str) -> None:
    """Write what comes before the last transaction of a fix in batches, and begin that one.

    Args:
        operation: the operation.
        opening: the script that opens the run, in a transaction of its own.
        batches: what makes the batches, outside of a transaction.

    Raises:
        DatafixFailed: a plan was given, which a script cannot be compared with.
    """
    alembic = operation.alembic
    with alembic.autocommit_block():
        alembic.impl.emit_begin()
        print_script(operation, opening)
        alembic.impl.emit_commit()
        alembic.impl.static_output(batches)


def _print(alembic: MigrationContext, statements: Iterable[str]) -> None:
    for statement in statements:
        # Not through execute(), which would turn tabs into spaces and double every percent sign.
        alembic.impl.static_output(f"{statement};")


def _printed_in_transaction(alembic: MigrationContext) -> _Printed:
    """What is printed since the last COMMIT, at which PostgreSQL drops the engine's functions."""
    if (known := _printed.get(alembic)) is not None:
        return known
    printed = _printed[alembic] = _Printed()
    emit_commit = alembic.impl.emit_commit

    def guard_and_commit() -> None:
        if printed.fuses:
            _print(alembic, commit_guard(printed.fuses))
        printed.functions.clear()
        printed.fuses.clear()
        emit_commit()

    alembic.impl.emit_commit = guard_and_commit  # type: ignore[method-assign]
    return printed
