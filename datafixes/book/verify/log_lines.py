"""Judges the log of the service: no known error, and the right number of positions."""

import re
from collections.abc import Mapping

from datafixes.audit.wording import counted
from datafixes.book.settings import BookSettings
from datafixes.book.verify.checklist import not_asked
from datafixes.book.verify.counts import Asked, held_against
from datafixes.book.verify.service_log import BAD_SIGNS, Check, Log, Since, clock, excerpt, moment, moment_of
from datafixes.database.aws_client import NotAsked
from datafixes.report.document import Fact, bad, good, unknown
from datafixes.settings.values import Duration

ERRORS_NAME, COUNT_NAME = "Log: errors", "Log: positions checked"

_GONE = "ResourceNotFoundException"
_LONGER = 120_000
"""Milliseconds: a cycle, and a check."""
# The awslogs driver gives each task its own stream: prefix/container/task.
_TASK = re.compile(r"/([0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$")


def check_log(
    log: Log, settings: BookSettings, book: Mapping[str, int] | None, since: Since
) -> tuple[Fact, ...]:
    """The two lines about the log.

    Args:
        log: the log that was read.
        settings: its name and its window.
        book: the number of open rows by account; None if unknown.
        since: older lines prove nothing.
    """
    where = f"in the last {settings.log_window} of {settings.log_group}"
    if not log.events:
        quiet = f"no event {where}, which proves nothing"
        hint = "Does the service run, and is this its log? To read another one: -x log_group=NAME"
        return bad(ERRORS_NAME, quiet, hint), bad(COUNT_NAME, quiet)
    wait = f"--wait {usual_wait(settings)}"
    # An account without rows counts too.
    asked = None if book is None else Asked(
        {**dict.fromkeys(settings.broker_accounts, 0), **book}, settings.log_streams, since
    )  # fmt: skip
    return _errors(log, where, since, wait), _count(log, where, asked, since, wait)


def usual_wait(settings: BookSettings) -> Duration:
    """The default wait: an error of the current cycle must have left the window by then."""
    return Duration(settings.log_window.milliseconds + _LONGER)


def _errors(log: Log, where: str, since: Since, wait: str) -> Fact:
    if log.bad and log.newest_bad:
        time, message = log.newest_bad
        times = {sign: "once" if number == 1 else f"{number} times" for sign, number in log.bad.items()}
        signs = ", ".join(f'"{sign}" {often}' for sign, often in sorted(times.items()))
        older = since.limit(time)
        hint = (
            f"All of these are older than {older}: check again when they have left the window, or {wait}"
            if older
            else ""
        )
        evidence = f"{signs} {where}; the newest at {clock(time)}: {excerpt(message)}"
        return bad(ERRORS_NAME, evidence, hint)
    if not log.whole:
        return _too_much(ERRORS_NAME, log, where)
    return good(
        ERRORS_NAME, f"none of the {len(BAD_SIGNS)} known errors in {counted(log.events, 'event')} {where}"
    )


def _count(log: Log, where: str, asked: Asked | None, since: Since, wait: str) -> Fact:
    if not log.whole:
        return _too_much(COUNT_NAME, log, where)
    newest = log.newest
    if newest is None:
        return bad(COUNT_NAME, f'no "Checking N open positions" among {counted(log.events, "event")} {where}')
    said = f'"Checking {newest.number} open positions" at {clock(newest.time)}'
    if older := _older(newest, log, since):
        hint = f"The service has logged nothing newer: {wait}"
        return bad(COUNT_NAME, f"{said}; {older}", hint)
    if asked is None:
        return unknown(COUNT_NAME, f"{said}; the number of rows in the book is unknown")
    new = {
        stream: [one for one in found.checks if not _older(one, log, since)]
        for stream, found in log.streams.items()
    }
    found = held_against(asked, {stream: checks for stream, checks in new.items() if checks})
    hint = f"If a cycle is running, or one task is replacing another: {wait}" if found.waits else ""
    return Fact(COUNT_NAME, found.evidence, "good" if found.right else "bad", hint)


def _older(check: Check, log: Log, since: Since) -> str:
    """The event that is newer than a line, in words; empty if there is none."""
    if limit := since.limit(check.time):
        return f"that line, of {moment(moment_of(check.time))}, is older than {limit}"
    began, first = since.deployed_at, log.streams[check.stream].first
    if began is not None and _TASK.search(check.stream) and first <= began.timestamp() * 1000:
        return (
            f"its task, {check.stream}, already wrote at {moment(moment_of(first))}: "
            f"it is older than the deployment, of {moment(began)}"
        )
    return ""


def _too_much(name: str, log: Log, where: str) -> Fact:
    evidence = f"more than {counted(log.events, 'event')} {where}; not all were read"
    return unknown(name, evidence, "Read less: -x log_window=2min")


def not_read(error: NotAsked, settings: BookSettings) -> tuple[Fact, ...]:
    """The lines for a log that could not be read. A missing log is red."""
    if error.code == _GONE:
        evidence = f"log group {settings.log_group} does not exist in this account and region"
        hint = "To read another one: -x log_group=NAME"
        return bad(ERRORS_NAME, evidence, hint), bad(COUNT_NAME, evidence)
    return tuple(not_asked(name, error, "logs:FilterLogEvents") for name in (ERRORS_NAME, COUNT_NAME))
