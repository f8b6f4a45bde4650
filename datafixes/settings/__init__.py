"""Settings: resolved once, the first place with a value wins, and each value has an origin."""

from datafixes.settings.checking import CHECK_SETTINGS
from datafixes.settings.engine import SETTINGS, Settings
from datafixes.settings.setting import URL_OPTION, Setting, Sources

__all__ = ["CHECK_SETTINGS", "SETTINGS", "URL_OPTION", "Setting", "Settings", "Sources"]
