"""Comments that silence findings: ``# datafixes: ignore[FIX201] reason``, and ``ignore-file`` for a whole file."""

import io
import re
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass

from datafixes.check.finding import CATALOGUE, Finding
from datafixes.check.source import Source
from datafixes.declaration.project_fixes import nearest

_MARK = re.compile(r"#\s*datafixes\s*:\s*(?P<rest>.*)", re.DOTALL)
_SILENCER = re.compile(r"ignore(?P<file>-file)?\s*\[(?P<codes>[^\]]*)\](?P<reason>.*)", re.DOTALL)
_UNSILENCED = ("FIX101", "FIX901", "FIX902")
_NARROWED = {
    "FIX206": frozenset({"FIX201", "FIX202"})
}  # a code, and those of which it was a part in version 0.1


@dataclass(frozen=True)
class Silencer:
    """One comment.

    Attributes:
        codes: the codes that it silences.
        lines: the lines to which it applies.
        line: its own line.
        column: the character at which it begins, from 1.
        reason: why.
        problem: what is wrong with it, in a sentence; empty if nothing is.
    """

    codes: frozenset[str]
    lines: range
    line: int
    column: int
    reason: str = ""
    problem: str = ""

    def silences(self, finding: Finding) -> bool:
        """Whether it silences a finding."""
        codes = {finding.code} | _NARROWED.get(finding.code, frozenset())
        if not codes & self.codes or finding.code in _UNSILENCED:
            return False
        return any(line in self.lines for line in (finding.line, *finding.span))


def silencers_of(source: Source) -> list[Silencer]:
    """Every silencer of a file."""
    found = []
    text = "\n".join(source.lines)
    if "datafixes" not in text:
        return []
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT and (mark := _MARK.search(token.string)):
                found.append(_read(source, mark["rest"], (token.start[0], token.start[1] + mark.start() + 1)))
    except (tokenize.TokenError, SyntaxError, RecursionError):
        pass  # the comments before the error are known; the file itself was parsed
    return found


def _read(source: Source, text: str, place: tuple[int, int]) -> Silencer:
    line, column = place
    found = _SILENCER.match(text)
    lines = range(len(source.lines) + 1) if found and found["file"] else _spoken_for(source, line)
    if found is None:
        return Silencer(frozenset(), lines, line, column, problem="This comment is not a valid silencer.")
    codes = [code.strip() for code in found["codes"].split(",") if code.strip()]
    reason = found["reason"].partition(" #")[0].strip(" \t-–—:.,")
    problem = ""
    unknown = [code for code in codes if code not in CATALOGUE]
    if unknown:
        problem = f"Unknown code {unknown[0]}.{nearest(unknown[0], list(CATALOGUE))}"
    elif not codes:
        problem = "This silencer names no code."
    elif not reason:
        problem = f"This silencer of {', '.join(codes)} has no reason."
    return Silencer(frozenset(codes), lines, line, column, reason, problem)


def _spoken_for(source: Source, line: int) -> range:
    """Its own line; if the comment is alone on its line, the statement below it too."""
    if not source.lines[line - 1].lstrip().startswith("#"):
        return range(line, line + 1)
    below = line
    while below < len(source.lines) and source.lines[below].lstrip().startswith("#"):
        below += 1
    return range(line, below + 2)


@dataclass(frozen=True)
class Outcome:
    """The findings of a file that are not silenced, and the number of silenced ones."""

    findings: list[Finding]
    silenced: int


def silence(source: Source, findings: Iterable[Finding]) -> Outcome:
    """Remove silenced findings, and add findings about the silencers themselves.

    A silencer without a reason still silences, and the missing reason is an error of its own.
    """
    silencers = silencers_of(source)
    used: set[Silencer] = set()
    left: list[Finding] = []
    count = 0
    for finding in findings:
        by = [one for one in silencers if one.silences(finding)]
        used.update(by)
        count += bool(by)
        if not by:
            left.append(finding)
    for one in silencers:
        if one.problem:
            left.append(_at(source, one, "FIX901", one.problem))
        elif one not in used:
            where = "here" if one.lines.start else "in this file"
            left.append(_at(source, one, "FIX902", f"{', '.join(sorted(one.codes))} does not occur {where}."))
    return Outcome(left, count)


def _at(source: Source, silencer: Silencer, code: str, message: str) -> Finding:
    return Finding(code, source.shown, silencer.line, silencer.column, message)
