"""Clients for AWS, and their errors in words."""

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

MISSING = ("ParameterNotFound", "ResourceNotFoundException")
NO_CREDENTIALS = "no credentials (searched: the environment, the profile, and the role of this machine)"

# After these errors it is unknown whether AWS received the request; after others it was not sent, or was refused.
_UNCERTAIN = ("ReadTimeoutError", "ConnectionClosedError", "HTTPClientError", "ResponseStreamingError",
              "IncompleteReadError", "ResponseParserError")  # fmt: skip


class NotAsked(Exception):
    """AWS did not answer. The text says why, in one line.

    Attributes:
        code: AWS's error code, or the name of the client's exception.
        is_uncertain: AWS may have received the request.
        is_answer: the error is AWS's own.
        words: the message of AWS or the client, without the code.
    """

    def __init__(
        self,
        why: str,
        code: str = "",
        is_uncertain: bool = False,
        *,
        is_answer: bool = False,
        words: str = "",
    ) -> None:
        super().__init__(why)
        self.code, self.is_uncertain, self.is_answer, self.words = code, is_uncertain, is_answer, words


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
        with in_words():
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
        with in_words():
            return getattr(self.client(service, attempts=2, seconds=5), operation)(**arguments)

    def do(self, service: str, operation: str, /, **arguments: Any) -> Any:
        """Send a request that changes something; only once, because it is not idempotent.

        Args:
            service: as for `ask`.
            operation: as for `ask`.
            arguments: as for `ask`.

        Raises:
            NotAsked: it failed, or may have succeeded: see `NotAsked.is_uncertain`.
        """
        with in_words():
            return getattr(self.client(service, attempts=1, seconds=10), operation)(**arguments)

    def secret(self, name: str) -> str | bytes:
        """The content of a secret.

        Raises:
            NotAsked: it failed.
        """
        found = self.ask("secretsmanager", "get_secret_value", SecretId=name)
        content: str | bytes = found.get("SecretString") or found.get("SecretBinary", b"")
        return content

    def explained(self, error: NotAsked) -> str:
        """The error in words; with the identity where a wrong account is the usual reason."""
        if error.code == "NoCredentialsError":
            return NO_CREDENTIALS
        if error.code in MISSING:
            return f"does not exist{self._identity}"
        # A proxy between here and AWS may answer with a status number instead of AWS's code.
        if error.code in (*DENIED, "403"):
            return f"access denied{self._identity}: {error.words}"
        return str(error) if error.is_answer else error.words

    @cached_property
    def _identity(self) -> str:
        try:
            caller = self.ask("sts", "get_caller_identity")
        except NotAsked:
            return " (AWS does not say whose credentials these are)"
        return f" (asked as {caller['Arn']} of account {caller['Account']})"

    def client(self, service: str, attempts: int, seconds: float) -> Any:
        """boto3's client for a service, with a number of attempts, and a time limit for each, in seconds."""
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
def in_words() -> Iterator[None]:
    """Turn any exception into a :class:`NotAsked`."""
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
        uncertain, why = failed or kind in _UNCERTAIN, f"{code}: {plain}" if code else plain
        return NotAsked(why, code or kind, uncertain, is_answer=isinstance(error, ClientError), words=plain)
    uncertain = kind in _UNCERTAIN
    return NotAsked(f"{kind}: {plain}", kind if uncertain else BROKEN, uncertain, words=plain)
