"""Which commands there are: the engine's own, those of applications in use, and those of other packages."""

from collections.abc import Iterator, Mapping

import click

from datafixes.cli.project_options import Where
from datafixes.errors import DatafixError
from datafixes.settings.extensions import Extension, extensions
from datafixes.settings.groups import groups

# By hand, in the order in which they are used.
COMMANDS = {
    "new": "write a revision with a fix, from what the database holds",
    "check": "find what is risky in revisions, without a database",
    "plan": "what an upgrade or downgrade will do to which rows",
    "revert": "write a revision that undoes one earlier fix",
    "history": "all runs, newest first",
    "show": "one run, row by row",
    "row": "everything that ever happened to one row",
    "open": "fixes that are in force, and whether they can still be reverted",
    "report": "one run as a page, for people who have no database",
    "where": "each setting, its value and where it comes from",
    "doctor": "what is known to go wrong, looked for in this project",
}

ENTRY_POINTS = "datafixes.commands"
"""The group of entry points through which any package adds commands: each names an object of click."""


def others() -> dict[str, Extension]:
    """The commands of other packages, none of which is loaded. None hides one of the engine's own."""
    return {one.name: one for one in extensions(ENTRY_POINTS) if one.name not in COMMANDS}


def load_other(name: str) -> click.Command | None:
    """A command of another package; None where there is no such command.

    Raises:
        DatafixError: it cannot be loaded.
    """
    extension = others().get(name)
    return extension.load(click.Command) if extension else None


def sections(where: Where) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The commands for the help, under their headings; what cannot be loaded is a line on stderr.

    Args:
        where: which project it is for. An application's commands are shown where the project uses it.
    """
    yield "Commands", COMMANDS
    found, failures = groups()
    sources = where.sources()
    for group in found:
        if group.is_used(sources):
            yield f"Commands for {group.title}", group.commands
    ungrouped = [name for name in others() if not any(name in group.commands for group in found)]
    described: dict[str, str] = {}
    for name in ungrouped:
        try:
            described[name] = others()[name].load(click.Command).get_short_help_str(60)
        except DatafixError as error:
            failures.append(error)
    if described:
        yield "Commands of other packages", described
    for failure in failures:
        click.echo(f"Left out: {failure.message}", err=True)
