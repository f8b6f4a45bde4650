"""Alerts to an SNS topic, for its subscribers: mail, text messages and others."""

from functools import cached_property
from typing import Any

from datafixes.book.alerts.alert import Alert
from datafixes.database.aws_client import Aws
from datafixes.errors import SettingError

# Limits of the service: a subject of fewer than 100 characters of ASCII, and a message of 256 KiB.
_SUBJECT, _MESSAGE = 99, 250_000


class SnsSink:
    """Publishes each alert to a topic.

    Attributes:
        topic: the topic's ARN, which contains its region.

    Raises:
        SettingError: that is not the ARN of a topic.
    """

    name = "SNS topic"

    def __init__(self, topic: str) -> None:
        parts = topic.split(":")
        if len(parts) != 6 or parts[0] != "arn" or parts[2] != "sns" or not parts[3] or not parts[5]:
            raise SettingError(
                f"alert_topic is {topic!r}, which is not the ARN of an SNS topic.",
                hint="The form is arn:aws:sns:us-west-2:123456789012:NAME",
            )
        self.topic = topic
        self._region = parts[3]

    def send(self, alert: Alert) -> None:
        """Publish the alert, with its event as an attribute for filters of subscriptions."""
        subject = " ".join(alert.as_json()["title"].split()).encode("ascii", "replace").decode()
        message: dict[str, Any] = {
            "TopicArn": self.topic,
            "Subject": subject if len(subject) <= _SUBJECT else f"{subject[: _SUBJECT - 3]}...",
            "Message": alert.text().encode()[:_MESSAGE].decode(errors="ignore"),
            "MessageAttributes": {"event": {"DataType": "String", "StringValue": alert.event}},
        }
        if self.topic.endswith(".fifo"):
            message |= {
                "MessageGroupId": "datafixes",
                "MessageDeduplicationId": f"{alert.event} {alert.at.isoformat()}".replace(" ", "-"),
            }
        self._client.publish(**message)

    @cached_property
    def _client(self) -> Any:
        return Aws(self._region).client("sns", attempts=2, seconds=4)
