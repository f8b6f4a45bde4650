"""Redactions, as the chain has them: what proves the images of a run of which values were redacted.

The leaf of such an image is kept as it was sealed, so the digest of the run still holds. What is left of the image has
another leaf; the entry of the redaction has the digest of these.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from datafixes.audit.chain.entries import Entry
from datafixes.audit.chain.forms import salted
from datafixes.audit.chain.reading import Leaves
from datafixes.audit.wording import counted

_NONE = hashlib.sha256().hexdigest()


@dataclass(frozen=True)
class Redaction:
    """What was redacted in the images of a run in one audit table.

    Attributes:
        by: the runs that redacted it.
        columns: the columns of all of these.
        images: how many images have lost values.
        sha256: the digest of these, after the last redaction.
    """

    by: tuple[int, ...] = ()
    columns: tuple[str, ...] = ()
    images: int = 0
    sha256: str = _NONE


def redactions(entries: Iterable[Entry]) -> Mapping[tuple[int, int], Redaction]:
    """Run and place of the table in the run → what was redacted there, by entries that have their own head."""
    found: dict[tuple[int, int], Redaction] = {}
    for entry in entries:
        if entry.kind != "redacted" or not entry.details or entry.computed_head != entry.head:
            continue
        details = json.loads(entry.details)
        for one in details["runs"]:
            place = (one["run"], one["position"])
            before = found.get(place, Redaction())
            columns = (*before.columns, *(c for c in details["columns"] if c not in before.columns))
            found[place] = replace(
                before,
                by=(*before.by, entry.run_id),
                columns=columns,
                images=one["redacted"],
                sha256=one["sha256"],
            )
    return found


class SaltedLeaves(Leaves):
    """The digests of the images of a run that has salts in the place of its key.

    Attributes:
        redacted: how many images have lost values.
    """

    def __init__(self) -> None:
        super().__init__(b"", 0)
        self.redacted = 0
        self._anew = hashlib.sha256()

    def take(self, number: bytes, image: bytes) -> None:
        """Take the next image, with its salt before it."""
        self.take_salted(number, *salted(image))

    def take_salted(self, number: bytes, salt: bytes, sealed: bytes | None, image: bytes) -> None:
        """Take the next image; `sealed` is its leaf as it was sealed, if it has lost values."""
        leaf = hashlib.sha256(salt + image).digest()
        if sealed is not None:
            self.redacted += 1
            self._anew.update(number + sealed + leaf)
        self._add(number, leaf if sealed is None else sealed)

    def differences(self, redaction: Redaction, where: str) -> Iterator[str]:
        """What is wrong with the images that have lost values, after the last was taken; `where` they were read."""
        if self.redacted != redaction.images:
            yield f"{where} has {counted(self.redacted, 'redacted image')}, and {redaction.images} were sealed."
        elif self._anew.hexdigest() != redaction.sha256:
            yield f"The {counted(self.redacted, 'redacted image')} in {where} are not as the redaction left them."


def told(redaction: Redaction, where: str) -> str:
    """What was redacted, in a sentence."""
    by = " and ".join(f"run {run}" for run in redaction.by)
    return (
        f"{counted(redaction.images, 'image')} in {where}: {', '.join(redaction.columns)} redacted by {by}."
    )
