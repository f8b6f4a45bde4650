"""The settings of the book."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from datafixes.book.values import parse_accounts, parse_broker, parse_definition, parse_ignored, parse_streams
from datafixes.errors import SettingError
from datafixes.settings import Setting, Settings
from datafixes.settings.groups import Group
from datafixes.settings.values import Duration, parse_text


def _pairs(between: str) -> Callable[[Iterable[tuple[str, str]]], str]:
    return lambda value: ",".join(between.join(pair) for pair in value)


def _host_alone(url: str) -> str:
    """The host of a webhook alone: the path is as good as a password."""
    return re.sub(r"(?<=://)([^/?#@]*@)?([^/?#]*).*", r"\2/***", url)


_row = Setting.everywhere

SETTINGS: tuple[Setting, ...] = (
    _row("book_table", "the table that is the book: SCHEMA.TABLE", parse_text),
    _row("book", "how the book is read: postgres, or lambda:NAME", parse_text, "postgres"),
    _row("grace", "how long a position that was just opened or closed is unsettled", Duration.parse, "5min"),
    _row("broker", "who knows which positions are held: alpaca, or file:PATH", parse_broker, "alpaca"),
    _row("broker_accounts", "which secret has the keys of which account: NAME=SECRET[,NAME=SECRET]", parse_accounts,
         show=lambda value: ",".join(f"{account}={secret}" for account, secret in value.items()), is_secret=True),
    _row("broker_url", "paper, live, or a URL", parse_text, "paper"),
    _row("broker_timeout", "how long one answer of the broker may take", Duration.parse, "10s"),
    _row("broker_file_age", "how old a file of positions may be; 0 is no limit", Duration.parse, "1d"),
    _row("broker_ignore", "instruments that are not compared: ACCOUNT:INSTRUMENT[,ACCOUNT:INSTRUMENT]",
         parse_ignored, show=_pairs(":")),
    _row("log_group", "the log of whoever works with the book", parse_text),
    _row("log_window", "how far back that log is read", Duration.parse, "10min"),
    _row("log_streams", "which of its streams are of which account: ACCOUNT=PATTERN[,ACCOUNT=PATTERN]",
         parse_streams, show=_pairs("=")),
    _row("ecs_cluster", "where its service runs", parse_text),
    _row("ecs_service", "its service", parse_text),
    _row("task_revision", "the oldest revision of its task definition that will do: 8, or FAMILY:8",
         parse_definition),
    _row("alert_topic", "the SNS topic for alerts", parse_text),
    _row("alert_webhook", "a URL that takes alerts as JSON", parse_text, show=_host_alone, is_secret=True),
    _row("unknown_limit", "how long an account may be unknown, or a position not settled", Duration.parse, "15min"),
    _row("watch_every", "how often the watch looks", Duration.parse, "5min"),
)  # fmt: skip
"""Every setting of the book, in the order in which they are shown."""

GROUP = Group(
    title="the trading book",
    settings=SETTINGS,
    switch="book_table",
    commands={
        "reconcile": "the book against the broker: what differs",
        "propose": "write a revision that makes the book equal to the broker",
        "verify": "after a deploy: fix, book and broker, log, service",
        "watch": "compare again and again, and alert when something is new",
    },
)
"""What the command line knows of the book, through the entry point ``datafixes.settings``."""

COMPARED = ("book_table", "broker_accounts")
"""The settings without which there is nothing to compare."""


@dataclass(frozen=True, repr=False)
class BookSettings:
    """Every setting of the book with its value and its origin. Its text form shows no password.

    Attributes:
        book_table: the table that is the book, with its schema.
        book: `postgres`, or `lambda:` and the function's name.
        grace: how long a position that was just opened or closed is unsettled.
        broker: `alpaca`, or `file:` and a path.
        broker_accounts: by name of an account, the secret with its keys.
        broker_url: `paper`, `live` or a URL.
        broker_timeout: how long one answer of the broker may take.
        broker_file_age: how old a file of positions may be; zero is no limit.
        broker_ignore: pairs of an account and an instrument of it that is not compared.
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
        origins: by name of a setting, the place that its value comes from.
        engine: the settings of the engine in the same run.
    """

    book_table: str
    book: str
    grace: Duration
    broker: str
    broker_accounts: Mapping[str, str]
    broker_url: str
    broker_timeout: Duration
    broker_file_age: Duration
    broker_ignore: tuple[tuple[str, str], ...]
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
    origins: Mapping[str, str] = field(compare=False)
    engine: Settings

    @classmethod
    def of(cls, engine: Settings) -> "BookSettings":
        """The settings of the book in a run whose engine has these.

        Raises:
            SettingError: a value means nothing.
        """
        values, origins = engine.sources.resolve(SETTINGS)
        return cls(**values, origins=origins, engine=engine)

    def need(self, *names: str) -> "BookSettings":
        """These settings; a refusal where one has no value that a command cannot do without.

        Args:
            names: the settings.

        Raises:
            SettingError: such a setting has none; the message says where to put it.
        """
        missing = [one for one in SETTINGS if one.name in names and not getattr(self, one.name)]
        if missing:
            named = "; ".join(f"{one.name} ({one.meaning})" for one in missing)
            first = missing[0].name
            raise SettingError(
                f"Not set: {named}.",
                hint=f"Write {first} = … into the section [datafixes] of alembic.ini,"
                f" or give DATAFIXES_{first.upper()} or -x {first}=…",
            )
        return self

    def shown(self, name: str) -> str:
        """The value of one setting as text that may be printed."""
        return next(one.shown(getattr(self, name)) for one in SETTINGS if one.name == name)

    def __repr__(self) -> str:
        values = (f"{one.name}={self.shown(one.name)!r} ({self.origins[one.name]})" for one in SETTINGS)
        return f"BookSettings({', '.join(values)})"
