"""What an alert says, and that nothing secret is in it."""

import datetime as dt
import io
import json

from datafixes.alerts.alert import MOST_LINES, Alert
from datafixes.alerts.log import LogSink

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
