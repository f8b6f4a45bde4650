"""``datafixes where``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from datafixes.cli.main import FAILED, OK
from datafixes.cli.output import format_options, show
from datafixes.cli.project_options import Where, pass_where
from datafixes.errors import DatafixError
from datafixes.report.document import Document, Fact, Grid, Section
from datafixes.settings import CHECK_SETTINGS, SETTINGS, Setting, Settings, Sources
from datafixes.settings.groups import groups

if TYPE_CHECKING:
    from datafixes.project import Project


@click.command(epilog="Example: datafixes where    Then: datafixes doctor")
@format_options
@pass_where
def command(where: Where, form: str, output: str | None) -> int:
    """Show which database is used and why, and each setting with its origin.

    No connection is made. AWS is asked only if nothing else names a database and its settings are configured.
    Passwords are not shown.
    Exit code 1: no database is configured.
    """
    project = where.project()
    for failure in groups()[1]:
        click.echo(f"Omitted: {failure.message}", err=True)
    database, origin, problem = _database(project.settings)
    show(
        lambda: _document(project, database, origin, problem),
        lambda: _value(project, database, origin, problem),
        form,
        output,
    )
    return FAILED if problem else OK


def _database(settings: Settings) -> tuple[str, str, str]:
    """The database's URL without its password, its origin, and what is wrong."""
    from datafixes.database.location import locate  # SQLAlchemy is slow to import

    try:
        location = locate(settings)
    except DatafixError as error:
        return "", settings.origins["url"], "\n".join(part for part in (error.message, error.hint) if part)
    return location.masked, location.origin, ""


def _document(project: Project, database: str, origin: str, problem: str) -> Document:
    return Document(
        title="Where",
        summary=f"{database} ({origin})" if database else problem.partition("\n")[0],
        state="bad" if problem else "good",
        facts=(Fact("Configuration", _configuration(project)),),
        sections=(
            *((Section("No database", state="bad", block=problem),) if "\n" in problem else ()),
            *(Section(title, grids=(_grid(rows),)) for title, rows in _tables(project.settings)),
        ),
    )


def _value(project: Project, database: str, origin: str, problem: str) -> dict[str, Any]:
    return {
        "version": 1,
        "kind": "where",
        "database": {"url": database or None, "origin": origin, "problem": problem or None},
        "configuration": _configuration(project),
        "settings": [vars(row) for _, rows in _tables(project.settings) for row in rows],
    }


@dataclass(frozen=True)
class _Row:
    """A setting as shown."""

    name: str
    value: str
    origin: str
    meaning: str


def _tables(settings: Settings) -> Iterator[tuple[str, list[_Row]]]:
    """The settings under their headings: the engine's, those of check, and those of each application in use."""
    yield "Settings", _rows(settings.sources, SETTINGS)
    yield "Settings of check", _rows(settings.sources, CHECK_SETTINGS)
    for group in groups()[0]:
        if group.is_used(settings.sources):
            yield f"Settings of {group.title}", _rows(settings.sources, group.settings)


def _rows(sources: Sources, table: Iterable[Setting]) -> list[_Row]:
    table = list(table)
    values, origins = sources.resolve(table)
    return [_Row(one.name, one.shown(values[one.name]), origins[one.name], one.meaning) for one in table]


def _grid(rows: list[_Row]) -> Grid:
    shown = tuple((row.name, row.value or None, row.origin) for row in rows)
    return Grid("", ("setting", "value", "from"), shown)


def _configuration(project: Project) -> str:
    """The files that exist."""
    files = [project.config.config_file_name, getattr(project.config, "toml_file_name", None)]
    return ", ".join(str(file) for file in files if file) or "(no file)"
