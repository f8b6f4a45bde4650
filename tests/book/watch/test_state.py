"""The state: a file that comes back as it was, and can be lost, spoiled or forbidden without harm."""

import datetime as dt
import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from datafixes.book.alerts.alert import Alert
from datafixes.book.watch.state import Flapping, Incident, Seen, State, read_state, write_state
from datafixes.book.watch.watching import default_path
from tests.book.settings import book_settings

AT = dt.datetime(2026, 2, 3, 16, tzinfo=dt.UTC)
STATE = State(
    (Seen("large", "QCOM", "phantom", (16, 41), "5", "0"),),
    {"tiny": Incident(AT, "it answers 500", True, AT)},
    Incident(AT, "the database does not answer", True),
    {"webhook": (Alert("gone", "1 difference", AT, "book", ("x",), left_out=7, unanswered=True),)},
    unsettled={("large", "SPY"): Incident(AT, "an order is in flight", True)},
    flapping={
        ("large", "NOW"): Flapping((AT, AT), AT, True, Seen("large", "NOW", "phantom", (2,), "5", "0")),
        ("tiny", "NOW"): Flapping((AT,), AT),
    },
)


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "new" / "watch.json"
    write_state(path, STATE)
    assert read_state(path) == (STATE, "")
    assert os.listdir(path.parent) == ["watch.json"]
    assert path.stat().st_mode & 0o077 == 0


def test_a_file_that_is_not_there_is_in_order(tmp_path: Path) -> None:
    assert read_state(tmp_path / "none.json") == (State(fresh=True), "")


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "7", "null", '{"version": 2}', '{"version": 1}', "\ufeff{}",
        json.dumps({"version": 1, "seen": [{"account": 1}], "unknown": {}, "failing": None, "waiting": {}}),
        json.dumps({"version": 1, "seen": [], "unknown": {"a": {"since": "2026-02-03", "why": "", "reported": False}}, "failing": None, "waiting": {}}),
        json.dumps({"version": 1, "seen": [], "unknown": {}, "failing": None, "waiting": {"log": [{"event": "new"}]}}),
    ],
)  # fmt: skip
def test_a_spoiled_file_is_as_good_as_none_and_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "watch.json"
    path.write_text(text, "utf-8")
    state, wrong = read_state(path)
    assert state == State(fresh=True)
    assert "is not the state of a watch" in wrong


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("seen", 0, "account"), None),
        (("seen", 0, "elsewhere"), [1]),
        (("seen", 0, "rows"), ["16"]),
        (("flapping", 0, "reported", "symbol"), None),
        (("waiting", "webhook", 0, "at"), "9999-12-31T23:59:59-12:00"),
        (("waiting", "webhook", 0, "left_out"), 1e400),
        (("unknown", "tiny", "since"), "0001-01-01T00:00:00+12:00"),
        (("unknown", "tiny", "well"), 5),
    ],
)
def test_what_would_be_no_use_later_is_noticed_in_reading(
    tmp_path: Path, path: tuple[str | int, ...], value: object
) -> None:
    file = tmp_path / "watch.json"
    write_state(file, STATE)
    content = part = json.loads(file.read_text("utf-8"))
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = value
    file.write_text(json.dumps(content), "utf-8")
    assert "is not the state of a watch" in read_state(file)[1]


def test_bytes_that_are_no_text_are_told_too(tmp_path: Path) -> None:
    path = tmp_path / "watch.json"
    path.write_bytes(b"\xff\xfe\x00")
    assert "is not the state of a watch" in read_state(path)[1]
    assert "cannot be read" in read_state(tmp_path)[1]


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "watch.json"
    write_state(path, STATE)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_state(path, State())
    assert read_state(path)[0] == STATE
    assert os.listdir(tmp_path) == ["watch.json"]


def test_each_book_and_broker_has_a_file_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def path(environment: dict[str, str], **flags: str) -> Path:
        return default_path(book_settings(**flags), environment)

    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    one = path(cache, url="postgresql://ops:HIDDEN@db/book")
    assert one.parent == tmp_path / "datafixes"
    assert one == path(cache, url="postgresql://ops:OTHER@db/book")
    others: tuple[dict[str, str], ...] = (
        {"broker": "file:x.csv"}, {}, {"aws_region": "eu-central-1"}, {"aws_secret": "ops/other"},
        {"url": "postgresql://ops@db/staging"},
    )  # fmt: skip
    assert len({one, *(path(cache, **other) for other in others)}) == 6
    assert path({"HOME": str(tmp_path)}).parent == tmp_path / ".cache/datafixes"
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    shared = path({"HOME": "/nowhere/at/all"}).parent
    assert shared == tmp_path / f"datafixes-{os.getuid()}"
    somebody = os.getuid() + 1
    monkeypatch.setattr("os.getuid", lambda: somebody)
    (tmp_path / f"datafixes-{os.getuid()}").mkdir()
    assert path({}).parent != tmp_path / f"datafixes-{os.getuid()}"


def test_a_file_of_before_is_read_without_what_it_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "watch.json"
    write_state(path, STATE)
    value = json.loads(path.read_text("utf-8"))
    del value["unsettled"], value["flapping"]
    del value["waiting"]["webhook"][0]["left_out"], value["waiting"]["webhook"][0]["unanswered"]
    path.write_text(json.dumps(value), "utf-8")
    alert = replace(STATE.waiting["webhook"][0], left_out=0, unanswered=False)
    assert read_state(path) == (replace(STATE, unsettled={}, flapping={}, waiting={"webhook": (alert,)}), "")


def test_a_link_is_replaced_and_what_it_leads_to_is_left_alone(tmp_path: Path) -> None:
    target, link = tmp_path / "precious", tmp_path / "watch.json"
    target.write_text("precious", "utf-8")
    link.symlink_to(target)
    write_state(link, STATE)
    assert target.read_text("utf-8") == "precious"
    assert read_state(link) == (STATE, "")


def test_a_pipe_a_device_and_a_directory_stay_what_they_are(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert read_state(pipe) == (State(fresh=True), f"{pipe} is not a regular file")
    for path in (pipe, tmp_path, Path(os.devnull)):
        with pytest.raises(OSError, match=r"directory|not a regular file"):
            write_state(path, STATE)
    assert os.listdir(tmp_path) == ["pipe"]
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_what_somebody_else_left_in_a_directory_for_everybody_is_not_believed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "watch.json"
    write_state(path, STATE)
    os.chown(path, 12345, -1) if os.geteuid() == 0 else pytest.skip("only root can give files away")
    assert read_state(path) == (STATE, "")  # on volumes files seem to belong to many a user
    tmp_path.chmod(0o1777)
    state, wrong = read_state(path)
    assert state == State(fresh=True)
    assert "belongs to another user" in wrong
