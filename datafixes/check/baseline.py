"""The baseline: findings that a project knows of and accepts, so that only new ones are reported.

A finding is recognised by its file, its code and the text of its statement. It stays known if lines are added
above it, or if its wording changes in a newer version; it is new again if the statement changes.
"""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datafixes.check.finding import Finding
from datafixes.errors import DatafixError

_VERSION = 1

Key = tuple[str, str, str]
"""A file relative to the baseline, a code, and a fingerprint."""


@dataclass(frozen=True)
class Baseline:
    """The known findings.

    Attributes:
        path: its file.
        known: how often each occurs; a statement may be there twice.
    """

    path: Path
    known: Mapping[Key, int] = field(default_factory=dict)

    def without_known(self, findings: Iterable[Finding]) -> list[Finding]:
        """The findings that are new."""
        left = Counter(self.known)
        new = []
        for one in findings:
            key = self._key(one)
            if left[key] > 0:
                left[key] -= 1
            else:
                new.append(one)
        return new

    def gone(self, findings: Iterable[Finding]) -> int:
        """The number of known findings that occur no longer, if these are all findings."""
        return (Counter(self.known) - Counter(map(self._key, findings))).total()

    def text_for(self, findings: Iterable[Finding]) -> str:
        """The file's content that makes all these findings known; sorted, so that its differences can be reviewed."""
        files: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for file, code, fingerprint in sorted(self._key(one) for one in findings if one.code != "FIX101"):
            files[file][code].append(fingerprint)
        return json.dumps({"version": _VERSION, "files": files}, indent=1, ensure_ascii=False) + "\n"

    def _key(self, finding: Finding) -> Key:
        path = os.path.relpath(Path(finding.file).absolute(), self.path.absolute().parent)
        return Path(path).as_posix(), finding.code, finding.fingerprint


def read_baseline(path: Path, must_exist: bool) -> Baseline:
    """Read a baseline.

    Args:
        path: its file.
        must_exist: whether a missing file is an error; otherwise it knows nothing.

    Raises:
        DatafixError: the file is missing, or is no baseline of this version.
    """
    if not path.exists() and not must_exist:
        return Baseline(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        return Baseline(path, Counter(_keys(value)))
    except OSError as error:
        why = error.strerror or str(error)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}"
    raise DatafixError(
        f"The baseline {path} cannot be read: {' '.join(why.split())}.",
        hint="Write it again: datafixes check --write-baseline",
    )


def _keys(value: Any) -> list[Key]:
    if value["version"] != _VERSION:
        raise ValueError(f"it has version {value['version']}, and this package reads {_VERSION}")
    return [
        (file, code, str(fingerprint))
        for file, codes in value["files"].items()
        for code, fingerprints in codes.items()
        for fingerprint in fingerprints
    ]
