"""The keys of an account at the broker: from Secrets Manager, or from a variable of the environment."""

import json
import os
import re
from dataclasses import dataclass, field

from datafixes.database.aws_client import Aws, NotAsked
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
        aws = Aws(settings.aws_region)
        try:
            content = aws.secret(secret)
        except NotAsked as error:
            raise NoKeys(f"{origin}: {aws.explained(error)}") from None
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
