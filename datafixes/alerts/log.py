"""Alerts as JSON lines on a stream: what a container's log takes in."""

import json
import sys
from typing import TextIO

from datafixes.alerts.alert import Alert


class LogSink:
    """Writes each alert as one line of JSON; by default on stdout."""

    name = "log"

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def send(self, alert: Alert) -> None:
        """Write the line, and see that it is out."""
        stream = self._stream or sys.stdout
        stream.write(json.dumps(alert.as_json()) + "\n")
        stream.flush()
