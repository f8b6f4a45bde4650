"""Findings as SARIF 2.1.0, for GitHub's code scanning, Azure DevOps and editors."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from datafixes import __version__
from datafixes.check.checking import Checked
from datafixes.check.finding import CATALOGUE, Finding, Rule
from datafixes.check.forges import identities, path_in_repository, sentences


def to_sarif(checked: Checked) -> str:
    """A SARIF log with one run."""
    codes = list(CATALOGUE)
    results = [
        {
            "ruleId": one.code,
            "ruleIndex": codes.index(one.code),
            "level": one.severity,
            "message": {"text": sentences(one)},
            "locations": [{"physicalLocation": _location(one)}],
            "partialFingerprints": {"datafixes/v1": identity},
        }
        for one, identity in zip(checked.findings, identities(checked.findings), strict=True)
    ]
    driver = {
        "name": "datafixes",
        "semanticVersion": __version__,
        "rules": list(map(_rule, CATALOGUE.values())),
    }
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    log = {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=2) + "\n"


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.code,
        "shortDescription": {"text": rule.meaning},
        "fullDescription": {"text": rule.meaning},  # GitHub's code scanning wants both
        "help": {"text": rule.remedy},
        "defaultConfiguration": {"level": rule.severity},
    }


def _location(one: Finding) -> dict[str, Any]:
    path = path_in_repository(one.file)
    if Path(path).is_absolute():
        artifact = {"uri": f"file://{quote(path)}"}
    else:
        artifact = {"uri": quote(path), "uriBaseId": "%SRCROOT%"}
    return {"artifactLocation": artifact, "region": {"startLine": one.line, "startColumn": one.column}}
