"""What can be set: resolved once, the first place that has a value wins, and each value knows its origin."""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from datafixes.errors import SettingError
from datafixes.pipeline import pipeline_of
from datafixes.values import (
    Duration,
    Policy,
    masked,
    parse_accounts,
    parse_application,
    parse_attempts,
    parse_broker,
    parse_declined,
    parse_definition,
    parse_digests,
    parse_ignored,
    parse_patterns,
    parse_policies,
    parse_prefix,
    parse_region,
    parse_streams,
    parse_tables,
    parse_text,
    parse_url,
    parse_version,
)


@dataclass(frozen=True)
class Setting:
    """One thing that can be set: a row of the table below.

    Attributes:
        name: the field of `Settings`, and the name after `alembic -x`.
        meaning: one line for a reader of the settings.
        parse: turns text into the value; raises ValueError with what is wrong.
        default: the text that counts when no place has a value.
        environment: the variables that may hold it, the first one that is not empty wins.
        ini: the option in the section [datafixes] of alembic.ini; an empty string when there is none.
    """

    name: str
    meaning: str
    parse: Callable[[str], Any]
    default: str = ""
    environment: tuple[str, ...] = ()
    ini: str = ""


def _row(name: str, meaning: str, parse: Callable[[str], Any], default: str, *more_variables: str) -> Setting:
    """A setting that can be given in all three places."""
    return Setting(name, meaning, parse, default, (f"DATAFIXES_{name.upper()}", *more_variables), name)


URL_OPTION = "sqlalchemy.url"

SETTINGS: tuple[Setting, ...] = (
    Setting("url", "where the database is", parse_url, "", ("DATABASE_URL",), URL_OPTION),
    _row("lock_timeout", "how long a statement waits for a lock; 0 is for ever", Duration.parse, "5s"),
    _row("statement_timeout", "how long a statement may run; 0 is for ever", Duration.parse, "10min"),
    _row("lock_attempts", "how often a fix tries to get its locks", parse_attempts, "5"),
    _row("lock_pause", "the pause between two of these attempts", Duration.parse, "2s"),
    _row("run_wait", "how long a run waits until another run ends; 0 is not at all", Duration.parse, "5min"),
    _row("connect_timeout", "how long a connection may take; 0 is for ever", Duration.parse, "10s"),
    _row("application", "who and what ran a fix, as the ledger keeps it", parse_application, ""),
    _row("aws_region", "the region of parameters and secret", parse_region, "us-west-2",
         "AWS_REGION", "AWS_DEFAULT_REGION"),
    _row("aws_parameters", "where db_host, db_port and db_name stand in SSM", parse_prefix, "/ops-pipeline/"),
    _row("aws_secret", "the secret with username and password", parse_text, "ops-pipeline/db"),
    _row("embedded_version", "the PostgreSQL of embedded:, 16 or 18", parse_version, "18"),
    _row("broker", "who knows which positions are held: alpaca, or file:PATH", parse_broker, "alpaca"),
    _row("broker_accounts", "which secret has the keys of which account: NAME=SECRET[,NAME=SECRET]", parse_accounts,
         "large=ops-pipeline/alpaca,tiny=ops-pipeline/alpaca/tiny"),
    _row("broker_url", "paper, live, or a URL", parse_text, "paper"),
    _row("broker_timeout", "how long one answer of the broker may take", Duration.parse, "10s"),
    _row("broker_file_age", "how old a file of positions may be; 0 is no limit", Duration.parse, "1d"),
    _row("broker_ignore", "instruments that are not compared: ACCOUNT:INSTRUMENT[,ACCOUNT:INSTRUMENT]",
         parse_ignored, ""),
    _row("grace", "how long a position that was just opened or closed is unsettled", Duration.parse, "5min"),
    _row("book", "how the book is read: postgres, or lambda:NAME", parse_text, "postgres"),
    _row("book_table", "the table that is the book", parse_text, "public.active_positions"),
    _row("log_group", "the log of whoever works with the book", parse_text,
         "/ecs/ops-pipeline/position-manager-service"),
    _row("log_window", "how far back that log is read", Duration.parse, "10min"),
    _row("log_streams", "which of its streams are of which account: ACCOUNT=PATTERN[,ACCOUNT=PATTERN]",
         parse_streams, ""),
    _row("ecs_cluster", "where its service runs", parse_text, "ops-pipeline-cluster"),
    _row("ecs_service", "its service", parse_text, "position-manager-service"),
    _row("task_revision", "the oldest revision of its task definition that will do: 8, or FAMILY:8",
         parse_definition, "8"),
    _row("alert_topic", "the SNS topic for alerts", parse_text, ""),
    _row("alert_webhook", "a URL that takes alerts as JSON", parse_text, ""),
    _row("unknown_limit", "how long an account may be unknown, or a position not settled", Duration.parse,
         "15min"),
    _row("watch_every", "how often the watch looks", Duration.parse, "5min"),
    Setting("on_conflict", "what a revert does with rows changed since: FIX:skip or FIX:overwrite",
            parse_policies, "", ("DATAFIXES_ON_CONFLICT",)),
    Setting("decline", "a fix that is not to run in this database, and why: 'FIX: reason'", parse_declined),
    Setting("plan", "the digest of a plan: refuse when the rows are no longer the ones planned", parse_digests, "",
            ("DATAFIXES_PLAN",)),
    _row("mask", "columns that no plan, report or error shows: email, users.*, ...", parse_patterns, ""),
    Setting("discard", "tables with copies that this one run may drop: NAME[,NAME]", parse_tables),
)  # fmt: skip
"""Every setting, in the order in which they are shown."""


_NEVER_SHOWN = ("broker_accounts", "alert_webhook")


@dataclass(frozen=True, repr=False)
class Settings:
    """Every setting with its value and its origin. Its text form shows no password.

    Attributes:
        url: where the database is, or an empty string.
        lock_timeout: how long a statement waits for a lock.
        statement_timeout: how long a statement may run.
        lock_attempts: how often a fix tries to get its locks.
        lock_pause: the pause between two attempts.
        run_wait: how long a run waits for another run on the same database; zero is not at all.
        connect_timeout: how long a connection may take.
        application: who and what runs (commit and pipeline), or an empty string.
        aws_region: the region of parameters and secret.
        aws_parameters: the prefix of the SSM parameters, with a slash at its end.
        aws_secret: the name of the secret.
        embedded_version: the PostgreSQL version of `embedded:`.
        broker: `alpaca`, or `file:` and a path.
        broker_accounts: by name of an account, the secret with its keys.
        broker_url: `paper`, `live` or a URL.
        broker_timeout: how long one answer of the broker may take.
        broker_file_age: how old a file of positions may be; zero is no limit.
        broker_ignore: pairs of an account and an instrument of it that is not compared.
        grace: how long a position that was just opened or closed is unsettled.
        book: `postgres`, or `lambda:` and the function's name.
        book_table: the table that is the book, with its schema.
        log_group: the log group of whoever works with the book.
        log_window: how far back that log is read.
        log_streams: pairs of an account and a pattern for the names of its streams.
        ecs_cluster: where its service runs.
        ecs_service: its service.
        task_revision: the oldest revision of its task definition that will do: `8`, or `FAMILY:8`.
        alert_topic: the SNS topic for alerts, or an empty string.
        alert_webhook: a URL that takes alerts, or an empty string.
        unknown_limit: how long an account may be unknown, or a position not settled, before that is an alert.
        watch_every: how often the watch looks.
        on_conflict: by name of a fix, what its revert does with rows that changed since.
        decline: by name of a fix that is not to run in this database, why.
        plan: the digests of a plan, one for each run; empty: nothing was planned.
        mask: patterns for columns whose values no plan, report or error shows.
        discard: names of tables that may be dropped although they hold copies.
        origins: by name of a setting, the place that its value comes from.
    """

    url: str
    lock_timeout: Duration
    statement_timeout: Duration
    lock_attempts: int
    lock_pause: Duration
    run_wait: Duration
    connect_timeout: Duration
    application: str
    aws_region: str
    aws_parameters: str
    aws_secret: str
    embedded_version: int
    broker: str
    broker_accounts: Mapping[str, str]
    broker_url: str
    broker_timeout: Duration
    broker_file_age: Duration
    broker_ignore: tuple[tuple[str, str], ...]
    grace: Duration
    book: str
    book_table: str
    log_group: str
    log_window: Duration
    log_streams: tuple[tuple[str, str], ...]
    ecs_cluster: str
    ecs_service: str
    task_revision: str
    alert_topic: str
    alert_webhook: str
    unknown_limit: Duration
    watch_every: Duration
    on_conflict: Mapping[str, Policy]
    decline: Mapping[str, str]
    plan: frozenset[str]
    mask: tuple[str, ...]
    discard: frozenset[str]
    origins: Mapping[str, str] = field(compare=False)

    @classmethod
    def resolve(
        cls, flags: Mapping[str, str], environment: Mapping[str, str], ini: Mapping[str, str]
    ) -> "Settings":
        """Take each setting from the first place that has it: flag, environment, alembic.ini, default.

        Args:
            flags: what `alembic -x name=value` gave; names that are not settings belong to the user.
            environment: usually `os.environ`; an empty variable counts as missing.
            ini: the options of the section [datafixes], and `sqlalchemy.url` of the main section.

        Raises:
            SettingError: a value that means nothing, or an unknown option in [datafixes].
        """
        _check_options(ini)
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        for setting in SETTINGS:
            text, origin = _first(setting, flags, environment, ini)
            try:
                values[setting.name] = setting.parse(text)
            except ValueError as error:
                # Who writes the keys themselves where their name belongs must not find them in a log.
                given = "not readable" if setting.name in _NEVER_SHOWN else repr(masked(text))
                raise SettingError(f"{setting.name} is {given} ({origin}): {error}") from None
            origins[setting.name] = origin
        return cls(**values, origins=MappingProxyType(origins))

    def shown(self, name: str) -> str:
        """The value of one setting as text that may be printed."""
        value = getattr(self, name)
        if name == "on_conflict":
            return ",".join(f"{fix}:{policy}" for fix, policy in value.items())
        if name == "decline":
            return "; ".join(f"{fix}: {reason}" for fix, reason in value.items())
        if name in ("discard", "plan"):
            return ",".join(sorted(value))
        if name == "mask":
            return ",".join(value)
        if name == "broker_accounts":
            return ",".join(f"{account}={secret}" for account, secret in value.items())
        if name in ("broker_ignore", "log_streams"):
            return ",".join((":" if name == "broker_ignore" else "=").join(pair) for pair in value)
        if name == "alert_webhook" and value:
            return re.sub(
                r"(?<=://)([^/?#@]*@)?([^/?#]*).*", r"\2/***", value
            )  # its path is as good as a password
        return masked(str(value))

    def __repr__(self) -> str:
        values = (f"{s.name}={self.shown(s.name)!r} ({self.origins[s.name]})" for s in SETTINGS)
        return f"Settings({', '.join(values)})"


def _first(
    setting: Setting, flags: Mapping[str, str], environment: Mapping[str, str], ini: Mapping[str, str]
) -> tuple[str, str]:
    """The text of a setting, and where it stands."""
    if setting.name in flags:
        # `-x url=$URL` with an unset variable must not quietly run on another database.
        if not flags[setting.name].strip():
            raise SettingError(f"-x {setting.name}= is given without a value.")
        return flags[setting.name].strip(), f"-x {setting.name}"
    for variable in setting.environment:
        if environment.get(variable, "").strip():
            return environment[variable].strip(), f"environment {variable}"
    if ini.get(setting.ini, "").strip():
        section = "" if setting.ini == URL_OPTION else "[datafixes] "
        return ini[setting.ini].strip(), f"alembic.ini {section}{setting.ini}"
    if setting.name == "application":
        return pipeline_of(environment)
    return setting.default, "default"


def _check_options(ini: Mapping[str, str]) -> None:
    known = [setting.ini for setting in SETTINGS if setting.ini]
    for option in ini:
        # Alembic puts "here", the directory of alembic.ini, into every section.
        if option in known or option == "here":
            continue
        if any(option == setting.name and not setting.ini for setting in SETTINGS):
            raise SettingError(
                f"alembic.ini [datafixes] {option}: this is decided anew for each run.",
                hint=f"alembic -x {option}=…",
            )
        near = difflib.get_close_matches(option, known, n=1)
        guess = f" Did you mean {near[0]}?" if near else f" Known are: {', '.join(known[1:])}."
        raise SettingError(f"alembic.ini [datafixes] {option}: there is no such setting.{guess}")
