"""An anchor says who made it, wherever it was kept: its signature needs a public key, and no database."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from tests.cli.commands import answer, datafixes
from tests.servers import Database
from tests.trust.audits import anchor, three_runs


def pem_of(key: Any, password: bytes | None = None) -> tuple[bytes, bytes]:
    """A private key, and its public key."""
    encryption = form.BestAvailableEncryption(password) if password else form.NoEncryption()
    return (
        key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, encryption),
        key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo),
    )


def keys(directory: Path, name: str) -> tuple[str, str]:
    """The files of a new key, and of its public key."""
    files = directory / f"{name}.key", directory / f"{name}.pub"
    for file, pem in zip(files, pem_of(Ed25519PrivateKey.generate()), strict=True):
        file.write_bytes(pem)
    return str(files[0]), str(files[1])


def test_an_anchor_proves_who_made_it_and_that_nobody_changed_it(tmp_path: Path, database: Database) -> None:
    project = three_runs(tmp_path, database)
    (ours, public), (_, others) = keys(tmp_path, "ours"), keys(tmp_path, "others")
    assert datafixes(project, "export", "--all", str(tmp_path / "all")).code == 0
    ran = datafixes(project, "anchor", "--sign-with", ours)
    assert (ran.code, ran.err) == (0, "")
    kept = tmp_path / "anchor.json"

    def held(line: str, *by: str, code: int = 0, here: bool = False) -> tuple[str, str | None]:
        """With a database, and without a project and a database."""
        kept.write_text(line, "utf-8")
        signed_by = [part for one in by for part in ("--signed-by", one)]
        place = () if here else ("--export", str(tmp_path / "all"))
        told = answer(
            project if here else None, "verify-audit", "--anchor", str(kept), *signed_by, *place, code=code
        )
        [one] = told["anchors"]
        assert told["fine"] == (code == 0)
        return one["is"], one["signature"]

    assert held(ran.out, public) == ("matches", "signed")
    assert held(ran.out, public, here=True) == ("matches", "signed")
    # a key after the one before
    assert held(ran.out, others, public) == ("matches", "signed")
    assert held(ran.out, others, code=3) == ("matches", "another key")
    # nobody asks; and reformatted, as long as the order is the same
    assert held(ran.out) == ("matches", None)
    assert held(json.dumps(json.loads(ran.out), separators=(",", ":")), public) == ("matches", "signed")
    # Whoever can rewrite the chain and the anchors has not the key.
    line = json.loads(ran.out)
    for name, value in line.items():
        if name in ("version", "kind"):
            continue
        other = {"position": 2, "timeline": 9, "signature": "AAAA", "signed_by": "0" * 64}.get(
            name, f"{value}0"
        )
        forged = json.dumps({**line, name: other})
        assert held(forged, public, code=3)[1] == (
            "another key" if name == "signed_by" else "another text"
        ), name
    assert held(json.dumps({**line, "more": 1}), public, code=3)[1] == "another text"
    assert held(anchor(project, tmp_path / "unsigned").read_text(), public, code=3) == (
        "matches",
        "not signed",
    )
    ran = datafixes(project, "verify-audit", "--anchor", str(kept), "--signed-by", public)
    assert ran.code == 3
    assert "It has no signature, so anybody may have written it." in " ".join(ran.out.split())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere", "nowhere cannot be read: No such file or directory"),
        ("empty", "it is no PEM"),
        ("with a password", "it begins with -----BEGIN ENCRYPTED PRIVATE KEY-----"),
        ("of ssh-keygen", "it begins with -----BEGIN OPENSSH PRIVATE KEY-----"),
        ("of RSA", "it begins with -----BEGIN PRIVATE KEY-----"),
        ("the public one", "it begins with -----BEGIN PUBLIC KEY-----"),
    ],
)
def test_a_file_that_is_no_key_is_named(tmp_path: Path, name: str, words: str) -> None:
    key = Ed25519PrivateKey.generate()
    files = {
        "empty": b"",
        "with a password": pem_of(key, b"secret")[0],
        "of ssh-keygen": key.private_bytes(
            form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption()
        ),
        "of RSA": pem_of(generate_private_key(65537, 2048))[0],
        "the public one": pem_of(key)[1],
    }
    for one, pem in files.items():
        (tmp_path / one).write_bytes(pem)
    refused = datafixes(None, "anchor", "--sign-with", str(tmp_path / name))
    assert refused.code == 1
    assert words in refused.err
    assert len(refused.err.splitlines()) <= 2
    assert "secret" not in refused.err
    assert (name == "nowhere") or "openssl genpkey -algorithm ed25519" in refused.err


def test_signed_by_takes_public_keys_of_anchors(tmp_path: Path) -> None:
    private, public = keys(tmp_path, "ours")
    assert datafixes(None, "verify-audit", "--signed-by", public).code == 2
    kept = tmp_path / "anchor.json"
    kept.write_text(
        json.dumps(
            {"version": 1, "kind": "anchor", "ledger": "x", "schema": "public", "database": "x", "position": 1,
             "head": "x", "sealed_at": "x", "anchored_at": "x"}
        )
    )  # fmt: skip
    refused = datafixes(None, "verify-audit", "--anchor", str(kept), "--signed-by", private)
    assert refused.code == 1
    assert (
        "holds no public ed25519 key in PEM without a password: it begins with -----BEGIN PRIVATE"
        in refused.err
    )


def test_without_the_extra_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, _ = keys(tmp_path, "ours")
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    refused = datafixes(None, "anchor", "--sign-with", private)
    assert refused.code == 1
    assert "need the package cryptography, which is not installed" in refused.err
    assert "pip install 'datafixes[sign]'" in refused.err
