"""Findings for GitHub Actions: annotations of lines, and a summary of the job."""

from datafixes.check.checking import Checked
from datafixes.check.finding import Finding
from datafixes.check.forges import path_in_repository
from datafixes.report.text import one_line


def to_github(checked: Checked) -> str:
    """Workflow commands, which become annotations; GitHub shows the first ten of a step, so the newest come first."""
    return "".join(f"{_annotation(one)}\n" for one in checked.newest_first)


def _annotation(one: Finding) -> str:
    kind = "error" if one.severity == "error" else "notice"
    properties = {
        "file": path_in_repository(one.file),
        "line": str(one.line),
        "col": str(one.column),
        "title": one.code,
    }
    parameters = ",".join(f"{name}={_property(text)}" for name, text in properties.items())
    return f"::{kind} {parameters}::{_data(one_line(one.message))}%0A{_data(one.remedy)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
