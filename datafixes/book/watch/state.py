"""The state of the watch between rounds, in a file. Without it, the present differences are reported again."""

import datetime as dt
import errno
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from datafixes.book.alerts.alert import Alert
from datafixes.book.positions.numbers import digits
from datafixes.book.positions.position import Difference
from datafixes.book.settings import BookSettings

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
            json.dump(_value(state), file, indent=1)
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


def default_path(settings: BookSettings, environment: Mapping[str, str]) -> Path:
    """The default place of the state: in the user's cache, one file for each book and broker."""
    engine = [settings.engine.shown(name) for name in ("url", "aws_region", "aws_parameters", "aws_secret")]
    book = [
        settings.shown(name) for name in ("book", "book_table", "broker", "broker_url", "broker_accounts")
    ]
    about = "\n".join([*engine, *book])
    file = f"watch-{hashlib.sha256(about.encode()).hexdigest()[:12]}.json"
    cache = environment.get("XDG_CACHE_HOME", "")
    home = environment.get("HOME", "")
    if os.path.isabs(cache):
        return Path(cache, "datafixes", file)
    if os.path.isabs(home) and os.access(home, os.W_OK):
        return Path(home, ".cache", "datafixes", file)
    shared = Path(tempfile.gettempdir(), f"datafixes-{os.getuid()}")
    # Another user's directory of that name could contain a forged state.
    is_ours = not os.path.lexists(shared) or os.lstat(shared).st_uid == os.getuid()
    return (shared if is_ours else Path(tempfile.mkdtemp(prefix="datafixes-"))) / file


def _value(state: State) -> dict[str, Any]:
    return {
        "version": _VERSION,
        "seen": [asdict(one) for one in state.seen],
        "unknown": {account: _incident_value(incident) for account, incident in state.unknown.items()},
        "failing": None if state.failing is None else _incident_value(state.failing),
        "unsettled": [
            {"account": account, "symbol": symbol, **_incident_value(incident)}
            for (account, symbol), incident in state.unsettled.items()
        ],
        "flapping": [
            {"account": account, "symbol": symbol, **_flapping_value(one)}
            for (account, symbol), one in state.flapping.items()
        ],
        "waiting": {
            name: [_alert_value(alert) for alert in alerts] for name, alerts in state.waiting.items()
        },
    }


def _alert_value(alert: Alert) -> dict[str, Any]:
    return {**alert.as_json(), **({"unanswered": True} if alert.unanswered else {})}


def _incident_value(incident: Incident) -> dict[str, Any]:
    value = {"since": incident.since.isoformat(), "why": incident.why, "reported": incident.reported}
    return value if incident.well is None else {**value, "well": incident.well.isoformat()}


def _flapping_value(one: Flapping) -> dict[str, Any]:
    return {
        "times": [time.isoformat() for time in one.times],
        "since": one.since.isoformat(),
        "held": one.held,
        "reported": None if one.reported is None else asdict(one.reported),
    }


def _state(value: Mapping[str, Any]) -> State:
    failing = value["failing"]
    return State(
        tuple(sorted(map(_seen, value["seen"]))),
        {account: _incident(one) for account, one in value["unknown"].items()},
        None if failing is None else _incident(failing),
        {name: tuple(map(Alert.from_json, alerts)) for name, alerts in value["waiting"].items()},
        # Older files lack it.
        unsettled={_place(one): _incident(one) for one in value.get("unsettled", ())},
        flapping={_place(one): _flapping(one) for one in value.get("flapping", ())},
    )


def _place(value: Mapping[str, Any]) -> Place:
    return str(value["account"]), str(value["symbol"])


def _seen(value: Mapping[str, Any]) -> Seen:
    one = Seen(**{**value, "rows": tuple(value["rows"])})
    texts = (one.account, one.symbol, one.kind, one.book, one.broker, one.elsewhere, one.why)
    if not all(isinstance(text, str) for text in texts) or not all(isinstance(row, int) for row in one.rows):
        raise ValueError("a difference has values other than texts")
    return one


def _flapping(value: Mapping[str, Any]) -> Flapping:
    reported = value["reported"]
    return Flapping(
        tuple(map(_time, value["times"])),
        _time(value["since"]),
        bool(value["held"]),
        None if reported is None else _seen(reported),
    )


def _incident(value: Mapping[str, Any]) -> Incident:
    well = value.get("well")
    return Incident(
        _time(value["since"]),
        str(value["why"]),
        bool(value["reported"]),
        None if well is None else _time(well),
    )


def _time(text: str) -> dt.datetime:
    time = dt.datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("a time has no zone")
    return time.astimezone(dt.UTC)
