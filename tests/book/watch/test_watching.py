"""The job through hours of trouble, on a clock that does not wait."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from datafixes.book.positions.position import Comparison
from datafixes.book.watch.changes import Failure, Look
from datafixes.book.watch.watching import look_once, source_of
from datafixes.errors import DatabaseUnreachable
from tests.book.settings import book_settings
from tests.book.watch.world import AWAY, FOUND, world


def database_away() -> Look:
    raise DatabaseUnreachable(
        "The database does not answer: postgresql://ops:HIDDEN@db/book,\nrefused", hint="Wait"
    )


def program_error() -> Look:
    raise ZeroDivisionError("HIDDEN at postgresql://ops:HIDDEN@db/book")


def test_an_hour_without_a_database_is_two_alerts(tmp_path: Path) -> None:
    here = world(tmp_path, FOUND, *[database_away] * 12, *[FOUND] * 5)
    here.run()
    assert here.reported == [(0, "appeared"), (300, "failed"), (16 * 300, "recovered")]
    assert here.looks == [300 * n for n in range(19)]
    failed = "Failed: The database does not answer: postgresql://ops:***@db/book, refused. Wait."
    assert here.said.count(failed) == 12


def test_an_hour_without_a_broker_is_told_after_the_limit(tmp_path: Path) -> None:
    here = world(tmp_path, FOUND, *[AWAY] * 12, *[FOUND] * 5)
    here.run()
    assert here.reported == [(0, "appeared"), (4 * 300, "unknown"), (16 * 300, "known")]


def test_a_program_error_does_not_end_it_either(tmp_path: Path) -> None:
    here = world(tmp_path, program_error, *[FOUND] * 4)
    here.run()
    assert [event for _, event in here.reported] == ["failed", "appeared", "recovered"]
    assert "HIDDEN" not in "".join(here.said).replace("ZeroDivisionError: HIDDEN at", "")


def test_a_round_that_takes_long_leaves_others_out_and_never_runs_two_at_once(tmp_path: Path) -> None:
    here = world(tmp_path, FOUND, FOUND, FOUND)
    here.slow = 700
    here.run()
    assert here.looks == [0, 900, 1800, 2700]


def test_a_broken_sink_gets_later_what_it_missed_also_after_a_restart(tmp_path: Path) -> None:
    here = world(tmp_path, FOUND, Look(Comparison(())))
    here.sink_broken = True
    here.run()
    assert here.reported == []
    assert sum("does not accept alerts" in line for line in here.said) == 1
    again = world(tmp_path, Look(Comparison(())))
    again.run()
    assert [event for _, event in again.reported] == ["appeared", "gone"]


def test_after_a_restart_nothing_is_told_twice_and_without_the_file_all_is_told_again(tmp_path: Path) -> None:
    world(tmp_path, FOUND).run()
    again = world(tmp_path, FOUND)
    again.run()
    assert again.reported == []
    again.path.write_text("{", "utf-8")
    lost = world(tmp_path, FOUND)
    lost.run()
    assert [event for _, event in lost.reported] == ["appeared"]
    assert "The earlier reports are unknown" in lost.said[0]


def test_a_state_that_cannot_be_written_is_told_once_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    here = replace(world(tmp_path, FOUND, FOUND, FOUND), path=tmp_path / "file" / "watch.json")
    here.run()
    assert [event for _, event in here.reported] == ["appeared"]
    assert sum("cannot be written" in line for line in here.said) == 1


def test_once_looks_once(tmp_path: Path) -> None:
    here = world(tmp_path, FOUND, FOUND)
    assert look_once(here.job) == FOUND
    assert here.looks == [0]
    assert [event for _, event in here.reported] == ["appeared"]
    look_once(here.job)
    assert len(here.reported) == 1
    assert isinstance(look_once(world(tmp_path, database_away).job), Failure)


def test_once_without_a_memory_tells_at_once_what_is_unknown(tmp_path: Path) -> None:
    here = world(tmp_path, AWAY, AWAY)
    look_once(here.job)
    assert [event for _, event in here.reported] == ["unknown"]
    look_once(here.job)
    assert len(here.reported) == 1


def test_the_state_holds_no_secret(tmp_path: Path) -> None:
    here = world(tmp_path, database_away, AWAY)
    here.sink_broken = True
    here.run()
    text = here.path.read_text("utf-8")
    assert json.loads(text)["waiting"]["webhook"]
    assert "HIDDEN" not in text


@pytest.mark.parametrize(
    ("flags", "source"),
    [
        (
            {"url": "postgresql://ops:HIDDEN@db/book"},
            "public.active_positions of postgresql://ops:***@db/book, broker alpaca paper",
        ),
        ({}, "public.active_positions of AWS us-west-2 /ops-pipeline/, broker alpaca paper"),
        ({"url": "embedded:"}, "public.active_positions of embedded:, broker alpaca paper"),
        (
            {"url": "postgresql+psycopg2:///b?host=/run&password=HIDDEN"},
            "public.active_positions of postgresql+psycopg2:///b?host=/run&password=***, broker alpaca paper",
        ),
        *(
            ({"url": url}, "public.active_positions of the URL of -x url, broker alpaca paper")
            for url in (
                "ops:HIDDEN@127.0.0.1/b", "postgresql://ops:HIDDEN/127.0.0.1:1/b", "postgresql://ops:1234/127.0.0.1:1/b",
                "postgres//ops:HIDDEN@h/b", "postgresql:/ops:HIDDEN@h/b", "postgresql://", "embedded://ops:HIDDEN/b",
            )
        ),
        (
            {"book": "lambda:q", "broker": "file:x.csv"},
            "public.active_positions of lambda:q, broker file:x.csv",
        ),
    ],
)  # fmt: skip
def test_the_alerts_say_which_book_and_which_broker(flags: dict[str, str], source: str) -> None:
    assert source_of(book_settings(**flags)) == source
