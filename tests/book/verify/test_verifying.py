"""All of it together, where the database or AWS says something that neither should."""

import datetime as dt
from typing import Any, cast

import pytest
from sqlalchemy.exc import OperationalError

from datafixes.book.verify.aws import Deployment
from datafixes.book.verify.verifying import Question, look
from datafixes.database.aws_client import Aws
from datafixes.errors import ConnectionLost
from datafixes.project import Project
from tests.book.settings import engine_settings

AT = dt.datetime(2026, 2, 3, 16, 8, tzinfo=dt.UTC)


class Lost:
    """A project whose database goes away in the middle of a question."""

    settings = engine_settings()

    def __init__(self, error: Exception) -> None:
        self.error = error

    def reading(self) -> Any:
        raise self.error

    def ask(self, _project: Project) -> Any:
        raise self.error


class Cloud(Aws):
    """An AWS whose service was deployed at a time of its own, and whose log has one line."""

    def __init__(self, deployed_at: dt.datetime) -> None:
        super().__init__("us-west-2")
        self.deployed_at = deployed_at

    def has_credentials(self) -> bool:
        return True

    def ask(self, service: str, operation: str, /, **arguments: Any) -> Any:
        primary = {"id": "d1", "status": "PRIMARY", "createdAt": self.deployed_at}
        return {
            "sts": {"Account": "123456789012", "Arn": "arn:x"},
            "ecs": {
                "services": [
                    {
                        "taskDefinition": "a/pm:8",
                        "desiredCount": 1,
                        "runningCount": 1,
                        "deployments": [primary],
                    }
                ]
            },
            "logs": {
                "events": [{"timestamp": int(AT.timestamp() * 1000), "message": "Checking 3 open positions"}]
            },
        }[service]


def question(error: Exception, deployed_at: dt.datetime = AT, begun: Deployment | None = None) -> Question:
    lost = Lost(error)
    return Question(
        cast(Project, lost), lost.ask, lost.ask, deployment=begun, aws=Cloud(deployed_at), now=lambda: AT
    )


def test_a_connection_that_is_lost_is_unknown_and_nothing_is_said_of_migrations() -> None:
    words = "server closed the connection"
    lost = OperationalError("SELECT 1", {}, Exception(words))
    for error in (lost, ConnectionLost(f"the question: {words}", hint="run the migration again")):
        found = {line.name: line for line in look(question(error)).lines}
        for name in ("Ledger", "Positions"):
            assert (found[name].state, found[name].remedy) == ("unknown", "")
            assert words in found[name].text
        assert found["ECS service"].state == "good"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            FileNotFoundError(2, "No such file or directory", "/helper"),
            "FileNotFoundError: [Errno 2] No such",
        ),
        (ValueError("Invalid endpoint: password=HIDDEN"), "ValueError: Invalid endpoint: password=***"),
    ],
)
def test_a_broken_configuration_is_unknown_and_the_rest_is_looked_at(error: Exception, words: str) -> None:
    found = {line.name: line for line in look(question(error)).lines}
    for name in ("Ledger", "Positions"):
        assert (found[name].state, words in found[name].text) == ("unknown", True), found[name].text
    assert found["ECS service"].state == "good"


def test_the_log_must_be_newer_than_the_deployment_that_runs_and_than_the_one_just_begun() -> None:
    lost = ConnectionLost("gone")
    second = dt.timedelta(seconds=1)
    for deployed_at, begun, colour in (
        (AT - second, None, "unknown"),  # the book is not known
        (AT + second, None, "bad"),
        (AT - second, Deployment("d2", AT + second), "bad"),
        (AT - second, Deployment("d1"), "unknown"),
    ):
        found = {line.name: line for line in look(question(lost, deployed_at, begun)).lines}
        assert found["Log: positions checked"].state == colour
