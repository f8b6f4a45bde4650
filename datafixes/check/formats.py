"""Findings as text: for a terminal, for programs, for GitHub's annotations, and for a pull request."""

from collections.abc import Callable, Iterator
from typing import Any

from datafixes.audit.wording import counted
from datafixes.check.checking import Checked
from datafixes.check.finding import CATALOGUE, Finding
from datafixes.report.json_format import to_json
from datafixes.report.markdown_text import code, sentence
from datafixes.report.text import one_line


def summary(checked: Checked) -> str:
    """``2 errors, 1 note in 4 revisions, 1 silenced.``"""
    parts = [counted(checked.count(severity), severity) for severity in ("error", "note")]
    found = ", ".join(parts) if checked.findings else "Nothing found"
    left_out = (
        (checked.silenced, "silenced"),
        (checked.ignored, "ignored"),
        (checked.known, "in the baseline"),
    )
    rest = "".join(f", {number} {words}" for number, words in left_out if number)
    return f"{found} in {counted(checked.revisions, 'revision')}{rest}."


def to_terminal(checked: Checked) -> str:
    """One line for each finding, its remedy below it, and a line with the counts."""
    return "".join(f"{line}\n" for line in [*_terminal(checked), summary(checked)])


def _terminal(checked: Checked) -> Iterator[str]:
    for one in checked.findings:
        place = f"{one_line(one.file)}:{one.line}:{one.column}"
        mark = "" if one.severity == "error" else " (note)"
        yield f"{place}: {one.code}{mark} {one_line(one.message)}"
        yield f"    {one.remedy}"


def to_github(checked: Checked) -> str:
    """GitHub's workflow commands, which become annotations of the lines."""
    return "".join(f"{_annotation(one)}\n" for one in checked.findings)


def _annotation(one: Finding) -> str:
    kind = "error" if one.severity == "error" else "notice"
    properties = {
        "file": one_line(one.file),
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


def to_json_text(checked: Checked) -> str:
    """JSON of the kind ``check``."""
    return "".join(to_json(as_json(checked)))


def as_json(checked: Checked) -> dict[str, Any]:
    """The JSON value."""
    return {
        "version": 1,
        "kind": "check",
        "revisions": checked.revisions,
        "silenced": checked.silenced,
        "ignored": checked.ignored,
        "known": checked.known,
        "findings": [
            {
                "code": one.code, "severity": one.severity, "file": one.file, "line": one.line, "column": one.column,
                "message": one.message, "remedy": one.remedy,
            }
            for one in checked.findings
        ],
    }  # fmt: skip


def to_markdown(checked: Checked) -> str:
    """A heading and a list, for a comment on a pull request."""
    lines = ["## datafixes check", "", summary(checked)]
    if checked.findings:
        lines.append("")
    for one in checked.findings:
        mark = "" if one.severity == "error" else " (note)"
        lines.append(f"- **{one.code}**{mark} {code(f'{one.file}:{one.line}')}: {sentence(one.message)}")
        lines.append(f"  {sentence(one.remedy)}")
    return "\n".join(lines) + "\n"


def catalogue() -> str:
    """Every code with one line."""
    return "".join(f"{rule.code}  {rule.severity:<5}  {rule.meaning}\n" for rule in CATALOGUE.values())


FORMATS: dict[str, Callable[[Checked], str]] = {
    "terminal": to_terminal,
    "json": to_json_text,
    "github": to_github,
    "markdown": to_markdown,
}
"""The writer of each format."""
