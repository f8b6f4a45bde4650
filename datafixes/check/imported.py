"""Finds what a name of another file stands for: the file is read if it is there, and never imported."""

import ast
import os
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from datafixes.check.module import Function, Module
from datafixes.check.source import Source, read_source

_INSTALLED = frozenset(
    {
        *sys.stdlib_module_names,
        "alembic",
        "datafixes",
        "flask",
        "flask_sqlalchemy",
        "geoalchemy2",
        "numpy",
        "pandas",
    }
    | {"peewee", "polars", "psycopg", "psycopg2", "sqlalchemy", "sqlalchemy_utils", "sqlmodel", "asyncpg"}
)
"""Top-level modules that are no files of a project."""

_UPWARD, _HOPS = 6, 5
_ROOTS = (".git", "pyproject.toml", "setup.py", "setup.cfg")


def is_of_project(dotted: str) -> bool:
    """Whether an imported name may be one of the project's own."""
    return dotted.startswith(".") or dotted.partition(".")[0] not in _INSTALLED


def lead(module: Module, node: ast.expr) -> tuple[Module, str] | None:
    """The file of an imported name, and the name there; None if the file is not there, or the name is not imported."""
    root = node
    while isinstance(root, ast.Attribute):
        root = root.value
    home = module.home(root)
    if not isinstance(root, ast.Name) or not is_of_project(home.imports.get(root.id, "alembic")):
        return None
    try:
        return _led(module, home, module.dotted(node))
    except (OSError, ValueError):  # a name that is no name of a file, or a directory that may not be read
        return None


def _led(module: Module, home: Module, dotted: str) -> tuple[Module, str] | None:
    for _ in range(_HOPS):
        found = _file_of(home, dotted) if is_of_project(dotted) else None
        other = None if found is None else _module_at(found[0], found[0].stat().st_mtime_ns)
        if found is None or other is None or not found[1]:
            return None
        module.followed[other.source.tree] = other
        first, _, rest = found[1].partition(".")
        if first not in other.imports:
            return other, found[1]
        home, dotted = other, f"{other.imports[first]}.{rest}".rstrip(".")
    return None


def imported_function(module: Module, node: ast.expr) -> Function | None:
    """The function of another file that a name or attribute stands for."""
    found = lead(module, node)
    return None if found is None else found[0].functions.get(found[1])


def imported_values(module: Module, node: ast.expr) -> list[ast.expr]:
    """The values of a name of another file."""
    found = lead(module, node)
    if found is None:
        return []
    other, name = found
    return [one.value for one in other.bindings.get(other.source.tree, {}).get(name, ()) if not one.element]


def imported_class(module: Module, node: ast.expr) -> ast.ClassDef | None:
    """The class of another file that a name or attribute stands for."""
    found = lead(module, node)
    return None if found is None else class_named(found[0], found[1])


def class_named(module: Module, name: str) -> ast.ClassDef | None:
    """A class of a file."""
    return next((one for one in module.classes if one.name == name), None)


@lru_cache(maxsize=256)
def _module_at(path: Path, _changed: int) -> Module | None:
    source = read_source(path)
    return Module(source) if isinstance(source, Source) else None


def _file_of(module: Module, dotted: str) -> tuple[Path, str] | None:
    """The file of a dotted name, and what of the name is left."""
    if dotted not in module.files:
        level = len(dotted) - len(dotted.lstrip("."))
        parts = dotted[level:].split(".")
        above = (module.source.path.parent, *module.source.path.parent.parents)
        if level:
            module.files[dotted] = _below(above[level - 1], parts) if level <= len(above) else None
        else:
            module.files[dotted] = _found(above, parts)
    return module.files[dotted]


def _found(above: Sequence[Path], parts: list[str]) -> tuple[Path, str] | None:
    for base in above[:_UPWARD]:
        for place in (base, base / "src"):
            if found := _below(place, parts):
                return found
        if any(os.path.exists(os.path.join(base, name)) for name in _ROOTS):
            return None
    return None


def _below(base: Path, parts: list[str]) -> tuple[Path, str] | None:
    first = os.path.join(base, parts[0])
    if not os.path.isdir(first) and not os.path.isfile(f"{first}.py"):
        return None
    for length in range(len(parts), 0, -1):
        place = os.path.join(base, *parts[:length])
        for file in (f"{place}.py", os.path.join(place, "__init__.py")):
            if os.path.isfile(file):
                return Path(file), ".".join(parts[length:])
    return None
