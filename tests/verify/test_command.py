"""``datafixes verify`` against a real database, a file as the broker, and an AWS of this machine."""

import datetime as dt
import io
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from datafixes.cli import main
from datafixes.settings import Settings
from datafixes.verify.aws import Aws
from datafixes.verify.service_log import Log, read_log
from tests.alerts.aws import Cloud, enter, running_cloud
from tests.cli.commands import datafixes
from tests.projects import Project, our_project
from tests.servers import Database

BOOK = Path(__file__).parents[1] / "fixtures/book.sql"
HELD = (
    "account,symbol,quantity\nlarge,QCOM260220P00145000,1\nlarge,NOW260220P00110000,1\nlarge,SPY,2\ntiny,,\n"
)
GROUP = "/ecs/ops-pipeline/position-manager-service"
CLUSTER, SERVICE = "ops-pipeline-cluster", "position-manager-service"


@pytest.fixture(scope="module")
def running() -> Iterator[Cloud]:
    with running_cloud() as cloud:
        yield cloud


@pytest.fixture
def cloud(running: Cloud, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    return enter(running, monkeypatch)


@dataclass(frozen=True)
class Deploy:
    """What is there after a deploy, and a look at it."""

    project: Project
    cloud: Cloud
    held: Path

    def log(self, *messages: str, group: str = GROUP) -> None:
        logs = self.cloud.client("logs")
        events = [{"timestamp": int(time.time() * 1000), "message": message} for message in messages]
        logs.put_log_events(logGroupName=group, logStreamName="task", logEvents=events)

    def service(self, revisions: int = 8, desired: int = 0) -> None:
        ecs = self.cloud.client("ecs")
        ecs.create_cluster(clusterName=CLUSTER)
        for _ in range(revisions):
            ecs.register_task_definition(
                family="pm", containerDefinitions=[{"name": "pm", "image": "pm", "memory": 1}]
            )
        ecs.create_service(
            cluster=CLUSTER, serviceName=SERVICE, taskDefinition=f"pm:{revisions}", desiredCount=desired
        )

    def verify(self, *arguments: str, code: int, **flags: str) -> dict[str, tuple[str, str]]:
        """The lines by name: colour and evidence."""
        value = self.json(*arguments, code=code, **flags)
        return {line["name"]: (line["colour"], line["evidence"]) for line in value["lines"]}

    def json(self, *arguments: str, code: int, **flags: str) -> Any:
        given = {"broker": f"file:{self.held}", **flags}
        settings = [part for name, value in given.items() for part in ("-x", f"{name}={value}")]
        ran = datafixes(self.project, *settings, "verify", "--format", "json", *arguments)
        assert ran.code == code, ran.out + ran.err
        return jsonload(ran.out)


def jsonload(text: str) -> Any:
    value = json.loads(text)
    jsonschema.validate(value, SCHEMA)
    return value


SCHEMA = {
    "type": "object",
    "properties": {
        "version": {"const": 1},
        "kind": {"const": "verify"},
        "green": {"type": "boolean"},
        "lines": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "colour": {"enum": ["green", "red", "unknown", "skipped"]},
                    "evidence": {"type": "string"},
                    "hint": {"type": "string"},
                },
                "required": ["name", "colour", "evidence", "hint"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["version", "kind", "green", "lines"],
    "additionalProperties": False,
}


@pytest.fixture
def deploy(database: Database, cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deploy:
    monkeypatch.setitem(main.COMMANDS, "verify", "")
    project = our_project(database)
    assert project.alembic("upgrade", "014").code == 0
    database.psql(BOOK.read_text("utf-8"), "-v", "ON_ERROR_STOP=1")
    (tmp_path / "held.csv").write_text(HELD)
    logs = cloud.client("logs")
    logs.create_log_group(logGroupName=GROUP)
    logs.create_log_stream(logGroupName=GROUP, logStreamName="task")
    return Deploy(project, cloud, tmp_path / "held.csv")


NO_SERVICE = ("--skip", "service")


def test_before_the_upgrade_and_after_it(deploy: Deploy) -> None:
    deploy.log("Checking 10 open positions", "ERROR error closing position 16: position does not exist")
    before = deploy.verify(*NO_SERVICE, code=3)
    assert before["AWS identity"] == (
        "green", "arn:aws:sts::123456789012:user/moto of account 123456789012, region us-west-2",
    )  # fmt: skip
    assert before["Ledger"] == ("red", "no fix is in force")
    assert before["Positions of large"][0] == before["Positions of tiny"][0] == "red"
    assert before["Log: errors"][0] == "red"
    assert before["Log: positions checked"][0] == "green"
    assert before["ECS service"] == ("skipped", "left out by --skip service")
    assert deploy.project.alembic("upgrade", "head").code == 0
    time.sleep(0.01)
    deploy.cloud.client("logs").delete_log_stream(logGroupName=GROUP, logStreamName="task")
    deploy.cloud.client("logs").create_log_stream(logGroupName=GROUP, logStreamName="task")
    deploy.log("Checking 3 open positions")
    after = deploy.json(*NO_SERVICE, "--expect-rows", "7", code=0)
    assert after["green"] is True
    assert [line["name"] for line in after["lines"]] == [
        "AWS identity", "Ledger", "Positions of large", "Positions of tiny", "Log: errors", "Log: positions checked",
        "ECS service",
    ]  # fmt: skip
    assert "close_phantom_positions: applied, 7 rows changed, 7 expected" in after["lines"][1]["evidence"]


def test_silence_and_a_log_that_is_not_there(deploy: Deploy) -> None:
    lines = deploy.verify(*NO_SERVICE, code=3)
    assert (lines["Log: errors"][0], lines["Log: positions checked"][0]) == ("red", "red")
    lines = deploy.verify(*NO_SERVICE, code=3, log_group="/none")
    assert lines["Log: errors"] == ("red", "there is no log group /none in this account and region")


def test_what_is_older_than_the_window_does_not_count(deploy: Deploy) -> None:
    deploy.log("error closing position", "Checking 10 open positions")
    time.sleep(0.3)
    assert (
        "no event at all in the last 100ms"
        in deploy.verify(*NO_SERVICE, code=3, log_window="100ms")["Log: errors"][1]
    )


def test_the_service(deploy: Deploy) -> None:
    skip = ("--skip", "logs")
    assert "there is no service" in deploy.verify(*skip, code=3)["ECS service"][1]
    deploy.service(7)
    colour, evidence = deploy.verify(*skip, code=3)["ECS service"]
    assert (colour, evidence.startswith("pm:7, 0 of 0 running: revision 8 or newer is wanted")) == (
        "red",
        True,
    )
    assert "revision" not in deploy.verify(*skip, code=3, task_revision="7")["ECS service"][1]
    gone = deploy.verify(*skip, code=3, ecs_service="other")["ECS service"]
    assert gone == ("red", f"there is no service other in the cluster {CLUSTER}: MISSING")


def test_credentials_are_said_first(deploy: Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    other = deploy.json("--aws-account", "999999999999", "--wait", "10m", code=3)
    first, *others = other["lines"]
    assert first["colour"] == "red"
    assert (
        "user/moto of account 123456789012, region us-west-2; --aws-account is of account 999999999999"
        in first["evidence"]
    )
    assert [line["evidence"] for line in others[-3:]] == ["not asked: see AWS identity"] * 3
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    deploy.project.alembic("upgrade", "head")
    missing = deploy.json("--wait", "10m", code=1)["lines"]
    assert missing[0]["evidence"].startswith("no credentials")
    assert [line["colour"] for line in missing] == ["unknown", *["green"] * 3, *["unknown"] * 3]
    assert "--skip logs --skip service" in missing[0]["hint"]
    without = deploy.json("--skip", "logs", "--skip", "service", code=0)
    assert "AWS identity" not in [line["name"] for line in without["lines"]]


def test_credentials_that_aws_does_not_take(deploy: Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    deploy.cloud.post("/moto-api/reset-auth", b"0")
    try:
        first = deploy.json("--skip", "broker", "--skip", "ledger", "--wait", "10m", code=1)["lines"][0]
    finally:
        deploy.cloud.post("/moto-api/reset-auth", b"inf")
    assert (first["name"], first["colour"]) == ("AWS identity", "unknown")
    assert "InvalidClientTokenId" in first["evidence"]
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    first = deploy.json("--skip", "broker", "--skip", "ledger", "--wait", "10m", code=1)["lines"][0]
    assert first["evidence"] == "no credentials: The config profile (nobody) could not be found"


def test_a_database_that_does_not_answer_is_not_green(deploy: Deploy) -> None:
    skip = ("--skip", "logs", "--skip", "service")
    lines = deploy.verify(*skip, code=1, url="postgresql://nobody:HIDDEN@127.0.0.1:1/book")
    assert {name: colour for name, (colour, _) in lines.items()} == {
        "Ledger": "unknown", "Positions": "unknown", "Log: errors": "skipped", "Log: positions checked": "skipped",
        "ECS service": "skipped",
    }  # fmt: skip
    assert "HIDDEN" not in str(lines)
    assert deploy.verify(
        *skip, "--skip", "broker", "--skip", "ledger", code=0, url="postgresql://127.0.0.1:1/b"
    )


def test_a_broker_that_does_not_answer_is_not_green(deploy: Deploy) -> None:
    deploy.project.alembic("upgrade", "head")
    lines = deploy.verify("--skip", "logs", "--skip", "service", code=1, broker="file:none.csv")
    assert lines["Positions of large"][0] == "unknown"
    assert "3 rows open in the book; what the broker holds is not known" in lines["Positions of large"][1]


def test_wait_ends_when_all_is_green_and_shows_how_it_goes(deploy: Deploy) -> None:
    deploy.project.alembic("upgrade", "head")
    skip = ("--skip", "logs", "--skip", "service")
    held = deploy.held.read_text()
    deploy.held.write_text(held.replace("SPY,2", "SPY,1"))
    given = ("-x", f"broker=file:{deploy.held}", "verify", *skip)
    red = datafixes(deploy.project, *given, "--wait", "1s")
    assert red.code == 3
    assert "Positions of large red" in red.err
    assert "✗ red: 3 rows open in the book; 1 different: SPY quantity row 30" in " ".join(red.out.split())
    deploy.held.write_text(held)
    green = datafixes(deploy.project, *given, "--wait", "10m")
    assert (green.code, green.err) == (0, "")
    assert datafixes(deploy.project, *given, "--wait", "10").code == 2


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_redeploy_asks_first(deploy: Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    deploy.service()
    ecs = deploy.cloud.client("ecs")

    def begun() -> str:
        [service] = ecs.describe_services(cluster=CLUSTER, services=[SERVICE])["services"]
        return str(service["deployments"][0]["id"])

    first = begun()
    redeploy = ("-x", f"broker=file:{deploy.held}", "verify", "--redeploy")
    for stdin, pipeline in (
        (io.StringIO("y\n"), ""),
        (Terminal("y\n"), "CI"),
        (Terminal("y\n"), "GITHUB_SHA"),
    ):
        monkeypatch.setattr(sys, "stdin", stdin)
        if pipeline:
            monkeypatch.setenv(pipeline, "abc")
        refused = datafixes(deploy.project, *redeploy)
        assert (refused.code, "add --yes" in refused.err) == (2, True)
        monkeypatch.delenv(pipeline or "CI", raising=False)
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    answered = datafixes(deploy.project, *redeploy)
    assert (answered.code, "Force a new deployment of position-manager-service" in answered.err) == (1, True)
    other = datafixes(deploy.project, *redeploy, "--yes", "--aws-account", "999999999999")
    assert (other.code, "No new deployment was begun: another account" in other.err) == (1, True)
    assert datafixes(deploy.project, *redeploy, "--skip", "service", "--yes").code == 2
    assert begun() == first
    done = datafixes(deploy.project, *redeploy, "--yes", "--skip", "logs")
    assert begun() != first
    assert done.code == 3
    assert f"Began {begun()} of position-manager-service" in done.err


class Pages(Aws):
    """A log of many pages."""

    def __init__(self, pages: list[dict[str, Any]]) -> None:
        super().__init__("us-west-2")
        self.pages, self.asked = pages, list[dict[str, Any]]()

    def ask(self, service: str, operation: str, /, **arguments: Any) -> Any:
        self.asked.append(arguments)
        return self.pages[min(len(self.asked), len(self.pages)) - 1]


def read(pages: list[dict[str, Any]], **flags: str) -> tuple[Log, Pages]:
    aws = Pages(pages)
    return read_log(aws, Settings.resolve(flags, {}, {}), dt.datetime(2026, 2, 3, tzinfo=dt.UTC)), aws


def test_every_page_of_the_log_is_read_also_after_an_empty_one() -> None:
    event = {"timestamp": 1, "message": "error closing position"}
    pages: list[dict[str, Any]] = [
        {"events": [], "nextToken": "1"},
        {"events": [event] * 3, "nextToken": "2"},
        {"events": [event]},
    ]
    log, aws = read(pages, log_window="2min", log_group="arn:aws:logs:us-west-2:123456789012:log-group:x:*")
    assert (log.events, log.bad, log.whole) == (4, {"error closing position": 4}, True)
    assert [asked.get("nextToken") for asked in aws.asked] == [None, "1", "2"]
    assert aws.asked[0]["endTime"] - aws.asked[0]["startTime"] == 120_001
    assert aws.asked[0]["logGroupIdentifier"].endswith(":log-group:x")


def test_a_log_without_end_is_left_and_said_so() -> None:
    pages = [{"events": [], "nextToken": str(n)} for n in range(1000)]
    log, aws = read(pages)
    assert (log.whole, len(aws.asked)) == (False, 200)
