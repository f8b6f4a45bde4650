"""Findings as text: for a terminal, for programs, and for a pull request."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from datafixes.audit.wording import counted
from datafixes.check.checking import Checked
from datafixes.check.finding import CATALOGUE
from datafixes.check.forges import path_in_repository
from datafixes.check.github import to_github
from datafixes.check.gitlab import to_gitlab
from datafixes.check.junit import to_junit
from datafixes.check.sarif import to_sarif
from datafixes.report.json_format import to_json
from datafixes.report.markdown_text import code, sentence
from datafixes.report.text import one_line

# GitHub takes 65,536 characters for a comment.
_LONGEST_COMMENT = 60_000


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


def statistics(checked: Checked) -> str:
    """The number of findings of each code, the most frequent first, and a line with the counts."""
    counts = Counter(one.code for one in checked.findings)
    width = len(str(max(counts.values(), default=0)))
    lines = [
        f"{counts[rule.code]:>{width}}  {rule.code}  {rule.severity:<5}  {rule.meaning}"
        for rule in sorted(CATALOGUE.values(), key=lambda rule: -counts[rule.code])
        if counts[rule.code]
    ]
    return "".join(f"{line}\n" for line in [*lines, summary(checked)])


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
    """A heading and a list, for a comment on a pull request or the summary of a job: the newest revisions first."""
    lines = ["## datafixes check", "", summary(checked)]
    if checked.findings:
        lines.append("")
    room = _LONGEST_COMMENT
    for at, one in enumerate(checked.newest_first):
        mark = "" if one.severity == "error" else " (note)"
        place = code(f"{path_in_repository(one.file)}:{one.line}")
        line = f"- **{one.code}**{mark} {place}: {sentence(one.message)}\n  {sentence(one.remedy)}"
        room -= len(line.encode()) + 1
        if room < 0:
            lines += ["", f"{len(checked.findings) - at} more are not shown; `datafixes check` lists them."]
            break
        lines.append(line)
    return "\n".join(lines) + "\n"


def catalogue() -> str:
    """Every code with one line."""
    return "".join(f"{rule.code}  {rule.severity:<5}  {rule.meaning}\n" for rule in CATALOGUE.values())


FORMATS: dict[str, Callable[[Checked], str]] = {
    "terminal": to_terminal,
    "json": to_json_text,
    "markdown": to_markdown,
    "github": to_github,
    "gitlab": to_gitlab,
    "sarif": to_sarif,
    "junit": to_junit,
}
"""The writer of each format."""
