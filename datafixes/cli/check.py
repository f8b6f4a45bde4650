"""``datafixes check``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from datafixes.cli.main import DIFFERENT, OK
from datafixes.cli.output import write
from datafixes.cli.project_options import Where, pass_where
from datafixes.errors import DatafixError

if TYPE_CHECKING:
    from datafixes.project import Project

_FORMATS = ("terminal", "json", "github", "markdown")


@click.command(epilog="Example: datafixes check --since 014 --format github")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("--since", metavar="REVISION", help="Check only revisions that come after this one.")
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMATS),
    default="terminal",
    show_default=True,
    help="Output format.",
)
@click.option("--output", "-o", metavar="FILE", help="Write to FILE instead of stdout.")
@click.option("--list", "listed", is_flag=True, help="List all codes and exit.")
@pass_where
def command(  # noqa: PLR0913 - one for each option
    where: Where, files: tuple[Path, ...], since: str | None, form: str, output: str | None, listed: bool
) -> int:
    """Find risks in the project's revisions, or in FILES.

    No database is used, and nothing is imported. Exit code 3: errors were found; notes do not count. To silence a
    finding, put a comment on its line or the line above: # datafixes: ignore[CODE] reason
    """
    from datafixes.check.beside import told_of
    from datafixes.check.checking import UnknownRevision, check
    from datafixes.check.formats import FORMATS, catalogue, summary
    from datafixes.doctor.plugin import warning_of

    if listed:
        write([catalogue()], output)
        return OK
    project = where.project()
    known, beside = _revisions(project, bool(files))
    try:
        checked = check(known, files or None, since)
    except UnknownRevision as error:
        raise click.UsageError(f"--since {since}: {error.message}") from None
    text = FORMATS[form](checked)
    write([text if form == "json" or output else _encodable(text)], output)
    if known and (warning := warning_of(Path(project.scripts.dir))):
        click.echo(warning, err=True)
    if beside and not files:
        click.echo(told_of(beside), err=True)
    if form in ("github", "json") or output:
        click.echo(summary(checked), err=True)
    return DIFFERENT if checked.count("error") else OK


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
