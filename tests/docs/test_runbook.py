"""The messages that the runbook of 015 explains are the ones that its reader meets."""

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.aws import Cloud
from tests.docs.pages import ROOT, Reader
from tests.docs.stories import STORIES, checkout
from tests.servers import Database

RUNBOOK = ROOT / "docs/close-phantom-positions.md"
PHANTOM = "UPDATE active_positions SET {} WHERE id = 13"

REFUSED = {
    "13 symbol is SPY, not NOW": PHANTOM.format("ticker = 'SPY'"),
    "13 is missing": "DELETE FROM active_positions WHERE id = 13",
    "13 does not meet the condition of the fix": PHANTOM.format("status = 'pending'"),
}
"""By message, what happened to the book before."""

ELSEWHERE = {
    "No database is configured.",
    "The database does not answer: host ..., port ...",
    "canceling statement due to lock timeout (attempt 1 of ...)",
    "public.active_positions cannot be adopted: ...",
    "password authentication failed",  # PostgreSQL's own: the servers of the tests ask nobody for a password
}
"""Those with a test of their own below."""


def _explained() -> Iterator[str]:
    """The first column of the tables of messages."""
    text = RUNBOOK.read_text("utf-8")
    for table in re.findall(r"^\| message \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE):
        yield from re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)


@pytest.fixture
def reader(database: Database, cloud: Cloud, tmp_path: Path) -> Reader:
    """At 014, with the rows of the incident."""
    reader = Reader(database, tmp_path)
    STORIES["docs/how-to/pipeline.md"].begins(reader, cloud)
    assert reader.run("alembic upgrade 014").returncode == 0
    return reader


def _fails(reader: Reader, command: str, message: str) -> None:
    done = reader.run(command)
    assert done.returncode != 0
    assert re.search(".*".join(map(re.escape, message.split("..."))), done.stdout), done.stdout


def test_every_message_that_is_explained_has_a_test() -> None:
    assert set(_explained()) == {*REFUSED, *ELSEWHERE}


def test_what_015_refuses(reader: Reader) -> None:
    reader.database.execute("CREATE TABLE as_it_was AS TABLE active_positions")
    for message, happened in REFUSED.items():
        reader.database.execute(happened)
        _fails(reader, "alembic upgrade head", message)
        reader.database.execute("TRUNCATE active_positions", "INSERT INTO active_positions TABLE as_it_was")


def test_no_connection(database: Database, tmp_path: Path) -> None:
    reader = Reader(database, tmp_path)
    checkout(reader)
    _fails(reader, "unset DATABASE_URL; alembic upgrade head", "No database is configured.")
    _fails(
        reader,
        "alembic -x url=postgresql://ops@127.0.0.1:1/ops upgrade head",
        "The database does not answer: host ..., port ...",
    )


def test_a_lock_that_somebody_holds(reader: Reader) -> None:
    with closing(reader.database.connect()) as other, other.cursor() as cursor:
        cursor.execute("SELECT FROM active_positions WHERE id = 16 FOR UPDATE")
        _fails(
            reader,
            "alembic -x lock_timeout=200ms -x lock_attempts=2 -x lock_pause=100ms upgrade head",
            "canceling statement due to lock timeout (attempt 1 of ...)",
        )


def test_a_book_of_another_shape(database: Database, tmp_path: Path) -> None:
    reader = Reader(database, tmp_path)
    checkout(reader)
    database.execute("CREATE TABLE active_positions (id text)")
    _fails(reader, "alembic upgrade 012", "public.active_positions cannot be adopted: ...")
