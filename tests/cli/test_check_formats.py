"""The formats of `datafixes check` that forges and other tools read: what each of them requires, and what it shows."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest

from datafixes.check.finding import CATALOGUE
from tests.cli.commands import datafixes
from tests.projects import Ran

ROOT = Path(__file__).parents[2]
VERSIONS = "migrations/versions"
REVISION = """revision = {0!r}
down_revision = {1!r}


def upgrade():
    {2}


def downgrade():
    pass
"""
CHANGE = "op.execute(\"DELETE FROM orders WHERE name = 'ä\\x01\\uffff<&]]>'\")"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in a subdirectory of its repository, which is the current directory; z is below a, which is below b."""
    for variable in ("GITHUB_WORKSPACE", "GITHUB_STEP_SUMMARY", "CI_PROJECT_DIR"):
        monkeypatch.delenv(variable, raising=False)
    folder = tmp_path / "back end"
    (folder / VERSIONS).mkdir(parents=True)
    (folder / "alembic.ini").write_text(
        "[alembic]\nscript_location = migrations\npath_separator = os\n", "utf-8"
    )
    monkeypatch.chdir(folder)
    revision("z", None, CHANGE)
    revision("a", "z", "pass")
    revision("b", "a", f"{CHANGE}\n    {CHANGE}\n    op.execute(open('x.sql').read())")
    return folder


def revision(name: str, below: str | None, body: str) -> None:
    Path(VERSIONS, f"{name}.py").write_text(REVISION.format(name, below, body), "utf-8")


def run(form: str, *arguments: str) -> Ran:
    return datafixes(None, "check", "--format", form, *arguments)


def value(form: str) -> Any:
    ran = run(form)
    assert ran.code == 3, ran.err
    assert ran.err == "3 errors, 1 note in 3 revisions.\n"
    assert ran.out.isascii()
    return json.loads(ran.out)


# SARIF 2.1.0.


def test_sarif_is_valid_and_names_every_place_and_rule() -> None:
    log = value("sarif")
    schema = json.loads((ROOT / "tests/fixtures/sarif-2.1.0.json").read_text("utf-8"))
    jsonschema.Draft4Validator(schema, format_checker=jsonschema.FormatChecker()).validate(log)
    [ran] = log["runs"]
    rules = ran["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == list(CATALOGUE)
    for one in ran["results"]:
        assert rules[one["ruleIndex"]]["id"] == one["ruleId"]
        assert rules[one["ruleIndex"]]["defaultConfiguration"]["level"] == one["level"]
    places = [one["locations"][0]["physicalLocation"] for one in ran["results"]]
    assert places[0] == {
        "artifactLocation": {"uri": f"{VERSIONS}/b.py", "uriBaseId": "%SRCROOT%"},
        "region": {"startLine": 6, "startColumn": 5},
    }
    assert len({one["partialFingerprints"]["datafixes/v1"] for one in ran["results"]}) == 4


def test_sarif_of_a_file_elsewhere_is_absolute(project: Path) -> None:
    elsewhere = project.parent / "else where.py"
    elsewhere.write_text(REVISION.format("e", None, CHANGE), "utf-8")
    ran = run("sarif", str(elsewhere))
    [one] = json.loads(ran.out)["runs"][0]["results"]
    location = one["locations"][0]["physicalLocation"]["artifactLocation"]
    assert location == {"uri": elsewhere.as_uri()}


# GitLab's code quality, as its documentation describes it.

GITLAB = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["description", "check_name", "fingerprint", "severity", "location"],
        "properties": {
            "description": {"type": "string", "minLength": 1},
            "check_name": {"type": "string"},
            "fingerprint": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
            "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
            "location": {
                "type": "object",
                "required": ["path", "lines"],
                "properties": {
                    "path": {"type": "string", "pattern": "^[^./]"},
                    "lines": {
                        "type": "object",
                        "required": ["begin"],
                        "properties": {"begin": {"type": "integer", "minimum": 1}},
                    },
                },
            },
        },
    },
}


def test_gitlab_gets_each_finding_with_a_fingerprint_of_its_own() -> None:
    issues = value("gitlab")
    jsonschema.validate(issues, GITLAB)
    assert [one["severity"] for one in issues] == ["major", "major", "info", "major"]
    assert len({one["fingerprint"] for one in issues}) == 4
    revision("z", None, f"x = 1\n    {CHANGE}")
    assert {one["fingerprint"] for one in issues} == {one["fingerprint"] for one in value("gitlab")}


# JUnit's XML, as the schema of Jenkins' xUnit plugin (junit-10.xsd) has it.

ATTRIBUTES = {
    "testsuites": ({"name", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": ({"name", "tests", "failures", "errors", "time", "file"}, {"testcase"}),
    "testcase": ({"name", "classname", "time"}, {"failure", "system-out"}),
    "failure": ({"message", "type"}, set()),
    "system-out": (set(), set()),
}


def test_junit_has_a_failed_test_for_each_error() -> None:
    ran = run("junit")
    assert ran.out.startswith("<?xml version='1.0' encoding='us-ascii'?>\n<testsuites ")
    assert ran.out.isascii()
    root = ElementTree.fromstring(ran.out)
    for one in root.iter():
        attributes, children = ATTRIBUTES[one.tag]
        assert set(one.attrib) == attributes
        assert {child.tag for child in one} <= children
    assert {name: root.get(name) for name in ("tests", "failures", "errors")} == {
        "tests": "5", "failures": "3", "errors": "0",
    }  # fmt: skip
    suites = {suite.attrib["name"]: suite for suite in root}
    assert list(suites) == [f"{VERSIONS}/{name}.py" for name in "zab"]
    for suite in suites.values():
        assert int(suite.attrib["tests"]) == len(list(suite.iter("testcase")))
        assert int(suite.attrib["failures"]) == len(list(suite.iter("failure")))
    [failure] = suites[f"{VERSIONS}/z.py"].iter("failure")
    assert failure.attrib["type"] == "FIX201"
    assert f"{VERSIONS}/z.py:6:5: DELETE FROM orders changes rows" in (failure.text or "")
    [note] = suites[f"{VERSIONS}/b.py"].iter("system-out")
    assert "FIX205" not in (note.text or "")
    assert CATALOGUE["FIX205"].remedy in (note.text or "")
    revision("z", None, "pass")
    revision("b", "a", "pass")
    ran = run("junit")
    assert (ran.code, ElementTree.fromstring(ran.out).attrib["failures"]) == (0, "0")


# GitHub's annotations and summary.


def test_the_newest_findings_come_first_for_github() -> None:
    lines = run("github").out.splitlines()
    assert [line.partition("file=")[2].partition(",")[0] for line in lines] == [
        *[f"{VERSIONS}/b.py"] * 3, f"{VERSIONS}/z.py",
    ]  # fmt: skip


def test_github_gets_a_summary_of_the_job(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = project / "summary.md"
    page.write_text("# Earlier\n", "utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    run("terminal")
    assert page.read_text("utf-8") == "# Earlier\n"
    assert datafixes(None, "check", "--format", "github", "--select", "FIX9").code == 0
    assert page.read_text("utf-8") == "# Earlier\n"  # nothing was found
    assert run("github").code == 3
    text = page.read_text("utf-8")
    assert text == "# Earlier\n" + run("markdown").out
    assert text.index("versions/b.py:6") < text.index("versions/z.py:6")
    assert "3 errors, 1 note in 3 revisions." in text
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project / "no/such/folder"))
    ran = run("github")
    assert (ran.code, "No summary in " in ran.err) == (3, True)


def test_a_summary_has_an_end(project: Path) -> None:
    revision("c", "b", "\n    ".join([CHANGE] * 500))
    text = run("markdown").out
    assert 50_000 < len(text.encode()) < 65_536
    shown = text.count("- **FIX")
    assert f"\n{504 - shown} more are not shown; `datafixes check` lists them.\n" in text
    assert "versions/a.py" not in text


@pytest.mark.parametrize(("variable", "form"), [("GITHUB_WORKSPACE", "github"), ("CI_PROJECT_DIR", "gitlab")])
def test_paths_are_those_of_the_repository(
    project: Path, monkeypatch: pytest.MonkeyPatch, variable: str, form: str
) -> None:
    # GitHub and GitLab find a file from the root of the checkout, wherever the command runs.
    monkeypatch.setenv(variable, str(project.parent))
    for one in (form, "sarif", "junit", "markdown"):
        out = run(one).out
        assert f"back{'%20' if one == 'sarif' else ' '}end/{VERSIONS}/b.py" in out, one
    assert run("terminal").out.startswith(f"{VERSIONS}/b.py:6:5: ")
