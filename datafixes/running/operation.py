"""An operation of a migration in progress: its fix, its migration and its settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic.util import CommandError

from datafixes.errors import DatafixError
from datafixes.running import refusal
from datafixes.running.execution import limits_of
from datafixes.running.migration import RunCollector, collector_of, context_of
from datafixes.script.context import Context
from datafixes.script.frame import Limits
from datafixes.settings import URL_OPTION, Settings
from datafixes.settings.toml import options_of

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy.engine import Connection

    from datafixes.declaration.recorded import Fix

DECLINED = "datafixes.declined"
"""The key under which Alembic's configuration keeps the names of declined fixes."""

KNOWN = "datafixes.known"
"""The key under which it keeps settings of the program that runs the command: see ``Sources.known``."""


class DatafixFailed(CommandError):
    """Shown by Alembic as one line, with a non-zero exit code.

    Attributes:
        error: the refusal.
    """

    def __init__(self, error: DatafixError) -> None:
        super().__init__(refusal.said_once(error.one_line()))
        self.error = error


@dataclass(frozen=True)
class Operation:
    """One operation, on a fix or on an audit table.

    Attributes:
        alembic: the migration.
        settings: time-outs, who runs it, masked columns.
        label: the subject of messages, ``"datafix NAME"``.
        fix: the fix that it applies or reverts; None for an audit table or a ledger.
    """

    alembic: MigrationContext
    settings: Settings
    label: str
    fix: Fix | None = None

    @classmethod
    def on_fix(cls, alembic: MigrationContext, fix: Fix) -> Operation:
        """An operation that applies, declines or reverts a fix."""
        return cls(alembic, settings_for(alembic), f"datafix {fix.name}", fix)

    @classmethod
    def on_table(cls, alembic: MigrationContext, name: str) -> Operation:
        """An operation on an audit table or a ledger."""
        return cls(alembic, settings_for(alembic), f"audit table {name}")

    @property
    def connection(self) -> Connection:
        """The connection on which the migration runs.

        Raises:
            CommandError: there is none.
        """
        if self.alembic.connection is None:
            raise CommandError(f"{self.label}: Alembic has no connection.")
        return self.alembic.connection

    @property
    def context(self) -> Context:
        """The context of its script: where, and by whom."""
        return context_of(self.alembic, self.settings)

    @property
    def limits(self) -> Limits:
        """The time-outs of its script."""
        return limits_of(self.settings)

    @property
    def collector(self) -> RunCollector | None:
        """The collector of its runs, in a plan."""
        return collector_of(self.alembic)


def settings_of(config: Config, flags: Mapping[str, Any]) -> Settings:
    """The settings of a run of Alembic: ``-x``, the environment, ``alembic.ini``, ``pyproject.toml``, defaults.

    Args:
        config: Alembic's, with the section ``[datafixes]`` and ``sqlalchemy.url``.
        flags: the ``-x name=value`` options.

    Raises:
        SettingError: a value is invalid.
    """
    refusal.said_by(config)
    ini = dict(config.get_section("datafixes", {}) or {})
    # Alembic raises where there is no alembic.ini, as in a project that pyproject.toml configures.
    has_section = config.file_config.has_section(config.config_ini_section)
    ini[URL_OPTION] = (config.get_main_option(URL_OPTION) if has_section else None) or ""
    given = {name: str(value) for name, value in flags.items()}
    # Alembic before 1.16 does not read it, and has no such attribute.
    toml = options_of(Path(getattr(config, "toml_file_name", None) or "pyproject.toml"))
    return Settings.resolve(given, os.environ, ini, config.attributes.get(KNOWN, {}), toml)


def settings_for(alembic: MigrationContext) -> Settings:
    """The settings of the current run; a plan may mask more columns."""
    environment = alembic.environment_context
    try:
        if (
            environment is None
        ):  # a MigrationContext without Alembic's commands: only environment variables count
            return Settings.resolve({}, os.environ, {})
        settings = settings_of(environment.config, environment.get_x_argument(as_dictionary=True))
    except DatafixError as error:
        raise DatafixFailed(error) from error
    collector = collector_of(alembic)
    return settings if collector is None else replace(settings, mask=collector.view.masks)
