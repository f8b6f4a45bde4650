"""Allows one watch per state file: two would report everything twice and overwrite each other's state."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from datafixes.errors import DatafixError


class AtWork(DatafixError):
    """Another watch uses the state."""


@contextmanager
def alone_with(path: Path, say: Callable[[str], None], again: Callable[[], bool]) -> Iterator[None]:
    """Hold the lock beside a state while the context lasts. The operating system releases it when a process dies.

    Args:
        path: the state.
        say: takes a line if no lock is possible; the work goes on without.
        again: waits, and returns whether to try again.

    Raises:
        AtWork: another watch holds it.
    """
    file = None
    try:
        while (file := _locked(path)) is None:
            if not again():
                raise AtWork(
                    f"Another watch is running with {path}.",
                    hint="Wait until it ends, stop it with SIGTERM, or give this one another --state.",
                )
    except OSError as error:
        why = error.strerror or str(error)
        say(f"No lock is possible beside {path}: {why}. A second watch would not be noticed.")
    try:
        yield
    finally:
        if file is not None:
            os.close(file)


def _locked(path: Path) -> int | None:
    """The open file that holds the lock; None if another process holds it.

    It is never deleted, because another process may just have opened it.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = path.with_name(f"{path.name}.lock")
    file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    except BaseException:
        os.close(file)
        raise
    return file
