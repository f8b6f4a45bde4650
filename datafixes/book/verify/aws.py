"""AWS clients for the checks, and their errors in words."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from datafixes.settings.values import masked

DENIED = ("AccessDeniedException", "AccessDenied", "UnauthorizedOperation")
"""Errors for missing rights: waiting does not help."""
BROKEN = "Configuration"
"""The code for exceptions that are not the client's own, such as a missing helper."""

# After these errors it is unknown whether AWS received the request; after others it was not sent, or was refused.
_UNCERTAIN = ("ReadTimeoutError", "ConnectionClosedError", "HTTPClientError", "ResponseStreamingError",
              "IncompleteReadError", "ResponseParserError")  # fmt: skip


class NotAsked(Exception):
    """AWS did not answer. The text says why, in one line.

    Attributes:
        code: AWS's error code, or the name of the client's exception.
        is_uncertain: AWS may have received the request.
    """

    def __init__(self, why: str, code: str = "", is_uncertain: bool = False) -> None:
        super().__init__(why)
        self.code, self.is_uncertain = code, is_uncertain


class Aws:
    """AWS with the credentials of the environment.

    Args:
        region: the region; an empty string leaves it to the AWS profile.

    Attributes:
        region: the region, in words.
    """

    def __init__(self, region: str) -> None:
        self._region = region or None
        self.region = region or "of the AWS profile"

    @cached_property
    def _session(self) -> Any:
        import boto3  # slow to load

        return boto3.session.Session(region_name=self._region)

    def has_credentials(self) -> bool:
        """Whether the environment, the profile or the machine has credentials.

        Raises:
            NotAsked: they cannot be read.
        """
        with _in_words():
            return self._session.get_credentials() is not None

    def ask(self, service: str, operation: str, /, **arguments: Any) -> Any:
        """Send a request, and again if AWS does not answer; takes about ten seconds at most.

        Args:
            service: such as ``logs``.
            operation: a method of boto3's client for it.
            arguments: the method's arguments.

        Raises:
            NotAsked: it failed.
        """
        with _in_words():
            return getattr(self._client(service, attempts=2, seconds=5), operation)(**arguments)

    def do(self, service: str, operation: str, /, **arguments: Any) -> Any:
        """Send a request that changes something; only once, because it is not idempotent.

        Args:
            service: as for `ask`.
            operation: as for `ask`.
            arguments: as for `ask`.

        Raises:
            NotAsked: it failed, or may have succeeded: see `NotAsked.is_uncertain`.
        """
        with _in_words():
            return getattr(self._client(service, attempts=1, seconds=10), operation)(**arguments)

    def _client(self, service: str, attempts: int, seconds: float) -> Any:
        from botocore.config import Config

        known: dict[tuple[str, int], Any] = self._clients
        if (service, attempts) not in known:
            retries = {"total_max_attempts": attempts, "mode": "standard"}
            config = Config(connect_timeout=2, read_timeout=seconds, retries=retries)
            known[service, attempts] = self._session.client(service, config=config)
        return known[service, attempts]

    @cached_property
    def _clients(self) -> dict[tuple[str, int], Any]:
        return {}


@contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # With a broken configuration, the client raises exceptions of any kind.
        raise _not_asked(error) from None


def _not_asked(error: Exception) -> NotAsked:
    from botocore.exceptions import BotoCoreError, ClientError

    kind = type(error).__name__
    response = getattr(error, "response", None)
    # Other errors also have a response, of another kind or None.
    answer = response if isinstance(error, ClientError) and isinstance(response, dict) else {}
    details = answer.get("Error", {})
    code, words = details.get("Code", ""), details.get("Message", "") or str(error)
    plain = masked(" ".join(re.sub(r"<[^>]*>", " ", words).split()))
    failed = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500
    if isinstance(error, BotoCoreError | ClientError):
        return NotAsked(f"{code}: {plain}" if code else plain, code or kind, failed or kind in _UNCERTAIN)
    uncertain = kind in _UNCERTAIN
    return NotAsked(f"{kind}: {plain}", kind if uncertain else BROKEN, uncertain)
