"""What an alert says, and that nothing secret is in it."""

import datetime as dt
import io
import json
import os
from pathlib import Path

import jsonschema
import pytest

from datafixes.book.alerts.alert import MOST_LINES, Alert, fitting
from datafixes.book.alerts.log import LogSink
from tests.cli.commands import schema

AT = dt.datetime(2026, 2, 3, 16, 8, tzinfo=dt.UTC)


def test_the_log_takes_one_line_of_json_for_each_alert() -> None:
    stream = io.StringIO()
    sink = LogSink(stream)
    sink.send(Alert("appeared", "1 difference", AT, "book", ("large Ünïcode:\nphantom",), ({"rows": [16]},)))
    sink.send(Alert("gone", "1 difference", AT))
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["version"], first["kind"], first["event"], first["facts"]) == (
        1,
        "alert",
        "appeared",
        [{"rows": [16]}],
    )
    assert first["at"] == "2026-02-03T16:08:00+00:00"
    assert second["event"] == "gone"
    assert stream.getvalue().isascii()


def test_no_password_and_no_token_is_in_an_alert() -> None:
    url = "postgresql://ops:HIDDEN@db/book https://HIDDEN@hooks/x?token=HIDDEN"
    alert = Alert("failed", f"title {url}", AT, f"source {url}", (f"line {url}",), ({"why": url},))
    assert "HIDDEN" not in json.dumps(alert.as_json())
    assert "HIDDEN" not in alert.text()
    assert "db/book" in alert.text()


def test_people_are_not_shown_a_thousand_lines_and_programs_are() -> None:
    alert = Alert("appeared", "1000 differences", AT, "book", tuple(f"line {n}" for n in range(1000)))
    assert len(alert.text().splitlines()) == MOST_LINES + 3
    assert f"... and {1000 - MOST_LINES} more" in alert.text()
    assert len(alert.as_json()["lines"]) == 1000


def test_an_alert_that_waits_in_a_file_comes_back_as_it_was() -> None:
    alert = Alert("changed", "1 difference", AT, "book", ("a", "b"), ({"rows": [16], "since": None},))
    assert Alert.from_json(json.loads(json.dumps(alert.as_json()))) == alert


def test_ten_thousand_differences_fit_where_alerts_go() -> None:
    facts = tuple({"before": None, "now": {"account": "large", "symbol": f"A{n}"}} for n in range(10_000))
    alert = fitting(Alert("appeared", "many", AT, "book", tuple(f"large A{n}" for n in range(10_000)), facts))
    value = alert.as_json()
    assert len(json.dumps(value)) < 256 * 1024
    assert 1000 < len(value["lines"]) == len(value["facts"]) == 10_000 - value["left_out"]
    assert f"... and {10_000 - MOST_LINES} more" in alert.text()
    jsonschema.validate(value, schema()["$defs"]["alert"])
    huge = fitting(Alert("appeared", "one", AT, "", ("x" * 10**6,), ({"account": "x" * 10**6},)))
    assert (huge.lines, huge.facts, huge.left_out) == ((), (), 1)
    small = Alert("gone", "one", AT, "", ("x",), ({"why": "x"},))
    assert fitting(small) is small


def test_texts_of_others_neither_turn_a_line_round_nor_break_it() -> None:
    line = "large\x1b[2J \u202eMOCQ\r\n: phantom \ud83d " + "x" * 1000
    alert = Alert("appeared", "one", AT, "", (line,), ({"now": {"account": "a\ud83d", "rows": (1,)}},))
    [reported] = alert.as_json()["lines"]
    assert reported == alert.text().splitlines()[1]
    assert reported.startswith("large [2J MOCQ : phantom xxx")
    assert len(reported) == 500
    assert alert.text().encode()
    assert alert.as_json()["facts"] == [{"now": {"account": "a?", "rows": (1,)}}]


def test_no_password_is_in_a_fact_however_deep() -> None:
    alert = Alert(
        "appeared", "one", AT, facts=({"now": {"why": "see https://me:HIDDEN@host/?token=HIDDEN"}},)
    )
    assert "HIDDEN" not in json.dumps(alert.as_json())


def test_a_log_that_nobody_reads_any_more_is_an_error_and_not_an_end() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as stream:
        sink = LogSink(stream)
        for _ in range(2):
            with pytest.raises(BrokenPipeError):
                sink.send(Alert("gone", "1 difference", AT))


def test_a_line_that_was_cut_spoils_no_other_and_is_not_written_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, room = os.write, [20, 0]

    def write(number: int, data: bytes) -> int:
        if not room:
            return real(number, data)
        if not room[0]:
            raise OSError(28, "No space left on device")
        return real(number, data[: room.pop(0)])

    with (tmp_path / "log").open("w", encoding="utf-8") as stream:
        sink = LogSink(stream)
        monkeypatch.setattr("os.write", write)
        for _ in range(2):
            with pytest.raises(OSError, match="No space"):
                sink.send(Alert("gone", "first", AT))
        room.clear()
        sink.send(Alert("gone", "first", AT))
        sink.send(Alert("gone", "second", AT))
    cut, *lines = (tmp_path / "log").read_text("utf-8").splitlines()
    assert len(cut) == 20
    assert [json.loads(line)["title"] for line in lines] == ["first", "second"]
