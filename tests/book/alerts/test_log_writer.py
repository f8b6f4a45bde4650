"""What the job says: never waited for, and never the reason why it does not end."""

import io
import os
import time

import pytest

from datafixes.book.alerts import log
from datafixes.book.alerts.log import LogWriter


def test_lines_with_the_time_in_their_order() -> None:
    stream = io.StringIO()
    one = LogWriter(stream)
    for number in range(3):
        one.write(f"line {number}")
    one.close()
    lines = stream.getvalue().splitlines()
    assert [line[20:] for line in lines] == ["line 0", "line 1", "line 2"]
    assert lines[0][:2] == "20"


def test_a_reader_that_sleeps_stops_nothing_and_gets_what_there_was_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log, "_FAREWELL", 0.05)
    reader, writer = os.pipe()
    with open(writer, "w", encoding="utf-8") as stream:
        with open(reader, "rb") as pipe:
            one = LogWriter(stream)
            for number in range(5000):
                one.write(f"line {number} {'x' * 200}")
            one.close()
            # It reads again.
            lines = [pipe.readline()[20:].split(b" ")[:2] for _ in range(1000)]
        monkeypatch.setattr(log, "_FAREWELL", 30)
        one.close()
    assert lines == [[b"line", str(number).encode()] for number in range(1000)]


def test_a_stream_that_is_gone_stops_nothing_either() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as stream:
        one = LogWriter(stream)
        one.write("to nobody")
        one.write("to nobody")
        began = time.monotonic()
        one.close()
        assert time.monotonic() - began < 0.9
