"""The settings of the book."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from datafixes.errors import SettingError
from datafixes.settings import Setting, Settings
from datafixes.settings.groups import Group
from datafixes.settings.values import Duration, parse_text

# Parsers: each takes text, and raises a ValueError that says what is wrong.


def _parse_definition(text: str) -> str:
    """`8`, or `FAMILY:8`: a revision of a task definition, of any family or of this one."""
    if text and not re.fullmatch(r"([A-Za-z0-9_-]{1,255}:)?[1-9][0-9]{0,8}", text):
        raise ValueError("write a revision such as 8, or FAMILY:8")
    return text


def _parse_broker(text: str) -> str:
    """`alpaca`, or `file:` and the path of a file of positions."""
    if text != "alpaca" and not (text.startswith("file:") and text != "file:"):
        raise ValueError("write alpaca, or file: and the path of a file of positions")
    return text


def _pairs(text: str, divide: Callable[[str], tuple[str, str, str]], form: str) -> Iterator[tuple[str, str]]:
    """The pairs of a list with commas."""
    for part in text.split(",") if text else ():
        first, _, second = (piece.strip() for piece in divide(part))
        if not first or not second:
            raise ValueError(f"write {form}")
        yield first, second


def _parse_accounts(text: str) -> Mapping[str, str]:
    """`NAME=SECRET,NAME=SECRET`, each account once; a name alone if the broker needs no keys."""
    accounts: dict[str, str] = {}
    for part in text.split(",") if text else ():
        name, equals, secret = (piece.strip() for piece in part.partition("="))
        is_name = re.fullmatch(r"(env:|arn:[\w:-]+:)?[\w/+=.@-]+", secret) or not equals
        if not name or name in accounts or not is_name:
            raise ValueError("write ACCOUNT=SECRET, with commas between several")
        accounts[name] = secret
    return MappingProxyType(accounts)


def _parse_ignored(text: str) -> tuple[tuple[str, str], ...]:
    """`ACCOUNT:INSTRUMENT,ACCOUNT:INSTRUMENT`, each once."""
    form = "ACCOUNT:INSTRUMENT, with commas between several"
    found = tuple(_pairs(text, lambda part: part.rpartition(":"), form))
    if twice := [pair for pair in found if found.count(pair) > 1]:
        raise ValueError(f"{':'.join(twice[0])} is given twice; write {form}")
    return found


def _parse_streams(text: str) -> tuple[tuple[str, str], ...]:
    """`ACCOUNT=PATTERN,ACCOUNT=PATTERN`; an account may have several patterns."""
    form = "ACCOUNT=PATTERN, with commas between several; * stands for anything"
    return tuple(dict.fromkeys(_pairs(text, lambda part: part.partition("="), form)))


def _host_alone(url: str) -> str:
    """Only the host of a webhook, because its path is a secret."""
    return re.sub(r"(?<=://)([^/?#@]*@)?([^/?#]*).*", r"\2/***", url)


_row = Setting.everywhere

SETTINGS: tuple[Setting, ...] = (
    _row("book_table", "the table of the book: SCHEMA.TABLE", parse_text),
    _row("book", "how the book is read: postgres, or lambda:NAME", parse_text, "postgres"),
    _row("grace", "how long a position that was just opened or closed is unsettled", Duration.parse, "5min"),
    _row("broker", "the broker: alpaca, or file:PATH", _parse_broker, "alpaca"),
    _row("broker_accounts", "the accounts and their secrets: NAME=SECRET[,NAME=SECRET]", _parse_accounts,
         show=lambda value: ",".join(f"{account}={secret}" for account, secret in value.items()), is_secret=True),
    _row("broker_url", "paper, live, or a URL", parse_text, "paper"),
    _row("broker_timeout", "how long one answer of the broker may take", Duration.parse, "10s"),
    _row("broker_file_age", "how old a file of positions may be; 0: no limit", Duration.parse, "1d"),
    _row("broker_ignore", "instruments that are not compared: ACCOUNT:INSTRUMENT[,ACCOUNT:INSTRUMENT]",
         _parse_ignored, show=lambda value: ",".join(map(":".join, value))),
    _row("log_group", "the log group of the service that uses the book", parse_text),
    _row("log_window", "how far back that log is read", Duration.parse, "10min"),
    _row("log_streams", "the log streams of each account: ACCOUNT=PATTERN[,ACCOUNT=PATTERN]",
         _parse_streams, show=lambda value: ",".join(map("=".join, value))),
    _row("ecs_cluster", "the ECS cluster of that service", parse_text),
    _row("ecs_service", "the ECS service", parse_text),
    _row("task_revision", "the oldest acceptable revision of its task definition: 8, or FAMILY:8",
         _parse_definition),
    _row("alert_topic", "the SNS topic for alerts", parse_text),
    _row("alert_webhook", "a URL that receives alerts as JSON", parse_text, show=_host_alone, is_secret=True),
    _row("unknown_limit", "how long an account may be unknown, or a position unsettled", Duration.parse, "15min"),
    _row("watch_every", "the interval of the watch", Duration.parse, "5min"),
)  # fmt: skip
"""Every setting of the book, in display order."""

GROUP = Group(
    title="the trading book",
    settings=SETTINGS,
    switch="book_table",
    commands={
        "reconcile": "compare the book with the broker",
        "propose": "write a revision that corrects the book to the broker",
        "verify": "check after a deploy: fix, book, log, service",
        "watch": "compare continuously, and alert on changes",
    },
)
"""The book for the command line, through the entry point ``datafixes.settings``."""

COMPARED = ("book_table", "broker_accounts")
"""The settings that every comparison needs."""


@dataclass(frozen=True, repr=False)
class BookSettings:
    """Every setting of the book with its value and its origin; what each means is in `SETTINGS`.

    Its text form shows no password.

    Attributes:
        origins: by name of a setting, the origin of its value.
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
        """The settings of the book, for a run with these settings of the engine.

        Raises:
            SettingError: a value is invalid.
        """
        values, origins = engine.sources.resolve(SETTINGS)
        return cls(**values, origins=origins, engine=engine)

    def need(self, *names: str) -> "BookSettings":
        """These settings, if all that a command needs have a value.

        Args:
            names: the needed settings.

        Raises:
            SettingError: one has none; the message says where to set it.
        """
        missing = [one for one in SETTINGS if one.name in names and not getattr(self, one.name)]
        if missing:
            named = "; ".join(f"{one.name} ({one.meaning})" for one in missing)
            first = missing[0].name
            raise SettingError(
                f"Not set: {named}.",
                hint=f"Set {first} = … in the section [datafixes] of alembic.ini,"
                f" or give DATAFIXES_{first.upper()} or -x {first}=…",
            )
        return self

    def check_accounts(self, name: str) -> None:
        """Refuse a setting that names an unknown account.

        Args:
            name: the setting, whose value is pairs of an account and something else.

        Raises:
            SettingError: broker_accounts has no such account.
        """
        for account, _ in getattr(self, name):
            if account not in self.broker_accounts:
                known = ", ".join(self.broker_accounts) or "none"
                raise SettingError(
                    f"{name} is {self.shown(name)!r} ({self.origins[name]}): broker_accounts has no account"
                    f" {account}. Known: {known}."
                )

    def shown(self, name: str) -> str:
        """The value of one setting as text, without passwords."""
        return next(one.shown(getattr(self, name)) for one in SETTINGS if one.name == name)

    def __repr__(self) -> str:
        values = (f"{one.name}={self.shown(one.name)!r} ({self.origins[one.name]})" for one in SETTINGS)
        return f"BookSettings({', '.join(values)})"
