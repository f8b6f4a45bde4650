"""What a project's env.py calls: settings from Alembic's own places, and a run that cannot go wrong quietly."""

import io
import logging
import re
import sys
from collections.abc import Collection, Mapping
from contextlib import redirect_stdout
from traceback import walk_tb
from typing import Any

from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

import datafixes.operations  # noqa: F401 - an Alembic before 1.18 does not load the plugin by itself
from datafixes.audit.autogenerate import leave_audit_tables_alone
from datafixes.database.connection import open_connection
from datafixes.database.location import locate
from datafixes.database.turns import Turn, one_run_at_a_time
from datafixes.errors import DatafixError, VersionMoved, sqlstate
from datafixes.running.execution import failure
from datafixes.running.migration import revision_running
from datafixes.running.operation import settings_of
from datafixes.running.run import DECLINED

_logger = logging.getLogger("alembic.datafixes")

# An older Alembic ends a script to base by dropping the version table, outside of every transaction, so that it goes
# even where the downgrade was refused. Online it never does. Nothing else can come last: the version does.
_ITS_DROP = re.compile(r"DROP TABLE [^;\n]+;\s+(?=(?:COMMIT;\s+)?\Z)")

# +2, -1, branch@+1: from wherever the database is.
_RELATIVE = re.compile(r"(?:[^@]*@)?[+-]\d+")


def run_migrations(context: Any, *, target_metadata: Any = None, **options: Any) -> None:
    """Run what Alembic was asked for, one transaction for each migration, one run at a time.

    Args:
        context: ``alembic.context``, as env.py has it.
        target_metadata: the project's metadata, for autogenerate; audit tables and ledgers are left out of it.
        options: more for ``context.configure``, for example ``version_table_schema``.

    Raises:
        CommandError: the database was not found, or does not answer; Alembic shows it as one line.
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
            # Nothing may run on the connection before this line: Alembic would take the transaction for somebody
            # else's, and not commit it.
            context.configure(connection=connection, **_following(turn, options))
            _run(context, turn)
            _tell_of_idle(settings.decline, context.config.attributes)
    except DatafixError as error:
        raise CommandError(_told(error)) from error
    except DBAPIError as error:
        # No operation was there to say it in one line: Alembic's own statements, or the commit. What the project's own
        # statements get wrong keeps its traceback.
        lost = error.connection_invalidated or sqlstate(error).startswith(("DF", "08", "57P"))
        if not lost and _is_of_a_revision(error):
            raise
        raise CommandError(failure(error, "alembic", hint="").one_line()) from error


def _tell_of_idle(declined: Collection[str], attributes: Mapping[Any, Any]) -> None:
    """Warn of a fix that was to be declined and did not come by."""
    for fix in sorted(set(declined) - attributes.get(DECLINED, set())):
        _logger.warning("-x decline: %s was not about to run, so it was not declined.", fix)


def _following(turn: Turn, options: dict[str, Any]) -> dict[str, Any]:
    """The options, with a call that tells the turn of each revision that was reached."""
    theirs = options.get("on_version_apply")
    calls = theirs if isinstance(theirs, list | tuple) else [theirs] if theirs else []
    return {**options, "on_version_apply": [*calls, lambda heads, **_: turn.reached(heads)]}


def _run(context: Any, turn: Turn) -> None:
    """Run what Alembic was asked for; where another run comes in between two migrations, what is left of it."""
    migrating = context.get_context()
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
                moved.hint = "What is left of a relative step, nobody can tell. Say which revision is meant."
                raise
            _logger.info("%s Looking again at what is left.", moved)
            turn.begins_again()


def _is_of_a_revision(error: DBAPIError) -> bool:
    return any("down_revision" in frame.f_globals for frame, _ in walk_tb(error.__traceback__))


def _print_script(context: Any, options: dict[str, Any]) -> None:
    """Print the script whole, or not at all: half a script is worse than none, and stdout is for SQL only."""
    script, stdout = io.StringIO(), context.config.output_buffer or sys.stdout
    context.configure(
        dialect_name="postgresql",
        dialect_opts={"paramstyle": "named"},
        literal_binds=True,
        output_buffer=script,
        **options,
    )
    try:
        # What a migration prints is for people; in the script, psql would take it for SQL.
        with redirect_stdout(sys.stderr), context.begin_transaction():
            context.run_migrations()
    except (CommandError, DatafixError) as error:
        sys.exit(f"FAILED: {error}")
    text = _ITS_DROP.sub("", script.getvalue())
    if not text.strip():
        _logger.warning(
            "The script is empty: no migration leads from %s to %s.",
            context.get_starting_revision_argument(), context.get_revision_argument(),
        )  # fmt: skip
    stdout.write(text)


def _told(error: DatafixError) -> str:
    if "\n" not in error.message:
        return error.one_line()
    return "\n".join(part for part in (error.message, error.hint) if part)  # every place that was looked at
