"""The state file of the running job: read once, written after each report; the job goes on if that fails."""

import os
from collections.abc import Callable
from pathlib import Path

from datafixes.book.watch.state import State, read_state, write_state


class StateFile:
    """Keeps the state in its file.

    Args:
        path: the file.
        say: takes warnings, each once.
    """

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self._path, self._say = path, say
        self._writable = True

    def read(self) -> State:
        """The state; empty if it cannot be read."""
        state, wrong = read_state(self._path)
        if wrong:
            aside = self._put_aside()
            self._say(
                f"The earlier reports are unknown: {wrong}{aside}. All present differences are reported again."
            )
        return state

    def _put_aside(self) -> str:
        """Rename an unreadable file instead of overwriting it: it may be evidence, or the path may be wrong."""
        aside = self._path.with_name(f"{self._path.name}.spoiled")
        if self._path.is_symlink() or not self._path.is_file():
            return ""
        try:
            os.replace(self._path, aside)
        except OSError:
            return ""
        return f"; it is now {aside}"

    def keep(self, state: State) -> None:
        """Write it; if that fails, the job goes on from memory."""
        try:
            write_state(self._path, state)
        except OSError as error:
            if self._writable:
                why = error.strerror or str(error)
                self._say(
                    f"The state cannot be written to {self._path}: {why}. After a restart all is reported again."
                )
            self._writable = False
        else:
            self._writable = True
