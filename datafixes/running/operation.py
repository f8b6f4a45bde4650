"""An operation of a migration in progress: what runs, where, and with which settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from alembic.util import CommandError

from datafixes.errors import DatafixError
from datafixes.running.execution import limits_of
from datafixes.running.migration import RunCollector, collector_of, context_of
from datafixes.script.context import Context
from datafixes.script.frame import Limits
from datafixes.settings import URL_OPTION, Settings

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy.engine import Connection

    from datafixes.declaration.recorded import Fix


class DatafixFailed(CommandError):
    """What Alembic shows as one line, exit code not 0.

    Attributes:
        error: the refusal, with its facts.
    """

    def __init__(self, error: DatafixError) -> None:
        super().__init__(error.one_line())
        self.error = error


@dataclass(frozen=True)
class Operation:
    """One operation, on a fix or on an audit table.

    Attributes:
        alembic: the migration that it is part of.
        settings: how long it may wait, who runs it, what is masked.
        label: how messages call it, ``"datafix NAME"``.
        fix: what it applies or reverts; None for an audit table or a ledger.
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
        """Where and by whom its script runs."""
        return context_of(self.alembic, self.settings)

    @property
    def limits(self) -> Limits:
        """The time-outs of its script."""
        return limits_of(self.settings)

    @property
    def collector(self) -> RunCollector | None:
        """What collects its runs, if they are only planned."""
        return collector_of(self.alembic)


def settings_of(config: Config, flags: Mapping[str, Any]) -> Settings:
    """The settings of a run of Alembic: ``-x``, the environment, ``alembic.ini``, defaults.

    Args:
        config: Alembic's, with the section ``[datafixes]`` and ``sqlalchemy.url``.
        flags: what ``-x name=value`` gave.

    Raises:
        SettingError: a value means nothing.
    """
    ini = dict(config.get_section("datafixes", {}) or {})
    ini[URL_OPTION] = config.get_main_option(URL_OPTION) or ""
    return Settings.resolve({name: str(value) for name, value in flags.items()}, os.environ, ini)


def settings_for(alembic: MigrationContext) -> Settings:
    """The settings of the run that a migration is part of; a plan may mask more than they do."""
    environment = alembic.environment_context
    try:
        if environment is None:  # a MigrationContext without Alembic's commands: only the environment counts
            return Settings.resolve({}, os.environ, {})
        settings = settings_of(environment.config, environment.get_x_argument(as_dictionary=True))
    except DatafixError as error:
        raise DatafixFailed(error) from error
    collector = collector_of(alembic)
    return settings if collector is None else replace(settings, mask=collector.view.masks)
