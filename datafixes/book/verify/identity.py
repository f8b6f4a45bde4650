"""The AWS identity: checked first, because a wrong account looks like a missing service."""

import re
from collections.abc import Mapping

from datafixes.book.settings import BookSettings
from datafixes.database.aws_client import BROKEN, NO_CREDENTIALS, Aws, NotAsked
from datafixes.report.document import Fact, bad, good, unknown

NAME = "AWS identity"

_ARN = re.compile(r"arn:aws[\w-]*:[\w-]+:[\w-]*:(\d{12}):")
# Credentials that AWS rejects: waiting does not help.
_REFUSED = ("ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "SignatureDoesNotMatch", "AccessDenied",
            "NoCredentialsError", "PartialCredentialsError", "UnauthorizedSSOTokenError", "SSOTokenLoadError",
            "TokenRetrievalError")  # fmt: skip
# Errors of the client that may be temporary.
_PASSING = ("CredentialRetrievalError", "MetadataRetrievalError", "EndpointConnectionError", "ConnectTimeoutError",
            "ReadTimeoutError", "ConnectionClosedError", "HTTPClientError")  # fmt: skip
_NO_CREDENTIALS = "Set AWS_PROFILE or log in; without AWS: --skip logs --skip service"


def look_at_identity(aws: Aws, wanted: Mapping[str, str]) -> Fact:
    """Ask AWS for the identity.

    Args:
        aws: AWS.
        wanted: the expected account, by origin; see `accounts_of`.
    """
    try:
        if not aws.has_credentials():
            return unknown(NAME, NO_CREDENTIALS, _NO_CREDENTIALS, lasting=True)
    except NotAsked as error:
        lasting = error.code not in _PASSING
        return unknown(NAME, f"no credentials: {error}", _NO_CREDENTIALS, lasting=lasting)
    try:
        caller = aws.ask("sts", "get_caller_identity")
    except NotAsked as error:
        refused = error.code in (*_REFUSED, BROKEN)
        hint = _NO_CREDENTIALS if refused else ""
        return unknown(NAME, f"AWS does not say whose credentials these are: {error}", hint, lasting=refused)
    return check_identity(str(caller["Account"]), str(caller["Arn"]), aws.region, wanted)


def check_identity(account: str, arn: str, region: str, wanted: Mapping[str, str]) -> Fact:
    """Whether it is the account of the settings."""
    evidence = f"{arn} of account {account}, region {region}"
    others = {who: number for who, number in wanted.items() if number != account}
    if others:
        words = ", ".join(f"{who} names account {number}" for who, number in others.items())
        return bad(NAME, f"another account: {evidence}; {words}", "Set AWS_PROFILE", lasting=True)
    return good(NAME, evidence)


def accounts_of(settings: BookSettings, named: str | None) -> dict[str, str]:
    """The expected account numbers: the given one, and those in the settings' ARNs."""
    found = {"--aws-account": named} if named else {}
    for name in ("log_group", "ecs_cluster", "ecs_service"):
        if match := _ARN.match(str(getattr(settings, name))):
            found[name] = match[1]
    return found
