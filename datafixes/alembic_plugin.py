"""Loaded by Alembic's entry point ``alembic.plugins`` with every command, during Alembic's own import.

So it imports almost nothing, and works while ``datafixes.operations`` is half imported: importing that module first
starts Alembic's import, which loads this module.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

NAME = "alembic.autogenerate.datafixes"
"""The plugin's name. Autogenerate asks the plugins ``alembic.autogenerate.*``, unless env.py names others."""


def setup(plugin: Any) -> None:
    """Called by Alembic: registers the operations, and makes autogenerate ignore audit tables and ledgers.

    Args:
        plugin: Alembic's ``Plugin``.
    """
    from alembic.util import DispatchPriority

    import datafixes.operations  # noqa: F401 - importing it registers them
    from datafixes.audit.autogenerate import leave_alone

    plugin.add_autogenerate_comparator(leave_alone, "schema", "datafixes", priority=DispatchPriority.LAST)


class _Plugins(ModuleType):
    """This module. Alembic 1.18.0 to 1.20.0 iterate over what they load; 1.20.1 takes a module, and warns of a list."""

    def __iter__(self) -> Iterator[ModuleType]:
        yield self


sys.modules[__name__].__class__ = _Plugins
