"""The keys of an account: real boto3 over HTTP to a server on this machine, and the environment."""

import json
import traceback
from typing import Any

import pytest

from datafixes.book.broker.alpaca import AlpacaBroker
from datafixes.book.broker.credentials import NoKeys, read_keys
from datafixes.book.positions.position import Known, Unknown
from tests.aws import Cloud
from tests.book.broker.alpaca_server import Alpaca, accounts, running
from tests.book.broker.test_alpaca import SINCE
from tests.book.settings import book_settings, engine_settings

KEYS = '{"api_key": "PK1", "secret_key": "HIDDEN"}'


@pytest.fixture
def manager(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Secrets Manager."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return cloud.client("secretsmanager")


def refusal(secret: str = "ops-pipeline/alpaca") -> str:
    """What is wrong: never with a secret, not even in the chain of exceptions."""
    with pytest.raises(NoKeys) as caught:
        read_keys(engine_settings(), secret)
    assert "HID" not in "".join(traceback.format_exception(caught.value))
    assert "\n" not in caught.value.message
    return caught.value.message


def test_the_default_secrets_open_both_accounts(manager: Any) -> None:
    alpaca = Alpaca(**accounts())
    alpaca.accounts["tiny"].hold(SPY="1")
    manager.create_secret(Name="ops-pipeline/alpaca", SecretString=alpaca.secret("large"))
    manager.create_secret(Name="ops-pipeline/alpaca/tiny", SecretBinary=alpaca.secret("tiny").encode())
    with running(alpaca):
        broker = AlpacaBroker(book_settings(broker_url=alpaca.url))
        held = [broker.positions(name, since=SINCE) for name in ("large", "tiny")]
        # From now on the keys are known.
        manager.delete_secret(SecretId="ops-pipeline/alpaca", ForceDeleteWithoutRecovery=True)
        assert isinstance(broker.positions("large", since=SINCE), Known)
    assert [len(answer.positions) for answer in held if isinstance(answer, Known)] == [0, 1]


def test_keys_are_not_shown() -> None:
    from datafixes.book.broker.credentials import Keys

    shown = repr(Keys("secret a", "HIDDEN", "HIDDEN", "HIDDEN"))
    assert shown == "Keys(origin='secret a')"


def test_no_secret(manager: Any) -> None:
    assert refusal().startswith("secret ops-pipeline/alpaca: does not exist (asked as arn:aws:sts::")


def test_an_account_without_keys_is_unknown(manager: Any) -> None:
    broker = AlpacaBroker(book_settings())
    answer = broker.positions("large", since=SINCE)
    assert isinstance(answer, Unknown)
    assert answer.why.startswith("secret ops-pipeline/alpaca: does not exist (asked as arn:aws:sts::")


def test_no_credentials(manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "secret ops-pipeline/alpaca: no credentials (searched: the environment" in refusal()


def test_aws_does_not_answer(manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert "secret ops-pipeline/alpaca: Could not connect to the endpoint URL" in refusal()


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        ("HIDDEN", "is not JSON"),
        ('["HIDDEN"]', "is not a JSON object"),
        ('{"api_key": "HIDDEN"}', "has no secret_key"),
        ('{"api_key": 5, "secret_key": " "}', "has no api_key and no secret_key"),
        (
            '{"api_key": "PK", "secret_key": "HID\\nDEN"}',
            "secret_key has a character that is not valid in a key",
        ),
        ('{"api_key": "HIDé", "secret_key": "HIDDEN"}', "api_key has a character that is not valid in a key"),
    ],
)
def test_a_secret_that_holds_no_keys(
    manager: Any, monkeypatch: pytest.MonkeyPatch, content: str, wrong: str
) -> None:
    manager.create_secret(Name="ops-pipeline/alpaca", SecretString=content)
    assert refusal() == f"secret ops-pipeline/alpaca: {wrong}"
    monkeypatch.setenv("ALPACA", content)
    assert refusal("env:ALPACA") == f"environment ALPACA: {wrong}"


def test_the_environment_may_hold_what_the_secret_would(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal("env:ALPACA") == "environment ALPACA: not set"
    content = json.loads(KEYS) | {"secret_key": " HIDDEN\n", "account_number": "PA3"}
    monkeypatch.setenv("ALPACA", json.dumps(content))
    keys = read_keys(engine_settings(), "env:ALPACA")
    assert (keys.api_key, keys.secret_key, keys.account_number) == ("PK1", "HIDDEN", "PA3")


def test_an_endpoint_that_is_no_url(manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost:4566/no-scheme")
    assert refusal() == "secret ops-pipeline/alpaca: Invalid endpoint: localhost:4566/no-scheme"
