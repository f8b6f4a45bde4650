"""The SNS topic, over HTTP with the real boto3."""

import datetime as dt
import json

import pytest

from datafixes.book.alerts.alert import Alert
from datafixes.book.alerts.sinks import Sinks
from datafixes.book.alerts.sns import SnsSink
from tests.aws import Cloud

AT = dt.datetime(2026, 2, 3, tzinfo=dt.UTC)


def test_a_subscriber_gets_the_alert(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    topic = cloud.client("sns").create_topic(Name="alerts")["TopicArn"]
    queues = cloud.client("sqs")
    queue = queues.create_queue(QueueName="q")["QueueUrl"]
    arn = queues.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    cloud.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    # The topic's region counts, whatever the environment says.
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    title = f"1 difference → {'x' * 120} password=HIDDEN"
    SnsSink(topic).send(Alert("appeared", title, AT, "book", ("large QCOM: phantom",)))
    body = json.loads(queues.receive_message(QueueUrl=queue)["Messages"][0]["Body"])
    assert len(body["Subject"]) == 99
    assert body["Subject"].startswith("1 difference ? xxx")
    assert "large QCOM: phantom" in body["Message"].splitlines()
    assert body["MessageAttributes"]["event"]["Value"] == "appeared"
    assert "HIDDEN" not in json.dumps(body)


def test_a_topic_that_is_not_there_is_a_broken_sink(cloud: Cloud) -> None:
    said: list[str] = []
    sinks = Sinks([SnsSink("arn:aws:sns:us-west-2:123456789012:gone")], said.append, str)
    [waiting] = sinks.deliver(sinks.queued([Alert("gone", "1 difference", AT)], {}))
    assert len(waiting["SNS topic"]) == 1
    assert "NotFound" in said[0]
