"""An AWS of this machine: moto's server, with the credentials that lead there."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.request import Request, urlopen

import boto3
import pytest
from moto.server import ThreadedMotoServer


@dataclass(frozen=True)
class Cloud:
    """An AWS account that a test fills."""

    endpoint: str

    def client(self, service: str) -> Any:
        return boto3.client(service, region_name="us-west-2", endpoint_url=self.endpoint)

    def post(self, path: str, content: bytes = b"") -> None:
        """Tell the server itself something."""
        request = Request(
            self.endpoint + path, data=content, method="POST", headers={"Content-Type": "text/plain"}
        )
        with urlopen(request, timeout=10) as answer:
            answer.read()


@contextmanager
def running_cloud() -> Iterator[Cloud]:
    """Run the server."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield Cloud(f"http://{host}:{port}")
    finally:
        server.stop()


def enter(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """Lead this test's boto3 to an empty account there."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "HIDDEN")
    cloud.post("/moto-api/reset")
    return cloud
