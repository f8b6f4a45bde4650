"""Runs an operation: the script that a fix compiles to goes to the server, or into the offline script."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

from alembic.util import CommandError

from datafixes.declaration.declared import fixes_of, nearest
from datafixes.declaration.fix import DataFix
from datafixes.declaration.recorded import Declared, Fix, RecordedFix
from datafixes.errors import DatafixError, SettingError, UnsafeTransaction
from datafixes.running import refusal
from datafixes.running.execution import Attempts, execute, limits_of
from datafixes.running.journal import Attempt, record_failure, tell
from datafixes.running.migration import context_of, revision_running, watcher_of
from datafixes.running.planned import check_plan
from datafixes.running.reverting import Revert, chosen_rows, known_fix
from datafixes.script.apply import apply_script
from datafixes.script.decline import decline_script
from datafixes.script.frame import Script
from datafixes.script.revert import revert_script
from datafixes.settings import URL_OPTION, Settings

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy.engine import Connection

_logger = logging.getLogger("alembic.datafixes")

DECLINED = "datafixes.declined"
"""Where Alembic's configuration keeps the names of the fixes that were declined."""

recording: WeakSet[MigrationContext] = WeakSet()
"""Where a fix is being recorded: another one inside it would be copied twice."""


_printed: WeakKeyDictionary[MigrationContext, set[str]] = WeakKeyDictionary()


class DatafixFailed(CommandError):
    """What Alembic shows as one line, exit code not 0.

    Attributes:
        error: the refusal, with its facts.
    """

    def __init__(self, error: DatafixError) -> None:
        super().__init__(error.one_line())
        self.error = error


def apply(alembic: MigrationContext, fix: DataFix) -> None:
    """Apply a fix in Alembic's transaction."""
    if isinstance(fix, RecordedFix):
        raise CommandError(f"datafix {fix.name}: it is recorded: with op.record_datafix(fix): ...")
    settings = settings_for(alembic)
    if is_declined(alembic, settings, fix):
        decline(alembic, settings, fix)
        return
    script = apply_script(fix, context_of(alembic, settings), limits_of(settings))
    hand_over(alembic, script, settings, fix)


def is_declined(alembic: MigrationContext, settings: Settings, fix: Declared) -> bool:
    """Whether the operator said that a fix is not to run in this database.

    Raises:
        DatafixFailed: a fix is declined that no revision declares; it would run under its real name.
    """
    if settings.decline and alembic.script is not None:
        known = {fix.name, *(one.fix.name for one in fixes_of(alembic.script))}
        for name in settings.decline:
            if name not in known:
                told = f"{settings.origins['decline']}: no revision declares a fix {name}."
                raise DatafixFailed(SettingError(told + nearest(name, list(known))))
    return fix.name in settings.decline


def decline(alembic: MigrationContext, settings: Settings, fix: Declared) -> None:
    """Write down that a fix is not to run here; the version moves as if it had."""
    because = settings.decline[fix.name]
    if alembic.environment_context is not None:
        alembic.environment_context.config.attributes.setdefault(DECLINED, set()).add(fix.name)
    script = decline_script(fix, because, context_of(alembic, settings), limits_of(settings))
    hand_over(alembic, script, settings, fix)


def revert(alembic: MigrationContext, fix: Fix | str | None, how: Revert) -> None:
    """Revert a fix in Alembic's transaction; what the operator said of conflicts overrules the author."""
    settings = settings_for(alembic)
    try:
        connection = None if alembic.as_sql else alembic.connection
        known = known_fix(fix, how, alembic.script, connection)
        context = replace(
            context_of(alembic, settings),
            on_conflict=how.on_conflict,
            overruled=settings.on_conflict,
            undoes=how.undoes,
            chosen=chosen_rows(known, how.rows),
            by_name=isinstance(fix, str),
        )
        script = revert_script(known, context, limits_of(settings))
    except DatafixError as error:
        raise DatafixFailed(error) from error
    hand_over(alembic, script, settings, known)


def settings_of(config: Config, flags: Mapping[str, Any]) -> Settings:
    """The settings of a run of Alembic: ``-x``, the environment, ``alembic.ini``, defaults.

    Args:
        config: Alembic's, with the section ``[datafixes]`` and ``sqlalchemy.url``.
        flags: what ``-x name=value`` gave.

    Raises:
        SettingError: a value means nothing.
    """
    ini = dict(config.get_section("datafixes", {}) or {})
    ini[URL_OPTION] = config.get_main_option(URL_OPTION) or ""
    return Settings.resolve({name: str(value) for name, value in flags.items()}, os.environ, ini)


def settings_for(alembic: MigrationContext) -> Settings:
    """The settings of the run that a migration is part of; a plan may mask more than they do."""
    environment = alembic.environment_context
    try:
        if environment is None:  # a MigrationContext without Alembic's commands: only the environment counts
            return Settings.resolve({}, os.environ, {})
        settings = settings_of(environment.config, environment.get_x_argument(as_dictionary=True))
    except DatafixError as error:
        raise DatafixFailed(error) from error
    watcher = watcher_of(alembic)
    return settings if watcher is None else replace(settings, mask=watcher.view.masks)


def hand_over(alembic: MigrationContext, script: Script, settings: Settings, subject: Fix | str) -> None:
    """The one text goes to the script (``--sql``) or to the server, verbatim."""
    refuse_inside_another(alembic, subject)
    if alembic.as_sql:
        refuse_plan_of_script(settings)
        print_script(alembic, script)
        return
    started = time.monotonic()
    send(alembic, script, settings, subject, Attempts.of(settings))
    if not isinstance(subject, str):
        ended_well(alembic, script.direction, settings, subject, started)


def ended_well(
    alembic: MigrationContext, direction: str, settings: Settings, fix: Fix, started: float
) -> None:
    """Tell what a run did; of a run that was planned, only after it did what the plan showed.

    Raises:
        DatafixFailed: the rows are no longer the ones planned; the transaction has been rolled back.
    """
    connection = connection_of(alembic, fix)
    watcher = watcher_of(alembic)
    if watcher is not None:
        watcher.ran(connection, fix, started)
        return
    if settings.plan:
        try:
            check_plan(alembic, connection, fix, settings.plan)
        except DatafixError as error:
            raise failed(alembic, direction, settings, fix, error) from error
    tell(connection, fix, settings.mask)


def refuse_inside_another(alembic: MigrationContext, subject: Fix | str) -> None:
    """Refuse what begins while a fix is being recorded.

    Raises:
        DatafixFailed: one is.
    """
    if alembic in recording:
        raise DatafixFailed(
            UnsafeTransaction(
                f"{label_of(subject)}: another fix is being recorded; a fix inside a fix would be copied twice.",
                hint="Run one after the other.",
            )
        )


def refuse_plan_of_script(settings: Settings) -> None:
    """Refuse to print a script for rows that were planned: it could not compare them.

    Raises:
        DatafixFailed: a plan was named.
    """
    if settings.plan:
        raise DatafixFailed(
            DatafixError(
                f"A script cannot be compared with a plan ({settings.origins['plan']}).",
                hint="Apply it online, or leave the plan out.",
            )
        )


def print_script(alembic: MigrationContext, script: Script) -> None:
    """Write a script into Alembic's own."""
    sent = _sent(alembic)
    for statement in script.statements(sent):
        # Not through execute(): that would turn tabs into spaces and double every percent sign.
        alembic.impl.static_output(f"{statement};")
    sent |= set(script.engine.functions)


def _sent(alembic: MigrationContext) -> set[str]:
    """The engine's functions that the transaction of a printed script has by now; with its COMMIT they are gone."""
    if (known := _printed.get(alembic)) is not None:
        return known
    sent = _printed[alembic] = set()
    emit_commit = alembic.impl.emit_commit

    def commit() -> None:
        sent.clear()
        emit_commit()

    alembic.impl.emit_commit = commit  # type: ignore[method-assign]
    return sent


def send(
    alembic: MigrationContext, script: Script, settings: Settings, subject: Fix | str, attempts: Attempts
) -> None:
    """Send a script to the server.

    Raises:
        DatafixFailed: the database said no; the transaction has been rolled back.
    """
    connection = connection_of(alembic, subject)
    try:
        _check_transaction(alembic, connection, label_of(subject))
        execute(connection, script, label_of(subject), attempts)
    except DatafixError as error:
        raise failed(alembic, script.direction, settings, subject, error) from error


def failed(
    alembic: MigrationContext, direction: str, settings: Settings, subject: Fix | str, error: DatafixError
) -> DatafixFailed:
    """End the transaction of a fix that failed, write the failure down, and return what Alembic shows of it."""
    connection = connection_of(alembic, subject)
    shown = DatafixFailed(error)
    if watcher_of(alembic) is not None:
        return shown  # nothing is kept anyway, and the plan shows what went wrong
    begun = not _is_external(alembic) and alembic._transaction is not None
    # Whoever swallows this error must not be able to commit what is left (B3): the transaction ends here, and
    # Alembic does not get past it.
    if begun:
        connection.rollback()
    refusal.stands(connection, shown, (lambda: alembic._transaction is None) if begun else None)
    if error.detail:
        # The message itself follows in Alembic's own line.
        _logger.error("%s: refused, in detail:\n%s", label_of(subject), error.detail)
    if not isinstance(subject, str):
        attempt = Attempt(revision_running()[0], direction, settings.application)
        record_failure(connection, subject, attempt, error, is_free=begun)
    return shown


def label_of(subject: Fix | str) -> str:
    """How messages call a fix, or an audit table."""
    return f"audit table {subject}" if isinstance(subject, str) else f"datafix {subject.name}"


def connection_of(alembic: MigrationContext, subject: Fix | str) -> Connection:
    """The connection on which a migration runs."""
    if alembic.connection is None:
        raise CommandError(f"{label_of(subject)}: Alembic has no connection.")
    return alembic.connection


def _check_transaction(alembic: MigrationContext, connection: Connection, label: str) -> None:
    """A fix is all or nothing only in a transaction that Alembic, or the caller, commits as a whole."""
    if getattr(connection.connection.dbapi_connection, "autocommit", False):
        raise UnsafeTransaction(
            f"{label}: the connection commits every statement by itself.",
            hint="Move the fix out of autocommit_block(), or into a migration of its own.",
        )
    begun = getattr(alembic, "_transaction", None)
    if begun is not None and not begun.is_active:
        raise UnsafeTransaction(
            f"{label}: the transaction that Alembic began has ended: something in this migration commits or rolls "
            "back.",
            hint="Remove the commit() or rollback(): what follows it, and the new version, would be lost.",
        )
    if _is_external(alembic) and watcher_of(alembic) is None:
        _logger.warning(
            "%s: Alembic did not begin this transaction, and will not commit it. If nobody does, nothing is kept: "
            "does env.py run a statement before context.configure()?",
            label,
        )


def _is_external(alembic: MigrationContext) -> bool:
    return bool(getattr(alembic, "_in_external_transaction", False))
