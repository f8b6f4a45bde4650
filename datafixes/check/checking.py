"""Checks the revisions of a project: reads them, applies every rule, and respects the silencers."""

import gc
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from datafixes.check.acting import names_used_twice, ways_back
from datafixes.check.batching import in_one_transaction, nothing_else
from datafixes.check.chain import Chain, id_findings
from datafixes.check.changing import unrecorded_changes
from datafixes.check.declaring import bounds_without_limit, incomplete_fixes, numbers_brought
from datafixes.check.finding import CATALOGUE, Finding
from datafixes.check.fix_sql import hazards_of_fixes
from datafixes.check.later import Facts, dropped_copies, later_findings
from datafixes.check.loading import moving_declarations
from datafixes.check.losing import losses
from datafixes.check.module import Module
from datafixes.check.refused import refused_declarations
from datafixes.check.silencing import silence
from datafixes.check.source import TOO_DEEP, Source, read_source
from datafixes.declaration.batches import MANY_ROWS
from datafixes.declaration.project_fixes import nearest
from datafixes.errors import DatafixError


@dataclass(frozen=True)
class Checked:
    """The result of a check.

    Attributes:
        findings: in the order of files and lines.
        revisions: the number of files checked.
        silenced: the number of findings silenced by comments.
        files: the files checked, from base to head.
        ignored: the number of findings that the project's configuration leaves out.
        known: the number of findings that its baseline knows.
        has_fixes: whether a revision of the project mentions fixes, or audit tables.
    """

    findings: tuple[Finding, ...]
    revisions: int
    silenced: int
    files: tuple[str, ...] = ()
    ignored: int = 0
    known: int = 0
    has_fixes: bool = False

    @property
    def newest_first(self) -> list[Finding]:
        """The findings, those of the newest revision first."""
        places = {file: place for place, file in enumerate(self.files)}
        return sorted(self.findings, key=lambda one: -places[one.file])

    def count(self, severity: str) -> int:
        """The number of findings of a severity."""
        return sum(one.severity == severity for one in self.findings)


class UnknownRevision(DatafixError):
    """No file has the given revision."""


@dataclass
class _Reading:
    """The files that were read, and the findings so far."""

    wanted: set[Path]
    facts: list[Facts] = field(default_factory=list)
    unread: list[Finding] = field(default_factory=list)
    found: dict[Facts, list[Finding]] = field(default_factory=lambda: defaultdict(list))


def check(
    files: Sequence[Path],
    only: Iterable[Path] | None = None,
    since: str | None = None,
    most: int = MANY_ROWS,
) -> Checked:
    """Check revision files.

    Args:
        files: all files of the project, because names and the order of revisions concern them all.
        only: the files to report on; by default all.
        since: a revision, or the beginning of its id; it and its ancestors are not checked. ``base`` excludes none.
        most: more rows than this are better changed in batches.

    Raises:
        UnknownRevision: no file has the revision ``since``.
    """
    with _without_collecting():
        return _check(files, only, since, most)


@contextmanager
def _without_collecting() -> Iterator[None]:
    """No garbage collection: thousands of syntax trees hold none, and looking for it would take a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _check(files: Sequence[Path], only: Iterable[Path] | None, since: str | None, most: int) -> Checked:
    every = list(dict.fromkeys(path.resolve() for path in files))
    chosen = every if only is None else [path.resolve() for path in only]
    reading = _read(list(dict.fromkeys((*every, *chosen))), set(chosen))
    chain = Chain(one.module for one in reading.facts)
    wanted = [one for one in reading.facts if one.module.source.path in reading.wanted]
    if since and since != "base":
        start = _named(since, chain)
        passed = chain.below(start) | {start}
        wanted = [one for one in wanted if one.revision not in passed]
    for one in wanted:
        _of_one(one, reading, most)
    _of_all(reading, chain, set(wanted))
    by_module = {one.module: one for one in wanted}
    result = _result(reading, [by_module[module] for module in chain.ordered(by_module)])
    return replace(result, has_fixes=any(one.module.source.mentions_fixes for one in reading.facts))


def _read(paths: Sequence[Path], wanted: set[Path]) -> _Reading:
    reading = _Reading(wanted)
    for path in paths:
        read = read_source(path)
        if isinstance(read, Source):
            facts = _facts(read)
            if facts is not None:
                reading.facts.append(facts)
                continue
            read = Finding("FIX101", read.shown, 1, 1, TOO_DEEP)
        if path in wanted:
            reading.unread.append(read)
    return reading


def _facts(source: Source) -> Facts | None:
    try:
        facts = Facts(Module(source))
        _ = facts.fixes, facts.acts, facts.shapings, facts.module.parents
    except RecursionError:
        return None
    return facts


def _named(since: str, chain: Chain) -> str:
    if since in chain.by_revision:
        return since
    near = [revision for revision in chain.by_revision if revision.startswith(since)]
    if len(near) == 1:
        return near[0]
    if near:
        raise UnknownRevision(
            f"{since} is the beginning of several revisions: {', '.join(sorted(near)[:5])}."
        )
    raise UnknownRevision(f"No file has the revision {since}.{nearest(since, list(chain.by_revision))}")


def _of_one(facts: Facts, reading: _Reading, most: int) -> None:
    module = facts.module
    rules: list[Callable[[], Iterable[Finding]]] = [
        lambda: id_findings(module),
        lambda: unrecorded_changes(module, facts.shapings, facts.copied),
        lambda: incomplete_fixes(module, facts.fixes),
        lambda: ways_back(module, facts.acts),
        lambda: hazards_of_fixes(module),
        lambda: moving_declarations(module, facts.fixes),
        lambda: numbers_brought(module, facts.fixes),
        lambda: bounds_without_limit(module),
        lambda: in_one_transaction(module, facts.fixes, most),
        lambda: nothing_else(module, facts.fixes),
        lambda: refused_declarations(module, facts.fixes, reading.found[facts]),
    ]
    try:
        for rule in rules:
            reading.found[facts] += rule()
    except RecursionError:
        reading.found[facts] = [Finding("FIX101", module.source.shown, 1, 1, TOO_DEEP)]


def _of_all(reading: _Reading, chain: Chain, wanted: set[Facts]) -> None:
    by_module = {one.module: one for one in reading.facts}
    ordered = [by_module[module] for module in chain.ordered(by_module)]
    declared = [(one.module, one.revision, one.fixes, one.acts) for one in ordered]
    for module, finding in names_used_twice(declared):
        if by_module[module] in wanted:
            reading.found[by_module[module]].append(finding)
    checked = [one for one in ordered if one in wanted]
    for facts, finding in (*later_findings(ordered, chain, checked), *dropped_copies(ordered, checked)):
        reading.found[facts].append(finding)
    for one in wanted:
        reading.found[one] = losses(one.module, reading.found[one])


def _result(reading: _Reading, ordered: list[Facts]) -> Checked:
    findings, silenced = list(reading.unread), 0
    for one in ordered:
        source = one.module.source
        outcome = silence(source, dict.fromkeys(reading.found[one]))
        findings += [_recognisable(source, finding) for finding in outcome.findings]
        silenced += outcome.silenced
    codes = list(CATALOGUE)
    findings.sort(key=lambda one: (one.file, one.line, one.column, codes.index(one.code), one.message))
    files = [*(one.module.source.shown for one in ordered), *(one.file for one in reading.unread)]
    return Checked(tuple(findings), len(files), silenced, tuple(files))


def _recognisable(source: Source, finding: Finding) -> Finding:
    first, last = finding.span if any(finding.span) else (finding.line, finding.line)
    return replace(finding, fingerprint=source.fingerprint(first, last))


def revision_files(locations: Iterable[Path], recursive: bool = False) -> list[Path]:
    """The files that Alembic treats as revisions.

    Args:
        locations: the directories of the project's versions.
        recursive: whether subdirectories count.
    """
    found = []
    for location in locations:
        for path in sorted(location.rglob("*.py") if recursive else location.glob("*.py")):
            if not path.name.startswith((".#", "__init__")) and "__pycache__" not in path.parts:
                found.append(path)
    return found
