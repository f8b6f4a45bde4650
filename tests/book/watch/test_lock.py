"""The lock: one watch at a time, freed by whatever ends its owner, and done without where there can be none."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from datafixes.book.watch.lock import AtWork, alone_with


def no() -> bool:
    return False


def silent(line: str) -> None:
    raise AssertionError(line)


def test_the_second_one_is_told_and_the_next_one_may(tmp_path: Path) -> None:
    path = tmp_path / "new" / "watch.json"
    with alone_with(path, silent, no):
        with (
            pytest.raises(AtWork, match=f"Another watch is running with {path}"),
            alone_with(path, silent, no),
        ):
            raise AssertionError
        with alone_with(tmp_path / "other.json", silent, no):
            pass
    with alone_with(path, silent, no):
        pass


def test_it_can_be_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "watch.json"
    first = alone_with(path, silent, no)
    first.__enter__()
    waits: list[bool] = []

    def again() -> bool:
        waits.append(True)
        if len(waits) == 3:
            first.__exit__(None, None, None)
        return True

    with alone_with(path, silent, again):
        pass
    assert len(waits) == 3


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_without_locks_it_goes_on_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def flock(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    said: list[str] = []
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    with alone_with(tmp_path / "watch.json", said.append, no):
        pass
    assert len(said) == 1
    assert os.strerror(code) in said[0]
    assert not before or len(os.listdir("/proc/self/fd")) == before


def test_a_lock_is_never_opened_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "watch.json.lock").symlink_to(tmp_path / "elsewhere")
    said: list[str] = []
    with alone_with(tmp_path / "watch.json", said.append, no):
        pass
    assert len(said) == 1
    assert not (tmp_path / "elsewhere").exists()
