"""AWS as the place that names the database: real boto3 over HTTP to a server on this machine."""

import json
import socket
import traceback

import boto3
import pytest

from datafixes.database import locate, open_connection
from datafixes.errors import DatabaseNotFound, DatabaseUnreachable
from datafixes.settings import Settings
from tests.aws import Cloud

SECRET = {"username": "ops", "password": "HID/DEN@:?#% &é"}

OURS = {"aws_region": "us-west-2", "aws_parameters": "/ops-pipeline/", "aws_secret": "ops-pipeline/db"}
"""Where a project has set AWS up; without that, nothing is asked."""


def put_parameters(cloud: Cloud, **values: str) -> None:
    for name, value in values.items():
        cloud.client("ssm").put_parameter(Name=f"/ops-pipeline/{name}", Value=value, Type="SecureString")


def put_secret(cloud: Cloud, content: str) -> None:
    cloud.client("secretsmanager").create_secret(Name="ops-pipeline/db", SecretString=content)


def fill(cloud: Cloud, host: str = "db.example.org", port: str = "5432") -> None:
    put_parameters(cloud, db_host=host, db_port=port, db_name="book")
    put_secret(cloud, json.dumps(SECRET))


def settings(**flags: str) -> Settings:
    return Settings.resolve(flags, {}, OURS)


def refusal(**flags: str) -> str:
    """What a run says that finds no database; never a secret, not even in the chain of exceptions."""
    with pytest.raises(DatabaseNotFound) as caught:
        locate(settings(**flags))
    assert "HID" not in "".join(traceback.format_exception(caught.value))
    return caught.value.message


def test_everything_is_there(cloud: Cloud) -> None:
    fill(cloud, port=" 5433 ")
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
    fill(cloud)
    assert locate(settings(url="postgresql://nearer/db")).url.host == "nearer"


def test_names_can_be_set(cloud: Cloud) -> None:
    east = {"region_name": "us-east-1", "endpoint_url": cloud.endpoint}
    for name, value in (("db_host", "far"), ("db_port", "1"), ("db_name", "b")):
        boto3.client("ssm", **east).put_parameter(Name=f"/other/{name}", Value=value, Type="String")
    boto3.client("secretsmanager", **east).create_secret(Name="o", SecretBinary=json.dumps(SECRET).encode())
    found = locate(settings(aws_region="us-east-1", aws_parameters="/other", aws_secret="o"))
    assert (found.url.host, found.url.password) == ("far", SECRET["password"])


def test_missing_parameter_is_named_and_so_is_the_account(cloud: Cloud) -> None:
    put_parameters(cloud, db_host="db.example.org", db_name="book")
    put_secret(cloud, json.dumps(SECRET))
    lines = refusal().splitlines()
    assert len(lines) == 5
    assert lines[4].startswith(
        "  SSM parameter /ops-pipeline/db_port: does not exist (asked as arn:aws:sts::"
    )
    assert "of account 123456789012)" in lines[4]


def test_empty_account_lists_everything_that_is_missing(cloud: Cloud) -> None:
    text = refusal()
    for place in (
        "-x url: not given",
        "environment DATABASE_URL: not set",
        "alembic.ini sqlalchemy.url: not set",
        "SSM parameter /ops-pipeline/db_host: does not exist",
        "SSM parameter /ops-pipeline/db_port: does not exist",
        "SSM parameter /ops-pipeline/db_name: does not exist",
        "secret ops-pipeline/db: does not exist",
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
    put_parameters(cloud, db_host="db.example.org", db_port="5432", db_name="book")
    put_secret(cloud, content)
    assert refusal().splitlines()[4:] == [f"  secret ops-pipeline/db: {wrong}"]


@pytest.mark.parametrize("port", ["HIDDEN", "0", "65536", "-1"])
def test_bad_port(cloud: Cloud, port: str) -> None:
    fill(cloud, port=port)
    assert refusal().splitlines()[4:] == ["  SSM parameter /ops-pipeline/db_port: is not a port number"]


def test_no_credentials(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(cloud)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "secret ops-pipeline/db: no credentials (searched: the environment" in refusal()


def test_unknown_profile(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "The config profile (nobody) could not be found" in refusal()


def test_credentials_without_the_right_name_whose_they_are(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(cloud)
    iam = cloud.client("iam")
    iam.create_user(UserName="stranger")
    key = iam.create_access_key(UserName="stranger")["AccessKey"]
    cloud.post("/moto-api/reset-auth", b"0")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    try:
        text = refusal()
    finally:
        cloud.post("/moto-api/reset-auth", b"inf")
    assert (
        "secret ops-pipeline/db: access denied (asked as arn:aws:iam::123456789012:user/stranger of" in text
    )


def test_credentials_that_aws_does_not_know(cloud: Cloud) -> None:
    fill(cloud)
    cloud.post("/moto-api/reset-auth", b"0")
    try:
        lines = refusal().splitlines()
    finally:
        cloud.post("/moto-api/reset-auth", b"inf")
    assert "SSM parameter /ops-pipeline/db_host: access denied (AWS does not say whose" in lines[4]
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
    fill(cloud, host="127.0.0.1", port=str(port))
    run = settings()
    with pytest.raises(DatabaseUnreachable) as caught, open_connection(locate(run), run):
        pass
    line = caught.value.one_line()
    assert (
        f"host 127.0.0.1, port {port}, database book (AWS us-west-2, SSM /ops-pipeline/db_*, secret" in line
    )
    assert "refused" in line
    assert f"Start PostgreSQL, or the tunnel to it; to look: pg_isready -h 127.0.0.1 -p {port}" in line
    whole = "".join(traceback.format_exception(caught.value))
    assert "HID" not in whole
    assert "\n" not in caught.value.message
