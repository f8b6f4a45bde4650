"""What a project's env.py calls: settings from Alembic's own places, and a run that cannot go wrong quietly."""

import io
import logging
import re
import sys
from contextlib import nullcontext, redirect_stdout
from typing import Any

from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

import datafixes.operations  # noqa: F401 - an Alembic before 1.18 does not load the plugin by itself
from datafixes.autogenerate import leave_audit_tables_alone
from datafixes.database.connection import one_run_at_a_time, open_connection
from datafixes.database.location import locate
from datafixes.errors import DatafixError, sqlstate
from datafixes.running.execution import failure
from datafixes.running.run import settings_of

_logger = logging.getLogger("alembic.datafixes")

# An older Alembic ends a script to base by dropping the version table, outside of every transaction, so that it goes
# even where the downgrade was refused. Online it never does. Nothing else can come last: the version does.
_ITS_DROP = re.compile(r"DROP TABLE [^;\n]+;\s+(?=(?:COMMIT;\s+)?\Z)")


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
        with open_connection(locate(settings), settings) as connection:
            # Nothing may run on the connection before this line: Alembic would take the transaction for somebody
            # else's, and not commit it (B23).
            context.configure(connection=connection, **options)
            reads_only = context.get_context().opts.get("dont_mutate", False)  # alembic current
            alone = nullcontext() if reads_only else one_run_at_a_time(connection, settings)
            with alone, context.begin_transaction():
                context.run_migrations()
    except DatafixError as error:
        raise CommandError(_told(error)) from error
    except DBAPIError as error:
        # The commit itself was refused, or the connection went: no operation was there to say it in one line. What the
        # project's own statements get wrong keeps its traceback.
        if not (error.connection_invalidated or sqlstate(error).startswith(("DF", "08", "57P"))):
            raise
        raise CommandError(failure(error, "datafix").one_line()) from error


def _print_script(context: Any, options: dict[str, Any]) -> None:
    """Print the script whole, or not at all: half a script is worse than none (B7), and stdout is for SQL only (B8)."""
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
