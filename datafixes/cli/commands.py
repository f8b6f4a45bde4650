"""The commands: the engine's own, those of the applications in use, and those of other packages."""

from collections.abc import Iterator, Mapping

import click

from datafixes.cli.project_options import Where
from datafixes.errors import DatafixError
from datafixes.settings.groups import Extension, extensions, groups

# In the order in which they are used.
COMMANDS = {
    "new": "write a revision with a fix, filled in from the database",
    "check": "find risks in revisions, without a database",
    "plan": "show what an upgrade or downgrade will do to which rows",
    "revert": "write a revision that undoes one fix (also: prune, redact)",
    "prune": "write a revision that gives up old copies",
    "redact": "write a revision that erases values in copies",
    "history": "list all runs, newest first",
    "show": "show one run, row by row (also: report, as a page)",
    "row": "show every change to one row (also: find-in-audit)",
    "find-in-audit": "count the copies of a person, by run, fix and column",
    "open": "list fixes in force, and whether they can still be reverted",
    "report": "write one run as a page, for readers without a database",
    "verify-audit": "prove that nothing was altered (also: anchor, seal, export)",
    "anchor": "print the head of the chain of seals, to keep elsewhere",
    "seal": "seal finished runs that are not sealed yet",
    "export": "write sealed runs as files that are proven without a database",
    "follow": "watch a fix that runs in batches (also: pause, resume, stop)",
    "where": "show each setting, its value and its origin",
    "doctor": "look for known problems in this project",
}

_BESIDE = ("prune", "redact", "find-in-audit", "report", "anchor", "seal", "export")
"""Commands that another one's line in the help names, so that it fits a screen."""
WISHES = ("pause", "resume", "stop")
"""Further commands; the line of ``follow`` names them in the help, which fits a screen."""

ENTRY_POINTS = "datafixes.commands"
"""The entry-point group through which any package adds commands; each entry names a click command."""


def others() -> dict[str, Extension]:
    """The commands of other packages, not loaded. None replaces one of the engine's own."""
    return {one.name: one for one in extensions(ENTRY_POINTS) if one.name not in (*COMMANDS, *WISHES)}


def load_other(name: str) -> click.Command | None:
    """A command of another package, or None.

    Raises:
        DatafixError: it cannot be loaded.
    """
    extension = others().get(name)
    return extension.load(click.Command) if extension else None


def sections(where: Where) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The commands for the help, under their headings; one that cannot be loaded is reported on stderr.

    Args:
        where: the project. An application's commands are shown if the project uses it.
    """
    yield "Commands", {name: what for name, what in COMMANDS.items() if name not in _BESIDE}
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
        click.echo(f"Omitted: {failure.message}", err=True)
