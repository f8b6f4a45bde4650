"""The command line: finds commands, and turns an error into one line and an exit code."""

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

import click

from datafixes import __version__
from datafixes.cli.commands import COMMANDS, WISHES, load_other, others, sections
from datafixes.cli.project_options import Where
from datafixes.declaration.project_fixes import nearest
from datafixes.errors import DatafixError, SettingError

OK, FAILED, USAGE, DIFFERENT, UNPLANNABLE = 0, 1, 2, 3, 4
"""The exit codes: success, failure, wrong usage, differences or conflicts found, not all of it could be planned."""


class _Commands(click.Group):
    """Imports a command when it is used, so that each starts quickly; other packages may add commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *WISHES, *others()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        try:
            return _load(cmd_name)
        except DatafixError:  # completion of a word shows no errors
            return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        command = _load(name)
        if command is None and not name.startswith("-"):
            ctx.fail(f"Unknown command {name}.{nearest(name, self.list_commands(ctx))}")
        return (name, command, args[1:]) if command else super().resolve_command(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # The commands fill the screen; the epilog lists the options.
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in sections(_where(ctx)):
            with formatter.section(title):
                formatter.write_dl(list(commands.items()))


def _load(name: str) -> click.Command | None:
    """A command, or None.

    Raises:
        DatafixError: the command of another package cannot be loaded.
    """
    if name in COMMANDS:
        command: click.Command = importlib.import_module(f"datafixes.cli.{name.replace('-', '_')}").command
        return command
    if name in WISHES:
        from datafixes.cli import steering

        return steering.COMMANDS[name]
    return load_other(name)


def _where(ctx: click.Context) -> Where:
    flags = tuple(ctx.params.get("settings") or ())
    return Where(ctx.params.get("config"), "alembic", flags, ctx.params.get("scripts"))


@click.command(
    cls=_Commands,
    help="",  # the list of commands fills a screen
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\n-c FILE: the configuration.  -d DIR: of env.py.  -x NAME=VALUE: a setting.\n"
    "Example: datafixes plan  (exit 1: failure, 2: usage, 3: findings, 4: partial)",
)
# Eager, because the help needs them: it shows the commands of the applications that the project uses.
@click.option(
    "-c", "--config", metavar="FILE", is_eager=True, help="Alembic's configuration (default: alembic.ini)."
)
@click.option(
    "-d", "--script-location", "scripts", metavar="DIR", is_eager=True, help="The directory of env.py."
)
@click.option("-n", "--name", metavar="SECTION", default="alembic", hidden=True, help="As alembic -n.")
@click.option(
    "-x", "settings", metavar="NAME=VALUE", multiple=True, is_eager=True, help="A setting, as in alembic -x."
)
@click.version_option(__version__, prog_name="datafixes")
@click.pass_context
def cli(
    ctx: click.Context, config: str | None, name: str, settings: tuple[str, ...], scripts: str | None
) -> None:
    """Audited data fixes: preview, audit, undo. Only alembic changes rows."""
    ctx.obj = Where(config, name, settings, scripts, elsewhere=ctx.obj)


def main() -> None:
    """Run the command line and end the process with its exit code."""
    sys.exit(run(None))


def run(
    arguments: list[str] | None, name: str = "datafixes", elsewhere: Callable[..., Any] | None = None
) -> int:
    """Run the command line and return the exit code; an error is one line on stderr.

    Args:
        arguments: its words; by default those of this process.
        name: the words before them, for the help.
        elsewhere: see :class:`Where`.
    """
    if sys.stdout is None:  # closed from the start
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - as long as the process
    try:
        code = cli.main(arguments, prog_name=name, standalone_mode=False, obj=elsewhere)
        sys.stdout.flush()
        return code if isinstance(code, int) else OK
    except click.UsageError as error:
        error.show()
        return USAGE
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted: nothing was changed.", err=True)
        return 130
    except BrokenPipeError:
        # The reader has closed the pipe; what is left in the buffer must cause no error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except DatafixError as error:
        return _told(error)
    except OSError as error:
        click.echo(f"FAILED: {error}", err=True)
        return FAILED
    except Exception as error:
        if (words := _of_a_library(error)) is None:
            raise
        click.echo(f"FAILED: {words}", err=True)
        return FAILED


def _of_a_library(error: Exception) -> str | None:
    """An error of Alembic, the database or Flask; their classes are known only if a command has imported them."""
    if isinstance(error, ModuleNotFoundError) and (project := sys.modules.get("datafixes.project")):
        return f"{error}. {project.OTHER_ENVIRONMENT}"
    alembic, sqlalchemy = sys.modules.get("alembic.util"), sys.modules.get("sqlalchemy.exc")
    if alembic is not None and isinstance(error, alembic.CommandError):
        return str(error)
    if sqlalchemy is not None and isinstance(error, sqlalchemy.DBAPIError):
        from datafixes.running.execution import failure

        return failure(error, "the database", hint="").one_line()
    if isinstance(error, RuntimeError) and str(error).startswith("Working outside of application context"):
        return "env.py needs a Flask application. Use the commands inside of it: flask datafixes ..."
    return None


def _told(error: DatafixError) -> int:
    if error.detail:
        click.echo(error.detail, err=True)
    if "\n" in error.message:
        click.echo("\n".join(part for part in (error.message, error.hint) if part), err=True)
    else:
        click.echo(f"FAILED: {error.one_line()}", err=True)
    return USAGE if isinstance(error, SettingError) else FAILED
