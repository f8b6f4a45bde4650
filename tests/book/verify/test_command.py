"""``datafixes verify`` against a real database, a file as the broker, and an AWS of this machine."""

import io
import json
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from datafixes.book.verify import checklist
from datafixes.database.aws_client import Aws, NotAsked
from tests.aws import Cloud
from tests.book.settings import ROOT
from tests.book.watch.service import serving
from tests.book.watch.test_trouble import silent_server
from tests.cli.commands import datafixes
from tests.projects import Project, our_project
from tests.servers import Database

BOOK = Path(__file__).parents[2] / "fixtures/book.sql"
HELD = (
    "account,symbol,quantity\nlarge,QCOM260220P00145000,1\nlarge,NOW260220P00110000,1\nlarge,SPY,2\ntiny,,\n"
)
GROUP = "/ecs/ops-pipeline/position-manager-service"
CLUSTER, SERVICE = "ops-pipeline-cluster", "position-manager-service"


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
def deploy(database: Database, cloud: Cloud, tmp_path: Path) -> Deploy:
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
    assert before["ECS service"] == ("skipped", "skipped by --skip service")
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
    assert lines["Log: errors"] == ("red", "log group /none does not exist in this account and region")


def test_what_is_older_than_the_window_does_not_count(deploy: Deploy) -> None:
    deploy.log("error closing position", "Checking 10 open positions")
    time.sleep(0.3)
    assert (
        "no event in the last 100ms"
        in deploy.verify(*NO_SERVICE, code=3, log_window="100ms")["Log: errors"][1]
    )


def test_the_service(deploy: Deploy) -> None:
    skip = ("--skip", "logs")
    assert "service position-manager-service not found" in deploy.verify(*skip, code=3)["ECS service"][1]
    deploy.service(7)
    colour, evidence = deploy.verify(*skip, code=3)["ECS service"]
    assert (colour, evidence.startswith("pm:7, 0 of 0 running: revision 8 or newer is required")) == (
        "red",
        True,
    )
    assert "revision" not in deploy.verify(*skip, code=3, task_revision="7")["ECS service"][1]
    gone = deploy.verify(*skip, code=3, ecs_service="other")["ECS service"]
    assert gone == ("red", f"service other not found in the cluster {CLUSTER}, us-west-2: MISSING")


def test_credentials_are_said_first(deploy: Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    other = deploy.json("--aws-account", "999999999999", "--wait", "10m", code=3)
    first, *others = other["lines"]
    assert first["colour"] == "red"
    assert (
        "user/moto of account 123456789012, region us-west-2; --aws-account names account 999999999999"
        in first["evidence"]
    )
    assert [line["evidence"] for line in others[-3:]] == ["not checked: see AWS identity"] * 3
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


def test_nothing_is_green_because_nobody_looked() -> None:
    parts = [part for name in ("ledger", "broker", "logs", "service") for part in ("--skip", name)]
    ran = datafixes(None, "verify", *parts)
    assert (ran.code, "Nothing is left to check" in ran.err) == (2, True)
    for option in (("--expect-rows", "7"), ("--fix", "close")):
        ran = datafixes(None, "verify", "--skip", "ledger", *option)
        assert (ran.code, "which --skip ledger skips" in ran.err) == (2, True)


def test_a_line_of_the_log_that_is_older_than_the_fix_proves_nothing(deploy: Deploy) -> None:
    deploy.log("Checking 3 open positions")
    time.sleep(0.01)
    assert deploy.project.alembic("upgrade", "head").code == 0
    colour, evidence = deploy.verify(*NO_SERVICE, code=3)["Log: positions checked"]
    assert (colour, "is older than the fix, of 20" in evidence) == ("red", True)
    without = deploy.verify(*NO_SERVICE, "--skip", "ledger", code=0)
    assert without["Log: positions checked"][0] == "green"
    time.sleep(0.01)
    deploy.log("Checking 3 open positions")
    assert deploy.verify(*NO_SERVICE, code=0)["Log: positions checked"][0] == "green"


def test_a_line_of_the_log_that_is_older_than_the_deployment_proves_nothing(deploy: Deploy) -> None:
    deploy.project.alembic("upgrade", "head")
    deploy.service()
    time.sleep(0.01)
    deploy.log("Checking 3 open positions", "error closing position 16")
    found = {line["name"]: line for line in deploy.json("--redeploy", "--yes", code=3)["lines"]}
    count = found["Log: positions checked"]
    assert (count["colour"], "is older than the deployment, of 20" in count["evidence"]) == ("red", True)
    assert found["Log: errors"]["hint"].startswith("All of these are older than the deployment, of 20")
    # Who looks again later, without --redeploy, is told the same.
    assert deploy.verify(code=3)["Log: positions checked"] == (count["colour"], count["evidence"])
    deploy.log("Checking 3 open positions")
    assert deploy.verify(code=3)["Log: positions checked"][0] == "green"


def test_the_healthy_log_of_the_incident_is_green(deploy: Deploy) -> None:
    """The large account has three positions, the tiny one has none, and both speak in one log."""
    assert deploy.project.alembic("upgrade", "head").code == 0
    time.sleep(0.01)
    deploy.log("Checking 3 open positions")
    assert deploy.verify(*NO_SERVICE, code=0)["Log: positions checked"][1].endswith(
        "the total of the book (large 3, tiny 0)"
    )
    deploy.log("Checking 0 open positions")
    colour, evidence = deploy.verify(*NO_SERVICE, code=0)["Log: positions checked"]
    assert (colour, "one stream, one account after the other: 0 at " in evidence) == ("green", True)
    assert evidence.endswith("; the book has 3 (large 3, tiny 0)")
    deploy.log("[large] Checking 3 open positions", "[tiny] Checking 0 open positions")
    evidence = deploy.verify(*NO_SERVICE, code=0)["Log: positions checked"][1]
    assert ('large: "Checking 3 open' in evidence, evidence.count("(the line names it)")) == (True, 2)
    deploy.log("[tiny] Checking 3 open positions")
    colour, evidence = deploy.verify(*NO_SERVICE, code=3)["Log: positions checked"]
    assert (colour, evidence.endswith("(the line names it), the book has 0")) == ("red", True)


def test_streams_of_accounts(deploy: Deploy) -> None:
    assert deploy.project.alembic("upgrade", "head").code == 0
    time.sleep(0.01)
    logs = deploy.cloud.client("logs")
    for stream, number in (("pm-large/x", 3), ("pm-tiny/x", 0)):
        logs.create_log_stream(logGroupName=GROUP, logStreamName=stream)
        event = {"timestamp": int(time.time() * 1000), "message": f"Checking {number} open positions"}
        logs.put_log_events(logGroupName=GROUP, logStreamName=stream, logEvents=[event])
    evidence = deploy.verify(*NO_SERVICE, code=0)["Log: positions checked"][1]
    assert "each of 2 streams for one account" in evidence
    streams = "large=pm-large/*,tiny=pm-tiny/*"
    assert (
        deploy.verify(*NO_SERVICE, code=0, log_streams=streams)["Log: positions checked"][1].count(
            "by log_streams"
        )
        == 2
    )
    streams = "tiny=pm-large/*,large=pm-tiny/*"
    assert deploy.verify(*NO_SERVICE, code=3, log_streams=streams)["Log: positions checked"][0] == "red"
    ran = datafixes(deploy.project, "-x", "log_streams=huge=pm-*", "verify")
    assert (ran.code, "broker_accounts has no account huge" in ran.err) == (2, True)


def test_what_is_left_out_is_said_and_what_the_book_has_of_it_is_not_green(deploy: Deploy) -> None:
    assert deploy.project.alembic("upgrade", "head").code == 0
    deploy.held.write_text(HELD + "large,8EF998015,3\n")
    skip = ("--skip", "logs", "--skip", "service")
    lines = deploy.verify(*skip, code=0, broker_ignore="large:8EF998015")
    assert lines["Positions of large"] == (
        "green",
        "3 rows open in the book, the broker holds the same except what is not compared (broker_ignore): "
        "large 8EF998015 (3)",
    )
    lines = deploy.verify(*skip, code=1, broker_ignore="large:SPY,large:8EF998015")
    assert lines["Positions of large"][0] == "unknown"
    assert "large SPY (2; in the book too: row 30)" in lines["Positions of large"][1]


def test_a_run_that_came_to_no_end_is_not_covered_by_an_older_fix(deploy: Deploy, database: Database) -> None:
    deploy.project.alembic("upgrade", "head")
    skip = ("--skip", "logs", "--skip", "service")
    assert deploy.verify(*skip, code=0)["Ledger"][0] == "green"
    database.psql(
        "INSERT INTO datafix_run (fix, revision, direction, outcome, reason, fingerprint, engine)"
        " VALUES ('close_stuck', '016', 'apply', 'failed', 'r', 'f', '0.2.0')",
        "-v",
        "ON_ERROR_STOP=1",
    )
    colour, evidence = deploy.verify(*skip, code=3)["Ledger"]
    assert (colour, "is close_stuck: failed, not finished" in evidence) == ("red", True)
    assert deploy.verify(*skip, "--fix", "close_phantom_positions", code=0)["Ledger"][0] == "green"


def test_the_account_is_looked_at_where_it_was_asked_for(deploy: Deploy) -> None:
    skip = ("--skip", "logs", "--skip", "service", "--skip", "broker", "--aws-account", "999999999999")
    assert deploy.verify(*skip, code=3)["AWS identity"][0] == "red"


@dataclass
class Pauses:
    """What happens in the pauses between two looks, one after the other; no pause takes any time."""

    events: list[Callable[[], object]]
    seconds: float = 0

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        if self.events:
            self.events.pop(0)()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> Pauses:
    pauses = Pauses([])
    patience = partial(checklist.Patience, clock=lambda: pauses.seconds, sleep=pauses.sleep)
    monkeypatch.setattr(checklist, "Patience", patience)
    return pauses


def interrupt() -> None:
    raise KeyboardInterrupt


def test_wait_ends_with_the_line_that_appears(deploy: Deploy, pauses: Pauses) -> None:
    deploy.project.alembic("upgrade", "head")
    time.sleep(0.01)
    pauses.events += [
        lambda: deploy.log("starting"),
        lambda: deploy.log("Checking 10 open positions"),
        lambda: deploy.log("Checking 3 open positions"),
        interrupt,
    ]
    ran = datafixes(
        deploy.project, "-x", f"broker=file:{deploy.held}", "verify", *NO_SERVICE, "--wait", "10m"
    )
    assert (ran.code, pauses.seconds) == (0, 15)
    said = ran.err.splitlines()
    assert said[0].startswith("0:00 of 10:00: ")
    assert "(Log: errors red, Log: positions checked red)" in said[0]
    assert "(Log: positions checked red)" in said[1]
    assert len(said) == 2


def test_wait_by_itself_is_longer_than_the_log_is_read_back(
    deploy: Deploy, pauses: Pauses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the cycle in flight leaves the window before the time is up."""
    deploy.project.alembic("upgrade", "head")
    time.sleep(0.01)
    deploy.log("error closing position 16", "Checking 3 open positions")
    asked, began = Aws.ask, time.time()

    def ask(aws: Aws, service: str, operation: str, /, **arguments: Any) -> Any:
        # The log goes on while the pauses take no time.
        answer = asked(
            aws,
            service,
            operation,
            **{name: value for name, value in arguments.items() if name != "startTime"},
        )
        window = (began + pauses.seconds - 603) * 1000 if "startTime" in arguments else 0
        if "events" in answer:
            say = {
                "timestamp": int((began + pauses.seconds) * 1000) + 2,
                "message": "Checking 3 open positions",
            }
            answer["events"] = [one for one in answer["events"] if one["timestamp"] >= window] + [say]
        return answer

    monkeypatch.setattr(Aws, "ask", ask)
    verify = ("-x", f"broker=file:{deploy.held}", "verify", *NO_SERVICE)
    short = datafixes(deploy.project, *verify, "--wait", "10m")
    assert short.code == 3
    assert short.err.splitlines()[-1] == (
        "--wait 10min is not longer than log_window (10min): an error from before the wait may stay in the log window "
        "until its end. Wait longer: --wait 12min"
    )
    began, pauses.seconds = time.time(), 0
    deploy.log("error closing position 16")
    ran = datafixes(deploy.project, *verify, "--wait")
    assert (ran.code, 600 <= pauses.seconds < 720) == (0, True), ran.out + ran.err
    assert ran.err.startswith("0:00 of 12:00: ")


def test_wait_outlives_a_database_that_goes_away(deploy: Deploy, pauses: Pauses) -> None:
    deploy.project.alembic("upgrade", "head")

    def allow(connections: bool) -> None:
        database = deploy.project.database
        server = database.address.connect("postgres")
        server.autocommit = True
        with closing(server), server.cursor() as cursor:
            cursor.execute(f'ALTER DATABASE "{database.name}" ALLOW_CONNECTIONS {connections}')

    held = deploy.held.read_text()
    deploy.held.write_text("account,symbol,quantity\n")
    pauses.events += [
        lambda: allow(False),
        lambda: deploy.held.write_text(held),
        lambda: allow(True),
        interrupt,
    ]
    skip = ("--skip", "logs", "--skip", "service")
    try:
        ran = datafixes(deploy.project, "-x", f"broker=file:{deploy.held}", "verify", *skip, "--wait", "10m")
    finally:
        allow(True)
    assert ran.code == 0, ran.out + ran.err
    assert "(Ledger unknown, Positions unknown)" in ran.err


def test_wait_outlives_an_aws_that_goes_away(
    deploy: Deploy, pauses: Pauses, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy.project.alembic("upgrade", "head")
    time.sleep(0.01)
    deploy.log("Checking 3 open positions")
    asked = Aws.ask

    def away(aws: Aws, service: str, operation: str, /, **arguments: Any) -> Any:
        if pauses.seconds < 10:
            raise NotAsked("Could not connect to the endpoint URL", "EndpointConnectionError")
        return asked(aws, service, operation, **arguments)

    monkeypatch.setattr(Aws, "ask", away)
    ran = datafixes(
        deploy.project, "-x", f"broker=file:{deploy.held}", "verify", *NO_SERVICE, "--wait", "10m"
    )
    assert (ran.code, pauses.seconds) == (0, 10)
    assert "AWS identity unknown" in ran.err


def test_wait_can_be_interrupted(deploy: Deploy, pauses: Pauses) -> None:
    verify = ("-x", f"broker=file:{deploy.held}", "verify", "--skip", "logs", "--wait", "10m")
    pauses.events.append(interrupt)
    ran = datafixes(deploy.project, *verify)
    assert (ran.code, ran.out) == (130, "")
    assert ran.err.endswith("Interrupted: nothing was changed.\n")
    deploy.service()
    pauses.events.append(interrupt)
    ran = datafixes(deploy.project, *verify, "--redeploy", "--yes")
    assert (ran.code, ran.out) == (130, "")
    # That would not be true.
    assert "nothing was changed" not in ran.err
    assert ran.last_line.startswith("Interrupted: the new deployment goes on.")


def test_an_interrupted_redeploy_does_not_say_that_nothing_was_changed(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Aws.ask

    def ask(aws: Aws, service: str, operation: str, /, **arguments: Any) -> Any:
        if operation == "update_service":
            raise KeyboardInterrupt
        return asked(aws, service, operation, **arguments)

    monkeypatch.setattr(Aws, "do", ask)
    ran = datafixes(deploy.project, "verify", "--redeploy", "--yes")
    assert (ran.code, ran.out) == (130, "")
    assert ran.last_line == "Interrupted: it is unknown whether the new deployment was begun."


def test_a_database_that_says_nothing_is_waited_for_as_long_as_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checklist, "Patience", partial(checklist.Patience, spare=0.1))
    skip = ("--skip", "logs", "--skip", "service", "--skip", "broker")
    with silent_server() as (port, _):
        silent = ("-x", f"url=postgresql://127.0.0.1:{port}/book", "-x", "connect_timeout=0")
        ran = datafixes(None, *silent, "verify", *skip, "--wait", "200ms")
    assert (ran.code, "unknown: does not answer within 0.3 s" in ran.out) == (1, True), ran.out + ran.err


def test_a_database_that_says_nothing_does_not_keep_it_from_being_interrupted(tmp_path: Path) -> None:
    shutil.copy(ROOT / "alembic.ini", tmp_path)
    with silent_server() as (port, here):
        silent = ("-x", f"url=postgresql://127.0.0.1:{port}/book", "-x", "connect_timeout=0")
        with serving(tmp_path, *silent, "verify", "--skip", "logs", "--skip", "service") as service:
            assert here.wait(60)
            service.process.send_signal(signal.SIGINT)
            assert service.ended(20)[0] == 130


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--fix", "", "Invalid value for '--fix': the value is empty"),
        ("--fix", " ", "Invalid value for '--fix': the value is empty"),
        ("--schema", "", "Invalid value for '--schema': the value is empty"),
        ("--aws-account", "", "write its 12 digits"),
        ("--aws-account", "12345678901", "write its 12 digits"),
        ("--aws-account", "arn:aws:iam::123456789012:root", "write its 12 digits"),
    ],
)
def test_a_variable_that_is_not_set_removes_no_guard(option: str, value: str, words: str) -> None:
    ran = datafixes(None, "verify", "--redeploy", "--yes", option, value)
    assert (ran.code, words in ran.err) == (2, True), ran.err


@pytest.mark.parametrize("time", ["ten", "10", "", "10m5s", "1h30", "30d"])
def test_a_time_that_is_none(time: str) -> None:
    ran = datafixes(None, "verify", "--wait", time)
    assert (ran.code, f"{time!r} is not a length of time: write 90s, 10m or 1h" in ran.err) == (2, True)


@pytest.mark.parametrize(
    ("time", "seconds"), [("0", 0), ("90s", 90), ("10m", 600), ("10 m", 600), ("1.5min", 90), ("1h", 3600)]
)
def test_wait_takes_as_long_as_it_was_told(
    time: str, seconds: int, pauses: Pauses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    skip = ("--skip", "logs", "--skip", "service", "--skip", "broker")
    ran = datafixes(None, "-x", "url=postgresql://127.0.0.1:1/book", "verify", *skip, "--wait", time)
    assert (ran.code, pauses.seconds) == (1, seconds)
    assert len(ran.err.splitlines()) == seconds // 30


def test_a_broker_that_does_not_answer_is_not_green(deploy: Deploy) -> None:
    deploy.project.alembic("upgrade", "head")
    lines = deploy.verify("--skip", "logs", "--skip", "service", code=1, broker="file:none.csv")
    assert lines["Positions of large"][0] == "unknown"
    assert "3 rows open in the book; the broker's positions are unknown" in lines["Positions of large"][1]


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
    for answer, code in (("\n", 1), ("", 130), ("what\nN\n", 1)):
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        answered = datafixes(deploy.project, *redeploy)
        assert (answered.code, answered.out) == (code, "")
    assert begun() == first
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    answered = datafixes(deploy.project, *redeploy, "--skip", "logs")
    assert (answered.code, begun() == first) == (3, False)
    assert answered.out.startswith("Verify")
    first = begun()
    monkeypatch.setenv("CI", "1")
    done = datafixes(deploy.project, *redeploy, "--yes", "--skip", "logs")
    assert begun() != first
    assert done.code == 3
    assert f"Began {begun()} of position-manager-service" in done.err
