"""The house rules that no linter knows: sizes, sentences, and files that must not be there."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PACKAGE = sorted((PROJECT / "datafixes").rglob("*.py"))
EVERYTHING = [*PACKAGE, *sorted((PROJECT / "alembic").rglob("*.py")), *sorted((PROJECT / "tests").rglob("*.py"))]
SQL_FILES = sorted((PROJECT / "datafixes").rglob("*.sql"))

LINES, FUNCTION_LINES, PARAMETERS = 300, 40, 5

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _name(path: Path) -> str:
    return str(path.relative_to(PROJECT))


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _functions(path: Path) -> Iterator[Function]:
    return (node for node in ast.walk(_tree(path)) if isinstance(node, Function))


def _parameters(function: Function) -> int:
    given = function.args
    names = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def _public(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.ClassDef | Function]]:
    for node in body:
        if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
            yield f"{prefix}{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from _public(node.body, f"{node.name}.")


def test_no_alembic_package_hides_the_library() -> None:
    assert not (PROJECT / "alembic" / "__init__.py").exists()


@pytest.mark.parametrize("path", EVERYTHING, ids=_name)
def test_a_sentence_opens_each_module(path: Path) -> None:
    tree = _tree(path)
    first = (ast.get_docstring(tree) or "").partition("\n")[0]
    assert first.endswith(".") or not tree.body, f"the first line of {_name(path)} is not a sentence: {first!r}"


@pytest.mark.parametrize("path", [*PACKAGE, *(p for p in EVERYTHING if "versions" in p.parts)], ids=_name)
def test_modules_and_functions_are_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LINES, f"{_name(path)} has {lines} lines, not {LINES} at most"
    long = {f.name: (f.end_lineno or 0) - f.lineno + 1 for f in _functions(path)}
    assert not {name: count for name, count in long.items() if count > FUNCTION_LINES}
    wide = {f.name: _parameters(f) for f in _functions(path)}
    assert not {name: count for name, count in wide.items() if count > PARAMETERS}


@pytest.mark.parametrize("path", PACKAGE, ids=_name)
def test_nothing_is_checked_by_assert(path: Path) -> None:
    # python -O throws assertions away.
    assert not [node.lineno for node in ast.walk(_tree(path)) if isinstance(node, ast.Assert)]


@pytest.mark.parametrize("path", PACKAGE, ids=_name)
def test_public_names_say_what_they_mean(path: Path) -> None:
    silent = [
        name
        for name, node in _public(_tree(path).body)
        if not ast.get_docstring(node) and not any(isinstance(d, ast.Name) and d.id == "overload" for d in node.decorator_list)
    ]
    assert not silent


@pytest.mark.parametrize("path", SQL_FILES, ids=_name)
def test_sql_is_ascii_with_plain_line_ends(path: Path) -> None:
    # A script is read under any client_encoding; what is not ASCII would be another text there.
    content = path.read_bytes()
    assert content.isascii()
    assert b"\r" not in content
    assert b"\t" not in content


def test_the_engine_was_found() -> None:
    # The parametrized tests above would pass if they saw nothing.
    assert len(PACKAGE) > 20
    assert {path.name for path in SQL_FILES} >= {"engine.sql", "apply.sql", "revert.sql", "audit_table.sql"}
