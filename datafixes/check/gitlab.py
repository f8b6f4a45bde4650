"""Findings as a report of code quality for GitLab, a subset of Code Climate's format."""

import json

from datafixes.check.checking import Checked
from datafixes.check.forges import identities, path_in_repository, sentences

_SEVERITY = {"error": "major", "note": "info"}


def to_gitlab(checked: Checked) -> str:
    """A JSON array with an object for each finding."""
    named = zip(checked.findings, identities(checked.findings), strict=True)
    issues = [
        {
            "description": sentences(one),
            "check_name": one.code,
            "fingerprint": identity,
            "severity": _SEVERITY[one.severity],
            "location": {
                "path": path_in_repository(one.file),
                "positions": {"begin": {"line": one.line, "column": one.column}},
                "lines": {"begin": one.line},
            },
        }
        for one, identity in named
    ]
    return json.dumps(issues, indent=2) + "\n"
