"""One watch at a time with one state: two would report everything twice, and each forget what the other reported."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from datafixes.errors import DatafixError


class AtWork(DatafixError):
    """Another watch has the state."""


@contextmanager
def alone_with(path: Path, say: Callable[[str], None], again: Callable[[], bool]) -> Iterator[None]:
    """Hold the lock beside a state while the context lasts. A process that dies lets it go.

    Args:
        path: the state.
        say: takes a line where there can be no lock; the work goes on without.
        again: waits, and says whether to try once more.

    Raises:
        AtWork: somebody else has it, and nobody wants to try again.
    """
    file = None
    try:
        while (file := _locked(path)) is None:
            if not again():
                raise AtWork(
                    f"Another watch is at work with {path}.",
                    hint="It ends by itself, or with SIGTERM; a second one needs another --state.",
                )
    except OSError as error:
        why = error.strerror or str(error)
        say(f"There can be no lock beside {path}: {why}. A second watch would not be noticed.")
    try:
        yield
    finally:
        if file is not None:
            os.close(file)


def _locked(path: Path) -> int | None:
    """The open file that holds the lock; None where somebody else does.

    It is never deleted: somebody may just have opened it.
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
