"""Alerts as JSON lines on a stream, for a container's log."""

import io
import json
import os
import sys
from typing import TextIO

from datafixes.book.alerts.alert import Alert


class LogSink:
    """Writes each alert as one line of JSON; by default on stdout."""

    name = "log"

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._is_cut = False

    def send(self, alert: Alert) -> None:
        """Write the line completely.

        Raises:
            OSError: it was not written, or not all of it.
        """
        stream = self._stream or sys.stdout
        line = json.dumps(alert.as_json()) + "\n"
        try:
            number = stream.fileno()
        except io.UnsupportedOperation:
            stream.write(line)
            stream.flush()
        else:
            stream.flush()
            self._write(number, line.encode("ascii"))

    def _write(self, number: int, line: bytes) -> None:
        # Not through the stream: after a full disk, its buffer would keep the rest and write it again later.
        left = b"\n" + line if self._is_cut else line
        whole = len(left)
        try:
            while left:
                left = left[os.write(number, left) :]
        finally:
            # End the truncated line, so that the next one starts on its own line.
            self._is_cut = 0 < len(left) < whole or (self._is_cut and len(left) == whole)
