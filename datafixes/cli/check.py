"""``datafixes check``."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from datafixes.cli.main import DIFFERENT, OK
from datafixes.cli.output import write
from datafixes.cli.project_options import Where, pass_where
from datafixes.errors import DatafixError, SettingError
from datafixes.settings import CHECK_SETTINGS, Sources

if TYPE_CHECKING:
    from datafixes.check.baseline import Baseline
    from datafixes.check.checking import Checked
    from datafixes.check.choosing import Choice
    from datafixes.project import Project

_FORMATS = ("terminal", "json", "markdown", "github", "gitlab", "sarif", "junit")
_MACHINE = ("json", "gitlab", "sarif", "junit")
_MANY = 50


@dataclass(frozen=True)
class _Asked:
    """The arguments and options."""

    files: tuple[Path, ...]
    since: str | None
    since_git: str | None
    select: str | None
    ignore: str | None
    write_baseline: bool
    no_baseline: bool
    statistics: bool
    form: str
    output: str | None
    listed: bool

    @property
    def is_partial(self) -> bool:
        """Whether only a part of the project's revisions is checked."""
        return bool(self.files or self.since or self.since_git)

    def settings(self, sources: Sources) -> tuple[dict[str, Any], Any]:
        """The settings of check, and the origin of each; options come first."""
        given = {"check_select": self.select, "check_ignore": self.ignore, "check_since": self.since}
        flags = {name: value for name, value in given.items() if value is not None}
        try:
            return replace(sources, flags={**sources.flags, **flags}).resolve(CHECK_SETTINGS)
        except SettingError as error:
            words = error.message
            for name in flags:
                words = words.replace(f"-x {name}", f"--{name.removeprefix('check_')}")
            raise SettingError(words) from None


@click.command(epilog="Example: datafixes check --since 014 --format github")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("--since", metavar="REVISION", help="Check only revisions that come after this one.")
@click.option("--since-git", metavar="REF", help="Check only files changed since git left REF: origin/main.")
@click.option("--select", metavar="CODES", help="Report only these: FIX2, FIX301.")
@click.option("--ignore", metavar="CODES", help="Do not report these.")
@click.option(
    "--write-baseline", is_flag=True, help="Accept all findings; report only new ones from then on."
)
@click.option("--no-baseline", is_flag=True, help="Report the accepted findings too.")
@click.option("--statistics", is_flag=True, help="Show the number of findings of each code.")
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMATS),
    metavar="FORMAT",
    default="terminal",
    help=f"{', '.join(_FORMATS)}.",
)
@click.option("--output", "-o", metavar="FILE", help="Write to FILE instead of stdout.")
@click.option("--list", "listed", is_flag=True, help="List all codes and exit.")
@pass_where
def command(where: Where, /, **options: Any) -> int:
    """Find risks in the project's revisions, or in FILES (or folders). Nothing is imported.

    Exit code 3: errors were found; notes do not count. To silence a finding, put a comment on its line or the line
    above: # datafixes: ignore[CODE] reason
    """
    from datafixes.check.beside import revisions_of
    from datafixes.check.formats import catalogue

    asked = _Asked(**{**options, "files": revisions_of(options["files"])})
    if asked.listed:
        write([catalogue()], asked.output)
        return OK
    if asked.write_baseline and asked.is_partial:
        raise click.UsageError("--write-baseline concerns all revisions: leave out FILES and --since.")
    if asked.statistics and asked.form != "terminal":
        raise click.UsageError("--statistics is for the terminal: leave out --format.")
    project = where.project()
    values, origins = asked.settings(project.settings.sources)
    found = _find(project, asked, values, origins)
    return _accept(found) if asked.write_baseline else _report(found, asked, project)


@dataclass(frozen=True)
class _Found:
    """All findings, the wanted ones, the baseline, whether there are revisions, and the files beside them."""

    has_revisions: bool
    beside: list[Path]
    everything: Checked
    choice: Choice
    baseline: Baseline


def _find(project: Project, asked: _Asked, values: dict[str, Any], origins: Any) -> _Found:
    from datafixes.check.baseline import Baseline, read_baseline
    from datafixes.check.checking import UnknownRevision, check
    from datafixes.check.choosing import Choice

    choice = Choice(values["check_select"], values["check_ignore"], values["check_per_file_ignores"])
    path = project.directory / values["check_baseline"]
    unused = asked.write_baseline or asked.no_baseline
    baseline = Baseline(path) if unused else read_baseline(path, origins["check_baseline"] != "default")
    known, beside = _revisions(project, bool(asked.files))
    try:
        checked = check(known, _only(asked, project, known), values["check_since"], values["check_rows"])
    except UnknownRevision as error:
        place = "--since" if asked.since else origins["check_since"]
        raise click.UsageError(f"{place} {values['check_since']}: {error.message}") from None
    return _Found(bool(known), beside, checked, choice, baseline)


def _only(asked: _Asked, project: Project, known: list[Path]) -> list[Path] | None:
    """The files to report on; None for all."""
    if asked.since_git is None:
        return list(asked.files) or None
    from datafixes.check.changed import changed_files

    changed = changed_files(project.directory, asked.since_git)
    found = [path for path in asked.files or known if path.resolve() in changed]
    if not found:
        click.echo(f"No revision has changed since {asked.since_git}.", err=True)
    return found


def _accept(found: _Found) -> int:
    """Write the baseline."""
    from datafixes.audit.wording import counted
    from datafixes.check.choosing import chosen

    findings = chosen(found.everything, found.choice, found.baseline).findings
    write([found.baseline.text_for(findings)], str(found.baseline.path))
    accepted = counted(len(findings), "finding")
    click.echo(f"{accepted} accepted. Commit the file; check reports only what is new.", err=True)
    return OK


def _report(found: _Found, asked: _Asked, project: Project) -> int:
    from datafixes.audit.wording import counted
    from datafixes.check.beside import told_of
    from datafixes.check.choosing import chosen
    from datafixes.check.formats import FORMATS, statistics, summary
    from datafixes.doctor.plugin import warning_of

    checked = chosen(found.everything, found.choice, found.baseline)
    text = statistics(checked) if asked.statistics else FORMATS[asked.form](checked)
    write([text if asked.form in _MACHINE or asked.output else _encodable(text)], asked.output)
    if asked.form == "github" and checked.findings:
        _summarise(checked)
    if found.has_revisions and checked.has_fixes and (warning := warning_of(Path(project.scripts.dir))):
        click.echo(warning, err=True)
    if found.beside and not asked.files:
        click.echo(told_of(found.beside), err=True)
    if asked.form not in ("terminal", "markdown") or asked.output:
        click.echo(summary(checked), err=True)
    if not asked.is_partial and (gone := found.baseline.gone(found.everything.findings)):
        number = counted(gone, "finding")
        click.echo(
            f"No longer found: {number} of the baseline. To update it: datafixes check --write-baseline",
            err=True,
        )
    if checked.count("error") > _MANY and not found.baseline.path.exists():
        click.echo(
            "To accept all of these, and see only new ones: datafixes check --write-baseline", err=True
        )
    return DIFFERENT if checked.count("error") else OK


def _summarise(checked: Checked) -> None:
    """Add the findings to the page of a GitHub job: GitHub shows ten annotations of a step, and all of its summary."""
    from datafixes.check.formats import to_markdown

    if not (file := os.environ.get("GITHUB_STEP_SUMMARY")):
        return
    try:
        with open(file, "a", encoding="utf-8") as stream:
            stream.write(to_markdown(checked))
    except OSError as error:
        click.echo(f"No summary in {file}: {error.strerror or error}.", err=True)


def _revisions(project: Project, files_given: bool) -> tuple[list[Path], list[Path]]:
    """The project's revisions, and files beside them that nothing reads; no project is needed if files are given.

    Raises:
        DatafixError: there are no revisions, so that nothing would be checked.
    """
    from datafixes.check.beside import files_beside, told_of
    from datafixes.check.checking import revision_files

    try:
        scripts = project.scripts
    except DatafixError:
        if files_given:
            return [], []
        raise
    locations = [Path(one) for one in scripts._version_locations]
    known = revision_files(locations, bool(scripts.recursive_version_locations))
    beside = files_beside(Path(scripts.dir), locations, known)
    if not known and not files_given:
        where = ", ".join(os.path.relpath(one) for one in locations)
        raise DatafixError(
            f"No revision was found in {where}, so nothing was checked.",
            hint=told_of(beside) or "Look at version_locations in Alembic's configuration.",
        )
    return known, beside


def _encodable(text: str) -> str:
    """The text, with characters replaced that stdout's encoding lacks."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
