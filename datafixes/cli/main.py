"""The command line: which commands there are, and how an error becomes one line and an exit code."""

import importlib
import os
import sys

import click

from datafixes import __version__
from datafixes.cli.project_options import Where
from datafixes.declaration.declared import nearest
from datafixes.errors import DatafixError, SettingError

# By hand, in the order in which they are used. Each is imported when it is asked for.
COMMANDS = {
    "new": "write a revision with a fix, from what the database holds",
    "check": "find what is risky in revisions, without a database",
    "plan": "what an upgrade or downgrade will do to which rows",
    "revert": "write a revision that undoes one earlier fix",
    "history": "all runs, newest first",
    "show": "one run, row by row",
    "row": "everything that ever happened to one row",
    "open": "fixes that are in force, and whether they can still be reverted",
    "report": "one run as a page, for people who have no database",
    "reconcile": "the book against the broker: what differs",
    "propose": "write a revision that makes the book equal to the broker",
    "verify": "after a deploy: fix, book and broker, log, service",
    "watch": "compare again and again, and alert when something is new",
    "where": "each setting, its value and where it comes from",
    "doctor": "what is known to go wrong, looked for in this project",
}

OK, FAILED, USAGE, DIFFERENT = 0, 1, 2, 3
"""The exit codes: fine, failed, wrong usage, there are differences or conflicts."""


class _Commands(click.Group):
    """Imports a command when it is asked for, so that each starts quickly."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        room = (
            "datafixes.book.cli"
            if cmd_name in ("reconcile", "propose", "verify", "watch")
            else "datafixes.cli"
        )
        command: click.Command = importlib.import_module(f"{room}.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"There is no command {args[0]}.{nearest(args[0], list(COMMANDS))}")
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # With so many commands, what everybody knows takes no line: --version and --help.
        shown = [
            record
            for p in self.get_params(ctx)
            if p.name in ("config", "settings") and (record := p.get_help_record(ctx))
        ]
        with formatter.section("Options"):
            formatter.write_dl(shown)
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(
    cls=_Commands,
    help="",  # with its commands the help fills a screen
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: datafixes plan   (exit 0: fine, 1: failed, 2: usage, 3: findings)",
)
@click.option("-c", "--config", metavar="FILE", help="Alembic's configuration (default: alembic.ini).")
@click.option("-n", "--name", metavar="SECTION", default="alembic", hidden=True, help="As alembic -n.")
@click.option(
    "-x",
    "settings",
    metavar="NAME=VALUE",
    multiple=True,
    help="A setting, as in alembic -x. (Also: --version, --help.)",
)
@click.version_option(__version__, prog_name="datafixes")
@click.pass_context
def cli(ctx: click.Context, config: str | None, name: str, settings: tuple[str, ...]) -> None:
    """Audited data fixes: see before, find after, undo. Only alembic changes rows."""
    ctx.obj = Where(config, name, settings)


def main() -> None:
    """Run the command line, and end the process with its exit code."""
    sys.exit(run(None))


def run(arguments: list[str] | None) -> int:
    """Run the command line and return the exit code; what went wrong is one line on stderr."""
    if sys.stdout is None:  # closed from the start: nobody wants to read
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - as long as the process
    try:
        code = cli.main(arguments, prog_name="datafixes", standalone_mode=False)
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
        # Whoever read has seen enough; what is left in the buffer must not be complained about at exit.
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
    """What Alembic or the database said no to; both are known only where a command has imported them."""
    alembic, sqlalchemy = sys.modules.get("alembic.util"), sys.modules.get("sqlalchemy.exc")
    if alembic is not None and isinstance(error, alembic.CommandError):
        return str(error)
    if sqlalchemy is not None and isinstance(error, sqlalchemy.DBAPIError):
        from datafixes.running.execution import failure

        return failure(error, "the database", hint="").one_line()
    return None


def _told(error: DatafixError) -> int:
    if error.detail:
        click.echo(error.detail, err=True)
    if "\n" in error.message:
        click.echo("\n".join(part for part in (error.message, error.hint) if part), err=True)
    else:
        click.echo(f"FAILED: {error.one_line()}", err=True)
    return USAGE if isinstance(error, SettingError) else FAILED
