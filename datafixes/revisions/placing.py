"""The place of a new revision: its parent, its id, its file. The file is written whole or not at all."""

import datetime as dt
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic.script import write_hooks

from datafixes.declaration.project_fixes import nearest
from datafixes.errors import DatafixError

_LONGEST_ID = 32  # the width of Alembic's version table


@dataclass(frozen=True)
class Place:
    """A revision that is not written yet.

    Attributes:
        revision: its id.
        down_revision: its parent; None for the first.
        path: its file.
        created: its time of creation.
    """

    revision: str
    down_revision: str | None
    path: Path
    created: dt.datetime


@dataclass(frozen=True)
class Wanted:
    """Where an author wants a new revision.

    Attributes:
        revision: its id; by default the next number where the head is one, or else a new one of Alembic's kind.
        head: its parent, if the project has several heads.
        folder: one of the project's version locations; by default the one of its parent.
    """

    revision: str | None = None
    head: str | None = None
    folder: str | None = None


def place_for(scripts: Any, title: str, wanted: Wanted = Wanted()) -> Place:
    """Find the place for a new revision.

    Args:
        scripts: Alembic's ScriptDirectory.
        title: what it is, for the name of its file.
        wanted: what the author says of it.

    Raises:
        DatafixError: several heads or version locations, an unknown one, or an id that is taken or too long.
    """
    heads = list(scripts.get_heads())
    if wanted.head is not None:
        if wanted.head not in heads:
            raise DatafixError(f"{wanted.head} is not a head of this project.{nearest(wanted.head, heads)}")
        heads = [wanted.head]
    if len(heads) > 1:
        raise DatafixError(
            f"This project has several heads: {', '.join(heads)}.",
            hint=f"Choose the parent revision: --head {heads[0]}",
        )
    head = heads[0] if heads else None
    known = {script.revision for script in scripts.walk_revisions()}
    chosen = wanted.revision or _next_id(head, known)
    if chosen in known:
        raise DatafixError(f"Revision {chosen} already exists.", hint="Choose another id: --rev-id ID")
    if len(chosen) > _LONGEST_ID or not re.fullmatch(r"[\w.]+", chosen):
        raise DatafixError(
            f"{chosen} is not a valid revision id: use 1 to {_LONGEST_ID} letters, digits, underscores and dots."
        )
    created = dt.datetime.now().astimezone()
    folder = _folder(scripts, head, wanted.folder)
    return Place(chosen, head, Path(scripts._rev_path(str(folder), chosen, title, created)), created)


def _folder(scripts: Any, head: str | None, wanted: str | None) -> Path:
    """The folder to which the file template is relative: beside the parent, unless the template has folders."""
    locations = [Path(location) for location in scripts._version_locations]
    shown = ", ".join(map(str, locations))
    if wanted is not None:
        here = [location for location in locations if location.resolve() == Path(wanted).resolve()]
        if not here:
            raise DatafixError(f"{wanted} is not a version location of this project. There are: {shown}.")
        return here[0]
    beside = Path(scripts.get_revision(head).path).resolve().parent if head else None
    if beside is not None and "/" not in scripts.file_template:
        return beside
    around = [one for one in locations if beside is not None and one.resolve() in (beside, *beside.parents)]
    if len(around or locations) > 1:
        raise DatafixError(
            f"This project has several version locations: {shown}.",
            hint=f"Choose one: --version-path {locations[0]}",
        )
    return (around or locations)[0]


def _next_id(head: str | None, known: set[str]) -> str:
    """``015`` follows ``014``; if heads are not numbers, twelve random hexadecimal digits, as in Alembic."""
    if head is not None and head.isascii() and head.isdigit():
        following = str(int(head) + 1).zfill(len(head))
        if following not in known:
            return following
    return os.urandom(6).hex()


def write_revision(scripts: Any, place: Place, text: str) -> None:
    """Write the file and run the project's post-write hooks on it, as ``alembic revision`` does; overwrite nothing.

    Args:
        scripts: Alembic's ScriptDirectory.
        place: its file.
        text: its contents.

    Raises:
        DatafixError: the file exists, or its folder cannot be written.
        CommandError: a hook cannot be run. The file is removed.
    """
    side = place.path.with_name(f".{place.path.name}.new")
    try:
        place.path.parent.mkdir(parents=True, exist_ok=True)  # a file template may have folders
        side.write_text(text, encoding="utf-8")
        os.link(side, place.path)
    except FileExistsError:
        raise DatafixError(f"{place.path} already exists.", hint="Choose another id: --rev-id ID") from None
    except OSError as error:
        raise DatafixError(f"{place.path} cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            side.unlink()
    hooks = scripts.hooks if hasattr(scripts, "hooks") else scripts.hook_config  # before Alembic 1.16
    if hooks:
        try:
            with _stdout_is_stderr():
                write_hooks._run_hooks(str(place.path), hooks)
        except BaseException:
            place.path.unlink(missing_ok=True)
            raise


@contextmanager
def _stdout_is_stderr() -> Iterator[None]:
    """Send the output of hooks and their processes to stderr: it is not the command's result."""
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
