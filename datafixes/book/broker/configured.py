"""Opens the broker that the settings name."""

import datetime as dt
from pathlib import Path

from datafixes.book.broker.alpaca import AlpacaBroker
from datafixes.book.broker.file_broker import FileBroker
from datafixes.book.broker.protocol import Broker
from datafixes.book.positions.symbols import ignored_of
from datafixes.book.settings import BookSettings
from datafixes.errors import SettingError


def open_broker(settings: BookSettings) -> Broker:
    """Prepare the broker, without sending a request.

    Raises:
        DatafixError: its client is not installed.
        SettingError: broker_url is not a URL, or would send the keys unencrypted; or broker_ignore names an unknown
            account.
    """
    kind, _, path = settings.broker.partition(":")
    if kind != "file":
        return AlpacaBroker(settings)
    limit = settings.broker_file_age.milliseconds
    try:
        file = Path(path).expanduser()
    except RuntimeError as error:
        raise SettingError(f"broker is {settings.broker!r} ({settings.origins['broker']}): {error}") from None
    age = dt.timedelta(milliseconds=limit) if limit else None
    return FileBroker(file, age, ignored=ignored_of(settings))
