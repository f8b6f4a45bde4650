"""Finds the database through AWS: host, port and name in SSM parameters, the credentials in a secret."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy.engine import URL

from datafixes.settings import Settings

# A proxy between here and AWS may answer with a status number instead of AWS's code.
_DENIED = ("AccessDenied", "AccessDeniedException", "403")
_MISSING = ("ParameterNotFound", "ResourceNotFoundException")


@dataclass(frozen=True)
class Answer:
    """The answer of AWS.

    Attributes:
        url: the database, or None.
        origin: its place in AWS.
        problems: if there is no URL, each place and what is wrong there; never a secret value.
    """

    url: URL | None
    origin: str
    problems: tuple[tuple[str, str], ...] = ()


def look_up(settings: Settings) -> Answer:
    """Ask SSM and Secrets Manager for the database; takes seconds at most if AWS does not answer."""
    region = f"AWS {settings.aws_region}" if settings.aws_region else "AWS"
    origin = f"{region}, SSM {settings.aws_parameters}db_*, secret {settings.aws_secret}"
    enquiry = _Enquiry(settings)
    try:
        enquiry.check_credentials(origin)
        host = enquiry.parameter("db_host")
        port = enquiry.parameter("db_port")
        name = enquiry.parameter("db_name")
        username, password = enquiry.secret()
    except _NothingMoreError:
        return Answer(None, origin, tuple(enquiry.problems))
    if enquiry.problems:
        return Answer(None, origin, tuple(enquiry.problems))
    return Answer(URL.create("postgresql+psycopg2", username, password, host, int(port), name), origin)


class _NothingMoreError(Exception):
    """Further requests would fail in the same way."""


class _Enquiry:
    """A series of requests, and its problems so far."""

    def __init__(self, settings: Settings) -> None:
        # Imported here, because boto3 is slow to load and most runs do not need it.
        import boto3
        from botocore.config import Config

        self.settings = settings
        self.problems: list[tuple[str, str]] = []
        self._session = boto3.session.Session
        self._config = Config(connect_timeout=3, read_timeout=5, retries={"max_attempts": 1})

    def check_credentials(self, place: str) -> None:
        """Stop if there are no credentials: each request would fail slowly."""
        if self._ask(place, lambda: self._aws.get_credentials() or "") == "":
            self.problems.append(
                (
                    place,
                    "no credentials (searched: the environment, the profile, and the role of this machine)",
                )
            )
            raise _NothingMoreError

    def parameter(self, name: str) -> str:
        """The value of one SSM parameter; an empty string after a problem."""
        full_name = self.settings.aws_parameters + name
        place = f"SSM parameter {full_name}"
        # One by one: a role that may read them may lack the right to GetParameters.
        found = self._ask(
            place, lambda: self._client("ssm").get_parameter(Name=full_name, WithDecryption=True)
        )
        if found is None:
            return ""
        value = str(found["Parameter"]["Value"]).strip()
        if name == "db_port" and not (value.isdecimal() and 0 < int(value) < 65536):
            self.problems.append((place, "is not a port number"))
        return value

    def secret(self) -> tuple[str, str]:
        """User name and password; empty strings after a problem."""
        place = f"secret {self.settings.aws_secret}"
        name = self.settings.aws_secret
        found = self._ask(place, lambda: self._client("secretsmanager").get_secret_value(SecretId=name))
        if found is None:
            return "", ""
        username, password, wrong = _credentials(found.get("SecretString") or found.get("SecretBinary", b""))
        if wrong:
            self.problems.append((place, wrong))
        return username, password

    @cached_property
    def _aws(self) -> Any:
        return self._session(region_name=self.settings.aws_region or None)

    def _client(self, service: str) -> Any:
        return self._aws.client(service, config=self._config)

    def _ask(self, place: str, question: Callable[[], Any]) -> Any:
        """The answer, or None after noting the problem."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return question()
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in _MISSING:
                self.problems.append((place, f"does not exist{self._identity}"))
                return None
            words = _one_line(error.response.get("Error", {}).get("Message", ""))
            if code in _DENIED:
                self.problems.append((place, f"access denied{self._identity}: {words}"))
                return None
            self.problems.append((place, f"{code}: {words}"))
        # Besides its own errors: an endpoint that is not a URL, a helper that is missing or fails.
        except (BotoCoreError, ValueError, OSError) as error:
            self.problems.append((place, _one_line(error)))
        raise _NothingMoreError

    @cached_property
    def _identity(self) -> str:
        """The identity of the credentials: a wrong account is the usual reason for a missing parameter."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            caller = self._client("sts").get_caller_identity()
        except (BotoCoreError, ClientError, ValueError, OSError):
            return " (AWS does not say whose credentials these are)"
        return f" (asked as {caller['Arn']} of account {caller['Account']})"


def _one_line(words: object) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", str(words)).split())


def _credentials(content: str | bytes) -> tuple[str, str, str]:
    """User name, password, and the problem: as text, because an exception would carry the secret."""
    try:
        value = json.loads(content)
    except ValueError:
        return "", "", "is not JSON"
    if not isinstance(value, dict):
        return "", "", "is not a JSON object"
    missing = [
        key for key in ("username", "password") if not isinstance(value.get(key), str) or not value[key]
    ]
    if missing:
        return "", "", f"has no {' and no '.join(missing)}"
    return value["username"], value["password"], ""
