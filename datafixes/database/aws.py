"""Finds the database through AWS: host, port and name in SSM parameters, the credentials in a secret."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import URL

from datafixes.database.aws_client import DENIED, MISSING, NO_CREDENTIALS, Aws, NotAsked
from datafixes.settings import Settings


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
        self.settings = settings
        self.problems: list[tuple[str, str]] = []
        self._aws = Aws(settings.aws_region)

    def check_credentials(self, place: str) -> None:
        """Stop if there are no credentials: each request would fail slowly."""
        if self._ask(place, self._aws.has_credentials) is False:
            self.problems.append((place, NO_CREDENTIALS))
            raise _NothingMoreError

    def parameter(self, name: str) -> str:
        """The value of one SSM parameter; an empty string after a problem."""
        full_name = self.settings.aws_parameters + name
        place = f"SSM parameter {full_name}"
        # One by one: a role that may read them may lack the right to GetParameters.
        found = self._ask(
            place, lambda: self._aws.ask("ssm", "get_parameter", Name=full_name, WithDecryption=True)
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
        content = self._ask(place, lambda: self._aws.secret(self.settings.aws_secret))
        if content is None:
            return "", ""
        username, password, wrong = _credentials(content)
        if wrong:
            self.problems.append((place, wrong))
        return username, password

    def _ask(self, place: str, question: Callable[[], Any]) -> Any:
        """The answer, or None after noting the problem."""
        try:
            return question()
        except NotAsked as error:
            self.problems.append((place, self._aws.explained(error)))
            if error.code in (*MISSING, *DENIED, "403"):
                return None
        raise _NothingMoreError


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
