"""The files that git calls changed since a branch was left: committed, staged, not staged, or new."""

import os
import subprocess
from pathlib import Path

from datafixes.errors import DatafixError

_SECONDS = 60


def changed_files(folder: Path, reference: str) -> set[Path]:
    """The changed files of the repository around a folder.

    Args:
        folder: the folder.
        reference: a branch, tag or commit; what changed there after the common ancestor does not count.

    Raises:
        DatafixError: git is missing, this is no repository, or it does not know the reference or the ancestor.
    """
    top = Path(os.fsdecode(_git(folder, "rev-parse", "--show-toplevel").rstrip(b"\n")))
    try:
        commit = _git(top, "rev-parse", "--verify", "--end-of-options", f"{reference}^{{commit}}").strip()
    except DatafixError:
        raise DatafixError(
            f"git knows no {reference}.", hint="Fetch it first: in CI, the whole history (fetch-depth: 0)."
        ) from None
    try:
        ancestor = _git(top, "merge-base", os.fsdecode(commit), "HEAD").strip()
    except DatafixError:
        raise DatafixError(
            f"git finds no common ancestor of {reference} and HEAD.",
            hint="A shallow clone has none: fetch the whole history (fetch-depth: 0).",
        ) from None
    changed = _git(top, "diff", "--name-only", "--no-renames", "--diff-filter=d", "-z", os.fsdecode(ancestor))
    new = _git(top, "ls-files", "--others", "--exclude-standard", "-z")
    return {(top / os.fsdecode(name)).resolve() for name in (changed + new).split(b"\0") if name}


def _git(folder: Path, *arguments: str) -> bytes:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DatafixError(f"git cannot be run: {error}") from None
    if done.returncode:
        words = " ".join(os.fsdecode(done.stderr).split())
        raise DatafixError(f"git {arguments[0]} failed in {folder}: {words}")
    return done.stdout
