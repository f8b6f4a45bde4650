"""Writes the job's log in its own thread, so that a blocked reader does not stop the job."""

import datetime as dt
import io
import os
import queue
import sys
import threading
from contextlib import suppress
from typing import TextIO

_MOST_LINES = 1000
"""The size of the queue; further lines are dropped."""
_FAREWELL = 1.0
"""Seconds."""


class LogWriter:
    """Writes lines, each with the time.

    Args:
        stream: the destination; by default stderr. The job goes on if it is closed.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream: TextIO | None = stream or sys.stderr  # None if it is closed from the start
        self._lines: queue.Queue[str] = queue.Queue(_MOST_LINES)
        self._writer = threading.Thread(target=self._write_lines, daemon=True)
        self._writer.start()

    def write(self, line: str) -> None:
        """Queue a line; the caller does not wait."""
        with suppress(queue.Full):
            self._lines.put_nowait(f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M:%S} {line}\n")

    def close(self) -> None:
        """Wait a moment for queued lines."""
        with suppress(queue.Full):
            self._lines.put_nowait("")
        self._writer.join(_FAREWELL)

    def _write_lines(self) -> None:
        while line := self._lines.get():
            with suppress(OSError, ValueError):
                if self._stream is not None:
                    _write(self._stream, line)


def _write(stream: TextIO, line: str) -> None:
    try:
        number = stream.fileno()
    except io.UnsupportedOperation:
        stream.write(line)
        stream.flush()
    else:
        # Not through the stream: its lock, held by a blocked thread, would prevent the process from ending.
        left = line.encode(errors="backslashreplace")
        while left:
            left = left[os.write(number, left) :]
