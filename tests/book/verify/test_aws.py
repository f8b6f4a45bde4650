"""The client itself: how often it asks, how long, and what it makes of a configuration that is broken."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from datafixes.book.verify.aws import look_at_identity
from datafixes.database.aws_client import Aws, NotAsked


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """What was said to an AWS that ends each connection without an answer."""
    taken: list[bytes] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def take() -> None:
            with suppress(OSError):
                while True:
                    with listener.accept()[0] as one:
                        taken.append(one.recv(65_536))

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "HIDDEN")
        yield taken
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_what_is_to_be_done_is_said_once(taken: list[bytes]) -> None:
    aws = Aws("us-west-2")
    with pytest.raises(NotAsked) as caught:
        aws.do("ecs", "update_service", service="pm")
    assert (caught.value.code, caught.value.is_uncertain, len(taken)) == ("ConnectionClosedError", True, 1)
    assert b"UpdateService" in taken[0]
    with pytest.raises(NotAsked):
        aws.ask("ecs", "describe_services", services=["pm"])
    assert len(taken) == 3


def test_a_question_takes_seconds_at_most() -> None:
    seconds = []

    class Client:
        def __init__(self, config: Any) -> None:
            self.config = config

        def question(self) -> None:
            attempts = self.config.retries["total_max_attempts"]
            seconds.append(attempts * (self.config.connect_timeout + self.config.read_timeout))

    aws = Aws("us-west-2")
    session: Any = type("Session", (), {"client": lambda _, _service, config: Client(config)})()
    aws.__dict__["_session"] = session
    aws.ask("logs", "question")
    aws.do("logs", "question")
    assert max(seconds) <= 15


@pytest.mark.parametrize(
    ("config", "variables", "words"),
    [
        ("credential_process = /none/helper", {}, "FileNotFoundError: "),
        ("credential_process = /bin/echo hello", {}, "JSONDecodeError: "),
        ("credential_process = /bin/echo []", {}, "no credentials: "),
        ("credential_process = /bin/false", {}, "no credentials: "),
        ("role_arn = arn:aws:iam::123456789012:role/x\nweb_identity_token_file = /none", {}, "FileNotFoundError: "),
        ("aws_access_key_id = A\naws_secret_access_key = B", {"AWS_ENDPOINT_URL": "nowhere"}, "Invalid endpoint"),
        ("aws_access_key_id = A\naws_secret_access_key = B", {"AWS_MAX_ATTEMPTS": "abc"}, ""),
    ],
)  # fmt: skip
def test_a_broken_configuration_is_one_line(
    config: str, variables: dict[str, str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text(f"[default]\n{config}\n")
    for name, value in {
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        **variables,
    }.items():
        monkeypatch.setenv(name, value)
    line = look_at_identity(Aws("us-west-2"), {})
    assert (line.state, words in line.text, "\n" in line.text) == ("unknown", True, False), line
    assert line.lasting or "Error" not in words
