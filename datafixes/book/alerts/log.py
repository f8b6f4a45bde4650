"""What the job writes to its streams: alerts on stdout, for a container's log, and its own log on stderr."""

import datetime as dt
import io
import json
import os
import queue
import sys
import threading
from contextlib import suppress
from typing import TextIO

from datafixes.book.alerts.alert import Alert

_MOST_LINES = 1000
"""The size of the log's queue; further lines are dropped."""
_FAREWELL = 1.0
"""Seconds."""


class LogSink:
    """Writes each alert as one line of JSON; by default on stdout."""

    name = "log"

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._lines = _Lines()

    def send(self, alert: Alert) -> None:
        """Write the line completely.

        Raises:
            OSError: it was not written, or not all of it.
        """
        self._lines.write(self._stream or sys.stdout, json.dumps(alert.as_json()) + "\n")


class LogWriter:
    """Writes the job's log in its own thread, so that a blocked reader does not stop the job.

    Args:
        stream: the destination; by default stderr. The job goes on if it is closed.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream: TextIO | None = stream or sys.stderr  # None if it is closed from the start
        self._queue: queue.Queue[str] = queue.Queue(_MOST_LINES)
        self._writer = threading.Thread(target=self._write_lines, daemon=True)
        self._writer.start()

    def write(self, line: str) -> None:
        """Queue a line with the time; the caller does not wait."""
        with suppress(queue.Full):
            self._queue.put_nowait(f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M:%S} {line}\n")

    def close(self) -> None:
        """Wait a moment for queued lines."""
        with suppress(queue.Full):
            self._queue.put_nowait("")
        self._writer.join(_FAREWELL)

    def _write_lines(self) -> None:
        lines = _Lines()
        while line := self._queue.get():
            with suppress(OSError, ValueError):
                if self._stream is not None:
                    lines.write(self._stream, line)


class _Lines:
    """Writes whole lines to a stream.

    Not through the stream's buffer: after a full disk, it would keep the rest and write it again later; and its lock,
    held by a blocked thread, would prevent the process from ending.
    """

    _is_cut = False

    def write(self, stream: TextIO, line: str) -> None:
        try:
            number = stream.fileno()
        except io.UnsupportedOperation:
            stream.write(line)
            stream.flush()
            return
        # End a truncated line, so that the next one starts on its own line.
        left = (b"\n" * self._is_cut) + line.encode(errors="backslashreplace")
        whole = len(left)
        try:
            while left:
                left = left[os.write(number, left) :]
        finally:
            self._is_cut = 0 < len(left) < whole or (self._is_cut and len(left) == whole)
