"""How the demo speaks: headings, commands with their output, SQL with its rows, and checks that can fail."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

_WIDTH = min(max(shutil.get_terminal_size((100, 24)).columns, 72), 100)
_COLOURED = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
_BOLD, _DIM, _GREEN, _RED, _CYAN = "1", "2", "32", "31", "36"


class NotAsSaid(Exception):
    """A step did not show what the demo says."""


def heading(text: str) -> None:
    """Begin a section."""
    print(f"\n\n{_paint(text, _BOLD)}\n{_paint('─' * len(text), _DIM)}", flush=True)


def say(text: str) -> None:
    """A paragraph."""
    print("\n" + textwrap.fill(text, _WIDTH), flush=True)


def typed(text: str) -> None:
    """Show a command as one types it; the demo does the same by other means."""
    print(f"\n{_paint('$ ' + text, _CYAN)}", flush=True)


def check(promise: str, holds: bool) -> None:
    """Show that something is as promised, or stop the demo.

    Raises:
        NotAsSaid: it is not.
    """
    if not holds:
        print(f"  {_paint('✗', _RED)} {promise}", flush=True)
        raise NotAsSaid(promise)
    print(f"  {_paint('✓', _GREEN)} {promise}", flush=True)


ROWS = re.compile(r"INFO  \[alembic\.datafixes\]   \S")
"""The lines of a log that show changed rows."""


def command(
    words: Sequence[str],
    directory: Path,
    environment: Mapping[str, str],
    left_out: re.Pattern[str] | None = None,
) -> int:
    """Show a command as one types it, run it, show what it printed, and return its exit code.

    Args:
        words: the command.
        directory: where it runs.
        environment: its environment.
        left_out: lines of its output that are only counted, because a table shows the same.
    """
    typed(" ".join(words))
    # The program that stands beside this Python, whatever PATH says.
    program = Path(sys.executable).with_name(words[0])
    done = subprocess.run(
        [str(program), *words[1:]],
        cwd=directory,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    lines = done.stdout.splitlines()
    for line in lines:
        if left_out is None or not left_out.match(line):
            print(_wrapped(line))
    if left_out is not None and (rows := sum(bool(left_out.match(line)) for line in lines)):
        print(_paint(f"({rows} more lines show the rows, before and after.)", _DIM))
    print(flush=True)
    return done.returncode


def statement(text: str) -> None:
    """Show SQL as one types it."""
    lines = textwrap.dedent(text).strip("\n").splitlines()
    print("\n" + "\n".join(_paint(line, _CYAN) for line in lines), flush=True)


def table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Show the rows of a query; numbers stand to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    right = [_is_numeric([row[number] for row in cells]) for number in range(len(names))]
    print()
    print("  " + _paint(_line(names, widths, right), _BOLD))
    print("  " + _paint("  ".join("─" * width for width in widths), _DIM))
    for row in cells:
        print("  " + _line(row, widths, right))
    print(flush=True)


def _is_numeric(column: Sequence[str]) -> bool:
    values = [text for text in column if text != "NULL"]
    return bool(values) and all(re.fullmatch(r"-?[\d.]+", text) for text in values)


def _line(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    parts = (
        text.rjust(width) if to_the_right else text.ljust(width)
        for text, width, to_the_right in zip(row, widths, right, strict=True)
    )
    return "  ".join(parts).rstrip()


def _cell(value: Any) -> str:
    return "NULL" if value is None else str(value)


def _wrapped(line: str) -> str:
    """A long line of a log, folded the way a terminal does it, but between words."""
    indent = "      " if line.startswith(("INFO", "ERROR", "WARN")) else "    "
    folded = textwrap.wrap(
        line, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(folded) if len(line) > _WIDTH else line


def _paint(text: str, colour: str) -> str:
    return f"\033[{colour}m{text}\033[0m" if _COLOURED else text
