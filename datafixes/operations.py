"""The Alembic operations. Each is inert; what it does stands in its implementation, and that hands over a script."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from alembic.operations import MigrateOperation, Operations
from alembic.util import CommandError

from datafixes import refusal
from datafixes.errors import DatafixError, UnsafeTransaction
from datafixes.execution import Attempts, execute, limits_of
from datafixes.fix import DataFix
from datafixes.journal import Attempt, record_failure, tell
from datafixes.script.apply import apply_script
from datafixes.script.context import Context
from datafixes.script.frame import Script
from datafixes.script.revert import revert_script
from datafixes.script.tables import AuditTable, create_script, drop_script
from datafixes.settings import URL_OPTION, Settings

if TYPE_CHECKING:
    # Alembic loads its plugins in the midst of its own import: only what is complete by then can be imported here.
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy.engine import Connection

_logger = logging.getLogger("alembic.datafixes")


def setup(plugin: Any) -> None:
    """Called by Alembic for its entry point ``alembic.plugins``; importing this module has done the work."""


class DatafixFailed(CommandError):
    """What Alembic shows as one line, exit code not 0.

    Attributes:
        error: the refusal, with its facts.
    """

    def __init__(self, error: DatafixError) -> None:
        super().__init__(error.one_line())
        self.error = error


@Operations.register_operation("apply_datafix")
class ApplyDatafixOp(MigrateOperation):
    """Apply a data fix."""

    def __init__(self, fix: DataFix) -> None:
        self.fix = fix

    @classmethod
    def apply_datafix(cls, operations: Operations, fix: DataFix) -> None:
        """Copy the rows of a fix into its audit table, change them, and prove the result.

        Args:
            operations: Alembic's.
            fix: the declaration.
        """
        operations.invoke(cls(fix))


@Operations.register_operation("revert_datafix")
class RevertDatafixOp(MigrateOperation):
    """Revert a data fix."""

    def __init__(self, fix: DataFix, on_conflict: str) -> None:
        self.fix = fix
        self.on_conflict = on_conflict

    @classmethod
    def revert_datafix(cls, operations: Operations, fix: DataFix, *, on_conflict: str = "refuse") -> None:
        """Give every value back that the last run of a fix changed, or change nothing.

        Args:
            operations: Alembic's.
            fix: the declaration that was applied.
            on_conflict: what happens to rows that somebody changed since: ``refuse`` the whole revert, ``skip`` them,
                or ``overwrite`` them. ``alembic -x on_conflict=FIX:skip`` overrules it.
        """
        if on_conflict not in ("refuse", "skip", "overwrite"):
            raise CommandError(f"on_conflict={on_conflict!r}: choose refuse, skip or overwrite.")
        operations.invoke(cls(fix, on_conflict))


@Operations.register_operation("create_audit_table")
class CreateAuditTableOp(MigrateOperation):
    """Make an audit table."""

    def __init__(self, table: AuditTable) -> None:
        self.table = table

    @classmethod
    def create_audit_table(
        cls, operations: Operations, target: str, *, name: str, schema: str = "public", audit_schema: str = ""
    ) -> None:
        """Make the audit table of a target, and the ledger where its schema has none yet.

        Args:
            operations: Alembic's.
            target: the table whose rows will be copied.
            name: the audit table.
            schema: the target's schema.
            audit_schema: where audit table and ledger stand; the target's schema, unless said otherwise.
        """
        operations.invoke(cls(AuditTable(target, name, schema, audit_schema or schema)))


@Operations.register_operation("drop_audit_table")
class DropAuditTableOp(MigrateOperation):
    """Drop an audit table."""

    def __init__(self, name: str, audit_schema: str, discard: bool) -> None:
        self.name = name
        self.audit_schema = audit_schema
        self.discard = discard

    @classmethod
    def drop_audit_table(
        cls, operations: Operations, name: str, *, audit_schema: str = "public", discard: bool = False
    ) -> None:
        """Drop an audit table, and with the last one of a schema its ledger.

        Args:
            operations: Alembic's.
            name: the audit table.
            audit_schema: its schema.
            discard: drop it although it holds copies. ``alembic -x discard=NAME`` says the same for one run.
        """
        operations.invoke(cls(name, audit_schema, discard))


@Operations.implementation_for(ApplyDatafixOp)
def _apply(operations: Operations, operation: ApplyDatafixOp) -> None:
    fix, alembic = operation.fix, operations.migration_context
    settings = _settings(alembic)
    script = apply_script(fix, _context(alembic, settings), limits_of(settings))
    _hand_over(alembic, script, settings, fix)


@Operations.implementation_for(RevertDatafixOp)
def _revert(operations: Operations, operation: RevertDatafixOp) -> None:
    fix, alembic = operation.fix, operations.migration_context
    settings = _settings(alembic)
    policy = settings.on_conflict.get(fix.name, operation.on_conflict)
    script = revert_script(fix, _context(alembic, settings, policy), limits_of(settings))
    _hand_over(alembic, script, settings, fix)


@Operations.implementation_for(CreateAuditTableOp)
def _create(operations: Operations, operation: CreateAuditTableOp) -> None:
    settings = _settings(operations.migration_context)
    script = create_script(operation.table, limits_of(settings))
    _hand_over(operations.migration_context, script, settings, operation.table.name)


@Operations.implementation_for(DropAuditTableOp)
def _drop(operations: Operations, operation: DropAuditTableOp) -> None:
    settings = _settings(operations.migration_context)
    discard = operation.discard or operation.name in settings.discard
    script = drop_script(operation.name, operation.audit_schema, limits_of(settings), discard=discard)
    _hand_over(operations.migration_context, script, settings, operation.name)


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


def _settings(alembic: MigrationContext) -> Settings:
    environment = alembic.environment_context
    try:
        if environment is None:  # a MigrationContext without Alembic's commands: only the environment counts
            return Settings.resolve({}, os.environ, {})
        return settings_of(environment.config, environment.get_x_argument(as_dictionary=True))
    except DatafixError as error:
        raise DatafixFailed(error) from error


def _hand_over(alembic: MigrationContext, script: Script, settings: Settings, subject: DataFix | str) -> None:
    """The one text goes to the script (``--sql``) or to the server, verbatim."""
    if alembic.as_sql:
        for statement in script.statements:
            # Not through execute(): that would turn tabs into spaces and double every percent sign (B9, B10).
            alembic.impl.static_output(f"{statement};")
        return
    label = f"datafix {subject.name}" if isinstance(subject, DataFix) else f"audit table {subject}"
    connection = alembic.connection
    if connection is None:
        raise CommandError(f"{label}: Alembic has no connection.")
    try:
        _check_transaction(alembic, connection, label)
        execute(connection, script, label, Attempts.of(settings))
    except DatafixError as error:
        failed = DatafixFailed(error)
        begun = not _is_external(alembic) and alembic._transaction is not None
        # Whoever swallows this error must not be able to commit what is left (B3): the transaction ends here, and
        # Alembic does not get past it.
        if begun:
            connection.rollback()
        refusal.stands(connection, failed, (lambda: alembic._transaction is None) if begun else None)
        if error.detail:
            # The message itself follows in Alembic's own line.
            _logger.error("%s: refused, in detail:\n%s", label, error.detail)
        if isinstance(subject, DataFix):
            record_failure(
                connection, subject, Attempt(_running()[0], script.direction, settings.application), error
            )
        raise failed from error
    if isinstance(subject, DataFix):
        tell(connection, subject)


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
    if _is_external(alembic):
        _logger.warning(
            "%s: Alembic did not begin this transaction, and will not commit it. If nobody does, nothing is kept: "
            "does env.py run a statement before context.configure()?",
            label,
        )


def _is_external(alembic: MigrationContext) -> bool:
    return bool(getattr(alembic, "_in_external_transaction", False))


def _context(alembic: MigrationContext, settings: Settings, on_conflict: str = "refuse") -> Context:
    revision, parents, upgrading = _running()
    # An upgrade may revert an earlier fix as well as apply one.
    before = parents if upgrading else (revision or "",)
    return Context(
        revision=revision,
        upgrading=upgrading,
        after=tuple(name for name in before if not upgrading or not _is_branch_point(alembic, name)),
        version_table=alembic.version_table,
        version_table_schema=alembic.version_table_schema or "",
        application=settings.application,
        on_conflict=on_conflict,
    )


def _running() -> tuple[str | None, tuple[str, ...], bool]:
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
