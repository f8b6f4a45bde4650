"""Where a new revision goes: on top of which one, under which id, in which file. Written whole or not at all."""

import datetime as dt
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic.script import write_hooks

from datafixes.declaration.project_fixes import nearest
from datafixes.errors import DatafixError

_LONGEST_ID = 32  # what Alembic's version table keeps


@dataclass(frozen=True)
class Place:
    """A revision that is not written yet.

    Attributes:
        revision: its id.
        down_revision: the one it stands on; None for the first.
        path: its file.
        created: when.
    """

    revision: str
    down_revision: str | None
    path: Path
    created: dt.datetime


def place_for(scripts: Any, title: str, *, revision: str | None = None, on: str | None = None) -> Place:
    """Find the place for a new revision.

    Args:
        scripts: Alembic's ScriptDirectory.
        title: what it is, for the name of its file.
        revision: its id; by default the next number where the head is one, or else a new one of Alembic's kind.
        on: the revision to stand on, where there are several heads.

    Raises:
        DatafixError: several heads, an unknown revision, or an id that is taken or too long.
    """
    heads = list(scripts.get_heads())
    if on is not None:
        if on not in heads:
            raise DatafixError(f"{on} is not a head of this project.{nearest(on, heads)}")
        heads = [on]
    if len(heads) > 1:
        raise DatafixError(
            f"This project has several heads: {', '.join(heads)}.",
            hint=f"Say which one to stand on: --head {heads[0]}",
        )
    head = heads[0] if heads else None
    known = {script.revision for script in scripts.walk_revisions()}
    chosen = revision or _next_id(head, known)
    if chosen in known:
        raise DatafixError(f"There is a revision {chosen} already.", hint="Choose another one: --rev-id ID")
    if len(chosen) > _LONGEST_ID or not re.fullmatch(r"[\w.]+", chosen):
        raise DatafixError(
            f"{chosen} is no id for a revision: 1 to {_LONGEST_ID} letters, digits, underscores and dots."
        )
    created = dt.datetime.now().astimezone()
    folder = Path(scripts.get_revision(head).path).parent if head else Path(scripts.versions)
    path = Path(scripts._rev_path(str(folder), chosen, title, created))
    return Place(chosen, head, path, created)


def _next_id(head: str | None, known: set[str]) -> str:
    """``015`` follows ``014``; where heads are no numbers, twelve random hexadecimal digits, as Alembic does."""
    if head is not None and head.isascii() and head.isdigit():
        following = str(int(head) + 1).zfill(len(head))
        if following not in known:
            return following
    return os.urandom(6).hex()


def write_revision(scripts: Any, place: Place, text: str) -> None:
    """Write the file and run the project's post-write hooks on it, as ``alembic revision`` does; never over another.

    Args:
        scripts: Alembic's ScriptDirectory.
        place: its file.
        text: what is in it.

    Raises:
        DatafixError: the file is there, or its folder cannot be written.
        CommandError: a hook cannot be run. The file is not kept.
    """
    side = place.path.with_name(f".{place.path.name}.new")
    try:
        side.write_text(text, encoding="utf-8")
        os.link(side, place.path)
    except FileExistsError:
        raise DatafixError(f"{place.path} is there already.", hint="Choose another id: --rev-id ID") from None
    except OSError as error:
        raise DatafixError(f"{place.path} cannot be written: {error.strerror or error}") from None
    finally:
        side.unlink(missing_ok=True)
    if scripts.hooks:
        try:
            with _stdout_is_stderr():
                write_hooks._run_hooks(str(place.path), scripts.hooks)
        except BaseException:
            place.path.unlink(missing_ok=True)
            raise


@contextmanager
def _stdout_is_stderr() -> Iterator[None]:
    """Whatever hooks and their processes print is no result of the command."""
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
