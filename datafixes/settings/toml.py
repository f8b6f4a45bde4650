"""The table [tool.datafixes] of pyproject.toml, as texts like those of alembic.ini."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datafixes.errors import SettingError

_TABLE = "pyproject.toml [tool.datafixes]"


def options_of(path: Path) -> Mapping[str, str]:
    """The options of the table; empty without the file or the table.

    Args:
        path: ``pyproject.toml``.

    Raises:
        SettingError: the file is not TOML, or a value has a type that no setting has.
    """
    try:
        content = path.read_text(encoding="utf-8")
        table = tomllib.loads(content).get("tool", {}).get("datafixes", {}) if "datafixes" in content else {}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SettingError(f"{path} cannot be read: {error}") from None
    if not isinstance(table, dict):
        raise SettingError(f"{_TABLE} is no table.")
    return {name: _text(name, value) for name, value in table.items()}


def _text(name: str, value: Any) -> str:
    """A value as text: a list with commas, a table with a line for each entry."""
    match value:
        case bool():
            return str(value).lower()
        case str() | int() | float():
            return str(value)
        case list() if all(isinstance(one, str) for one in value):
            return ", ".join(value)
        case dict():
            return "\n".join(f"{key}: {_text(name, one)}" for key, one in value.items())
    raise SettingError(f"{_TABLE} {name}: write a text, a number, a list of texts, or a table of those.")
