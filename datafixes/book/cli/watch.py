"""``datafixes watch``."""

import datetime as dt
import os
from pathlib import Path

import click

from datafixes.book.alerts.log import LogWriter
from datafixes.book.alerts.sinks import Sinks, hiding, sinks_of
from datafixes.book.compare.reconciling import open_broker, reconcile
from datafixes.book.settings import COMPARED, BookSettings
from datafixes.book.watch.changes import Failure
from datafixes.book.watch.incidents import Limits
from datafixes.book.watch.signals import SignalHandler, Terminated
from datafixes.book.watch.watching import Job, default_path, keep_looking, look_of, look_once, source_of
from datafixes.cli.main import DIFFERENT, FAILED, OK
from datafixes.cli.project_options import Where, pass_where
from datafixes.errors import SettingError
from datafixes.project import Project

_SHORTEST = 1000


@click.command(epilog="Example: datafixes watch --once --state /var/lib/datafixes/watch.json")
@click.option("--once", is_flag=True, help="One round, for cron or a scheduled task.")
@click.option("--state", metavar="FILE", help="State file (default: in the user's cache).")
@pass_where
def command(where: Where, once: bool, state: str | None) -> int:
    """Compare the book with the broker every few minutes, and alert on changes.

    It alerts when differences appear, change or go away, when an account is unknown or a position unsettled for longer
    than unknown_limit, and when the comparison itself fails or works again. Alerts are JSON lines on stdout, and also
    go to alert_topic and alert_webhook if set. watch_every is the interval. SIGTERM ends it. While another watch uses
    the same state file, it waits; --once gives up after some seconds.

    \b
    Exit code with --once, 0: equal. 3: differences.
    1: an account is unknown, rows cannot be compared, the comparison
    failed, or another watch is running.
    """
    project = where.project()
    settings = BookSettings.of(project.settings).need(*COMPARED)
    if settings.watch_every.milliseconds < _SHORTEST:
        raise SettingError(f"watch_every is {settings.watch_every}: write 1s or more.")
    signals, log = SignalHandler(), LogWriter()
    try:
        job = _job(project, state, signals, log)
        with signals.on_sigterm():
            if not once:
                keep_looking(job, settings.watch_every.seconds)
            found = look_once(job)
    except Terminated:
        log.write("Ended by SIGTERM.")
        return FAILED if once else OK
    finally:
        log.close()
    if isinstance(found, Failure) or found.comparison.unknown or found.unreadable:
        return FAILED
    return DIFFERENT if found.comparison.differences else OK


def _job(project: Project, state: str | None, signals: SignalHandler, log: LogWriter) -> Job:
    settings = BookSettings.of(project.settings)
    hide = hiding(settings, os.environ)
    open_broker(settings)  # wrong settings are an error at once, and not an alert
    return Job(
        # Opened in each round, because keys may have changed.
        look=lambda: look_of(reconcile(project, open_broker(settings))),
        sinks=Sinks(sinks_of(settings), log.write, hide),
        path=Path(state) if state else default_path(settings, os.environ),
        limits=Limits.of(
            *(dt.timedelta(seconds=one.seconds) for one in (settings.unknown_limit, settings.grace))
        ),
        source=source_of(settings),
        hide=hide,
        say=log.write,
        signals=signals,
    )
