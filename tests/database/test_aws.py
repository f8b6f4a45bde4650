"""AWS as the place that names the database: real boto3 over HTTP to a server on this machine."""

import json
import socket
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.request import Request, urlopen

import boto3
import pytest
from moto.server import ThreadedMotoServer

from datafixes.database import locate, open_connection
from datafixes.errors import DatabaseNotFound, DatabaseUnreachable
from datafixes.settings import Settings

SECRET = {"username": "ops", "password": "HID/DEN@:?#% &é"}


@dataclass(frozen=True)
class Cloud:
    """An AWS account that a test fills; what a run finds there is up to the environment."""

    endpoint: str

    def client(self, service: str) -> Any:
        return boto3.client(service, region_name="us-west-2", endpoint_url=self.endpoint)

    def put_parameters(self, **values: str) -> None:
        for name, value in values.items():
            self.client("ssm").put_parameter(Name=f"/ops-pipeline/{name}", Value=value, Type="SecureString")

    def put_secret(self, content: str) -> None:
        self.client("secretsmanager").create_secret(Name="ops-pipeline/db", SecretString=content)

    def fill(self, host: str = "db.example.org", port: str = "5432") -> None:
        self.put_parameters(db_host=host, db_port=port, db_name="book")
        self.put_secret(json.dumps(SECRET))


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def cloud(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "HIDDEN")
    _post(endpoint, "/moto-api/reset", b"")
    return Cloud(endpoint)


def _post(endpoint: str, path: str, content: bytes) -> None:
    request = Request(endpoint + path, data=content, method="POST", headers={"Content-Type": "text/plain"})
    with urlopen(request, timeout=10) as answer:
        answer.read()


def settings(**flags: str) -> Settings:
    return Settings.resolve(flags, {}, {})


def refusal(**flags: str) -> str:
    """What a run says that finds no database; never a secret, not even in the chain of exceptions."""
    with pytest.raises(DatabaseNotFound) as caught:
        locate(settings(**flags))
    assert "HID" not in "".join(traceback.format_exception(caught.value))
    return caught.value.message


def test_everything_is_there(cloud: Cloud) -> None:
    cloud.fill(port=" 5433 ")
    found = locate(settings())
    url = found.url
    assert (url.drivername, url.host, url.port, url.database) == (
        "postgresql+psycopg2",
        "db.example.org",
        5433,
        "book",
    )
    assert (url.username, url.password) == (SECRET["username"], SECRET["password"])
    assert found.origin == "AWS us-west-2, SSM /ops-pipeline/db_*, secret ops-pipeline/db"
    assert "HID" not in repr(found)
    assert "DEN" not in found.masked


def test_aws_is_the_last_place(cloud: Cloud) -> None:
    cloud.fill()
    assert locate(settings(url="postgresql://nearer/db")).url.host == "nearer"


def test_names_can_be_set(cloud: Cloud) -> None:
    east = {"region_name": "us-east-1", "endpoint_url": cloud.endpoint}
    for name, value in (("db_host", "far"), ("db_port", "1"), ("db_name", "b")):
        boto3.client("ssm", **east).put_parameter(Name=f"/other/{name}", Value=value, Type="String")
    boto3.client("secretsmanager", **east).create_secret(Name="o", SecretBinary=json.dumps(SECRET).encode())
    found = locate(settings(aws_region="us-east-1", aws_parameters="/other", aws_secret="o"))
    assert (found.url.host, found.url.password) == ("far", SECRET["password"])


def test_missing_parameter_is_named_and_so_is_the_account(cloud: Cloud) -> None:
    cloud.put_parameters(db_host="db.example.org", db_name="book")
    cloud.put_secret(json.dumps(SECRET))
    lines = refusal().splitlines()
    assert len(lines) == 5
    assert lines[4].startswith("  SSM parameter /ops-pipeline/db_port: there is none (asked as arn:aws:sts::")
    assert "of account 123456789012)" in lines[4]


def test_empty_account_lists_everything_that_is_missing(cloud: Cloud) -> None:
    text = refusal()
    for place in (
        "-x url: not given",
        "environment DATABASE_URL: not set",
        "alembic.ini sqlalchemy.url: not set",
        "SSM parameter /ops-pipeline/db_host: there is none",
        "SSM parameter /ops-pipeline/db_port: there is none",
        "SSM parameter /ops-pipeline/db_name: there is none",
        "secret ops-pipeline/db: there is none",
    ):
        assert f"  {place}" in text


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        ("HIDDEN", "is not JSON"),
        ('["HIDDEN"]', "is not a JSON object"),
        ('{"password": "HIDDEN"}', "has no username"),
        ('{"username": "HIDDEN", "password": ""}', "has no password"),
        ('{"user": "HIDDEN", "pass": "HIDDEN"}', "has no username and no password"),
    ],
)
def test_bad_secret(cloud: Cloud, content: str, wrong: str) -> None:
    cloud.put_parameters(db_host="db.example.org", db_port="5432", db_name="book")
    cloud.put_secret(content)
    assert refusal().splitlines()[4:] == [f"  secret ops-pipeline/db: {wrong}"]


@pytest.mark.parametrize("port", ["HIDDEN", "0", "65536", "-1"])
def test_bad_port(cloud: Cloud, port: str) -> None:
    cloud.fill(port=port)
    assert refusal().splitlines()[4:] == [
        "  SSM parameter /ops-pipeline/db_port: is not the number of a port"
    ]


def test_no_credentials(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.fill()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "secret ops-pipeline/db: no credentials (looked at the environment" in refusal()


def test_unknown_profile(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "The config profile (nobody) could not be found" in refusal()


def test_credentials_without_the_right_name_whose_they_are(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.fill()
    iam = cloud.client("iam")
    iam.create_user(UserName="stranger")
    key = iam.create_access_key(UserName="stranger")["AccessKey"]
    _post(cloud.endpoint, "/moto-api/reset-auth", b"0")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    try:
        text = refusal()
    finally:
        _post(cloud.endpoint, "/moto-api/reset-auth", b"inf")
    assert (
        "secret ops-pipeline/db: access denied (asked as arn:aws:iam::123456789012:user/stranger of" in text
    )


def test_credentials_that_aws_does_not_know(cloud: Cloud) -> None:
    cloud.fill()
    _post(cloud.endpoint, "/moto-api/reset-auth", b"0")
    try:
        lines = refusal().splitlines()
    finally:
        _post(cloud.endpoint, "/moto-api/reset-auth", b"inf")
    assert "SSM parameter /ops-pipeline/db_host: access denied (whose credentials these are, AWS" in lines[4]
    assert "security token included in the request is invalid" in lines[4]


def test_aws_does_not_answer(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed_port()}")
    lines = refusal().splitlines()
    assert len(lines) == 5
    assert "SSM parameter /ops-pipeline/db_host: Could not connect to the endpoint URL" in lines[4]


def test_an_endpoint_that_is_no_url(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost:4566/no-scheme")
    assert "SSM parameter /ops-pipeline/db_host: Invalid endpoint" in refusal().splitlines()[4]


def closed_port() -> int:
    """A port of this machine where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_database_of_aws_cannot_be_reached(cloud: Cloud) -> None:
    port = closed_port()
    cloud.fill(host="127.0.0.1", port=str(port))
    run = settings()
    with pytest.raises(DatabaseUnreachable) as caught, open_connection(locate(run), run):
        pass
    line = caught.value.one_line()
    assert (
        f"host 127.0.0.1, port {port}, database book (AWS us-west-2, SSM /ops-pipeline/db_*, secret" in line
    )
    assert "refused" in line
    assert (
        f"A security group or a firewall may not allow this address to reach port {port} of 127.0.0.1" in line
    )
    whole = "".join(traceback.format_exception(caught.value))
    assert "HID" not in whole
    assert "\n" not in caught.value.message
