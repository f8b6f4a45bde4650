"""Clients for the AWS services that a check asks, and what goes wrong in words."""

import re
from functools import cached_property
from typing import Any

from datafixes.values import masked

DENIED = ("AccessDeniedException", "AccessDenied", "UnauthorizedOperation")
"""What AWS answers to whoever may not ask: waiting changes nothing."""


class NotAsked(Exception):
    """AWS did not say. The text says why, in one line.

    Attributes:
        code: AWS's own code for it, or the name of what the client raised.
    """

    def __init__(self, why: str, code: str = "") -> None:
        super().__init__(why)
        self.code = code


class Aws:
    """AWS as the environment's credentials see it.

    Args:
        region: where to ask.
    """

    def __init__(self, region: str) -> None:
        self.region = region

    @cached_property
    def _session(self) -> Any:
        import boto3  # it takes longer to load than all the rest

        return boto3.session.Session(region_name=self.region)

    def has_credentials(self) -> bool:
        """Whether the environment, the profile or the machine has any.

        Raises:
            NotAsked: they cannot be read.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return self._session.get_credentials() is not None
        except (BotoCoreError, ClientError) as error:
            raise _not_asked(error) from None

    def ask(self, service: str, operation: str, /, **arguments: Any) -> Any:
        """Ask one question; seconds at most when AWS does not answer.

        Args:
            service: such as ``logs``.
            operation: a method of boto3's client for it.
            arguments: the method's arguments.

        Raises:
            NotAsked: whatever went wrong.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(self._client(service), operation)(**arguments)
        except (BotoCoreError, ClientError) as error:
            raise _not_asked(error) from None

    def _client(self, service: str) -> Any:
        from botocore.config import Config

        config = Config(connect_timeout=3, read_timeout=10, retries={"max_attempts": 3, "mode": "standard"})
        known: dict[str, Any] = self._clients
        if service not in known:
            known[service] = self._session.client(service, config=config)
        return known[service]

    @cached_property
    def _clients(self) -> dict[str, Any]:
        return {}


def _not_asked(error: Any) -> NotAsked:
    told = getattr(error, "response", {}).get("Error", {})
    code, words = told.get("Code", ""), told.get("Message", "") or str(error)
    plain = masked(" ".join(re.sub(r"<[^>]*>", " ", words).split()))
    return NotAsked(f"{code}: {plain}" if code else plain, code or type(error).__name__)
