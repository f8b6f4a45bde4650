"""The state of the watch between rounds, in a file. Without it, the present differences are reported again."""

import datetime as dt
import errno
import json
import os
import stat
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from datafixes.book.alerts.alert import Alert
from datafixes.book.positions.position import Difference, digits

_VERSION = 1

Place = tuple[str, str]
"""An account and a symbol."""


@dataclass(frozen=True, order=True)
class Seen:
    """A difference, as texts: equal if nothing changed.

    Attributes:
        account: the account.
        symbol: the position.
        kind: how book and broker differ.
        rows: the rows of the book.
        book: the book's quantity.
        broker: the broker's quantity.
        elsewhere: the account in which the broker has it.
        why: the problem of a row that cannot be compared.
    """

    account: str
    symbol: str
    kind: str
    rows: tuple[int, ...]
    book: str
    broker: str
    elsewhere: str = ""
    why: str = ""

    @classmethod
    def of(cls, one: Difference) -> "Seen":
        """A difference of a comparison."""
        book, broker = digits(one.book), digits(one.broker)
        return cls(one.account, str(one.symbol), one.kind, tuple(one.rows), book, broker, one.elsewhere)

    @property
    def place(self) -> Place:
        """The identity of a difference, whatever has changed about it."""
        return self.account, self.symbol


@dataclass(frozen=True)
class Incident:
    """A lasting problem.

    Attributes:
        since: its start.
        why: what is wrong, in one line.
        reported: whether there was an alert.
        well: since when it has been absent, without being over yet.
    """

    since: dt.datetime
    why: str
    reported: bool = False
    well: dt.datetime | None = None


@dataclass(frozen=True)
class Flapping:
    """A position whose difference changed recently.

    Attributes:
        times: the reports within the last hour; if it is held back, the last one.
        since: the time of its last change.
        held: whether it changed so often that it is not reported.
        reported: the last report of it.
    """

    times: tuple[dt.datetime, ...]
    since: dt.datetime
    held: bool = False
    reported: Seen | None = None


@dataclass(frozen=True)
class State:
    """The state.

    Attributes:
        seen: the differences of the last round.
        unknown: the accounts that are unknown, or were recently.
        failing: whether the job itself fails, or did recently.
        waiting: by name of a sink, alerts that it has not taken.
        fresh: whether there was no earlier state, so that the start of conditions is unknown.
        unsettled: the unsettled positions.
        flapping: the positions that changed recently.
    """

    seen: tuple[Seen, ...] = ()
    unknown: Mapping[str, Incident] = field(default_factory=dict)
    failing: Incident | None = None
    waiting: Mapping[str, tuple[Alert, ...]] = field(default_factory=dict)
    fresh: bool = False
    unsettled: Mapping[Place, Incident] = field(default_factory=dict)
    flapping: Mapping[Place, Flapping] = field(default_factory=dict)


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
            aside = ""
            # Renamed instead of overwritten: it may be evidence, or the path may be wrong.
            if self._path.is_file() and not self._path.is_symlink():
                spoiled = self._path.with_name(f"{self._path.name}.spoiled")
                with suppress(OSError):
                    os.replace(self._path, spoiled)
                    aside = f"; it is now {spoiled}"
            self._say(
                f"The earlier reports are unknown: {wrong}{aside}. All present differences are reported again."
            )
        return state

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


def read_state(path: Path) -> tuple[State, str]:
    """The contents of the file, or an empty state and the problem; a missing file is no problem."""
    try:
        if wrong := _why_not_ours(path):
            return State(fresh=True), f"{path} {wrong}"
        value = json.loads(path.read_text("utf-8"))
        if value["version"] != _VERSION:
            raise ValueError(f"its version is {value['version']!r}")
        return _state(value), ""
    except FileNotFoundError:
        return State(fresh=True), ""
    except OSError as error:
        return State(fresh=True), f"{path} cannot be read: {error.strerror or error}"
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        return State(fresh=True), f"{path} is not the state of a watch: {type(error).__name__}: {error}"


def _why_not_ours(path: Path) -> str:
    """Why a file cannot be trusted: a forged one could claim that everything was reported already."""
    if not stat.S_ISREG(os.stat(path).st_mode) and not path.is_dir():
        return "is not a regular file"
    # Only in world-writable directories: on mounted volumes, owners may differ.
    is_foreign = os.lstat(path).st_uid not in (os.geteuid(), 0)
    if is_foreign and os.stat(path.parent).st_mode & stat.S_ISVTX:
        return "belongs to another user, in a world-writable directory"
    return ""


def write_state(path: Path, state: State) -> None:
    """Write the file beside its place and rename it, so that it is never half visible.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_replaceable(path)
    side = ""
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            side = file.name
            json.dump(_value(state), file, indent=1, default=dt.datetime.isoformat)
            file.write("\n")
        os.replace(side, path)
    except BaseException:
        with suppress(OSError):
            if side:
                os.unlink(side)
        raise


def _check_replaceable(path: Path) -> None:
    """Refuse to replace a device or a pipe; root could do that to /dev/null."""
    with suppress(FileNotFoundError):
        mode = os.lstat(path).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "it is a directory")
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            raise OSError(errno.EINVAL, "it is not a regular file")


def _value(state: State) -> dict[str, Any]:
    def by_place(of: Mapping[Place, Incident | Flapping]) -> list[dict[str, Any]]:
        return [
            {"account": account, "symbol": symbol, **asdict(one)} for (account, symbol), one in of.items()
        ]

    return {
        "version": _VERSION,
        "seen": [asdict(one) for one in state.seen],
        "unknown": {account: asdict(incident) for account, incident in state.unknown.items()},
        "failing": state.failing and asdict(state.failing),
        "unsettled": by_place(state.unsettled),
        "flapping": by_place(state.flapping),
        "waiting": {
            name: [{**alert.as_json(), "unanswered": alert.unanswered} for alert in alerts]
            for name, alerts in state.waiting.items()
        },
    }


def _state(value: Mapping[str, Any]) -> State:
    return State(
        tuple(sorted(map(_seen, value["seen"]))),
        {account: _incident(one) for account, one in value["unknown"].items()},
        None if value["failing"] is None else _incident(value["failing"]),
        {name: tuple(map(Alert.from_json, alerts)) for name, alerts in value["waiting"].items()},
        # Older files lack it.
        unsettled={_place(one): _incident(one) for one in value.get("unsettled", ())},
        flapping={_place(one): _flapping(one) for one in value.get("flapping", ())},
    )


def _place(value: Mapping[str, Any]) -> Place:
    return str(value["account"]), str(value["symbol"])


def _seen(value: Mapping[str, Any]) -> Seen:
    one = Seen(**{**value, "rows": tuple(value["rows"])})
    if not all(isinstance(part, int) for part in one.rows) or not all(
        isinstance(part, str) for name, part in vars(one).items() if name != "rows"
    ):
        raise ValueError("a difference has values other than texts")
    return one


def _flapping(value: Mapping[str, Any]) -> Flapping:
    reported = None if value["reported"] is None else _seen(value["reported"])
    times = tuple(map(_time, value["times"]))
    return Flapping(times, _time(value["since"]), bool(value["held"]), reported)


def _incident(value: Mapping[str, Any]) -> Incident:
    # Older files lack "well" if there is none.
    well = None if value.get("well") is None else _time(value["well"])
    return Incident(_time(value["since"]), str(value["why"]), bool(value["reported"]), well)


def _time(text: str) -> dt.datetime:
    time = dt.datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("a time has no zone")
    return time.astimezone(dt.UTC)
