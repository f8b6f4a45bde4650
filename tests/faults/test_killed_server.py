"""The server is killed in the middle of a fix or right behind it: what was committed is there, and nothing else."""

import itertools
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.deploys import (
    again,
    answers,
    applied_once,
    asleep,
    deploying,
    ended,
    hurry,
    images,
    kill,
    nothing_is_there,
    one_clear_line,
    rows,
    slow_project,
)
from tests.faults.own_server import OwnServer, own_server
from tests.projects import project_with_fix
from tests.servers import Database, Server

_numbers = itertools.count(1)

LOST = "the connection to the database was lost"


@pytest.fixture(scope="module")
def own(server: Server) -> Iterator[OwnServer]:
    with own_server(server.version) as running:
        yield running


@pytest.fixture
def database(own: OwnServer) -> Iterator[Database]:
    """A database on the test's own server."""
    with own.server.database(f"own_{next(_numbers)}") as fresh:
        yield fresh
        answers(fresh)


@pytest.mark.parametrize(
    ("moment", "driver", "recorded"),
    [
        ("changing", "psycopg2", False),
        ("changing", "psycopg", True),
        ("committing", "psycopg2", False),
    ],
)
def test_c36_a_backend_killed_in_the_middle_leaves_nothing_and_the_next_run_applies_once(
    moment: str, driver: str, recorded: bool, tmp_path: Path, database: Database
) -> None:
    # The server ends every session then, and starts over by itself.
    project = slow_project(tmp_path, database, moment, recorded=recorded).on(database, driver)
    with deploying(project) as process:
        kill(asleep(database))
        ran = ended(process)
    answers(database)
    one_clear_line(ran, LOST, "run the migration again")
    nothing_is_there(project)
    hurry(database)
    again(project)
    applied_once(project)


def commit_loosely(database: Database) -> None:
    """For its own writes, somebody finds it good enough if they are on disk ten seconds later."""
    database.execute(f"ALTER DATABASE {database.name} SET synchronous_commit = off")


@pytest.mark.parametrize("sent", [signal.SIGQUIT, signal.SIGKILL], ids=["immediate stop", "killed"])
def test_c36_a_server_stopped_hard_behind_a_fix_has_all_of_it(
    sent: signal.Signals, tmp_path: Path, own: OwnServer, database: Database
) -> None:
    project = project_with_fix(tmp_path, database)
    commit_loosely(database)
    with deploying(project) as process:
        assert ended(process).code == 0
    own.kill(sent)
    own.start()
    applied_once(project)
    with deploying(project, "downgrade", "a") as process:
        assert ended(process).code == 0
    own.kill(sent)
    own.start()
    assert rows(database) == [(1, "open", 10), (2, "open", 20), (3, "open", 30)]
    assert (project.versions, project.outcomes, images(database)) == ({"a"}, ["applied", "reverted"], 8)


@pytest.mark.parametrize(("moment", "sent"), [("changing", signal.SIGKILL), ("committing", signal.SIGQUIT)])
def test_c36_a_server_stopped_hard_in_the_middle_of_a_fix_has_nothing_of_it(
    moment: str, sent: signal.Signals, tmp_path: Path, own: OwnServer, database: Database
) -> None:
    project = slow_project(tmp_path, database, moment)
    with deploying(project) as process:
        asleep(database)
        own.kill(sent)
        ran = ended(process)
    own.start()
    one_clear_line(ran, LOST, "run the migration again")
    nothing_is_there(project)
    hurry(database)
    again(project)
    applied_once(project)
