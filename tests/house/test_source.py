"""The house rules that no linter knows: sizes, sentences, and files that must not be there."""

import ast
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
PACKAGE = sorted((PROJECT / "datafixes").rglob("*.py"))
EVERYTHING = [
    *PACKAGE,
    *sorted((PROJECT / "alembic").rglob("*.py")),
    *sorted((PROJECT / "tests").rglob("*.py")),
]
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


def test_a_sentence_opens_each_module() -> None:
    first = {_name(path): (ast.get_docstring(_tree(path)) or "").partition("\n")[0] for path in EVERYTHING}
    assert [name for name, line in first.items() if not line.endswith(".")] == []


def test_modules_are_short() -> None:
    lines = {_name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in PACKAGE}
    assert {name: count for name, count in lines.items() if count > LINES} == {}


def test_the_package_can_be_taken_in_at_a_glance() -> None:
    names = [path.name for path in (PROJECT / "datafixes").iterdir() if path.name != "__pycache__"]
    assert len(names) <= 24


def test_functions_are_short() -> None:
    lines = {
        f"{_name(p)}: {f.name}": (f.end_lineno or 0) - f.lineno + 1 for p in PACKAGE for f in _functions(p)
    }
    assert {name: count for name, count in lines.items() if count > FUNCTION_LINES} == {}


def test_functions_take_few_parameters() -> None:
    # A command has one for each of its options, and an operation one for each thing that it can be told.
    taken = {
        f"{_name(path)}: {f.name}": _parameters(f)
        for path in PACKAGE
        for f in _functions(path)
        if not (path.parent.name == "cli" and f.name == "command") and not path.name.endswith("operations.py")
    }
    assert {name: count for name, count in taken.items() if count > PARAMETERS} == {}


def test_nothing_is_checked_by_assert() -> None:
    # python -O throws assertions away.
    assert [_name(p) for p in PACKAGE for node in ast.walk(_tree(p)) if isinstance(node, ast.Assert)] == []


def test_public_names_say_what_they_mean() -> None:
    named = {f"{_name(path)}: {name}": node for path in PACKAGE for name, node in _public(_tree(path).body)}
    assert [name for name, node in named.items() if not ast.get_docstring(node)] == []


def test_sql_is_ascii_with_plain_line_ends() -> None:
    # A script is read under any client_encoding; what is not ASCII would be another text there.
    contents = {_name(path): path.read_bytes() for path in SQL_FILES}
    assert [
        name for name, text in contents.items() if not text.isascii() or b"\r" in text or b"\t" in text
    ] == []


def test_the_engine_was_found() -> None:
    # The tests above would pass if they saw nothing.
    assert len(PACKAGE) > 20
    assert {path.name for path in SQL_FILES} >= {"engine.sql", "apply.sql", "revert.sql", "audit_table.sql"}
