"""The settings of the engine."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NoReturn

from datafixes.errors import SettingError
from datafixes.settings.checking import CHECK_SETTINGS
from datafixes.settings.groups import options_of_groups
from datafixes.settings.pipeline import pipeline_of
from datafixes.settings.setting import URL_OPTION, Setting, Sources
from datafixes.settings.values import (
    Duration,
    Policy,
    parse_application,
    parse_attempts,
    parse_batches,
    parse_declined,
    parse_digests,
    parse_fix,
    parse_patterns,
    parse_policies,
    parse_prefix,
    parse_region,
    parse_tables,
    parse_text,
    parse_url,
    parse_version,
)


def _pairs(between: str, after: str) -> Callable[[Mapping[str, object]], str]:
    return lambda value: after.join(f"{name}{between}{other}" for name, other in value.items())


def _sorted(value: Iterable[str]) -> str:
    return ",".join(sorted(value))


_row = Setting.everywhere

SETTINGS: tuple[Setting, ...] = (
    Setting("url", "the database's URL", parse_url, "", ("DATABASE_URL",), URL_OPTION),
    _row("lock_timeout", "how long a statement waits for a lock; 0: no limit", Duration.parse, "5s"),
    _row("statement_timeout", "how long a statement may run; 0: no limit", Duration.parse, "10min"),
    _row("lock_attempts", "how often a fix tries to get its locks", parse_attempts, "5"),
    _row("lock_pause", "the pause between two attempts", Duration.parse, "2s"),
    _row("run_wait", "how long a run waits for another run to end; 0: not at all", Duration.parse, "5min"),
    _row("connect_timeout", "how long connecting may take; 0: no limit", Duration.parse, "10s"),
    _row("application", "who and what runs a fix, for the ledger", parse_application, derive=pipeline_of),
    _row("aws_region", "the AWS region; by default that of the AWS profile", parse_region,
         environment=("AWS_REGION", "AWS_DEFAULT_REGION")),
    _row("aws_parameters", "the prefix of the SSM parameters db_host, db_port and db_name", parse_prefix),
    _row("aws_secret", "the secret with the database's username and password", parse_text),
    _row("embedded_version", "the PostgreSQL version of embedded:, 16 or 18", parse_version, "18"),
    Setting("on_conflict", "what a revert does with rows changed since: FIX:skip or FIX:overwrite",
            parse_policies, "", ("DATAFIXES_ON_CONFLICT",), show=_pairs(":", ",")),
    Setting("batches", "how many rows a batch of a fix changes at most: FIX:5000[,FIX2:1000]", parse_batches, "",
            ("DATAFIXES_BATCHES",), show=_pairs(":", ",")),
    Setting("undo", "a fix that is half applied: take back what it has done", parse_fix),
    Setting("decline", "a fix that must not run in this database, and why: 'FIX: reason'", parse_declined,
            show=_pairs(": ", "; ")),
    Setting("plan", "the digest of a plan: refuse if the rows have changed since", parse_digests, "",
            ("DATAFIXES_PLAN",), show=_sorted),
    _row("mask", "columns that no plan, report or error shows: email, users.*, ...", parse_patterns, show=",".join),
    Setting("discard", "tables with copies that this run may drop: NAME[,NAME]", parse_tables, show=_sorted),
)  # fmt: skip
"""Every setting of the engine, in display order."""


@dataclass(frozen=True, repr=False)
class Settings:
    """Every setting with its value and its origin; what each means is in `SETTINGS`. Its text form shows no password.

    Attributes:
        origins: by name of a setting, the origin of its value.
        sources: all places of this run, for settings that are not the engine's.
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
    on_conflict: Mapping[str, Policy]
    batches: Mapping[str, int]
    undo: str
    decline: Mapping[str, str]
    plan: frozenset[str]
    mask: tuple[str, ...]
    discard: frozenset[str]
    origins: Mapping[str, str] = field(compare=False)
    sources: Sources = field(compare=False)

    @classmethod
    def resolve(
        cls,
        flags: Mapping[str, str],
        environment: Mapping[str, str],
        ini: Mapping[str, str],
        known: Mapping[str, tuple[str, str]] = MappingProxyType({}),
        toml: Mapping[str, str] = MappingProxyType({}),
    ) -> "Settings":
        """Take each setting from the first place that has it: flag, environment, alembic.ini, pyproject.toml, default.

        Args:
            flags: the `alembic -x name=value` options; other names belong to the user.
            environment: usually `os.environ`; an empty variable counts as missing.
            ini: the options of the section [datafixes], and `sqlalchemy.url` of the main section.
            known: see `Sources`.
            toml: the options of the table [tool.datafixes] of pyproject.toml.

        Raises:
            SettingError: an invalid value, or an unknown option in [datafixes] or [tool.datafixes].
        """
        sources = Sources(flags, dict(environment), ini, known, toml)
        # Alembic puts "here", the directory of alembic.ini, into every section.
        _check_options("alembic.ini [datafixes]", [option for option in ini if option != "here"])
        _check_options("pyproject.toml [tool.datafixes]", list(sources.toml))
        values, origins = sources.resolve(SETTINGS)
        return cls(**values, origins=origins, sources=sources)

    def shown(self, name: str) -> str:
        """The value of one setting as text, without passwords."""
        return next(one.shown(getattr(self, name)) for one in SETTINGS if one.name == name)

    def __repr__(self) -> str:
        values = (f"{s.name}={self.shown(s.name)!r} ({self.origins[s.name]})" for s in SETTINGS)
        return f"Settings({', '.join(values)})"


def _check_options(place: str, options: list[str]) -> None:
    """Refuse an unknown option; settings of other groups are loaded only if it is not the engine's."""
    known = [*SETTINGS, *CHECK_SETTINGS]
    unknown = [option for option in options if option not in _options(known)]
    if unknown:
        others = options_of_groups(place, unknown[0])
        if others is None:
            return
        known += others
    for option in unknown:
        if option not in _options(known):
            _refuse(place, option, known)


def _options(table: Iterable[Setting]) -> list[str]:
    return [setting.ini for setting in table if setting.ini]


def _refuse(place: str, option: str, table: list[Setting]) -> NoReturn:
    if any(option == setting.name and not setting.ini for setting in table):
        raise SettingError(
            f"{place} {option}: this must be given for each run.", hint=f"alembic -x {option}=…"
        )
    near = difflib.get_close_matches(option, _options(table), n=1)
    known = ", ".join(setting.ini for setting in SETTINGS[1:] if setting.ini)
    guess = f" Did you mean {near[0]}?" if near else f" Known are: {known}."
    raise SettingError(f"{place} {option}: unknown setting.{guess}")
