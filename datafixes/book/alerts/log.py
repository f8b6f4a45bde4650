"""Alerts as JSON lines on a stream: what a container's log takes in."""

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
        """Write the line, and see that it is out.

        Raises:
            OSError: it is not, or not all of it.
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
        # Not through the stream: its buffer would keep what a full disk did not take, and write it once more later.
        left = b"\n" + line if self._is_cut else line
        whole = len(left)
        try:
            while left:
                left = left[os.write(number, left) :]
        finally:
            # The line that was cut ends here, and not in the middle of the next one.
            self._is_cut = 0 < len(left) < whole or (self._is_cut and len(left) == whole)
