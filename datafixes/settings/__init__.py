"""What can be set: resolved once, the first place that has a value wins, and each value knows its origin."""

from datafixes.settings.engine import SETTINGS, Settings
from datafixes.settings.setting import URL_OPTION, Setting, Sources

__all__ = ["SETTINGS", "URL_OPTION", "Setting", "Settings", "Sources"]
