"""Checks of a project's files, without a database."""

from pathlib import Path
from typing import Any

from datafixes.declaration.project_fixes import FixOfRevision
from datafixes.doctor.env_file import EnvFile, check_env, read_env
from datafixes.doctor.plugin import alembic_version, check_plugin, plugin_is_installed
from datafixes.report.document import Fact, attention, bad, good

_LONGEST_ID = 32


def check_folder(*folders: Path) -> Fact:
    """Whether a package of the project called alembic hides the library.

    Args:
        folders: the directories from which commands are run.
    """
    check = "alembic package"
    for folder in folders:
        for path in (folder / "alembic/__init__.py", folder / "alembic.py"):
            if path.exists():
                return bad(
                    check,
                    f"{path} hides the library: import alembic finds it first.",
                    "Remove it; a directory of migrations needs no __init__.py."
                    if path.name == "__init__.py"
                    else "Rename it.",
                )
    return good(check, "No package of the project hides the library.")


def check_env_file(folder: Path) -> tuple[list[Fact], EnvFile | None]:
    """Findings about ``env.py``, and the parsed file."""
    path = folder / "env.py"
    try:
        env = read_env(path.read_text(encoding="utf-8"))
    except OSError as error:
        return [
            bad("env.py", f"{path} cannot be read: {error.strerror or error}.", "Create it: alembic init")
        ], None
    except (SyntaxError, ValueError) as error:
        return [bad("env.py", f"{path} is not Python: {error}.", "Correct it.")], None
    return [*check_env(env), check_plugin(env, alembic_version(), plugin_is_installed())], env


def check_revisions(scripts: Any, width: int = _LONGEST_ID) -> list[Fact]:
    """Whether there is one head, and whether every id fits into Alembic's version table.

    Args:
        scripts: Alembic's ScriptDirectory.
        width: the length of the version table's column.
    """
    heads = list(scripts.get_heads())
    ids = [script.revision for script in scripts.walk_revisions()]
    if len(heads) > 1:
        found = [
            bad(
                "heads",
                f"The project has {len(heads)}: {', '.join(heads)}.",
                'alembic merge -m "merge" heads',
            )
        ]
    elif not heads:
        found = [
            attention(
                "heads", "The project has no revision yet.", 'datafixes new, or alembic revision -m "..."'
            )
        ]
    else:
        found = [good("heads", f"The project has one: {heads[0]}.")]
    long = [one for one in ids if len(one) > width]
    found.append(
        bad(
            "revision ids",
            f"Alembic's version table holds {width} characters; longer are: {', '.join(long)}.",
            "Shorten them before they are applied anywhere.",
        )
        if long
        else good("revision ids", f"None is longer than {width} characters.")
    )
    return found


def check_fixes(fixes: list[FixOfRevision]) -> Fact:
    """The number of fixes, and whether each name is unique."""
    fingerprints: dict[str, set[str]] = {}
    for one in fixes:
        fingerprints.setdefault(one.fix.name, set()).add(one.fix.fingerprint)
    twice = sorted(name for name, found in fingerprints.items() if len(found) > 1)
    if twice:
        return bad("fixes", f"Several are called {', '.join(twice)}.", "Give each a unique name.")
    return good("fixes", f"{len(fingerprints)} declared, each with a unique name.")
