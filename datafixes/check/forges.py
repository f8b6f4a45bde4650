"""What the formats of forges have in common: the path of a file in the repository, and an identity for each finding."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from datafixes.check.finding import Finding
from datafixes.report.text import one_line

_ROOTS = ("GITHUB_WORKSPACE", "CI_PROJECT_DIR")


def path_in_repository(file: str) -> str:
    """A file's path as its forge needs it: relative to the checkout, even if the project is in a subdirectory of it."""
    for root in filter(None, map(os.environ.get, _ROOTS)):
        with suppress(OSError, ValueError):
            return one_line(Path(file).resolve().relative_to(Path(root).resolve()).as_posix())
    return one_line(file)


def identities(findings: Iterable[Finding]) -> list[str]:
    """An identity for each finding, which no other has, and which stays if lines are added above it."""
    seen: Counter[tuple[str, str, str]] = Counter()
    found = []
    for one in findings:
        key = (path_in_repository(one.file), one.code, one.fingerprint)
        seen[key] += 1
        found.append(hashlib.sha256("\n".join((*key, str(seen[key]))).encode()).hexdigest()[:32])
    return found


def sentences(finding: Finding) -> str:
    """What was found, and what to do about it."""
    return f"{one_line(finding.message)} {finding.remedy}"
