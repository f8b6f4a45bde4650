"""Clients for the AWS services that a check asks, and what goes wrong in words."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from datafixes.settings.values import masked

DENIED = ("AccessDeniedException", "AccessDenied", "UnauthorizedOperation")
"""What AWS answers to whoever may not ask: waiting changes nothing."""
BROKEN = "Configuration"
"""The code of what the client raises that is no error of its own, such as a helper that is not there."""

# After these nobody knows whether AWS heard what was said; after other failures it was not sent, or was refused.
_UNCERTAIN = ("ReadTimeoutError", "ConnectionClosedError", "HTTPClientError", "ResponseStreamingError",
              "IncompleteReadError", "ResponseParserError")  # fmt: skip


class NotAsked(Exception):
    """AWS did not say. The text says why, in one line.

    Attributes:
        code: AWS's own code for it, or the name of what the client raised.
        is_uncertain: AWS may have heard it all the same.
    """

    def __init__(self, why: str, code: str = "", is_uncertain: bool = False) -> None:
        super().__init__(why)
        self.code, self.is_uncertain = code, is_uncertain


class Aws:
    """AWS as the environment's credentials see it.

    Args:
        region: where to ask; an empty string leaves that to the AWS profile.

    Attributes:
        region: where it asks, in words.
    """

    def __init__(self, region: str) -> None:
        self._region = region or None
        self.region = region or "of the AWS profile"

    @cached_property
    def _session(self) -> Any:
        import boto3  # it takes longer to load than all the rest

        return boto3.session.Session(region_name=self._region)

    def has_credentials(self) -> bool:
        """Whether the environment, the profile or the machine has any.

        Raises:
            NotAsked: they cannot be read.
        """
        with _in_words():
            return self._session.get_credentials() is not None

    def ask(self, service: str, operation: str, /, **arguments: Any) -> Any:
        """Ask one question, and once more where AWS does not answer; ten seconds or so at most in all.

        Args:
            service: such as ``logs``.
            operation: a method of boto3's client for it.
            arguments: the method's arguments.

        Raises:
            NotAsked: whatever went wrong.
        """
        with _in_words():
            return getattr(self._client(service, attempts=2, seconds=5), operation)(**arguments)

    def do(self, service: str, operation: str, /, **arguments: Any) -> Any:
        """Have something done. It is said a single time: what is said twice may be done twice.

        Args:
            service: as for `ask`.
            operation: as for `ask`.
            arguments: as for `ask`.

        Raises:
            NotAsked: whatever went wrong. It may have been done nevertheless: see `NotAsked.is_uncertain`.
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
        # Where the configuration is broken, the client raises whatever it stumbles over.
        raise _not_asked(error) from None


def _not_asked(error: Exception) -> NotAsked:
    from botocore.exceptions import BotoCoreError, ClientError

    kind = type(error).__name__
    response = getattr(error, "response", None)
    # Other errors have a response too, which is another thing or nothing at all.
    answer = response if isinstance(error, ClientError) and isinstance(response, dict) else {}
    details = answer.get("Error", {})
    code, words = details.get("Code", ""), details.get("Message", "") or str(error)
    plain = masked(" ".join(re.sub(r"<[^>]*>", " ", words).split()))
    failed = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500
    if isinstance(error, BotoCoreError | ClientError):
        return NotAsked(f"{code}: {plain}" if code else plain, code or kind, failed or kind in _UNCERTAIN)
    uncertain = kind in _UNCERTAIN
    return NotAsked(f"{kind}: {plain}", kind if uncertain else BROKEN, uncertain)
