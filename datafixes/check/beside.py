"""Revision files that lie beside what Alembic's configuration names, so that nothing would read them."""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from datafixes.errors import DatafixError

_REVISION = re.compile(rb"^revision\b[^=\n]*=", re.MULTILINE)
_PARENT = re.compile(rb"^down_revision\b[^=\n]*=", re.MULTILINE)
_SHOWN = 5


def files_beside(folder: Path, locations: Collection[Path], known: Collection[Path]) -> list[Path]:
    """The files under the script directory, and under each version location, that are revisions but are not read.

    Args:
        folder: the script directory.
        locations: the version locations.
        known: the files that are read.
    """
    read = {path.resolve() for path in known}
    roots = dict.fromkeys(path.resolve() for path in (folder, *locations))
    found = dict.fromkeys(path for root in roots for path in _python_files(root))
    return sorted(path for path in found if path not in read and _is_revision(path))


def revisions_of(given: Collection[Path]) -> tuple[Path, ...]:
    """The given files; of a folder, the revisions under it.

    Raises:
        DatafixError: a folder has none, so that nothing would be checked.
    """
    found: list[Path] = []
    for path in given:
        inside = sorted(filter(_is_revision, _python_files(path))) if path.is_dir() else [path]
        if not inside:
            raise DatafixError(f"No revision was found in {path}, so nothing was checked.")
        found += inside
    return tuple(found)


def _python_files(root: Path) -> Iterator[Path]:
    for directory, folders, files in os.walk(root):
        folders[:] = [one for one in folders if not one.startswith(".") and one != "__pycache__"]
        yield from (
            Path(directory, file) for file in files if file.endswith(".py") and not file.startswith(".")
        )


def _is_revision(path: Path) -> bool:
    try:
        text = path.read_bytes()
    except OSError:
        return False
    return bool(_REVISION.search(text) and _PARENT.search(text))


def told_of(beside: Collection[Path]) -> str:
    """What is said of such files, and how to read them; empty if there are none."""
    if not beside:
        return ""
    folders = Counter(os.path.relpath(path.parent) for path in beside)
    named = ", ".join(f"{folder} ({count})" for folder, count in sorted(folders.items())[:_SHOWN])
    more = ", ..." if len(folders) > _SHOWN else ""
    return (
        f"Not read: {len(beside)} {'file that is a revision' if len(beside) == 1 else 'files that are revisions'}, "
        f"in {named}{more}. Name them in version_locations, set recursive_version_locations = true, or name the "
        "folders: datafixes check FOLDER ..."
    )
