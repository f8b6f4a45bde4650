"""Writes a command's result to stdout or a file, in the requested format."""

import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import click

from datafixes.audit.changes import View
from datafixes.report.document import Document
from datafixes.settings import Settings

FORMATS = ("terminal", "json", "markdown", "html")


def format_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--format`` and ``--output`` to a command; they arrive as ``form`` and ``output``."""
    command = click.option("--output", "-o", metavar="FILE", help="Write to FILE instead of stdout.")(command)
    return click.option(
        "--format",
        "form",
        type=click.Choice(FORMATS),
        default="terminal",
        show_default=True,
        help="Output format.",
    )(command)


def view_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--rows`` and ``--mask`` to a command."""
    command = click.option(
        "--mask", metavar="PATTERN", multiple=True, help="Hide values of columns: email, users.*, ..."
    )(command)
    return click.option(
        "--rows",
        type=click.IntRange(min=0),
        help="Rows per table (default: 20; HTML, JSON: 10000).",
    )(command)


def view_of(settings: Settings, rows: int | None, mask: tuple[str, ...], form: str) -> View:
    """How much of the rows a format shows: as requested, or by default."""
    short = form in ("terminal", "markdown")
    shown = rows if rows is not None else 20 if short else 10_000
    return View(shown, 2_000 if short else 10_000, (*settings.mask, *mask))


def show(document: Callable[[], Document], value: Callable[[], Any], form: str, output: str | None) -> None:
    """Write the result of a command.

    Args:
        document: makes the document for people.
        value: makes the JSON, as JSON's own types.
        form: one of `FORMATS`.
        output: a file, or None for stdout.
    """
    if form == "json":
        from datafixes.report.json_format import to_json

        parts = to_json(value())
    elif form == "markdown":
        from datafixes.report.markdown import to_markdown

        parts = iter((to_markdown(document()),))
    elif form == "html":
        from datafixes.report.html import to_html

        parts = to_html(document())
    else:
        from datafixes.report.terminal import to_terminal

        parts = iter((to_terminal(document(), sys.stdout if output is None else None),))
    write(parts, output)


def write(parts: Iterable[str], output: str | None) -> None:
    """Write a text to stdout or to a file; the file is written beside its place and renamed, never half visible."""
    if output is None or output == "-":
        sys.stdout.writelines(parts)
        sys.stdout.flush()
        return
    target = Path(output).resolve()
    if target.exists() and not target.is_file():  # /dev/stdout, a pipe: cannot be replaced
        with target.open("w", encoding="utf-8") as stream:
            stream.writelines(parts)
        return
    try:
        with NamedTemporaryFile(
            "w", encoding="utf-8", dir=target.parent, prefix=f".{target.name}.", delete=False
        ) as side:
            side.writelines(parts)
        os.chmod(side.name, 0o644)
        os.replace(side.name, target)
    except BaseException as error:  # the rows are read while they are written
        with suppress(OSError, NameError):
            os.unlink(side.name)
        if not isinstance(error, OSError):
            raise
        raise click.ClickException(f"{output} cannot be written: {error.strerror or error}") from None
    click.echo(f"Wrote {output}", err=True)
