"""The fixes that the revisions of a project declare, found by name."""

import ast
import difflib
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from traceback import walk_tb
from typing import Any

from datafixes.declaration.fix import DataFix
from datafixes.declaration.recorded import Declared, RecordedFix
from datafixes.errors import DatafixError, DeclarationError

_WRONG_CALL = re.compile(
    r"(AtMost|DataFix|Delete|Insert|RecordedFix|Rows|Table|Update)\.__(?:init|new)__\(\)"
)


@dataclass(frozen=True)
class FixOfRevision:
    """A fix, the revision that declares it, and its parents.

    Attributes:
        databases: the databases in which the revision applies it, if its ``upgrade()`` is told the name of one.
        is_in_schema_of_run: whether the revision applies it to the schema for which env.py runs the migrations.
    """

    revision: str
    path: Path
    fix: Declared
    below: tuple[str, ...] = ()
    databases: tuple[str, ...] = ()
    is_in_schema_of_run: bool = False


def fixes_of(scripts: Any) -> list[FixOfRevision]:
    """Every fix at module level of a revision, by itself or in a list, from base to head.

    Args:
        scripts: Alembic's ScriptDirectory.
    """
    revisions = reversed(list(scripts.walk_revisions()))
    return [
        FixOfRevision(
            one.revision,
            Path(one.path),
            fix,
            tuple(one._versioned_down_revisions),
            _databases(one.module, fix),
            any("in_schema" in names for names in _upgrades(one.module).values()),
        )
        for one in revisions
        for fix in fixes_in(one.module)
    ]


def of_run(fixes: Collection[FixOfRevision], database: str | None, schema: str) -> list[FixOfRevision]:
    """The fixes as one run of env.py applies them.

    Args:
        fixes: the project's fixes.
        database: what the run passes to ``upgrade()``, as in Alembic's multidb; None if that is not known.
        schema: the schema for which it runs.
    """
    return [
        replace(one, fix=one.fix.in_schema(schema)) if one.is_in_schema_of_run else one
        for one in fixes
        if not one.databases or database in one.databases
    ]


def _upgrades(module: object) -> dict[str, tuple[str, ...]]:
    """The names that ``upgrade()`` and each ``upgrade_DATABASE()`` of a revision use."""
    found = {name: getattr(value, "__code__", None) for name, value in vars(module).items()}
    return {name: code.co_names for name, code in found.items() if code and name.startswith("upgrade")}


def _databases(module: object, fix: Declared) -> tuple[str, ...]:
    """The databases whose ``upgrade_DATABASE()`` uses a fix; none if ``upgrade()`` is not told the name of one."""
    code = getattr(getattr(module, "upgrade", None), "__code__", None)
    if code is None or not code.co_argcount:
        return ()
    variables = {name for name, value in vars(module).items() if any(fix is one for one in _listed(value))}
    return tuple(
        name.removeprefix("upgrade_")
        for name, names in _upgrades(module).items()
        if name.startswith("upgrade_") and not variables.isdisjoint(names)
    )


def revisions_below(scripts: Any, at: Collection[str]) -> frozenset[str]:
    """The database's revisions and all their ancestors; revisions that are not in the project are ignored.

    Args:
        scripts: Alembic's ScriptDirectory.
        at: the rows of the version table.
    """
    known = {one.revision for one in scripts.walk_revisions()}
    heads = tuple(one for one in at if one in known)
    return (
        frozenset(one.revision for one in scripts.iterate_revisions(heads, "base")) if heads else frozenset()
    )


def fixes_in(module: object) -> Iterator[Declared]:
    """The fixes of a module."""
    seen: list[Declared] = []
    for value in vars(module).values():
        for one in _listed(value):
            if isinstance(one, DataFix | RecordedFix) and not any(one is fix for fix in seen):
                seen.append(one)
                yield one


def _listed(value: Any) -> Collection[Any]:
    return value if isinstance(value, list | tuple) else (value,)


def fix_named(fixes: list[FixOfRevision], name: str) -> FixOfRevision:
    """The fix with a name; if several revisions declare the same fix, the first.

    Raises:
        DatafixError: there is none, with the nearest names; or there are different ones.
    """
    found = [one for one in fixes if one.fix.name == name]
    if len({one.fix.fingerprint for one in found}) == 1:
        return found[0]
    if found:
        places = ", ".join(one.revision for one in found)
        raise DatafixError(f"The fix {name} is declared by several revisions: {places}.", hint="Rename one.")
    raise DatafixError(f"No revision declares a fix {name}.{nearest(name, (one.fix.name for one in fixes))}")


def nearest(name: str, known: Iterator[str] | list[str]) -> str:
    """`` Did you mean ...?`` with up to three similar names; or else a list of names."""
    names = sorted(set(known))
    if near := difflib.get_close_matches(name, names, n=3, cutoff=0.5):
        return f" Did you mean {' or '.join(near)}?"
    if not names:
        return " None exist."
    return f" Known: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}."


def where_raised(error: BaseException) -> str:
    """Which line of which revision raised an error, ``versions/b.py:12, revision b, fix close_items``; or nothing."""
    raised = [(f, line) for f, line in walk_tb(error.__traceback__) if "down_revision" in f.f_globals]
    if not raised:
        return ""
    frame, line = raised[-1]
    path = Path(frame.f_code.co_filename)
    with suppress(ValueError):
        path = path.relative_to(Path.cwd())
    name = _fix_at(frame.f_code.co_filename, line)
    return f"{path}:{line}, revision {frame.f_globals.get('revision')}" + (f", fix {name}" if name else "")


def _fix_at(file: str, line: int) -> str:
    """The name in the declaration at a line."""
    with suppress(OSError, SyntaxError, ValueError):
        for node in ast.walk(ast.parse(Path(file).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.lineno <= line <= (node.end_lineno or line):
                named = [one.value for one in node.keywords if one.arg == "name"]
                if named and ast.unparse(node.func).endswith(("DataFix", "RecordedFix")):
                    return str(getattr(named[0], "value", ""))
    return ""


def wrong_declaration(error: BaseException) -> DeclarationError | None:
    """An error of a declaration with its place: a refused value, or an argument that does not exist; else None."""
    where = where_raised(error)
    if isinstance(error, DeclarationError):
        return DeclarationError(f"{where}: {error.message}" if where else error.message, hint=error.hint)
    if isinstance(error, TypeError) and where and _WRONG_CALL.match(str(error)):
        words = _WRONG_CALL.sub(r"\1()", str(error))
        return DeclarationError(f"{where}: {words}.")
    return None
