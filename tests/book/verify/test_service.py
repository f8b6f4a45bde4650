"""The service as ECS describes it."""

import datetime as dt
from typing import Any

import pytest

from datafixes.book.verify.aws import (
    Deployment,
    check_service,
    look_at_service,
    redeploy,
)
from datafixes.database.aws_client import Aws, NotAsked
from datafixes.errors import DatafixError, SettingError
from datafixes.report.document import State
from tests.book.settings import book_settings

SETTINGS = book_settings()
AT = dt.datetime(2026, 2, 3, 16, 8, tzinfo=dt.UTC)
PRIMARY = {"id": "d1", "status": "PRIMARY", "rolloutState": "COMPLETED", "createdAt": AT}
SERVICE: dict[str, Any] = {
    "status": "ACTIVE", "taskDefinition": "arn:aws:ecs:us-west-2:123456789012:task-definition/pm:8", "desiredCount": 1,
    "runningCount": 1, "pendingCount": 0, "deployments": [PRIMARY],
}  # fmt: skip
ROLLING = {
    **PRIMARY,
    "rolloutState": "IN_PROGRESS",
    "failedTasks": 2,
    "rolloutStateReason": "d1 in progress.",
}


@pytest.mark.parametrize(
    ("change", "colour", "words"),
    [
        ({}, "good", "pm:8, 1 of 1 running, the deployment is complete"),
        ({"taskDefinition": "a/pm:10"}, "good", "pm:10"),
        ({"taskDefinition": "arn:aws-cn:ecs:cn-north-1:123456789012:task-definition/pm:9"}, "good", "pm:9"),
        ({"taskDefinition": "a/pm:7"}, "bad", "revision 8 or newer is required"),
        ({"taskDefinition": ""}, "bad", "no task definition, 1 of 1 running: revision 8 or newer is required"),
        ({"runningCount": 0}, "bad", "0 of 1 running: fewer than desired"),
        ({"runningCount": 2}, "bad", "2 of 1 running: more than desired"),
        ({"runningCount": 0, "desiredCount": 0}, "bad", "the desired count is 0"),
        ({"pendingCount": 1}, "bad", "1 of 1 running: 1 still starting"),
        ({"status": "DRAINING"}, "bad", "the service is DRAINING"),
        ({"deployments": [PRIMARY, {"id": "d0", "status": "ACTIVE"}]}, "bad", "1 older deployment still runs"),
        ({"deployments": [{"status": "INACTIVE"}, PRIMARY, {"status": "ACTIVE"}]}, "bad", "2 older deployments still run"),
        ({"deployments": []}, "bad", "0 primary deployments"),
        ({"deployments": [{**PRIMARY, "rolloutState": "FAILED", "rolloutStateReason": "no task starts."}]}, "bad", "the deployment is FAILED (no task starts)"),
        ({"deployments": [ROLLING]}, "bad", "the deployment is IN_PROGRESS (d1 in progress; 2 tasks failed to start)"),
        ({"deployments": [{**PRIMARY, "taskDefinition": "a/pm:7"}]}, "bad", "the deployment is of pm:7"),
        ({"deployments": [{"id": "d1", "status": "PRIMARY"}]}, "good", "complete"),
        ({"deployments": [], "deploymentController": {"type": "CODE_DEPLOY"}}, "unknown", "CODE_DEPLOY deploys it"),
        ({"deploymentController": {"type": "ECS"}}, "good", "complete"),
    ],
)  # fmt: skip
def test_service(change: dict[str, Any], colour: State, words: str) -> None:
    line = check_service({**SERVICE, **change}, "8")
    assert (line.state, words in line.text) == (colour, True), line.text


def test_what_is_under_way_is_worth_waiting_for() -> None:
    assert "--wait" in check_service({**SERVICE, "deployments": [ROLLING]}, "8").remedy
    assert check_service({**SERVICE, "runningCount": 0}, "8").remedy == ""


@pytest.mark.parametrize(
    ("wanted", "runs", "colour"),
    [
        ("8", "other:9", "good"),
        ("pm:8", "pm:8", "good"),
        ("pm:8", "pm:7", "bad"),
        ("pm:8", "other:9", "bad"),
        ("pm:8", "pm-2:9", "bad"),
        ("pm:8", "PM:9", "bad"),
    ],
)
def test_another_family_is_not_what_is_wanted(wanted: str, runs: str, colour: State) -> None:
    line = check_service({**SERVICE, "taskDefinition": f"arn:x:task-definition/{runs}"}, wanted)
    assert (line.state, line.text.startswith(f"{runs}, ")) == (colour, True)
    if colour == "bad":
        assert "revision 8 or newer of pm is required" in line.text


def test_the_setting_names_a_revision_or_a_family_too() -> None:
    assert [book_settings(task_revision=text).task_revision for text in ("8", "my-pm_2:10")] == [
        "8",
        "my-pm_2:10",
    ]
    line = check_service({**SERVICE, "taskDefinition": "x/my-pm_2:9"}, "my-pm_2:10")
    assert "revision 10 or newer of my-pm_2 is required" in line.text


@pytest.mark.parametrize("text", ["pm", "pm:", ":8", "a:b:8", "arn:x:task-definition/pm:8"])
def test_a_setting_that_names_neither(text: str) -> None:
    with pytest.raises(SettingError, match="write a revision such as 8, or FAMILY:8"):
        book_settings(task_revision=text)


def test_the_deployment_that_was_begun_is_the_one_that_counts() -> None:
    def told(begun: Deployment) -> str:
        return check_service(SERVICE, "8", begun).text

    assert check_service(SERVICE, "8", Deployment("d1", AT)).state == "good"
    assert "the new deployment has not begun" in told(Deployment("d2", AT + dt.timedelta(seconds=1)))
    assert "the new deployment has not begun" in told(Deployment("d2"))
    # A circuit breaker that rolls back makes one more deployment, and completes it.
    assert "deployment d0 was replaced by d1" in told(Deployment("d0", AT - dt.timedelta(minutes=1)))


class Ecs(Aws):
    """An ECS that answers one thing."""

    def __init__(self, answer: dict[str, Any] | NotAsked) -> None:
        super().__init__("us-west-2")
        self.answer = answer

    def ask(self, service: str, operation: str, /, **arguments: Any) -> Any:
        if isinstance(self.answer, NotAsked):
            raise self.answer
        return self.answer

    do = ask


def test_the_deployment_that_runs_is_known_with_its_time() -> None:
    older = {"id": "d0", "status": "ACTIVE", "createdAt": AT - dt.timedelta(days=1)}
    described = {**SERVICE, "deployments": [older, PRIMARY]}
    line, runs = look_at_service(Ecs({"services": [described]}), SETTINGS)
    assert (line.state, runs) == ("bad", Deployment("d1", AT))
    assert look_at_service(Ecs({"services": [{**SERVICE, "deployments": []}]}), SETTINGS)[1] is None
    assert redeploy(Ecs({"service": described}), SETTINGS) == Deployment("d1", AT)
    assert redeploy(Ecs({"service": {}}), SETTINGS) == Deployment()


def test_a_service_that_may_not_be_described_is_unknown_for_good() -> None:
    line, runs = look_at_service(
        Ecs(NotAsked("AccessDeniedException: no", "AccessDeniedException")), SETTINGS
    )
    assert (line.state, line.lasting, runs) == ("unknown", True, None)
    assert "ecs:DescribeServices" in line.remedy
    line, _ = look_at_service(Ecs(NotAsked("Could not connect", "EndpointConnectionError")), SETTINGS)
    assert (line.state, line.lasting) == ("unknown", False)


@pytest.mark.parametrize(
    ("is_uncertain", "words"),
    [
        (False, "No new deployment of position-manager-service was begun: why"),
        (True, "It is unknown whether a new deployment of position-manager-service was begun: why"),
    ],
)
def test_a_deployment_of_which_nobody_knows_is_not_said_to_be_none(is_uncertain: bool, words: str) -> None:
    with pytest.raises(DatafixError) as caught:
        redeploy(Ecs(NotAsked("why", "x", is_uncertain)), SETTINGS)
    assert caught.value.message == words
    assert ("verify --wait" in caught.value.hint) is is_uncertain
