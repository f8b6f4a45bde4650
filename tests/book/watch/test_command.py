"""``datafixes watch`` as cron and as a service run it: a real book, a file as the broker, a webhook on this machine."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.book.alerts.receiver import receiving
from tests.cli.commands import datafixes
from tests.projects import Project, Ran

HELD = (
    "account,symbol,quantity\nlarge,QCOM260220P00145000,1\nlarge,NOW260220P00110000,1\nlarge,SPY,2\ntiny,,\n"
)
RUN = "from datafixes.cli import main; main.main()"


def settings(tmp_path: Path, **more: str) -> list[str]:
    (tmp_path / "held.csv").write_text(HELD)
    given = {"broker": f"file:{tmp_path / 'held.csv'}", **more}
    return [part for name, value in given.items() for part in ("-x", f"{name}={value}")]


def once(project: Project, tmp_path: Path, **more: str) -> Ran:
    return datafixes(
        project, *settings(tmp_path, **more), "watch", "--once", "--state", str(tmp_path / "watch.json")
    )


def events(ran: Ran) -> list[str]:
    return [json.loads(line)["event"] for line in ran.out.splitlines()]


def test_the_phantoms_are_told_once_and_when_they_are_gone(project: Project, tmp_path: Path) -> None:
    with receiving() as receiver:
        first = once(project, tmp_path, alert_webhook=receiver.url)
        assert (first.code, events(first)) == (3, ["appeared"])
        alert = json.loads(first.out)
        assert alert["title"] == "7 differences between book and broker appeared"
        assert "large QCOM: phantom, row 16: book 5, broker 0" in alert["lines"]
        assert receiver.bodies == [alert]
        assert "SECRET" not in first.out + first.err
        second = once(project, tmp_path, alert_webhook=receiver.url)
        assert (second.code, second.out) == (3, "")
        assert project.alembic("upgrade", "head").code == 0
        third = once(project, tmp_path, alert_webhook=receiver.url)
        assert (third.code, events(third)) == (0, ["gone"])
        assert [body["event"] for body in receiver.bodies] == ["appeared", "gone"]


def test_what_is_not_known_is_exit_code_1(project: Project, tmp_path: Path) -> None:
    # Without a memory it is reported at once; "0" is no limit.
    none = f"file:{tmp_path / 'none.csv'}"
    never = once(project, tmp_path, broker=none, unknown_limit="0")
    assert (never.code, events(never)) == (1, [])
    (tmp_path / "watch.json").unlink()
    away = once(project, tmp_path, broker=none)
    assert (away.code, events(away)) == (1, ["unknown"])
    failed = once(project, tmp_path, url="postgresql://nobody:HIDDEN@127.0.0.1:1/book")
    assert (failed.code, events(failed)) == (1, ["failed"])
    assert "HIDDEN" not in failed.out + failed.err + (tmp_path / "watch.json").read_text("utf-8")
    assert events(once(project, tmp_path, unknown_limit="1ms")) == ["appeared"]
    assert events(once(project, tmp_path, unknown_limit="1ms")) == ["recovered", "known"]


def test_a_row_that_cannot_be_compared_is_told(project: Project, tmp_path: Path) -> None:
    project.database.execute("UPDATE active_positions SET quantity = 0 WHERE id = 30")
    ran = once(project, tmp_path)
    assert ran.code == 1
    assert "large row 30: not comparable: its quantity is zero" in json.loads(ran.out)["lines"]


def test_what_is_left_out_is_said_and_no_alert(project: Project, tmp_path: Path) -> None:
    def held_too(symbol: str, **more: str) -> Ran:
        given = settings(tmp_path, **more)
        (tmp_path / "held.csv").write_text(f"{HELD}large,{symbol},3\n")
        return datafixes(project, *given, "watch", "--once", "--state", str(tmp_path / "watch.json"))

    assert project.alembic("upgrade", "head").code == 0
    assert events(held_too("KLAR")) == ["appeared"]
    project.database.execute("UPDATE active_positions SET quantity = 0 WHERE id = 30")
    assert events(held_too("KLAR")) == ["appeared"]
    # It did not go away, and is not reported as if it had.
    ran = held_too("KLAR", broker_ignore="large:klar,large:SPY")
    assert (ran.code, ran.out) == (0, "")
    assert "not compared: large KLAR (3), not compared: large SPY (2; in the book too: row 30)" in ran.err
    ran = held_too("KLAR", broker_ignore="large:SPY")
    assert (ran.code, events(ran)) == (3, ["appeared"])
    assert json.loads(ran.out)["source"].endswith(", without large:SPY")
    assert held_too("8EF998015", broker_ignore="large:SPY", unknown_limit="1ms").code == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"watch_every": "0"}, "watch_every is 0"),
        ({"alert_topic": "alerts"}, "not the ARN of an SNS topic"),
        ({"alert_webhook": "hooks/T0SECRET"}, "alert_webhook is not a URL"),
    ],
)
def test_settings_that_mean_nothing_are_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], words: str
) -> None:
    ran = datafixes(None, *settings(tmp_path, **given), "watch")
    assert (ran.code, words in ran.err, "SECRET" in ran.err) == (2, True, False)


def test_sigterm_ends_the_service_cleanly(project: Project, tmp_path: Path) -> None:
    state = tmp_path / "watch.json"
    given = settings(tmp_path, url=project.url)
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, *given, "watch", "--state", str(state)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ), cwd=project.directory,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert json.loads(line)["event"] == "appeared"
    assert (process.returncode, out) == (0, "")
    assert err.splitlines()[-1].endswith("Ended by SIGTERM.")
    assert len(json.loads(state.read_text("utf-8"))["seen"]) == 7
    assert sorted(os.listdir(tmp_path)) == ["held.csv", "watch.json", "watch.json.lock"]
