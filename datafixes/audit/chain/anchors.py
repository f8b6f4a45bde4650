"""Anchors: the head of a chain at a time, to be kept outside of the database."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from datafixes.audit.chain.entries import Entry
from datafixes.audit.chain.signing import PublicKey, Signed, signature_of
from datafixes.errors import DatafixError

_TEXTS = ("ledger", "head", "sealed_at", "schema", "database")

Compared = Literal["matches", "another head", "beyond the end", "another ledger"]
"""What became of the entry of an anchor."""

WORDS: dict[Compared, str] = {
    "matches": "The chain up to this position is the one that was anchored.",
    "another head": "The chain has another head at this position: it was rewritten from here or from an earlier position "
    "on, or the anchor is of a copy of the database that went on by itself.",
    "beyond the end": "The chain ends before this position: its end was cut off, or an older dump was restored.",
    "another ledger": "No ledger of this database is the anchored one: the chain was replaced, or this is another database.",
}


@dataclass(frozen=True)
class Anchor:
    """An anchor, as a file has it.

    Attributes:
        source: the file and the line.
        ledger: the ledger.
        position: the position in its chain.
        head: the head at this position.
        sealed_at: when it was sealed.
        anchored_at: when the anchor was made.
        line: all that the line holds, in its order.
    """

    source: str
    ledger: str
    position: int
    head: str
    sealed_at: str
    anchored_at: str
    line: dict[str, Any]


@dataclass(frozen=True)
class Held:
    """An anchor that was held against the chains.

    Attributes:
        anchor: the anchor.
        compared: what became of its entry.
        signature: what its signature says; None if nobody asked.
    """

    anchor: Anchor
    compared: Compared
    signature: Signed | None

    @property
    def is_fine(self) -> bool:
        """Whether the chain is the one that was anchored, by whom it should be."""
        return self.compared == "matches" and self.signature in (None, "signed")


def as_json(schema: str, entry: Entry, at: str) -> dict[str, Any]:
    """An anchor of the newest entry of a chain; `at` is the time."""
    return {
        "version": 1, "kind": "anchor", "ledger": entry.ledger, "schema": schema, "database": entry.database,
        "cluster": entry.cluster, "timeline": entry.timeline, "position": entry.position, "head": entry.head,
        "sealed_at": entry.sealed_at, "anchored_at": at,
    }  # fmt: skip


def read_anchors(paths: Iterable[str]) -> list[Anchor]:
    """The anchors in some files, one on each line.

    Raises:
        DatafixError: a file cannot be read, or a line is not an anchor: silence would look like proof.
    """
    found = []
    for path in paths:
        try:
            lines = Path(path).read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DatafixError(f"{path} cannot be read: {error}") from None
        own = [_read(f"{path}:{number}", line) for number, line in enumerate(lines, 1) if line.strip()]
        if not own:
            raise DatafixError(f"{path} holds no anchor.", hint="datafixes anchor > FILE writes one.")
        found += own
    return found


def _read(source: str, line: str) -> Anchor:
    try:
        given = json.loads(line)
        if given["kind"] != "anchor" or given["version"] != 1:
            raise ValueError("it is of another kind or version")
        if not isinstance(given["position"], int) or not all(isinstance(given[name], str) for name in _TEXTS):
            raise ValueError("a value is of another type")
        return Anchor(
            source,
            given["ledger"],
            given["position"],
            given["head"],
            given["sealed_at"],
            str(given["anchored_at"]),
            given,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DatafixError(f"{source} is not an anchor of datafixes: {error}") from None


def hold(anchor: Anchor, chains: Iterable[Sequence[Entry]], keys: Sequence[PublicKey]) -> Held:
    """Hold an anchor against the chains, and its signature against some keys.

    Args:
        anchor: the anchor.
        chains: the entries of each ledger's chain, as they are now, in their order.
        keys: whose signatures count; none if no signature is asked for.
    """
    return Held(anchor, _compare(anchor, chains), signature_of(anchor.line, keys) if keys else None)


def _compare(anchor: Anchor, chains: Iterable[Sequence[Entry]]) -> Compared:
    for entries in chains:
        if not any(entry.ledger == anchor.ledger for entry in entries):
            continue
        there = next((entry for entry in entries if entry.position == anchor.position), None)
        if there is None:
            return "beyond the end" if anchor.position > max(e.position for e in entries) else "another head"
        # What its columns say counts, and not what somebody wrote into the column of the head.
        return "matches" if there.computed_head == there.head == anchor.head else "another head"
    return "another ledger"
