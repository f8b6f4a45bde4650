"""``datafixes follow``."""

import json
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import click
from sqlalchemy.engine import Connection

from datafixes.audit.history import run_of, the_schema
from datafixes.audit.progress import Progress
from datafixes.audit.running import progress_of, running_fix
from datafixes.cli.asking import schema_option
from datafixes.cli.main import DIFFERENT, FAILED, OK
from datafixes.cli.project_options import Where, pass_where
from datafixes.report.progress import progress_as_json
from datafixes.report.runs import run_as_json
from datafixes.settings.values import Duration

_TERMINAL = 1.0
_LOG = 30.0
_PATIENCE = 600.0
"""So many seconds without a worker, and it is not followed any longer."""
_ENDED_WELL = ("applied", "reverted", "taken_back", "not_applicable")


def _every(_ctx: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        seconds = Duration.parse(value).seconds
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None
    return max(seconds, 0.1)


@click.command(epilog="Example: datafixes follow --every 10s")
@click.argument("fix", required=False)
@click.option(
    "--every", callback=_every, metavar="TIME", help="Between two lines (default: 30s; on a terminal: 1s)."
)
@click.option("--once", is_flag=True, help="Say how far it is, and end.")
@click.option(
    "--format", "form", type=click.Choice(("terminal", "json")), default="terminal", show_default=True,
    help="json: an object on each line.",
)  # fmt: skip
@schema_option
@pass_where
def command(  # noqa: PLR0913 - one for each option
    where: Where, fix: str | None, every: float | None, once: bool, form: str, schema: str | None
) -> int:
    """Watch a FIX that runs in batches, by default the newest, until it ends. Nothing is written.

    On a terminal, one line is drawn again and again. Exit code 1: it failed; 3: nobody works on it (with --once at
    this moment, else for ten minutes).
    """
    drawn = form == "terminal" and sys.stdout.isatty() and not once
    say: Callable[[dict[str, Any], str], None] = _json if form == "json" else _draw if drawn else _line
    with where.project().connection() as connection:
        ledger = _ask(connection, lambda: the_schema(connection, schema))
        found: Progress | None = _ask(connection, lambda: running_fix(connection, ledger, fix))
        while found is not None:
            last = found
            say(progress_as_json(last), last.line(shutil.get_terminal_size().columns - 1 if drawn else 0))
            if once:
                return OK if last.is_alive else DIFFERENT
            if last.idle > _PATIENCE and not last.is_alive:
                return DIFFERENT
            time.sleep(every or (_TERMINAL if drawn else _LOG))
            found = _ask(connection, partial(progress_of, connection, ledger, last.fix))
        run = _ask(connection, lambda: run_of(connection, ledger, last.run_id))
    if drawn:
        click.echo()
    ended = f"{run.fix}: {run.outcome}, {run.rows_changed:,} rows in {run.batches or 1:,} batches (run {run.run_id})"
    value = {"version": 1, "kind": "ended", "run": run_as_json(run)}
    _json(value, "") if form == "json" else _line({}, ended)
    return OK if run.outcome in _ENDED_WELL else FAILED


def _ask(connection: Connection, question: Callable[[], Any]) -> Any:
    """An answer, in a transaction of its own: an open one would keep VACUUM from its work."""
    connection.exec_driver_sql("SET TRANSACTION READ ONLY")
    try:
        return question()
    finally:
        connection.rollback()


def _line(_value: dict[str, Any], line: str) -> None:
    click.echo(line)
    sys.stdout.flush()


def _draw(_value: dict[str, Any], line: str) -> None:
    sys.stdout.write(f"\r\x1b[K{line}")
    sys.stdout.flush()


def _json(value: dict[str, Any], _line: str) -> None:
    click.echo(json.dumps(value, ensure_ascii=True))
    sys.stdout.flush()
