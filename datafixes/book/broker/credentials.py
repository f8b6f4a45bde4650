"""The keys of an account at the broker: from Secrets Manager, or from a variable of the environment."""

import json
import os
import re
from dataclasses import dataclass, field
from typing import Any

from datafixes.errors import DatafixError
from datafixes.settings import Settings

# They become header lines: an error about an invalid character in them would show the key.
_KEY = re.compile(r"[!-~]+", re.ASCII)
_VARIABLE = "env:"
_SHAPE = '{"api_key": "...", "secret_key": "..."}'


class NoKeys(DatafixError):
    """An account has no keys, or they cannot be read. The message contains no part of them."""


@dataclass(frozen=True)
class Keys:
    """The keys of one account.

    Attributes:
        origin: their origin; the only part that may be shown.
        api_key: the id of the key.
        secret_key: the key.
        account_number: the account that they must open, if the secret names it, or an empty string.
    """

    origin: str
    api_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    account_number: str = field(default="", repr=False)


def read_keys(settings: Settings, secret: str) -> Keys:
    """The keys of one account.

    Args:
        settings: with the AWS region of the secret.
        secret: the name of a secret in Secrets Manager; or ``env:NAME``, a variable with the same contents.

    Raises:
        NoKeys: the secret does not exist, or may not be read, or is not JSON with both keys.
    """
    if not secret:
        raise NoKeys(
            "broker_accounts names no secret for it", hint="Use ACCOUNT=SECRET, or ACCOUNT=env:VARIABLE"
        )
    if secret.startswith(_VARIABLE):
        name = secret.removeprefix(_VARIABLE)
        content: str | bytes = os.environ.get(name, "")
        origin = f"environment {name}"
        if not content.strip():
            raise NoKeys(f"{origin}: not set", hint=f"It must be JSON: {_SHAPE}")
    else:
        origin = f"secret {secret}"
        content = _secret(settings, secret, origin)
    keys, wrong = _parse(content, origin)
    if keys is None:
        raise NoKeys(f"{origin}: {wrong}", hint=f"It must be JSON: {_SHAPE}")
    return keys


def _parse(content: str | bytes, origin: str) -> tuple[Keys | None, str]:
    """The keys, or the problem: as text, because an exception would carry the secret."""
    try:
        value = json.loads(content)
    except ValueError:
        return None, "is not JSON"
    if not isinstance(value, dict):
        return None, "is not a JSON object"
    texts = {
        name: text.strip() for name in ("api_key", "secret_key") if isinstance(text := value.get(name), str)
    }
    missing = [name for name in ("api_key", "secret_key") if not texts.get(name)]
    if missing:
        return None, f"has no {' and no '.join(missing)}"
    foreign = [name for name, text in texts.items() if not _KEY.fullmatch(text)]
    if foreign:
        return None, f"{foreign[0]} has a character that is not valid in a key"
    return Keys(origin, **texts, account_number=str(value.get("account_number") or "").strip()), ""


def _secret(settings: Settings, secret: str, origin: str) -> str | bytes:
    # Imported here, because boto3 is slow to load and most runs do not need it.
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    config = Config(connect_timeout=3, read_timeout=5, retries={"max_attempts": 1})
    try:
        session = boto3.session.Session(region_name=settings.aws_region or None)
        found = session.client("secretsmanager", config=config).get_secret_value(SecretId=secret)
        content: str | bytes = found.get("SecretString") or found.get("SecretBinary", b"")
        return content
    except NoCredentialsError:
        wrong = "no credentials (searched: the environment, the profile, and the role of this machine)"
    except ClientError as error:
        wrong = _client_error(error.response.get("Error", {}), session, config)
    # Besides its own errors: an endpoint that is not a URL, a helper that is missing or fails.
    except (BotoCoreError, ValueError, OSError) as error:
        wrong = _one_line(error)
    raise NoKeys(f"{origin}: {wrong}")


def _client_error(error: dict[str, Any], session: Any, config: Any) -> str:
    code, words = error.get("Code", ""), _one_line(error.get("Message", ""))
    if code == "ResourceNotFoundException":
        return f"does not exist{_identity(session, config)}"
    if code in ("AccessDenied", "AccessDeniedException", "403"):
        return f"access denied{_identity(session, config)}: {words}"
    return f"{code}: {words}"


def _identity(session: Any, config: Any) -> str:
    """The identity of the credentials: a wrong account is the usual reason for a missing secret."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        caller = session.client("sts", config=config).get_caller_identity()
    except (BotoCoreError, ClientError, ValueError, OSError):
        return " (AWS does not say whose credentials these are)"
    return f" (asked as {caller['Arn']} of account {caller['Account']})"


def _one_line(words: object) -> str:
    return " ".join(str(words).split())
