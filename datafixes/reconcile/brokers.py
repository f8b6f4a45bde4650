"""The broker that the settings name."""

from pathlib import Path

from datafixes.reconcile.alpaca import AlpacaBroker
from datafixes.reconcile.broker import Broker
from datafixes.reconcile.file_broker import FileBroker
from datafixes.settings import Settings


def open_broker(settings: Settings) -> Broker:
    """Make the broker ready to be asked. Nothing is asked yet.

    Raises:
        DatafixError: its client is not installed.
        SettingError: broker_url is no URL, or one that would send the keys in the clear.
    """
    kind, _, path = settings.broker.partition(":")
    return FileBroker(Path(path).expanduser()) if kind == "file" else AlpacaBroker(settings)
