"""Called by a project's env.py: reads settings where Alembic does, and makes every failure visible."""

import io
import logging
import re
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from traceback import walk_tb
from typing import Any

from alembic.util import CommandError
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

import datafixes.operations  # noqa: F401 - Alembic before 1.18 does not load the plugin
from datafixes.audit.autogenerate import leave_audit_tables_alone
from datafixes.database.connection import open_connection
from datafixes.database.location import locate
from datafixes.database.turns import Turn, one_run_at_a_time
from datafixes.declaration.project_fixes import wrong_declaration
from datafixes.errors import DatafixError, VersionMoved, sqlstate
from datafixes.running.execution import failure
from datafixes.running.half_applied import refusing_beside
from datafixes.running.lost import explained
from datafixes.running.migration import revision_running
from datafixes.running.operation import DECLINED, settings_of
from datafixes.running.refusal import said_once
from datafixes.running.sealing import sealed_afterwards
from datafixes.settings import Settings

_logger = logging.getLogger("alembic.datafixes")

# Older versions of Alembic end a script to base by dropping the version table, outside of all transactions, so that it
# is dropped even if the downgrade was refused. Online they never do. It is always the last statement.
_ITS_DROP = re.compile(r"DROP TABLE [^;\n]+;\s+(?=(?:COMMIT;\s+)?\Z)")

# +2, -1, branch@+1: relative to the database's revision.
_RELATIVE = re.compile(r"(?:[^@]*@)?[+-]\d+")


def run_migrations(context: Any, *, target_metadata: Any = None, **options: Any) -> None:
    """Run Alembic's command: one transaction per migration, one run at a time on a database.

    Args:
        context: ``alembic.context``, as env.py has it.
        target_metadata: the project's metadata, for autogenerate, which ignores audit tables and ledgers.
        options: further arguments of ``context.configure``, for example ``version_table_schema``.

    Raises:
        CommandError: no database is configured, or it does not answer; Alembic shows it as one line.
    """
    options = {
        "target_metadata": target_metadata,
        "transaction_per_migration": True,
        "include_object": leave_audit_tables_alone,
        **options,
    }
    if context.is_offline_mode():
        _print_script(context, options)
        return
    try:
        settings = settings_of(context.config, context.get_x_argument(as_dictionary=True))
        with (
            open_connection(locate(settings), settings) as connection,
            one_run_at_a_time(connection, settings) as turn,
        ):
            # No statement may run on the connection before this line: Alembic would then treat the transaction as
            # the caller's, and not commit it.
            context.configure(connection=connection, **_following(turn, options))
            with sealed_afterwards(connection, turn, settings):
                _run(context, turn)
            _tell_of_idle(settings, context.config.attributes)
    except (DatafixError, TypeError) as error:
        known = wrong_declaration(error) or error
        if isinstance(known, TypeError):
            raise
        raise CommandError(said_once(_told(known))) from error
    except DBAPIError as error:
        _shown(error, connection)
        raise


def _shown(error: DBAPIError, connection: Connection) -> None:
    """Show the failure of Alembic's own statements, or of the commit, in one line.

    Errors of the project's own statements keep their traceback.
    """
    lost = error.connection_invalidated or sqlstate(error).startswith(("DF", "08", "57P", "25P03", "25P04"))
    if lost or not _is_of_a_revision(error):
        words = explained(failure(error, "alembic", hint=""), connection).one_line()
        raise CommandError(said_once(words)) from error


def _tell_of_idle(settings: Settings, attributes: Mapping[Any, Any]) -> None:
    """Warn of a fix that was to be declined or taken back, and was not about to run."""
    for fix in sorted(set(settings.decline) - attributes.get(DECLINED, set())):
        _logger.warning("-x decline: fix %s was not due to run, so it was not declined.", fix)
    if settings.undo:  # taking it back would have ended the command
        _logger.warning("-x undo: fix %s was not due to run, so nothing was taken back.", settings.undo)


def _following(turn: Turn, options: dict[str, Any]) -> dict[str, Any]:
    """The options, with a callback that notes each revision that was reached."""
    theirs = options.get("on_version_apply")
    calls = theirs if isinstance(theirs, list | tuple) else [theirs] if theirs else []
    return {**options, "on_version_apply": [*calls, lambda heads, **_: turn.reached(heads)]}


def _run(context: Any, turn: Turn) -> None:
    """Run Alembic's command; if another run intervenes between two migrations, run what is left."""
    migrating = context.get_context()
    if (steps := migrating._migrations_fn) is not None:  # Alembic has no hook for it
        migrating._migrations_fn = refusing_beside(steps)
    turn.is_over = migrating.opts.get("dont_mutate", False)  # alembic current
    turn.version = lambda: frozenset(migrating.get_current_heads())
    turn.in_a_migration = lambda: revision_running()[0] is not None
    while True:
        try:
            with context.begin_transaction():
                context.run_migrations()
            return
        except VersionMoved as moved:
            if _RELATIVE.fullmatch(str(migrating.opts.get("destination_rev", ""))):
                moved.hint = "A relative target cannot be resumed. Name the revision instead."
                raise
            _logger.info("%s Computing again what is left to run.", moved)
            turn.begins_again()


def _is_of_a_revision(error: DBAPIError) -> bool:
    return any("down_revision" in frame.f_globals for frame, _ in walk_tb(error.__traceback__))


def _print_script(context: Any, options: dict[str, Any]) -> None:
    """Print the whole script or nothing, because a partial script is dangerous; stdout is for SQL only."""
    script, stdout = io.StringIO(), context.config.output_buffer or sys.stdout
    context.configure(
        dialect_name="postgresql",
        dialect_opts={"paramstyle": "named"},
        literal_binds=True,
        output_buffer=script,
        **options,
    )
    _begin_read_committed(context.get_context().impl)
    try:
        # psql would execute what a migration prints as SQL.
        with redirect_stdout(sys.stderr), context.begin_transaction():
            context.run_migrations()
    except (CommandError, DatafixError, TypeError) as error:
        known = wrong_declaration(error) or error
        if isinstance(known, TypeError):
            raise
        sys.exit(f"FAILED: {known}")
    text = _ITS_DROP.sub("", script.getvalue())
    if not text.strip():
        _logger.warning(
            "The script is empty: no migration leads from %s to %s.",
            context.get_starting_revision_argument(), context.get_revision_argument(),
        )  # fmt: skip
    stdout.write(text)


def _begin_read_committed(impl: Any) -> None:
    """Let each transaction of a script begin in READ COMMITTED, as online: a fix in it may not be the first to read."""
    impl.emit_begin = lambda: impl.static_output("BEGIN ISOLATION LEVEL READ COMMITTED;")


def _told(error: DatafixError) -> str:
    if "\n" not in error.message:
        return error.one_line()
    # The message lists every place that was searched.
    return "\n".join(part for part in (error.message, error.hint) if part)
