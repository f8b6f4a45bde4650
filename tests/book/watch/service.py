"""``datafixes watch`` as a process of its own, read line by line."""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Service:
    """The running process. What it says is kept, so that it never waits for a reader."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.alerts: list[dict[str, Any]] = []
        self.said: list[str] = []
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        assert process.stdout is not None
        assert process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=(process.stdout, self._lines.put), daemon=True),
            threading.Thread(target=self._read, args=(process.stderr, self.said.append), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: Any, take: Any) -> None:
        for line in stream:
            take(line)

    def next(self, seconds: float = 60) -> dict[str, Any]:
        """The next alert."""
        try:
            alert: dict[str, Any] = json.loads(self._lines.get(timeout=seconds))
        except queue.Empty:
            raise AssertionError(f"no alert; it says: {''.join(self.said[-5:])}") from None
        self.alerts.append(alert)
        return alert

    def rounds(self, number: int, words: str = "", seconds: float = 60) -> None:
        """Wait until it has said that so many more rounds were done."""
        until = time.monotonic() + seconds
        start = len(self.said)
        while sum(words in line for line in self.said[start:]) < number:
            assert time.monotonic() < until, f"it says: {''.join(self.said[-5:])}"
            time.sleep(0.05)

    def ended(self, seconds: float = 30) -> tuple[int, list[str]]:
        """The exit code, and the alerts that nobody has read yet."""
        code = self.process.wait(seconds)
        for reader, stream in zip(self._readers, (self.process.stdout, self.process.stderr), strict=True):
            reader.join(10)
            assert stream is not None
            stream.close()
        left = []
        while not self._lines.empty():
            left.append(self._lines.get())
        return code, left


@contextmanager
def serving(
    directory: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator[Service]:
    """Run ``datafixes ARGUMENTS`` until the end of the context."""
    process = subprocess.Popen(
        [sys.executable, "-m", "datafixes", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=directory,
        env={**os.environ, **(environment or {})},
    )  # fmt: skip
    service = Service(process)
    try:
        yield service
    finally:
        process.kill()
        service.ended()
