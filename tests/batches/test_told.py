"""How far a fix in batches is, told while one statement makes batches: a bar on a terminal, lines in a log."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from datafixes.running import telling
from tests.batches.many import ROWS, is_whole, many_project
from tests.batches.test_steering import BATCHES, until
from tests.pooler import left_behind, pooler, sessions
from tests.projects import Project
from tests.servers import Database

# One statement makes all of these batches, for some seconds.
SLOW = "rows=50, pause='200ms'"
_BAR = re.compile(r"\r\x1b\[K(double_many: \w+ \[([#.]+)\] (\d+)%, ([\d,]+) of 1,000 rows[^\r\n]*)")


class Terminal:
    """What a program writes to a terminal."""

    def __init__(self, columns: int) -> None:
        self._ours, self.theirs = pty.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self._read: list[bytes] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            try:
                piece = os.read(self._ours, 4096)
            except OSError:  # nobody has it open any more
                return
            self._read.append(piece)

    def text(self) -> str:
        """All of it; the program has ended."""
        os.close(self.theirs)
        self._thread.join(10)
        os.close(self._ours)
        return b"".join(self._read).decode()


@contextmanager
def on_a_terminal(
    project: Project, columns: int, *command: str
) -> Iterator[tuple[Terminal, "subprocess.Popen[bytes]"]]:
    terminal = Terminal(columns)
    process = subprocess.Popen(
        command,
        cwd=project.directory,
        stdin=subprocess.DEVNULL,
        stdout=terminal.theirs,
        stderr=terminal.theirs,
    )
    try:
        yield terminal, process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def bars(text: str, columns: int) -> list[int]:
    """The shares that were drawn; no line is longer than the terminal."""
    found = _BAR.findall(text)
    assert all(len(line) < columns for line, *_ in found)
    shares = [int(share) for _, _, share, _ in found]
    assert shares == sorted(shares)
    return shares


def test_a_bar_is_drawn_by_the_upgrade_and_by_who_follows(tmp_path: Path, database: Database) -> None:
    project = many_project(tmp_path, database, SLOW)
    ini = str(tmp_path / "alembic.ini")
    follow = [sys.executable, "-m", "datafixes", "-c", ini, "-x", f"url={project.url}", "follow"]
    with on_a_terminal(project, 130, *project.command_line("upgrade", "head")) as (drawn, upgrading):
        until(lambda: database.value("SELECT to_regclass('datafix_range')") is not None)
        until(lambda: database.value(BATCHES) > 0)
        with on_a_terminal(project, 80, *follow) as (followed, following):
            assert (upgrading.wait(60), following.wait(60)) == (0, 0)

    assert is_whole(database)
    for text, columns in ((drawn.text(), 130), (followed.text(), 80)):
        assert len({share for share in bars(text, columns) if 0 < share < 100}) >= 2, text
        assert " rows/s" in text
        if columns > 100:
            assert re.search(r", about \d+ s left, batches of 50", text), text


def test_a_log_has_a_line_now_and_then(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "_LOG", 0.5)
    project = many_project(tmp_path, database, SLOW)

    ran = project.alembic("upgrade", "head")

    lines = re.findall(r"^datafix double_many: running, .* batches of \d+, run 1$", ran.err, re.MULTILINE)
    assert ran.code == 0
    assert len(lines) >= 4, ran.err  # the first, the last, and some while one statement makes batches
    assert f" {ROWS:,} of {ROWS:,} rows, " in lines[-1]


def test_it_needs_no_second_connection(tmp_path: Path, database: Database) -> None:
    with pooler(database, 1) as pooled:
        [clean] = sessions(database, pooled).values()
        project = many_project(tmp_path, pooled, "rows=100, pause='200ms'")
        with on_a_terminal(project, 130, *project.command_line("upgrade", "head")) as (drawn, upgrading):
            assert upgrading.wait(60) == 0
        assert is_whole(database)
        assert bars(drawn.text(), 130)[0] == 0
        assert left_behind(database, pooled, clean) == []
