"""The service as somebody meets it at night: two of it, silent partners, a log that is gone."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from tests.book.alerts.receiver import Receiver, receiving
from tests.book.settings import ROOT
from tests.book.watch.service import Service, serving
from tests.cli.commands import datafixes
from tests.projects import Project

HELD = "account,symbol,quantity\nlarge,SPY,2\ntiny,,\n"


def watch(tmp_path: Path, **more: str) -> list[str]:
    (tmp_path / "held.csv").write_text(HELD)
    given = {"broker": f"file:{tmp_path / 'held.csv'}", "watch_every": "1s", **more}
    settings = [part for name, value in given.items() for part in ("-x", f"{name}={value}")]
    return [*settings, "watch", "--state", str(tmp_path / "watch.json")]


@contextmanager
def silent_server() -> Iterator[tuple[int, threading.Event]]:
    """Takes a connection, and says nothing on it: its port, and whether somebody is there."""
    taken: list[socket.socket] = []
    here = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def take() -> None:
            with suppress(OSError):
                taken.append(listener.accept()[0])
                here.set()

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield listener.getsockname()[1], here
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    for one in taken:
        one.close()


def test_a_second_watch_tells_nothing_and_takes_over_when_the_first_one_is_killed(
    project: Project, tmp_path: Path
) -> None:
    arguments = watch(tmp_path, url=project.url)
    with serving(project.directory, *arguments) as first, serving(project.directory, *arguments) as second:
        if not _is_at_work(first, second):
            first, second = second, first
        at_once = datafixes(None, *arguments, "--once")
        assert (at_once.code, at_once.out) == (1, "")
        assert at_once.last_line.startswith(
            f"FAILED: Another watch is running with {tmp_path / 'watch.json'}."
        )
        first.process.kill()
        second.rounds(2, " different")
        project.database.execute("UPDATE active_positions SET quantity = 7 WHERE id = 16")
        assert second.next()["event"] == "changed"
        second.process.send_signal(signal.SIGTERM)
        assert second.ended() == (0, [])
        assert sum("This one waits until it ends" in line for line in second.said) == 1


def _is_at_work(one: Service, other: Service) -> bool:
    """Which of the two came first; the other one is waiting."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for service, is_first in ((one, False), (other, True)):
            if any("This one waits until it ends" in line for line in service.said):
                return is_first
        time.sleep(0.05)
    raise AssertionError("both are at work")


def test_who_waits_for_the_other_ends_by_sigterm(project: Project, tmp_path: Path) -> None:
    arguments = watch(tmp_path, url=project.url)
    with serving(project.directory, *arguments) as first:
        first.next()
        with serving(project.directory, *arguments) as second:
            second.rounds(1, "This one waits")
            second.process.send_signal(signal.SIGTERM)
            assert second.ended(10) == (0, [])


def test_sigterm_ends_it_while_the_database_says_nothing(tmp_path: Path) -> None:
    shutil.copy(ROOT / "alembic.ini", tmp_path)
    with silent_server() as (port, here):
        url = f"postgresql+psycopg2://ops:HIDDEN@127.0.0.1:{port}/book"
        with serving(tmp_path, *watch(tmp_path, url=url, connect_timeout="0")) as service:
            assert here.wait(60)
            began = time.monotonic()
            service.process.send_signal(signal.SIGTERM)
            assert service.ended() == (0, [])
            assert time.monotonic() - began < 12


def test_sigterm_ends_it_while_a_webhook_says_nothing_and_the_alert_goes_out_later(
    project: Project, tmp_path: Path
) -> None:
    with silent_server() as (port, here):
        silent = watch(tmp_path, url=project.url, alert_webhook=f"http://127.0.0.1:{port}/T0SECRET")
        with serving(project.directory, *silent) as service:
            assert service.next()["event"] == "appeared"
            assert here.wait(60)
            began = time.monotonic()
            service.process.send_signal(signal.SIGTERM)
            assert service.ended() == (0, [])
            assert time.monotonic() - began < 20
            assert "SECRET" not in "".join(service.said)
    with receiving() as receiver:
        again = datafixes(project, *watch(tmp_path, alert_webhook=receiver.url), "--once")
        assert (again.code, again.out) == (3, "")  # the log had it
        assert [body["event"] for body in receiver.bodies] == ["appeared"]


def test_it_goes_on_when_nobody_reads_its_log_any_more(project: Project, tmp_path: Path) -> None:
    with receiving() as receiver:
        arguments = watch(tmp_path, url=project.url, alert_webhook=receiver.url)
        process = subprocess.Popen(
            [sys.executable, "-m", "datafixes", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=project.directory, env=dict(os.environ),
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        said: list[str] = []
        reader = threading.Thread(target=lambda: said.extend(process.stderr or ()), daemon=True)
        reader.start()
        try:
            process.stdout.readline()
            process.stdout.close()
            for events in (["appeared", "changed"], ["appeared", "changed", "changed"]):
                project.database.execute("UPDATE active_positions SET quantity = quantity + 1 WHERE id = 16")
                _until(partial(_has_told, receiver, events))
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()
            reader.join(10)
            process.stderr.close()
        assert sum("The log does not accept alerts" in line for line in said) == 1
        assert "Traceback" not in "".join(said)
        waiting = json.loads((tmp_path / "watch.json").read_text("utf-8"))["waiting"]
        assert [alert["event"] for alert in waiting["log"]] == ["changed", "changed"]


def test_it_goes_on_and_ends_when_what_it_says_is_read_by_nobody(project: Project, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"x")
    os.set_blocking(writer, True)
    process = subprocess.Popen(
        [sys.executable, "-m", "datafixes", *watch(tmp_path, url=project.url)],
        stdout=subprocess.PIPE, stderr=writer, text=True, cwd=project.directory, env=dict(os.environ),
    )  # fmt: skip
    os.close(writer)
    killer = threading.Timer(60, process.kill)
    killer.start()
    try:
        assert process.stdout is not None
        with process.stdout:
            assert json.loads(process.stdout.readline())["event"] == "appeared"
            project.database.execute("UPDATE active_positions SET quantity = quantity + 1 WHERE id = 16")
            assert json.loads(process.stdout.readline())["event"] == "changed"
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
    finally:
        killer.cancel()
        process.kill()
        process.wait()
        os.close(reader)


def _has_told(receiver: Receiver, events: list[str]) -> bool:
    return [body["event"] for body in receiver.bodies] == events


def _until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.05)
