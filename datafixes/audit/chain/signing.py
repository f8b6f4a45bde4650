"""Signs anchors with ed25519, and says whose signature an anchor has: neither needs a database.

What is signed is the anchor's line as it was printed, without its last member, the signature.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from datafixes.errors import DatafixError

if TYPE_CHECKING:
    from types import ModuleType

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

Signed = Literal["signed", "not signed", "another key", "another text"]
"""What the signature of an anchor says."""

SIGNED: dict[Signed, str] = {
    "signed": "Signed with this key, and unchanged since.",
    "not signed": "It has no signature, so anybody may have written it.",
    "another key": "Its signature is of another key.",
    "another text": "Its signature is of another line: it was changed after it was signed.",
}

_MEMBER = "signature"


@dataclass(frozen=True)
class PublicKey:
    """A public key.

    Attributes:
        key: the key.
        fingerprint: the SHA-256 of its DER form.
    """

    key: Ed25519PublicKey
    fingerprint: str


def read_private_key(path: str) -> Ed25519PrivateKey:
    """The private key in a file.

    Raises:
        DatafixError: cryptography is not installed, or the file holds no such key.
    """
    key: Ed25519PrivateKey = _read(path, "private")
    return key


def sign(line: dict[str, Any], key: Ed25519PrivateKey) -> dict[str, Any]:
    """An anchor with the fingerprint of a key, and with the signature at its end."""
    signed = {**line, "signed_by": _public(key.public_key()).fingerprint}
    return {**signed, _MEMBER: base64.b64encode(key.sign(_signed_text(signed))).decode()}


def read_public_keys(paths: Iterable[str]) -> list[PublicKey]:
    """The public keys in some files.

    Raises:
        DatafixError: cryptography is not installed, or a file holds no such key.
    """
    return [_public(_read(path, "public")) for path in paths]


def signature_of(line: dict[str, Any], keys: Iterable[PublicKey]) -> Signed:
    """What the signature of an anchor says.

    Args:
        line: the anchor, with its members in the order in which they were printed.
        keys: whose signatures count.
    """
    from cryptography.exceptions import InvalidSignature

    if _MEMBER not in line:
        return "not signed"
    its = next((one for one in keys if one.fingerprint == line.get("signed_by")), None)
    if its is None:
        return "another key"
    try:
        its.key.verify(base64.b64decode(line[_MEMBER], validate=True), _signed_text(line))
    except (InvalidSignature, ValueError, TypeError):
        return "another text"
    return "signed"


def _signed_text(line: dict[str, Any]) -> bytes:
    return json.dumps({name: value for name, value in line.items() if name != _MEMBER}).encode()


def _public(key: Ed25519PublicKey) -> PublicKey:
    form = _serialization()
    encoded = key.public_bytes(form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo)
    return PublicKey(key, hashlib.sha256(encoded).hexdigest())


def _read(path: str, kind: Literal["private", "public"]) -> Any:
    form = _serialization()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    try:
        pem = Path(path).read_bytes()
    except OSError as error:
        raise DatafixError(f"{path} cannot be read: {error.strerror or error}") from None
    private = kind == "private"
    try:
        key = form.load_pem_private_key(pem, password=None) if private else form.load_pem_public_key(pem)
    except Exception:  # ValueError, TypeError, and an error of cryptography's own: they say no more than this
        key = None
    if not isinstance(key, Ed25519PrivateKey if private else Ed25519PublicKey):
        begins = pem.split(b"\n", 1)[0].strip()
        it = (
            f"it begins with {begins.decode(errors='replace')}"
            if begins.startswith(b"-----BEGIN ")
            else "it is no PEM"
        )
        raise DatafixError(
            f"{path} holds no {kind} ed25519 key in PEM without a password: {it}.",
            hint="openssl genpkey -algorithm ed25519 -out FILE; its public key: openssl pkey -in FILE -pubout",
        )
    return key


def _serialization() -> ModuleType:
    try:
        from cryptography.hazmat.primitives import serialization
    except ImportError as error:
        raise DatafixError(
            f"Signatures need the package cryptography, which is not installed ({error}).",
            hint="pip install 'datafixes[sign]'",
        ) from None
    return serialization
